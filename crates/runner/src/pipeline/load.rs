//! Reads a pipeline file; with `presets` the only part of the front end that touches the disk.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::Pipeline;
use super::node::{self, SourceTexts};
use super::presets::{PresetFolder, reason};
use super::problem::{Problem, ProblemKind};
use super::resolve;
use crate::kind::Registry;

/// What the command line adds to the file.
pub struct LoadOptions<'a> {
    /// What pipelines can name.
    pub registry: &'a Registry,
    /// `-S` arguments as typed.
    pub overrides: Vec<String>,
}

/// A pipeline, or everything that is wrong with it; the texts serve to draw snippets.
pub struct Loaded {
    /// All texts that took part, whether or not the pipeline is right.
    pub sources: SourceTexts,
    /// What is as good as it was, but should be written in another way.
    pub notes: Vec<Problem>,
    /// The pipeline, or every problem in order of places.
    pub result: Result<Pipeline, Vec<Problem>>,
}

/// Loads and resolves the pipeline at `path`.
pub fn load(path: &Path, options: &LoadOptions<'_>) -> Loaded {
    let mut sources = SourceTexts::default();
    let mut notes = Vec::new();
    let result = try_load(path, options, &mut sources, &mut notes);
    Loaded { sources, notes, result }
}

fn try_load(
    path: &Path,
    options: &LoadOptions<'_>,
    sources: &mut SourceTexts,
    notes: &mut Vec<Problem>,
) -> Result<Pipeline, Vec<Problem>> {
    let text = dynvis_base::files::read_to_string(path).map_err(|e| {
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
        registry: options.registry,
        read: HashMap::new(),
    };
    let stem = path
        .file_stem()
        .map_or_else(|| "pipeline".into(), |s| s.to_string_lossy().into_owned());
    let place = resolve::PipelineLocation {
        path: path.to_owned(),
        root,
        default_name: stem,
    };
    let mut pipeline = resolve::resolve(&document, place, options, &mut presets, sources, notes)?;
    pipeline.texts = texts(sources);
    Ok(pipeline)
}

/// The files that took part, each under a name of its own.
fn texts(sources: &SourceTexts) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = Vec::new();
    for (path, text) in sources.files() {
        let name = Path::new(path)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        let mut name = name.unwrap_or_default();
        if !texts.is_empty() {
            name = format!("preset-{name}");
        }
        while texts.iter().any(|(other, _)| *other == name) {
            name = format!("other-{name}");
        }
        texts.push((name, text.to_owned()));
    }
    texts
}

/// The project that a pipeline file belongs to.
fn project_root(pipeline: &Path) -> PathBuf {
    let folder = match pipeline.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    super::root::project_root(&folder)
}
