//! Presets: files in `stages/` that pipelines name with `use:`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::node::{self, Node, Sources};
use super::problem::suggest;

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

/// Presets as files: `stages/NAME.yaml`.
pub(super) struct PresetFolder {
    pub(super) folder: PathBuf,
    pub(super) root: PathBuf,
    /// Those that were read: every member of a matrix asks again.
    pub(super) read: HashMap<String, Node>,
}

impl Presets for PresetFolder {
    fn get(&mut self, name: &str, sources: &mut Sources) -> Result<Node, PresetError> {
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
        let path = self.folder.join(format!("{name}.yaml"));
        let text = crate::files::read_to_string(&path).map_err(|e| {
            let shown = path.strip_prefix(&self.root).unwrap_or(&path);
            PresetError::Unreadable(format!("{}: {}", shown.display(), reason(&e)))
        })?;
        let shown = path.strip_prefix(&self.root).unwrap_or(&path);
        let source = sources.add(shown.display().to_string(), text);
        let preset = node::parse(sources, source).map_err(PresetError::Syntax)?;
        self.read.insert(name.to_owned(), preset.clone());
        Ok(preset)
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

/// Why a file could not be read, in a user's words.
pub(super) fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::InvalidData => "not UTF-8 text".into(),
        _ => error.to_string(),
    }
}
