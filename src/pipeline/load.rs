//! Reads a pipeline file and the presets that it names; the only part of the front end that touches the disk.

use std::path::{Path, PathBuf};

use super::Pipeline;
use super::node::{self, Node, SourceId, Sources};
use super::problem::{Problem, ProblemKind, suggest};
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

/// Where presets come from. The resolver asks by name, so that it needs no disk in tests.
pub(crate) trait Presets {
    /// The parsed preset.
    fn get(&mut self, name: &str, sources: &mut Sources) -> Result<Node, PresetError>;
    /// Names that exist, for suggestions.
    fn names(&self) -> Vec<String>;
}

/// Why a preset cannot be used.
pub(crate) enum PresetError {
    Unreadable(String),
    Syntax(node::SyntaxError),
}

/// Loads and resolves the pipeline at `path`.
pub(crate) fn load(path: &Path, options: &LoadOptions) -> Loaded {
    let mut sources = Sources::default();
    let result = try_load(path, options, &mut sources);
    Loaded { sources, result }
}

fn try_load(path: &Path, options: &LoadOptions, sources: &mut Sources) -> Result<Pipeline, Vec<Problem>> {
    let text = fs_err::read_to_string(path).map_err(|e| {
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
    let document = parse(sources, source).map_err(|p| vec![p])?;
    let root = project_root(path);
    let mut presets = PresetFolder {
        folder: root.join("stages"),
        root: root.clone(),
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

fn parse(sources: &Sources, source: SourceId) -> Result<Node, Problem> {
    node::parse(sources, source).map_err(|e| Problem::at(e.spot, ProblemKind::Syntax { message: e.message }))
}

/// The nearest folder above the pipeline that has `stages/` or `cache/`; else the pipeline's own.
fn project_root(pipeline: &Path) -> PathBuf {
    let folder = match pipeline.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let absolute = std::path::absolute(&folder).unwrap_or(folder);
    absolute
        .ancestors()
        .find(|a| a.join("stages").is_dir() || a.join("cache").is_dir())
        .map_or_else(|| absolute.clone(), Path::to_owned)
}

/// Presets as files: `stages/NAME.yaml`.
struct PresetFolder {
    folder: PathBuf,
    root: PathBuf,
}

impl Presets for PresetFolder {
    fn get(&mut self, name: &str, sources: &mut Sources) -> Result<Node, PresetError> {
        let inside = Path::new(name)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !inside {
            return Err(PresetError::Unreadable(
                "a preset's name is a path within the folder `stages`".into(),
            ));
        }
        let path = self.folder.join(format!("{name}.yaml"));
        let text = fs_err::read_to_string(&path).map_err(|e| {
            let shown = path.strip_prefix(&self.root).unwrap_or(&path);
            PresetError::Unreadable(format!("{}: {}", shown.display(), reason(&e)))
        })?;
        let shown = path.strip_prefix(&self.root).unwrap_or(&path);
        let source = sources.add(shown.display().to_string(), text);
        node::parse(sources, source).map_err(PresetError::Syntax)
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        collect_names(&self.folder, "", &mut names);
        names.sort();
        names
    }
}

fn collect_names(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    let Ok(entries) = fs_err::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            collect_names(&entry.path(), &format!("{prefix}{name}/"), names);
        } else if let Some(stem) = name.strip_suffix(".yaml") {
            names.push(format!("{prefix}{stem}"));
        }
    }
}

/// The nearest preset name, for an unreadable one.
pub(crate) fn suggest_preset(name: &str, presets: &dyn Presets) -> Option<String> {
    suggest(name, presets.names().iter().map(String::as_str))
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::InvalidData => "not UTF-8 text".into(),
        _ => error.to_string(),
    }
}
