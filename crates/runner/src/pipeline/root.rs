//! Which folder is a project.
//!
//! The nearest folder, from the pipeline's own upwards (for commands that name no pipeline: from where the user
//! stands), that holds a mark of dynvis: a cache that dynvis made (`cache/format`), presets (`stages/` with YAML files
//! in it, or empty), or `pipelines/` on the way up. If there is none, the folder where the search began. A `cache` or
//! `stages` of something else is no mark.

use std::path::{Path, PathBuf};

/// The project of what lies in `folder`.
pub fn project_root(folder: &Path) -> PathBuf {
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let mut below: Option<&Path> = None;
    for candidate in absolute.ancestors() {
        let holds_pipelines = below.is_some_and(|below| below.ends_with("pipelines"));
        if holds_pipelines || is_cache(&candidate.join("cache")) || holds_presets(&candidate.join("stages")) {
            return candidate.to_owned();
        }
        below = Some(candidate);
    }
    absolute
}

/// Whether dynvis made this folder.
pub(super) fn is_cache(folder: &Path) -> bool {
    dynvis_base::files::read(&folder.join("format")).is_ok_and(|format| format.starts_with(b"dynvis cache"))
}

/// Whether a folder is empty, or has YAML files in it or in a folder of it.
fn holds_presets(folder: &Path) -> bool {
    fn yaml_below(folder: &Path, depth: usize) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).any(|path| {
            let is_yaml = path.extension().is_some_and(|ending| ending == "yaml");
            is_yaml && path.is_file() || depth > 0 && path.is_dir() && yaml_below(&path, depth - 1)
        })
    }
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty || yaml_below(folder, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_called_cache_or_stages_of_something_else_is_no_project() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path();
        let mine = home.join("projects/mine");
        for made in [
            "cache/pip",
            "stages/theatre",
            "projects/mine/pipelines",
            "projects/mine/notes",
        ] {
            fs_err::create_dir_all(home.join(made)).expect("a folder");
        }
        fs_err::write(home.join("stages/theatre/hall.txt"), "").expect("written");
        assert_eq!(project_root(&mine), mine);
        assert_eq!(project_root(&mine.join("pipelines")), mine);
        assert_eq!(project_root(&mine.join("notes")), mine.join("notes"));
        fs_err::create_dir_all(mine.join("cache")).expect("a folder");
        fs_err::write(mine.join("cache/format"), "dynvis cache 1\n").expect("written");
        assert_eq!(project_root(&mine.join("notes")), mine);
    }

    #[test]
    fn presets_make_a_project() {
        let folder = tempfile::tempdir().expect("a folder");
        let below = folder.path().join("a/b");
        fs_err::create_dir_all(&below).expect("a folder");
        fs_err::create_dir_all(folder.path().join("stages/train")).expect("a folder");
        assert_eq!(project_root(&below), below);
        fs_err::write(folder.path().join("stages/train/cnn.yaml"), "a: 1").expect("written");
        assert_eq!(project_root(&below), folder.path());
    }
}
