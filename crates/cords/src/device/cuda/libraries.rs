//! NVIDIA's libraries, which are looked for when they are needed: where the loader looks, in the wheels that PyTorch
//! brings, and in the usual folders of a CUDA toolkit.
//!
//! NVRTC, cuDNN and NCCL are called in the library that was opened here (`bindings`). The driver is called by cudarc, which
//! opens it by names of its own and panics where it, or a function in it, is missing: the driver here is the one that
//! cudarc finds. A library that lacks what this crate calls is refused.

#![expect(
    unsafe_code,
    reason = "opens libraries and calls the functions that tell their versions"
)]

use std::ffi::{CStr, OsStr, c_int, c_void};
use std::mem::ManuallyDrop;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::bindings::{Cudnn, Nccl, Nvrtc};
use crate::device::DeviceError;

/// A library and what it is needed for.
#[derive(Clone, Debug)]
pub struct Library {
    /// What it is called.
    pub name: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
    /// Whether one GPU works without it.
    pub is_optional: bool,
    /// What was found, or why it is of no use and what to do.
    pub found: Result<LoadedLibrary, String>,
}

/// A library in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedLibrary {
    /// File of the library, where the system tells.
    pub path: Option<PathBuf>,
    /// Version of the library; of the driver, the newest CUDA that it runs.
    pub version: String,
}

/// How a library tells its version.
#[derive(Clone, Copy)]
enum Version {
    /// `int f(int *)`, thousands and tens.
    Driver,
    /// `int f(int *)`, ten thousands and hundreds.
    Reference,
    /// `int f(int *, int *)`.
    Pair,
    /// `size_t f()`, ten thousands and hundreds.
    Number,
}

/// What is known of a library before it is found.
struct KnownLibrary {
    name: &'static str,
    purpose: &'static str,
    is_optional: bool,
    advice: &'static str,
    /// File names, the one to be preferred first.
    files: &'static [&'static str],
    /// The function that tells its version, and how.
    version: (&'static str, Version),
    /// Functions that are called.
    functions: &'static [&'static str],
}

const WHEELS: &str = "install PyTorch for CUDA, or CUDA's libraries in a folder that the loader searches";

const DRIVER: KnownLibrary = KnownLibrary {
    name: "CUDA driver",
    purpose: "runs anything on an NVIDIA GPU",
    is_optional: false,
    advice: "install NVIDIA's driver",
    files: &["libcuda.so.1"],
    version: ("cuDriverGetVersion", Version::Driver),
    functions: &[
        "cuInit",
        "cuDeviceGet",
        "cuDeviceGetCount",
        "cuDeviceGetAttribute",
        "cuDeviceGetName",
        "cuDeviceGetDefaultMemPool",
        "cuDeviceTotalMem_v2",
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
        "cuCtxGetCurrent",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuStreamCreate",
        "cuStreamSynchronize",
        "cuStreamDestroy_v2",
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
        "cuGraphDestroy",
        "cuMemAllocAsync",
        "cuMemFreeAsync",
        "cuMemAlloc_v2",
        "cuMemFree_v2",
        "cuMemsetD8Async",
        "cuMemcpyHtoDAsync_v2",
        "cuMemcpyDtoHAsync_v2",
        "cuMemcpyDtoDAsync_v2",
        "cuMemGetInfo_v2",
        "cuMemPoolSetAttribute",
        "cuMemPoolGetAttribute",
        "cuModuleLoadData",
        "cuModuleGetFunction",
        "cuModuleUnload",
        "cuLaunchKernel",
    ],
};

const NVRTC: KnownLibrary = KnownLibrary {
    name: "NVRTC",
    purpose: "compiles the kernels",
    is_optional: false,
    advice: WHEELS,
    files: &["libnvrtc.so.13", "libnvrtc.so.12"],
    version: ("nvrtcVersion", Version::Pair),
    functions: Nvrtc::NAMES,
};

const CUBLASLT: KnownLibrary = KnownLibrary {
    name: "cuBLASLt",
    purpose: "multiplies matrices for cuDNN",
    is_optional: false,
    advice: WHEELS,
    files: &["libcublasLt.so.13", "libcublasLt.so.12"],
    version: ("cublasLtGetVersion", Version::Number),
    functions: &[],
};

const CUDNN: KnownLibrary = KnownLibrary {
    name: "cuDNN",
    purpose: "computes convolutions",
    is_optional: false,
    advice: WHEELS,
    files: &["libcudnn.so.9"],
    version: ("cudnnGetVersion", Version::Number),
    functions: Cudnn::NAMES,
};

const NCCL: KnownLibrary = KnownLibrary {
    name: "NCCL",
    purpose: "trains on several GPUs together",
    is_optional: true,
    advice: "one GPU works without it; install PyTorch for CUDA, or NCCL in a folder that the loader searches",
    files: &["libnccl.so.2"],
    version: ("ncclGetVersion", Version::Reference),
    functions: Nccl::NAMES,
};

/// Those that one GPU needs; those that others need come first.
const NEEDED: [KnownLibrary; 4] = [DRIVER, NVRTC, CUBLASLT, CUDNN];

/// Every library, loaded or with the reason why not; those that others need come first.
pub fn libraries() -> Vec<Library> {
    let places = SearchPath::new();
    let all = NEEDED.iter().chain([&NCCL]);
    all.map(|wanted| Library {
        name: wanted.name,
        purpose: wanted.purpose,
        is_optional: wanted.is_optional,
        found: wanted.find(&places).map(|opened| opened.loaded),
    })
    .collect()
}

/// Where to look, and for which.
struct SearchPath {
    folders: Vec<PathBuf>,
    /// The driver runs no programs of CUDA 13: libraries of CUDA 12 are preferred.
    old: bool,
}

impl SearchPath {
    fn new() -> Self {
        let mut places = Self {
            folders: folders(),
            old: false,
        };
        let driver = DRIVER.find(&places);
        places.old = driver.is_ok_and(|driver| driver.loaded.version.starts_with("12."));
        places
    }
}

/// The driver alone, which is asked for GPUs.
///
/// # Errors
/// [`DeviceError::Absent`] where there is none, [`DeviceError::Failed`] where it is none that can be used.
pub(super) fn driver() -> Result<LoadedLibrary, DeviceError> {
    let places = SearchPath {
        folders: folders(),
        old: false,
    };
    let opened = DRIVER.find(&places).map_err(|reason| match found_by_cudarc() {
        None => DeviceError::Absent(format!("{}: {reason}", DRIVER.name)),
        Some(_) => DeviceError::Failed {
            call: "opening the driver".to_owned(),
            reason,
        },
    })?;
    Ok(opened.loaded)
}

/// NVRTC, which works without a GPU, and its version.
///
/// # Errors
/// What is missing and what to do, in one line.
pub(super) fn nvrtc() -> Result<&'static (Nvrtc, LoadedLibrary), String> {
    static OPENED: OnceLock<Result<(Nvrtc, LoadedLibrary), String>> = OnceLock::new();
    let open = || {
        let opened = NVRTC.required(&SearchPath::new())?;
        open_builtins(&opened.loaded).map_err(|reason| format!("{}: {reason}", NVRTC.name))?;
        // SAFETY: it is NVRTC, and an `Opened` stays open.
        let functions = unsafe { Nvrtc::of(&opened.library) }.map_err(|error| reason(&error))?;
        Ok((functions, opened.loaded))
    };
    OPENED.get_or_init(open).as_ref().map_err(String::clone)
}

/// cuDNN, once everything that it needs is there.
///
/// # Errors
/// As [`nvrtc`].
pub(super) fn cudnn() -> Result<&'static Cudnn, String> {
    static OPENED: OnceLock<Result<Cudnn, String>> = OnceLock::new();
    let open = || {
        let places = SearchPath::new();
        CUBLASLT.required(&places)?;
        let opened = CUDNN.required(&places)?;
        // SAFETY: it is cuDNN, and an `Opened` stays open.
        unsafe { Cudnn::of(&opened.library) }.map_err(|error| reason(&error))
    };
    OPENED.get_or_init(open).as_ref().map_err(String::clone)
}

/// NCCL, which several GPUs need.
///
/// # Errors
/// As [`nvrtc`].
pub(super) fn nccl() -> Result<&'static Nccl, String> {
    static OPENED: OnceLock<Result<Nccl, String>> = OnceLock::new();
    let open = || {
        let opened = NCCL.required(&SearchPath::new())?;
        // SAFETY: it is NCCL, and an `Opened` stays open.
        unsafe { Nccl::of(&opened.library) }.map_err(|error| reason(&error))
    };
    OPENED.get_or_init(open).as_ref().map_err(String::clone)
}

/// What the loader says, which is the source of the error.
fn reason(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// NVRTC opens its built-in functions by their bare name when it compiles. In wheels they lie beside it, where the
/// loader does not look: they are opened by their path, and found by their name from then on.
fn open_builtins(nvrtc: &LoadedLibrary) -> Result<(), String> {
    let Some(path) = &nvrtc.path else { return Ok(()) };
    let name = format!("libnvrtc-builtins.so.{}", nvrtc.version);
    // Beside the name by which it was found, and beside the file that this is a link to.
    let places = [Some(path.clone()), path.canonicalize().ok()];
    let mut files = places.iter().flatten().map(|path| path.with_file_name(&name));
    let Some(file) = files.find(|file| file.exists()) else {
        // Elsewhere, where the loader may find it; compilation tells.
        return Ok(());
    };
    // SAFETY: NVIDIA's library holds data and prepares nothing.
    let library = unsafe { libloading::Library::new(&file) }
        .map_err(|error| format!("{}: {}", file.display(), reason(&error)))?;
    std::mem::forget(library);
    Ok(())
}

/// A library that stays open, so that others find it by its bare name.
#[derive(Debug)]
struct Opened {
    library: ManuallyDrop<libloading::Library>,
    loaded: LoadedLibrary,
}

impl KnownLibrary {
    /// As [`find`](Self::find), whose errors name the library.
    fn required(&self, places: &SearchPath) -> Result<Opened, String> {
        self.find(places).map_err(|reason| format!("{}: {reason}", self.name))
    }

    fn find(&self, places: &SearchPath) -> Result<Opened, String> {
        let mut library = self.open(places).map(ManuallyDrop::new);
        if self.name == DRIVER.name {
            library = found_by_cudarc().map(ManuallyDrop::new);
        }
        let Some(library) = library else {
            return Err(format!("{} was not found: {}", self.files.join(" or "), self.advice));
        };
        // SAFETY: the symbol is looked up, not used.
        let symbol = |name: &str| unsafe { library.get::<*mut c_void>(name.as_bytes()) }.map(|symbol| *symbol);
        let lacks = |name: &&&str| symbol(name).is_err();
        let path = symbol(self.version.0).ok().and_then(file_of);
        if let Some(function) = self.functions.iter().chain([&self.version.0]).find(lacks) {
            let known = self.functions.iter().find_map(|name| file_of(symbol(name).ok()?));
            let place = path
                .or(known)
                .map_or(self.files[0].into(), |path| path.display().to_string());
            return Err(format!(
                "{place} lacks `{function}`, it is a stub or too old: {}",
                self.advice
            ));
        }
        let version = version(&library, self.version);
        Ok(Opened {
            library,
            loaded: LoadedLibrary { path, version },
        })
    }

    fn open(&self, places: &SearchPath) -> Option<libloading::Library> {
        // SAFETY: NVIDIA's libraries prepare themselves when they are loaded; nothing of them is in use yet.
        let open = |file: &Path| unsafe { libloading::Library::new(file) }.ok();
        let mut files = self.files.to_vec();
        if places.old {
            files.reverse();
        }
        // Every place for the file that is preferred, before the other one.
        files.iter().find_map(|file| {
            let mut paths = places.folders.iter().map(|folder| folder.join(file));
            open(Path::new(file)).or_else(|| paths.find_map(|path| path.exists().then(|| open(&path))?))
        })
    }
}

/// The driver that cudarc calls: the first that it finds by its names, which may be another than `libcuda.so.1`.
fn found_by_cudarc() -> Option<libloading::Library> {
    let mut names = ["cuda", "nvcuda"].into_iter().flat_map(cudarc::get_lib_name_candidates);
    // SAFETY: cudarc does the same; NVIDIA's driver prepares itself when it is loaded.
    names.find_map(|name| unsafe { libloading::Library::new(name) }.ok())
}

fn version(library: &libloading::Library, (name, kind): (&str, Version)) -> String {
    let name = name.as_bytes();
    // SAFETY (all four): the function is in the library, and NVIDIA's headers declare it so.
    let numbers = match kind {
        Version::Driver => unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(name) }.map(|tell| {
            let mut number = 0;
            unsafe { tell(&raw mut number) };
            vec![number / 1000, number % 1000 / 10]
        }),
        Version::Reference => unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(name) }.map(|tell| {
            let mut number = 0;
            unsafe { tell(&raw mut number) };
            vec![number / 10_000, number % 10_000 / 100, number % 100]
        }),
        Version::Pair => {
            unsafe { library.get::<unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int>(name) }.map(|tell| {
                let (mut major, mut minor) = (0, 0);
                unsafe { tell(&raw mut major, &raw mut minor) };
                vec![major, minor]
            })
        }
        Version::Number => unsafe { library.get::<unsafe extern "C" fn() -> usize>(name) }.map(|tell| {
            let number = unsafe { tell() } as c_int;
            vec![number / 10_000, number % 10_000 / 100, number % 100]
        }),
    };
    let numbers = numbers.unwrap_or_default();
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

/// The file that a function lies in, as the loader tells.
fn file_of(function: *mut c_void) -> Option<PathBuf> {
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the loader fills `info` where it knows the address; zeros are a value of it too.
    let info = unsafe {
        if libc::dladdr(function, info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: the loader's own text, which stays as long as the library.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(OsStr::from_bytes(name.to_bytes())))
}

/// Folders that hold NVIDIA's libraries on some machines and that the loader may not search.
fn folders() -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let mut prefixes: Vec<PathBuf> = ["VIRTUAL_ENV", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(variable)
        .collect();
    prefixes.extend(variable("HOME").map(|home| home.join(".local")));
    // An interpreter lies in `bin` below its prefix.
    let interpreters = variable("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    prefixes.extend(
        interpreters
            .filter(|folder| folder.join("python3").exists())
            .filter_map(|folder| folder.parent().map(Path::to_owned)),
    );
    prefixes.extend(["/usr/local", "/usr"].map(PathBuf::from));
    let packages = prefixes
        .iter()
        .flat_map(|prefix| children(&prefix.join("lib"), "python3"));
    let packages =
        packages.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name).join("nvidia")));
    let mut folders: Vec<PathBuf> = packages
        .flat_map(|nvidia| children(&nvidia, ""))
        .map(|package| package.join("lib"))
        .collect();
    let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let toolkits = toolkits.chain(["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from));
    folders.extend(
        toolkits.flat_map(|toolkit| ["lib64", "lib", "targets/x86_64-linux/lib"].map(|name| toolkit.join(name))),
    );
    let system = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/local/nvidia/lib64",
        "/usr/lib/wsl/lib",
    ];
    folders.extend(system.map(PathBuf::from));
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| folder.is_dir() && seen.insert(folder.clone()));
    folders
}

/// Folders in a folder whose names begin so, in order.
fn children(folder: &Path, start: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs_err::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(start))
        })
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An empty library of that name in a folder.
    fn make(folder: &Path, name: &str) -> PathBuf {
        let file = folder.join(name);
        let status = std::process::Command::new("cc")
            .args([
                "-shared",
                "-fPIC",
                &format!("-Wl,-soname,{name}"),
                "-x",
                "c",
                "/dev/null",
                "-o",
            ])
            .arg(&file)
            .status()
            .expect("a C compiler, `cc`");
        assert!(status.success());
        file
    }

    /// Every library is found or told how to get; without a GPU too. Nothing panics on a file that is no library, or
    /// that lacks what is called.
    #[test]
    fn what_is_missing_is_said() {
        for library in libraries() {
            match library.found {
                Ok(found) => assert!(found.version.split('.').count() >= 2, "{found:?}"),
                Err(reason) => assert!(reason.contains("install") && reason.contains(".so"), "{reason}"),
            }
        }
        let folder = tempfile::tempdir().expect("a folder");
        let wanted = KnownLibrary {
            files: &["libcordsnothing.so.1"],
            functions: &["cordsMissing"],
            ..CUDNN
        };
        let folders = SearchPath {
            folders: vec![folder.path().to_owned()],
            old: false,
        };
        let absent = wanted.find(&folders).expect_err("there is none");
        assert!(absent.contains("libcordsnothing.so.1 was not found"), "{absent}");
        let file = folder.path().join("libcordsnothing.so.1");
        fs_err::write(&file, "not a library").expect("written");
        let absent = wanted.find(&folders).expect_err("it is none");
        assert!(absent.contains("libcordsnothing.so.1 was not found"), "{absent}");
        make(folder.path(), "libcordsnothing.so.1");
        let stub = wanted.find(&folders).expect_err("it has no functions");
        assert!(stub.contains("lacks `cordsMissing`, it is a stub or too old"), "{stub}");
    }

    /// As in wheels: the loader does not look where NVRTC lies, and finds what was opened by its path.
    #[test]
    fn built_in_functions_are_opened_from_beside_nvrtc() {
        // SAFETY: the library is empty.
        let by_name = |name: &str| unsafe { libloading::Library::new(name) };
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let [wheel, links] = folders.each_ref().map(|folder| folder.path());
        for (version, is_linked) in [("98.1", false), ("98.2", true)] {
            let name = format!("libnvrtc-builtins.so.{version}");
            make(wheel, &name);
            let nvrtc = wheel.join(format!("libnvrtc.so.{version}.7"));
            fs_err::write(&nvrtc, "").expect("written");
            let link = links.join(format!("libnvrtc.so.{version}"));
            fs_err::os::unix::fs::symlink(&nvrtc, &link).expect("linked");
            assert!(by_name(&name).is_err(), "the loader does not find it");
            let loaded = LoadedLibrary {
                path: Some(if is_linked { link } else { nvrtc }),
                version: version.to_owned(),
            };
            open_builtins(&loaded).expect("it is sound");
            by_name(&name).expect("it is open");
        }
        // None beside it is no error, one that is damaged is.
        let loaded = |version: &str| LoadedLibrary {
            path: Some(wheel.join("libnvrtc.so.98")),
            version: version.to_owned(),
        };
        assert_eq!(open_builtins(&loaded("98.3")), Ok(()));
        fs_err::write(wheel.join("libnvrtc-builtins.so.98.4"), "damaged").expect("written");
        let error = open_builtins(&loaded("98.4")).expect_err("it is damaged");
        assert!(error.contains("libnvrtc-builtins.so.98.4"), "{error}");
    }

    /// The file that a function lies in is the one that was opened, whatever else is open.
    #[test]
    fn a_function_tells_its_file() {
        // SAFETY: `dladdr` is looked up in the C library, which every program has.
        let library = libloading::Library::from(libloading::os::unix::Library::this());
        let symbol = unsafe { library.get::<*mut c_void>(b"getpid") }.map(|symbol| *symbol);
        let file = file_of(symbol.expect("every C library has it")).expect("it lies in a file");
        assert!(file.to_string_lossy().contains("libc"), "{file:?}");
        assert_eq!(file_of(std::ptr::null_mut()), None);
    }
}
