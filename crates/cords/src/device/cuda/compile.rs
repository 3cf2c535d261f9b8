//! `kernels.cu` for a GPU, by NVRTC. To a binary for one architecture: a driver refuses PTX of a compiler newer than
//! itself.

#![expect(unsafe_code, reason = "calls NVRTC")]

use std::ffi::CString;

use cudarc::nvrtc::{result, sys};

use super::gpu::KERNELS;
use crate::device::DeviceError;

/// The kernels for GPUs of compute capability `major.minor`.
///
/// # Errors
/// [`DeviceError::Absent`] without NVRTC, [`DeviceError::Failed`] with the compiler's messages.
pub fn compile((major, minor): (u32, u32)) -> Result<Vec<u8>, DeviceError> {
    compile_source(KERNELS, &format!("--gpu-architecture=sm_{major}{minor}"))
}

fn compile_source(source: &str, architecture: &str) -> Result<Vec<u8>, DeviceError> {
    let library = super::libraries::nvrtc();
    library.found.map_err(DeviceError::Absent)?;
    let failed = |call: &str, reason: String| DeviceError::Failed {
        call: format!("{call} of kernels.cu for {architecture}"),
        reason,
    };
    let source = CString::new(source).map_err(|error| failed("compilation", error.to_string()))?;
    let program = result::create_program(&source, Some(c"kernels.cu"))
        .map_err(|error| failed("compilation", format!("{error:?}")))?;
    let options = [architecture, "--fmad=false", "--std=c++17"];
    // SAFETY: the program was just created and is destroyed below; `size` and `cubin` are what the calls write to.
    let compiled = unsafe {
        result::compile_program(program, &options)
            .map_err(|error| failed("compilation", format!("{error:?}\n{}", log(program))))
            .and_then(|()| {
                let mut size = 0;
                let error = |error: result::NvrtcError| failed("compilation", format!("{error:?}"));
                sys::nvrtcGetCUBINSize(program, &raw mut size).result().map_err(error)?;
                let mut cubin = vec![0u8; size];
                sys::nvrtcGetCUBIN(program, cubin.as_mut_ptr().cast())
                    .result()
                    .map_err(error)?;
                Ok(cubin)
            })
    };
    // SAFETY: it is not used any more. That it cannot be destroyed costs some memory.
    let _ = unsafe { result::destroy_program(program) };
    compiled
}

/// Messages of the compiler about a program; empty where it has none.
fn log(program: sys::nvrtcProgram) -> String {
    // SAFETY: the program exists.
    let log = unsafe { result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = log.into_iter().map(|c| c as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "says why it tests nothing")]
mod tests {
    use super::*;

    /// Compilation needs no GPU. The machine code of every kernel is in the result.
    #[test]
    fn kernels_compile_for_every_architecture() {
        for architecture in [(8, 0), (9, 0)] {
            let cubin = match compile(architecture) {
                Err(DeviceError::Absent(reason)) => {
                    println!("nothing compiled: {reason}");
                    return;
                }
                compiled => compiled.expect("it compiles"),
            };
            assert!(cubin.starts_with(b"\x7fELF"));
            for name in super::super::emulated::signatures().keys() {
                let section = format!(".text.{name}\0");
                let found = cubin.windows(section.len()).any(|bytes| bytes == section.as_bytes());
                assert!(found, "{name} for {architecture:?}");
            }
        }
        let error = compile_source("KERNEL wrong() { no }", "--gpu-architecture=sm_90").expect_err("no C");
        assert!(
            matches!(&error, DeviceError::Failed { reason, .. } if reason.contains("kernels.cu(1)")),
            "{error}"
        );
    }
}
