//! `kernels.cu` for a GPU, by NVRTC. To a binary for one architecture: a driver refuses PTX of a compiler newer than
//! itself. Compilation takes seconds, so that binaries are kept where the caller has a folder for them.

#![expect(unsafe_code, reason = "calls NVRTC")]

use std::ffi::{CStr, CString, c_int};
use std::io::{Read, Write};
use std::path::Path;

use super::bindings::{Handle, Nvrtc};
use super::gpu::KERNELS;
use super::libraries;
use crate::device::DeviceError;

/// Products and sums are rounded each by itself, as on a processor, and no kernel writes what it reads under another
/// name.
const OPTIONS: [&str; 3] = ["--fmad=false", "--restrict", "--std=c++17"];

/// The kernels for GPUs of compute capability `major.minor`, from `kept`, a folder, where it has them and they are not
/// asked for `anew`, and kept there otherwise. What is damaged there is compiled anew; what cannot be written there is
/// not kept.
///
/// # Errors
/// [`DeviceError::Absent`] without NVRTC, [`DeviceError::Failed`] with the compiler's messages.
pub fn compile(capability: (u32, u32), kept: Option<&Path>, anew: bool) -> Result<Vec<u8>, DeviceError> {
    let (nvrtc, loaded) = libraries::nvrtc().map_err(DeviceError::Absent)?;
    let architecture = architecture(capability);
    let compiled = || compile_source(nvrtc, KERNELS, &architecture);
    match kept {
        None => compiled(),
        Some(folder) => {
            let options = OPTIONS.join(" ");
            from_folder(
                folder,
                anew,
                &[KERNELS, &architecture, &options, &loaded.version],
                compiled,
            )
        }
    }
}

/// Whether NVRTC works: a kernel of one line is compiled for GPUs of compute capability `major.minor`.
///
/// # Errors
/// As [`compile`].
pub fn try_compiler(capability: (u32, u32)) -> Result<(), DeviceError> {
    let (nvrtc, _) = libraries::nvrtc().map_err(DeviceError::Absent)?;
    let source = "extern \"C\" __global__ void nothing(float *x) { x[threadIdx.x] = 0; }";
    compile_source(nvrtc, source, &architecture(capability)).map(|_| ())
}

fn architecture((major, minor): (u32, u32)) -> String {
    format!("--gpu-architecture=sm_{major}{minor}")
}

/// A binary that is kept in a folder under what it was made from, or, also where it is asked for `anew`, the one that
/// `make` makes. A file holds the
/// binary's hash before it.
fn from_folder(
    folder: &Path,
    anew: bool,
    made_from: &[&str],
    make: impl FnOnce() -> Result<Vec<u8>, DeviceError>,
) -> Result<Vec<u8>, DeviceError> {
    const LARGEST: u64 = 64 << 20;
    let mut name = blake3::Hasher::new();
    for part in made_from {
        name.update(&(part.len() as u64).to_le_bytes());
        name.update(part.as_bytes());
    }
    let path = folder.join(format!("{}.cubin", name.finalize().to_hex()));
    let mut bytes = Vec::new();
    let read = dynvis_base::files::open(&path).and_then(|file| file.take(LARGEST).read_to_end(&mut bytes));
    if !anew
        && read.is_ok()
        && let Some((hash, binary)) = bytes.split_first_chunk::<{ blake3::OUT_LEN }>()
        && *hash == *blake3::hash(binary).as_bytes()
    {
        return Ok(binary.to_vec());
    }
    let binary = make()?;
    // Without it the next time takes seconds more.
    let _ = keep(folder, &path, &binary);
    Ok(binary)
}

/// Written beside its place and renamed, so that nobody reads half of it.
fn keep(folder: &Path, path: &Path, binary: &[u8]) -> std::io::Result<()> {
    fs_err::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(blake3::hash(binary).as_bytes())?;
    file.write_all(binary)?;
    file.persist(path)?;
    Ok(())
}

fn compile_source(nvrtc: &Nvrtc, source: &str, architecture: &str) -> Result<Vec<u8>, DeviceError> {
    let failed = |reason: String| DeviceError::Failed {
        call: format!("compilation of kernels.cu for {architecture}"),
        reason,
    };
    let text = |text: &str| CString::new(text).map_err(|error| failed(error.to_string()));
    let source = text(source)?;
    let options = [architecture].into_iter().chain(OPTIONS);
    let options = options.map(text).collect::<Result<Vec<_>, _>>()?;
    let options: Vec<_> = options.iter().map(|option| option.as_ptr()).collect();
    let no = std::ptr::null();
    let mut program: Handle = std::ptr::null_mut();
    // SAFETY: the texts outlive the calls; the program is made before it is used, and destroyed behind that.
    unsafe {
        let made = (nvrtc.nvrtcCreateProgram)(&raw mut program, source.as_ptr(), c"kernels.cu".as_ptr(), 0, no, no);
        if made != 0 {
            return Err(failed(status(nvrtc, made)));
        }
        let compiled = match (nvrtc.nvrtcCompileProgram)(program, options.len() as c_int, options.as_ptr()) {
            0 => binary(nvrtc, program).map_err(|code| failed(status(nvrtc, code))),
            code => Err(failed(format!("{}\n{}", status(nvrtc, code), log(nvrtc, program)))),
        };
        // That it cannot be destroyed costs some memory.
        (nvrtc.nvrtcDestroyProgram)(&raw mut program);
        compiled
    }
}

/// # Safety
/// The program was compiled.
unsafe fn binary(nvrtc: &Nvrtc, program: Handle) -> Result<Vec<u8>, c_int> {
    let ok = |code| if code == 0 { Ok(()) } else { Err(code) };
    let mut size = 0;
    // SAFETY: `size` and `binary` are what the calls write to.
    unsafe {
        ok((nvrtc.nvrtcGetCUBINSize)(program, &raw mut size))?;
        let mut binary = vec![0u8; size];
        ok((nvrtc.nvrtcGetCUBIN)(program, binary.as_mut_ptr().cast()))?;
        Ok(binary)
    }
}

/// Messages of the compiler about a program; empty where it has none.
///
/// # Safety
/// The program exists.
unsafe fn log(nvrtc: &Nvrtc, program: Handle) -> String {
    let mut size = 0;
    // SAFETY: `size` and `log` are what the calls write to.
    unsafe {
        if (nvrtc.nvrtcGetProgramLogSize)(program, &raw mut size) != 0 {
            return String::new();
        }
        let mut log = vec![0u8; size];
        if (nvrtc.nvrtcGetProgramLog)(program, log.as_mut_ptr().cast()) != 0 {
            return String::new();
        }
        log.retain(|byte| *byte != 0);
        String::from_utf8_lossy(&log).trim().to_owned()
    }
}

/// What NVRTC calls a status.
fn status(nvrtc: &Nvrtc, code: c_int) -> String {
    // SAFETY: it is asked for by number, and answers with a text of its own or with none.
    let text = unsafe {
        let text = (nvrtc.nvrtcGetErrorString)(code);
        (!text.is_null()).then(|| CStr::from_ptr(text))
    };
    text.map_or_else(|| format!("status {code}"), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
#[expect(clippy::print_stdout, reason = "says why it tests nothing")]
mod tests {
    use super::*;

    /// Compilation needs no GPU. The machine code of every kernel is in the result.
    #[test]
    fn kernels_compile_for_every_architecture() {
        for architecture in [(8, 0), (9, 0)] {
            let cubin = match compile(architecture, None, false) {
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
            try_compiler(architecture).expect("one line compiles too");
        }
        let (nvrtc, _) = libraries::nvrtc().expect("it was there");
        let error = compile_source(nvrtc, "KERNEL wrong() { no }", "--gpu-architecture=sm_90").expect_err("no C");
        assert!(
            matches!(&error, DeviceError::Failed { reason, .. } if reason.contains("kernels.cu(1)")),
            "{error}"
        );
        let error = try_compiler((1, 0)).expect_err("no such GPU");
        assert!(error.to_string().contains("gpu-architecture"), "{error}");
    }

    /// A binary is compiled once for what it is made from, and again where its file is damaged, cut or no file.
    #[test]
    fn binaries_are_kept_and_damaged_ones_are_compiled_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let kept = folder.path().join("new").join("kernels");
        let made = std::cell::Cell::new(0);
        let get = |parts: &[&str]| {
            let make = || {
                made.set(made.get() + 1);
                Ok(format!("{parts:?}").into_bytes())
            };
            assert_eq!(
                from_folder(&kept, false, parts, make),
                Ok(format!("{parts:?}").into_bytes())
            );
            made.get()
        };
        assert_eq!(get(&["source", "sm_90", "13.0"]), 1);
        assert_eq!(get(&["source", "sm_90", "13.0"]), 1, "it is kept");
        // Every part counts, and where it ends.
        assert_eq!(get(&["source", "sm_80", "13.0"]), 2);
        assert_eq!(get(&["sources", "m_90", "13.0"]), 3);
        let files: Vec<_> = fs_err::read_dir(&kept)
            .expect("a folder")
            .map(|entry| entry.expect("a file").path())
            .collect();
        assert_eq!(files.len(), 3);
        for damage in [&b""[..], b"short", &[7; 100]] {
            for file in &files {
                fs_err::write(file, damage).expect("written");
            }
            let before = made.get();
            assert_eq!(get(&["source", "sm_90", "13.0"]), before + 1, "it is damaged");
            assert_eq!(get(&["source", "sm_90", "13.0"]), before + 1, "it is whole again");
        }
        // What a driver refuses is made anew, and kept.
        let anew = from_folder(&kept, true, &["source", "sm_90", "13.0"], || Ok(vec![7]));
        let held = from_folder(&kept, false, &["source", "sm_90", "13.0"], || Ok(vec![8]));
        assert_eq!([anew, held], [Ok(vec![7]), Ok(vec![7])]);
        // Where nothing can be kept, compilation goes on.
        let failing = || Err(DeviceError::Absent("none".to_owned()));
        assert_eq!(from_folder(&files[0], false, &["x"], || Ok(vec![1])), Ok(vec![1]));
        assert_eq!(from_folder(&kept, false, &["y"], failing), failing());
    }
}
