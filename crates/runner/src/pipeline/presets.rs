//! Presets: parts of pipelines that these name with `use:`. Files in the project's `stages/` come first, then those
//! that are part of the program.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::node::{self, Node, SourceTexts};
use super::problem::{ProblemKind, suggest_few};
use super::published::NameFindings;
use super::validate::{Validated, validate};
use crate::kind::Registry;

/// Where presets come from. The resolver asks by name, so that it needs no disk in tests.
pub(super) trait Presets {
    /// The parsed preset.
    fn get(&mut self, name: &str, sources: &mut SourceTexts) -> Result<Node, PresetError>;
    /// Names that exist, for suggestions.
    fn names(&self) -> Vec<String>;
}

/// Why a preset cannot be used.
pub(super) enum PresetError {
    Unreadable(String),
    Syntax(node::SyntaxError),
}

/// Where a preset comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the project.
    Project(PathBuf),
    /// The program.
    Shipped,
}

/// A preset that a pipeline of the project can name.
#[derive(Clone, Debug)]
pub struct Preset {
    /// Name as `use:` has it: `train/cnn`.
    pub name: String,
    /// Where the preset's text comes from.
    pub origin: Origin,
    /// The program has one of that name too, which the project's hides.
    pub hides_shipped: bool,
}

/// All presets that pipelines of the project with this root can name, by name.
pub fn presets(root: &Path, registry: &Registry) -> Vec<Preset> {
    let mut found = BTreeMap::new();
    for (name, _) in registry.presets() {
        found.insert((*name).to_owned(), Origin::Shipped);
    }
    let folder = root.join("stages");
    let mut own = Vec::new();
    collect_names(&folder, "", 0, &mut own);
    for name in own {
        let path = folder.join(format!("{name}.yaml"));
        found.insert(name, Origin::Project(path));
    }
    let preset = |(name, origin): (String, Origin)| Preset {
        hides_shipped: origin != Origin::Shipped && registry.preset(&name).is_some(),
        name,
        origin,
    };
    found.into_iter().map(preset).collect()
}

/// The text of a preset.
///
/// # Errors
/// The file of a preset of the project cannot be read.
pub fn preset_text(preset: &Preset, registry: &Registry) -> std::io::Result<String> {
    match &preset.origin {
        Origin::Project(path) => dynvis_base::files::read_to_string(path.as_ref()),
        Origin::Shipped => Ok(registry.preset(&preset.name).unwrap_or_default().to_owned()),
    }
}

/// The stage kind that a preset is for; none where its text is no preset.
pub fn preset_kind(text: &str) -> Option<String> {
    let mut sources = SourceTexts::default();
    let source = sources.add("a preset".to_owned(), text.to_owned());
    let preset = node::parse(&sources, source).ok()?;
    match preset.as_map()? {
        [(kind, _)] => Some(kind.text.clone()),
        _ => None,
    }
}

/// Presets of a project, by name.
pub(super) struct PresetFolder<'a> {
    pub(super) registry: &'a Registry,
    /// `stages` of the project.
    pub(super) folder: PathBuf,
    pub(super) root: PathBuf,
    /// Those that were read: every member of a matrix asks again.
    pub(super) read: HashMap<String, Node>,
}

impl PresetFolder<'_> {
    /// The text, and how messages call it.
    fn text(&self, name: &str) -> Result<(String, String), String> {
        let path = self.folder.join(format!("{name}.yaml"));
        let shown = path.strip_prefix(&self.root).unwrap_or(&path).display().to_string();
        match (dynvis_base::files::read_to_string(&path), self.registry.preset(name)) {
            (Ok(text), _) => Ok((shown, text)),
            (Err(error), Some(text)) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok((format!("preset {name}, part of dynvis"), text.to_owned()))
            }
            (Err(error), None) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("{shown}: no such file, and dynvis has no preset of that name"))
            }
            (Err(error), _) => Err(format!("{shown}: {}", reason(&error))),
        }
    }
}

impl Presets for PresetFolder<'_> {
    fn get(&mut self, name: &str, sources: &mut SourceTexts) -> Result<Node, PresetError> {
        if let Some(known) = self.read.get(name) {
            return Ok(known.clone());
        }
        let inside = Path::new(name)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !inside {
            return Err(PresetError::Unreadable(
                "a preset's name is a path within the folder `stages`".into(),
            ));
        }
        let (shown, text) = self.text(name).map_err(PresetError::Unreadable)?;
        let source = sources.add(shown, text);
        let preset = node::parse(sources, source).map_err(PresetError::Syntax)?;
        self.read.insert(name.to_owned(), preset.clone());
        Ok(preset)
    }

    fn names(&self) -> Vec<String> {
        presets(&self.root, self.registry)
            .into_iter()
            .map(|preset| preset.name)
            .collect()
    }
}

/// Names of the files below a folder; a link in a cycle is not followed for ever.
fn collect_names(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
    const DEEPEST: usize = 8;
    let Ok(entries) = fs_err::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            if depth < DEEPEST {
                collect_names(&entry.path(), &format!("{prefix}{name}/"), depth + 1, names);
            }
        } else if let Some(stem) = name.strip_suffix(".yaml") {
            names.push(format!("{prefix}{stem}"));
        }
    }
}

/// The nearest preset name, for an unreadable one.
pub(super) fn suggest_preset(name: &str, presets: &dyn Presets, problems: usize) -> Option<String> {
    // Every time the folder is read.
    const LOOKED_UP: usize = 1000;
    if problems > LOOKED_UP {
        return None;
    }
    suggest_few(problems, name, presets.names().iter().map(String::as_str))
}

/// Why a file could not be read, in a user's words.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::InvalidData => "not UTF-8 text".into(),
        _ => error.to_string(),
    }
}

/// What is wrong with a preset: it is for no stage kind, or its parameters do not fit it. Parameters may be missing,
/// which the stage that uses it has to give. For tests of the presets that a program brings.
pub fn preset_problems(name: &str, text: &str, registry: &Registry) -> Vec<String> {
    let mut sources = SourceTexts::default();
    let source = sources.add(name.to_owned(), text.to_owned());
    let preset = match node::parse(&sources, source) {
        Ok(preset) => preset,
        Err(error) => return vec![error.message],
    };
    let kind = preset_kind(text).and_then(|kind| registry.kind(&kind));
    let Some((kind, mut body)) = kind.and_then(|kind| Some((kind, preset.get(kind.name())?.clone()))) else {
        return vec!["it is for no stage kind".to_owned()];
    };
    if let node::Value::Map(entries) = &mut body.value {
        entries.retain(|(key, _)| key.text != "use");
    }
    let mut names = NameFindings::default();
    names.store_parameters(kind.schema(), &mut body);
    let mut validated = Validated::default();
    validate(kind.schema(), &body, &mut validated);
    let found = names.problems.iter().chain(&names.notes).chain(&validated.problems);
    let wrong = found.map(|problem| &problem.kind);
    wrong
        .filter(|kind| !matches!(kind, ProblemKind::Missing { .. }))
        .map(ToString::to_string)
        .collect()
}
