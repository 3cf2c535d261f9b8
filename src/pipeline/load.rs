//! Reads a pipeline file; with `presets` the only part of the front end that touches the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Pipeline;
use super::node::{self, Sources};
use super::presets::{PresetFolder, reason};
use super::problem::{Problem, ProblemKind};
use super::resolve;

/// What the command line adds to the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct LoadOptions {
    /// `-S` arguments as typed.
    pub(crate) overrides: Vec<String>,
}

/// A pipeline, or everything that is wrong with it; the texts serve to draw snippets.
pub(crate) struct Loaded {
    pub(crate) sources: Sources,
    pub(crate) result: Result<Pipeline, Vec<Problem>>,
}

/// Loads and resolves the pipeline at `path`.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Loaded {
    let mut sources = Sources::default();
    let result = try_load(path, options, &mut sources);
    Loaded { sources, result }
}

fn try_load(path: &Path, options: &LoadOptions, sources: &mut Sources) -> Result<Pipeline, Vec<Problem>> {
    let text = crate::files::read_to_string(path).map_err(|e| {
        vec![Problem {
            kind: ProblemKind::UnreadableFile {
                path: path.display().to_string(),
                reason: reason(&e),
            },
            spot: None,
            related: Vec::new(),
        }]
    })?;
    let source = sources.add(path.display().to_string(), text);
    let document = node::parse(sources, source)
        .map_err(|e| vec![Problem::at(e.spot, ProblemKind::Syntax { message: e.message })])?;
    let root = project_root(path);
    let mut presets = PresetFolder {
        folder: root.join("stages"),
        root: root.clone(),
        read: HashMap::new(),
    };
    let stem = path
        .file_stem()
        .map_or_else(|| "pipeline".into(), |s| s.to_string_lossy().into_owned());
    let place = resolve::Place {
        path: path.to_owned(),
        root,
        default_name: stem,
    };
    resolve::resolve(&document, place, &options.overrides, &mut presets, sources)
}

/// The project that a pipeline file belongs to.
fn project_root(pipeline: &Path) -> PathBuf {
    let folder = match pipeline.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    super::root::project_root(&folder)
}
