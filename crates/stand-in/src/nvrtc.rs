//! `libnvrtc.so.13`: programs, compiled by the host's C compiler.

#![expect(unsafe_code, reason = "the library's functions, as C calls them")]

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int};
use std::sync::{Arc, Mutex, PoisonError};

use crate::counts::{refused, write_at_exit};
use crate::handles::Handles;
use crate::settings::{BrokenCompiler, settings};
use crate::source;

/// What the library's functions return.
type Status = c_int;

const SUCCESS: Status = 0;
const INVALID_INPUT: Status = 3;
const INVALID_PROGRAM: Status = 4;
const INVALID_OPTION: Status = 5;
const COMPILATION: Status = 6;
const BUILTINS: Status = 7;

/// Architectures that programs can be compiled for, as numbers of `sm_90`.
const ARCHITECTURES: [u32; 11] = [75, 80, 86, 87, 88, 89, 90, 100, 103, 120, 121];

/// Options that are taken, without their values.
const OPTIONS: [&str; 14] = [
    "--fmad",
    "--std",
    "--restrict",
    "--use_fast_math",
    "--ftz",
    "--prec-div",
    "--prec-sqrt",
    "--extra-device-vectorization",
    "--generate-line-info",
    "--maxrregcount",
    "--minimal",
    "--split-compile",
    "--default-device",
    "--ptxas-options",
];

static PROGRAMS: Handles<Program> = Handles::new("program");

struct Program {
    name: String,
    source: String,
    compiled: Mutex<Compiled>,
}

#[derive(Clone, Default)]
struct Compiled {
    binary: Arc<Vec<u8>>,
    log: String,
}

type Handle = *mut std::ffi::c_void;

fn status(call: &str, result: Result<(), Status>) -> Status {
    match result {
        Ok(()) => SUCCESS,
        Err(status) => {
            refused(call, status);
            status
        }
    }
}

fn put<T>(place: *mut T, value: T) -> Result<(), Status> {
    crate::driver::put(place, value).map_err(|_| INVALID_INPUT)
}

fn text(place: *const c_char) -> Option<String> {
    // SAFETY: the caller gives a text or nothing.
    (!place.is_null()).then(|| unsafe { CStr::from_ptr(place) }.to_string_lossy().into_owned())
}

/// Copies all bytes to where the caller has room for them.
fn put_all(place: *mut c_char, bytes: &[u8]) -> Result<(), Status> {
    if place.is_null() {
        return Err(INVALID_INPUT);
    }
    // SAFETY: the caller has asked how many there are.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
    Ok(())
}

/// Architecture that the options ask for, or what is wrong with them.
fn architecture(options: &[String]) -> Result<(u32, u32), String> {
    let mut found = None;
    for option in options {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if ["--gpu-architecture", "-arch"].contains(&name) {
            let number = value.strip_prefix("sm_").and_then(|number| number.parse().ok());
            let known = number.filter(|number| ARCHITECTURES.contains(number));
            let known = known.ok_or("nvrtc: error: invalid value for --gpu-architecture (-arch)")?;
            found = Some((known / 10, known % 10));
        } else if !OPTIONS.contains(&name) {
            return Err(format!("nvrtc: error: unrecognized option {option} found"));
        }
    }
    found.ok_or_else(|| "nvrtc: error: the stand-in makes no program without --gpu-architecture=sm_NN".to_owned())
}

/// Compiles a program, or gives what it was compiled to before.
fn compile(program: &Program, options: &[String]) -> (Compiled, Result<(), Status>) {
    type Done = HashMap<(String, Vec<String>), (Compiled, Result<(), Status>)>;
    static DONE: Mutex<Option<Done>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (program.source.clone(), options.to_vec());
    if let Some(known) = done.get_or_insert_default().get(&key) {
        return known.clone();
    }
    let failed = |log: String, status| {
        let compiled = Compiled {
            binary: Arc::default(),
            log,
        };
        (compiled, Err(status))
    };
    let result = match (architecture(options), settings().compiler) {
        (Err(log), _) => failed(log, INVALID_OPTION),
        (_, Some(BrokenCompiler::Builtins)) => failed(
            "nvrtc: error: failed to open libnvrtc-builtins.so.13.0.\n  Make sure that libnvrtc-builtins.so.13.0 is \
             installed correctly."
                .to_owned(),
            BUILTINS,
        ),
        (_, Some(BrokenCompiler::Program)) => failed(
            format!("{}(1): error: it is not to be compiled", program.name),
            COMPILATION,
        ),
        (Ok(architecture), None) => match source::compile(&program.name, &program.source, architecture) {
            Ok(binary) => {
                let binary = Arc::new(binary);
                (
                    Compiled {
                        binary,
                        log: String::new(),
                    },
                    Ok(()),
                )
            }
            Err(log) => failed(log, COMPILATION),
        },
    };
    done.get_or_insert_default().insert(key, result.clone());
    result
}

fn compiled(handle: Handle, call: &str) -> Result<Compiled, Status> {
    let program = PROGRAMS.get(call, handle).ok_or(INVALID_PROGRAM)?;
    let compiled = program.compiled.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(compiled.clone())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcVersion(major: *mut c_int, minor: *mut c_int) -> Status {
    // Programs in which bytes are counted are others than those in which they are not; programs that are kept go by the
    // version.
    status(
        "nvrtcVersion",
        put(major, 13).and_then(|()| put(minor, c_int::from(settings().bytes))),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetErrorString(status: Status) -> *const c_char {
    let text = match status {
        SUCCESS => c"NVRTC_SUCCESS",
        INVALID_INPUT => c"NVRTC_ERROR_INVALID_INPUT",
        INVALID_PROGRAM => c"NVRTC_ERROR_INVALID_PROGRAM",
        INVALID_OPTION => c"NVRTC_ERROR_INVALID_OPTION",
        COMPILATION => c"NVRTC_ERROR_COMPILATION",
        BUILTINS => c"NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
        _ => c"NVRTC_ERROR unknown",
    };
    text.as_ptr()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetNumSupportedArchs(number: *mut c_int) -> Status {
    status("nvrtcGetNumSupportedArchs", put(number, ARCHITECTURES.len() as c_int))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetSupportedArchs(all: *mut c_int) -> Status {
    // SAFETY: the caller has asked how many there are.
    let written = |(i, number): (usize, &u32)| put(unsafe { all.add(i) }, *number as c_int);
    status(
        "nvrtcGetSupportedArchs",
        ARCHITECTURES.iter().enumerate().try_for_each(written),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcCreateProgram(
    program: *mut Handle,
    source: *const c_char,
    name: *const c_char,
    headers: c_int,
    _header_texts: *const *const c_char,
    _header_names: *const *const c_char,
) -> Status {
    write_at_exit();
    let made = || {
        if headers != 0 {
            return Err(INVALID_INPUT);
        }
        let made = Program {
            name: text(name).unwrap_or_else(|| "default_program".to_owned()),
            source: text(source).ok_or(INVALID_INPUT)?,
            compiled: Mutex::default(),
        };
        put(program, PROGRAMS.add(made))
    };
    status("nvrtcCreateProgram", made())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcCompileProgram(handle: Handle, count: c_int, options: *const *const c_char) -> Status {
    const CALL: &str = "nvrtcCompileProgram";
    let run = || {
        let program = PROGRAMS.get(CALL, handle).ok_or(INVALID_PROGRAM)?;
        // SAFETY: the caller gives so many.
        let options = (0..usize::try_from(count).unwrap_or_default()).map(|i| text(unsafe { *options.add(i) }));
        let options: Option<Vec<String>> = options.collect();
        let (compiled, result) = compile(&program, &options.ok_or(INVALID_INPUT)?);
        *program.compiled.lock().unwrap_or_else(PoisonError::into_inner) = compiled;
        result
    };
    status(CALL, run())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcDestroyProgram(program: *mut Handle) -> Status {
    const CALL: &str = "nvrtcDestroyProgram";
    let run = || {
        if program.is_null() {
            return Err(INVALID_PROGRAM);
        }
        // SAFETY: the caller gives a place that holds a program.
        let handle = unsafe { *program };
        PROGRAMS.take(CALL, handle).map(|_| ()).ok_or(INVALID_PROGRAM)
    };
    status(CALL, run())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetProgramLogSize(program: Handle, bytes: *mut usize) -> Status {
    const CALL: &str = "nvrtcGetProgramLogSize";
    status(
        CALL,
        compiled(program, CALL).and_then(|compiled| put(bytes, compiled.log.len() + 1)),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetProgramLog(program: Handle, log: *mut c_char) -> Status {
    const CALL: &str = "nvrtcGetProgramLog";
    let run = || put_all(log, format!("{}\0", compiled(program, CALL)?.log).as_bytes());
    status(CALL, run())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetCUBINSize(program: Handle, bytes: *mut usize) -> Status {
    const CALL: &str = "nvrtcGetCUBINSize";
    status(
        CALL,
        compiled(program, CALL).and_then(|compiled| put(bytes, compiled.binary.len())),
    )
}

#[unsafe(no_mangle)]
unsafe extern "C" fn nvrtcGetCUBIN(program: Handle, binary: *mut c_char) -> Status {
    const CALL: &str = "nvrtcGetCUBIN";
    status(
        CALL,
        compiled(program, CALL).and_then(|compiled| put_all(binary, &compiled.binary)),
    )
}
