//! `dynvis doctor`: what this machine offers, and what would help.

use std::path::Path;

use cords::device::cuda;
use dynvis_base::platform;

use super::error::CommandError;
use super::project_here;
use super::tables::simple_table;
use super::ui::Ui;

/// Say what this machine offers: processor, memory, disk, GPU libraries, Slurm
#[derive(clap::Args)]
pub(crate) struct DoctorArgs {}

pub(crate) fn doctor(ui: &mut Ui, cache: Option<&Path>, _: &DoctorArgs) -> Result<u8, CommandError> {
    let mut rows = vec![
        vec!["dynvis".into(), env!("CARGO_PKG_VERSION").into(), String::new()],
        vec![
            "processor".into(),
            format!("{} threads, {}", threads(), processor_features()),
            String::new(),
        ],
    ];
    rows.push(vec!["memory".into(), memory(), String::new()]);
    let folder = cache.map_or_else(|| project_here().join("cache"), Path::to_owned);
    rows.push(cache_row(&folder));
    rows.extend(gpu_rows());
    rows.extend(super::executors::rows(&folder));
    ui.out(&simple_table(&["what", "found", "note"], rows, ui.width()))?;
    Ok(0)
}

fn memory() -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    match (platform::total_memory(), platform::free_memory()) {
        (Some(total), Some(free)) => format!("{}, {} free", gib(total), gib(free)),
        (Some(total), None) => gib(total),
        (None, _) => "not told by this system".into(),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[cfg(target_arch = "x86_64")]
fn processor_features() -> String {
    let found: Vec<&str> = [
        ("AVX-512", is_x86_feature_detected!("avx512f")),
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("FMA", is_x86_feature_detected!("fma")),
    ]
    .into_iter()
    .filter(|(_, present)| *present)
    .map(|(name, _)| name)
    .collect();
    if found.is_empty() {
        "no AVX: slow".into()
    } else {
        found.join(", ")
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_features() -> String {
    std::env::consts::ARCH.into()
}

/// Space where the cache is or will be.
fn cache_row(folder: &Path) -> Vec<String> {
    let existing = folder.ancestors().find(|a| a.exists()).unwrap_or(Path::new("."));
    let (found, note) = match rustix::fs::statvfs(existing) {
        Ok(stat) => {
            let free = stat.f_bavail as f64 * stat.f_frsize as f64 / (1u64 << 30) as f64;
            let writable = rustix::fs::access(existing, rustix::fs::Access::WRITE_OK).is_ok();
            let note = match (writable, free < 1.0) {
                (false, _) => "not writable: choose another folder with --cache",
                (true, true) => "less than 1 GiB free",
                (true, false) => "",
            };
            (format!("{}, {free:.1} GiB free", folder.display()), note.to_owned())
        }
        Err(e) => (folder.display().to_string(), e.to_string()),
    };
    vec!["cache".into(), found, note]
}

/// The GPUs, and the libraries that they are used through.
fn gpu_rows() -> Vec<Vec<String>> {
    let libraries = cuda::libraries();
    let gpus = cuda::gpus();
    let mut rows: Vec<Vec<String>> = match &gpus {
        Ok(gpus) => gpus
            .iter()
            .enumerate()
            .map(|(ordinal, gpu)| {
                let what = format!("GPU {ordinal}");
                let gpu = match gpu {
                    Ok(gpu) => gpu,
                    Err(error) => return vec![what, "cannot be opened".into(), error.to_string()],
                };
                let [total, free] = gpu.memory.map(|bytes| bytes as f64 / (1u64 << 30) as f64);
                let (major, minor) = gpu.capability;
                let found = format!(
                    "{}, {total:.1} GiB, {free:.1} GiB free, compute capability {major}.{minor}",
                    gpu.name
                );
                vec![what, found, String::new()]
            })
            .collect(),
        Err(error) => {
            // Missing libraries have rows of their own.
            let complete = libraries
                .iter()
                .all(|library| library.is_optional || library.found.is_ok());
            let note = if complete { error.to_string() } else { String::new() };
            vec![vec!["GPU".into(), "none in use: stages run on the CPU".into(), note]]
        }
    };
    // Without a GPU for one that every compiler knows.
    let capability = gpus
        .iter()
        .flatten()
        .flatten()
        .next()
        .map_or((8, 0), |gpu| gpu.capability);
    let library = |library: cuda::Library| {
        let (found, note) = match library.found {
            Ok(found) => {
                let path = found
                    .path
                    .map_or_else(String::new, |path| format!(", {}", path.display()));
                let works = match library.name {
                    "NVRTC" => cuda::try_compiler(capability).map_err(|error| error.to_string()),
                    _ => Ok(()),
                };
                (format!("{}{path}", found.version), works.err().unwrap_or_default())
            }
            Err(reason) => ("no".to_owned(), format!("{}: {reason}", library.purpose)),
        };
        vec![library.name.to_owned(), found, note]
    };
    rows.extend(libraries.into_iter().map(library));
    rows
}
