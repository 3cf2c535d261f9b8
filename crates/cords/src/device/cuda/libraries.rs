//! NVIDIA's libraries, which are looked for when they are needed: where the loader looks, in the wheels that PyTorch
//! brings, and in the usual folders of a CUDA toolkit.
//!
//! cudarc opens a library by its bare name and panics where it, or a function in it, is missing. A library that has
//! been opened here, by whatever path, is found by that name afterwards, and one that lacks what this crate calls is
//! refused here.

#![expect(
    unsafe_code,
    reason = "opens libraries and calls the functions that tell their versions"
)]

use std::ffi::c_int;
use std::path::{Path, PathBuf};

/// A library and what it is needed for.
#[derive(Clone, Debug)]
pub struct Library {
    /// What it is called.
    pub name: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
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
    /// `int f(int *, int *)`.
    Pair,
    /// `size_t f()`, ten thousands and hundreds.
    Number,
}

/// What is known of a library before it is found.
struct KnownLibrary {
    name: &'static str,
    purpose: &'static str,
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
        "cuDevicePrimaryCtxRetain",
        "cuDevicePrimaryCtxRelease_v2",
        "cuCtxSetCurrent",
        "cuCtxGetCurrent",
        "cuGetErrorName",
        "cuGetErrorString",
        "cuStreamCreate",
        "cuStreamSynchronize",
        "cuStreamDestroy_v2",
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
    advice: WHEELS,
    files: &["libnvrtc.so.13", "libnvrtc.so.12"],
    version: ("nvrtcVersion", Version::Pair),
    functions: &[
        "nvrtcCreateProgram",
        "nvrtcCompileProgram",
        "nvrtcDestroyProgram",
        "nvrtcGetProgramLog",
        "nvrtcGetProgramLogSize",
        "nvrtcGetCUBIN",
        "nvrtcGetCUBINSize",
    ],
};

const CUBLASLT: KnownLibrary = KnownLibrary {
    name: "cuBLASLt",
    purpose: "multiplies matrices for cuDNN",
    advice: WHEELS,
    files: &["libcublasLt.so.13", "libcublasLt.so.12"],
    version: ("cublasLtGetVersion", Version::Number),
    functions: &[],
};

const CUDNN: KnownLibrary = KnownLibrary {
    name: "cuDNN",
    purpose: "computes convolutions",
    advice: WHEELS,
    files: &["libcudnn.so.9"],
    version: ("cudnnGetVersion", Version::Number),
    functions: &[
        "cudnnCreate",
        "cudnnDestroy",
        "cudnnSetStream",
        "cudnnCreateTensorDescriptor",
        "cudnnSetTensor4dDescriptor",
        "cudnnDestroyTensorDescriptor",
        "cudnnCreateFilterDescriptor",
        "cudnnSetFilter4dDescriptor",
        "cudnnDestroyFilterDescriptor",
        "cudnnCreateConvolutionDescriptor",
        "cudnnSetConvolution2dDescriptor",
        "cudnnSetConvolutionMathType",
        "cudnnDestroyConvolutionDescriptor",
        "cudnnGetConvolutionForwardAlgorithm_v7",
        "cudnnGetConvolutionBackwardDataAlgorithm_v7",
        "cudnnGetConvolutionBackwardFilterAlgorithm_v7",
        "cudnnConvolutionForward",
        "cudnnConvolutionBackwardData",
        "cudnnConvolutionBackwardFilter",
    ],
};

/// Those that others need first.
const ALL: [KnownLibrary; 4] = [DRIVER, NVRTC, CUBLASLT, CUDNN];

/// Every library that a GPU needs, loaded or with the reason why not; those that others need come first.
pub fn libraries() -> Vec<Library> {
    let places = SearchPath::new();
    ALL.iter().map(|wanted| wanted.load(&places)).collect()
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
        places.old = driver.is_ok_and(|driver| driver.version.starts_with("12."));
        places
    }
}

/// NVRTC alone, which works without a GPU.
pub(super) fn nvrtc() -> Library {
    NVRTC.load(&SearchPath::new())
}

/// Looks for everything that a GPU's work needs.
///
/// # Errors
/// What is missing and what to do, in one line.
pub(super) fn require() -> Result<(), String> {
    let places = SearchPath::new();
    // One by one: where there is no driver, nothing else is opened, which takes its time.
    let missing = |wanted: &KnownLibrary| {
        let reason = wanted.find(&places).err()?;
        Some(format!("{}: {reason}", wanted.name))
    };
    ALL.iter().find_map(missing).map_or(Ok(()), Err)
}

impl KnownLibrary {
    fn load(&self, places: &SearchPath) -> Library {
        Library {
            name: self.name,
            purpose: self.purpose,
            found: self.find(places),
        }
    }

    fn find(&self, places: &SearchPath) -> Result<LoadedLibrary, String> {
        let Some(library) = self.open(places) else {
            return Err(format!("{} was not found: {}", self.files.join(" or "), self.advice));
        };
        let path = path_of(self.files);
        let place = path
            .as_ref()
            .map_or(self.files[0].into(), |path| path.to_string_lossy());
        let functions = self.functions.iter().chain([&self.version.0]);
        // SAFETY: the symbol is looked up, not used.
        let lacks = |name: &&&str| unsafe { library.get::<unsafe extern "C" fn()>(name.as_bytes()) }.is_err();
        if let Some(function) = functions.clone().find(lacks) {
            return Err(format!(
                "{place} lacks `{function}`, it is a stub or too old: {}",
                self.advice
            ));
        }
        let version = version(&library, self.version);
        // It stays open, so that it is found by its bare name from now on.
        std::mem::forget(library);
        Ok(LoadedLibrary { path, version })
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

fn version(library: &libloading::Library, (name, kind): (&str, Version)) -> String {
    let name = name.as_bytes();
    // SAFETY (all three): the function is in the library, and NVIDIA's headers declare it so.
    let numbers = match kind {
        Version::Driver => unsafe { library.get::<unsafe extern "C" fn(*mut c_int) -> c_int>(name) }.map(|tell| {
            let mut number = 0;
            unsafe { tell(&raw mut number) };
            vec![number / 1000, number % 1000 / 10]
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

/// The file of a library that is open, as Linux tells.
fn path_of(files: &[&str]) -> Option<PathBuf> {
    let maps = fs_err::read_to_string("/proc/self/maps").ok()?;
    let stems: Vec<&str> = files
        .iter()
        .filter_map(|file| file.split_once(".so"))
        .map(|(stem, _)| stem)
        .collect();
    let is_it = |path: &&Path| {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        name.split_once(".so").is_some_and(|(stem, _)| stems.contains(&stem))
    };
    let paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    paths.clone().find(is_it).map(Path::to_owned)
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
        let status = std::process::Command::new("cc")
            .args(["-shared", "-fPIC", "-x", "c", "/dev/null", "-o"])
            .arg(&file)
            .status()
            .expect("a C compiler, `cc`");
        assert!(status.success());
        let stub = wanted.find(&folders).expect_err("it has no functions");
        assert!(stub.contains("lacks `cordsMissing`, it is a stub or too old"), "{stub}");
    }
}
