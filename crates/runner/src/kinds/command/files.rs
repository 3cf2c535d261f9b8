//! Declared files: a file, a folder with all that is in it, or a glob.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::kind::located;

/// Names that come and go without meaning anything to a program.
const PASSED_OVER: [&str; 4] = ["__pycache__", ".git", ".ipynb_checkpoints", ".DS_Store"];

/// Deeper than any project; a link that leads back up ends here.
const DEEPEST: usize = 64;

/// What a declared name stands for: paths, with where they lie within a folder or below the project. Or what to do.
pub(super) fn named(root: &Path, file: &str) -> Result<Vec<(Option<String>, PathBuf)>, String> {
    let path = located(root, file);
    if let Ok(metadata) = std::fs::metadata(&path) {
        if metadata.is_file() {
            return Ok(vec![(None, path)]);
        }
        if !metadata.is_dir() {
            let what = dynvis_base::files::irregular(metadata.file_type()).unwrap_or("no file");
            return Err(format!("it is {what}; a regular file, a folder or a glob is needed"));
        }
        let mut found = Vec::new();
        walk(&path, "", &mut found, 0)?;
        if found.is_empty() {
            return Err("the folder is there, but holds no files".into());
        }
        return Ok(found.into_iter().map(|(within, path)| (Some(within), path)).collect());
    }
    if !is_glob(file) {
        return Err("`files` holds paths relative to the project's folder".into());
    }
    let matched = matched(root, file)?;
    Ok(matched.into_iter().map(|(within, path)| (Some(within), path)).collect())
}

/// What stands in the place of a declared name among a program's arguments.
pub(super) fn paths(root: &Path, file: &str) -> Result<Vec<PathBuf>, String> {
    let path = located(root, file);
    if path.exists() || !is_glob(file) {
        return Ok(vec![path]);
    }
    Ok(matched(root, file)?.into_iter().map(|(_, path)| path).collect())
}

fn is_glob(file: &str) -> bool {
    file.contains(['*', '?', '[', '{'])
}

/// Files that a glob names, in order.
fn matched(root: &Path, file: &str) -> Result<Vec<(String, PathBuf)>, String> {
    let glob = globset::GlobBuilder::new(file).literal_separator(true).build();
    let glob = glob
        .map_err(|error| format!("it is not a glob: {error}"))?
        .compile_matcher();
    // Only the folder is listed that the glob's fixed beginning names.
    let fixed: PathBuf = Path::new(file)
        .components()
        .take_while(|part| part.as_os_str().to_str().is_some_and(|part| !is_glob(part)))
        .collect();
    let prefix = match fixed.to_str() {
        Some("") | None => String::new(),
        Some(fixed) => format!("{}/", fixed.trim_end_matches('/')),
    };
    let mut found = Vec::new();
    walk(&located(root, &prefix), &prefix, &mut found, 0)?;
    found.retain(|(within, _)| glob.is_match(within));
    if found.is_empty() {
        return Err("no file of the project's folder is called so".into());
    }
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<(String, PathBuf)>, depth: usize) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("cannot list `{}`: {error}", folder.display());
    if depth > DEEPEST {
        return Err(format!(
            "`{}` lies too deep: is there a cycle of links?",
            folder.display()
        ));
    }
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let Some(name) = name.to_str() else {
            let folder = folder.display();
            return Err(format!(
                "the name of `{}` in `{folder}` is not UTF-8",
                name.to_string_lossy()
            ));
        };
        if !PASSED_OVER.contains(&name) {
            names.insert(name.to_owned());
        }
    }
    for name in names {
        let path = folder.join(&name);
        if path.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), found, depth + 1)?;
        } else {
            found.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_folders_and_globs() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path();
        std::fs::create_dir_all(root.join("scripts/deep/__pycache__")).expect("folders");
        std::fs::create_dir(root.join("empty")).expect("folder");
        for file in [
            "scripts/b.py",
            "scripts/a.py",
            "scripts/deep/c.py",
            "scripts/n.txt",
            "scripts/deep/__pycache__/c",
        ] {
            std::fs::write(root.join(file), file).expect("written");
        }
        let slots = |file: &str| -> Vec<String> {
            let found = named(root, file).expect("found");
            found
                .into_iter()
                .map(|(within, _)| within.unwrap_or_default())
                .collect()
        };
        assert_eq!(slots("scripts/a.py"), [""]);
        assert_eq!(slots("scripts"), ["a.py", "b.py", "deep/c.py", "n.txt"]);
        assert_eq!(slots("scripts/*.py"), ["scripts/a.py", "scripts/b.py"]);
        assert_eq!(slots("**/*.py"), ["scripts/a.py", "scripts/b.py", "scripts/deep/c.py"]);
        assert_eq!(paths(root, "scripts").expect("found"), [root.join("scripts")]);
        assert_eq!(paths(root, "scripts/*.py").expect("found").len(), 2);
        for (wrong, why) in [
            ("gone", "relative"),
            ("gone/*", "cannot list"),
            ("*.r", "no file"),
            ("empty", "holds no files"),
        ] {
            let said = named(root, wrong).expect_err("refused");
            assert!(said.contains(why), "{said}");
        }
        std::os::unix::fs::symlink("..", root.join("scripts/deep/up")).expect("linked");
        assert!(named(root, "scripts").expect_err("refused").contains("cycle"));
    }
}
