//! In the engine and in the runner no module uses one above it: the order stands in the header of each `src/lib.rs`, one
//! line a module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::repository;

/// Modules from the highest to the lowest, as the header of `lib.rs` lists them: "//! - `name`: ...".
fn order(lib: &str) -> Vec<&str> {
    let lines = lib.lines().filter_map(|line| line.strip_prefix("//! - `"));
    lines.filter_map(|line| line.split('`').next()).collect()
}

/// Modules that `lib.rs` declares, but those for tests.
fn declared(lib: &str) -> Vec<&str> {
    let lines = lib.lines().zip(std::iter::once("").chain(lib.lines()));
    let modules = lines.filter(|(_, before)| !before.starts_with("#[cfg(test)]"));
    let modules = modules.map(|(line, _)| line.strip_prefix("pub ").unwrap_or(line));
    modules
        .filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'))
        .collect()
}

/// Names that `lib.rs` gives again at the crate's root, with the modules that they are of.
fn given_again(lib: &str) -> BTreeMap<&str, &str> {
    let mut modules = BTreeMap::new();
    for line in lib.lines() {
        let path = line.strip_prefix("pub use ").and_then(|line| line.strip_suffix(';'));
        if let Some((module, names)) = path.and_then(|path| path.split_once("::")) {
            let names = names.trim_matches(['{', '}']).split(", ");
            modules.extend(names.map(|name| (name, module)));
        }
    }
    modules
}

/// Source files below a folder, unit tests in files and folders of their own aside: they may look at everything.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder of sources");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true if path.ends_with("tests") => Vec::new(),
            true => sources(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs"))
        .collect()
}

/// Code without comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// First names of what follows a path that leads to the crate's root: `a` of `a::b`, `a` and `c` of `{a::b, c}`.
fn first_names(path: &str) -> Vec<&str> {
    let name = |path| str::split(path, |c: char| !c.is_alphanumeric() && c != '_').next();
    let Some(group) = path.strip_prefix('{') else {
        return name(path).into_iter().collect();
    };
    let mut depth = 0;
    let mut names = Vec::new();
    for part in group.split_inclusive([',', '{', '}']) {
        if depth == 0 {
            names.extend(name(part.trim_start()).filter(|name| !name.is_empty()));
        }
        match part.chars().last() {
            Some('{') => depth += 1,
            Some('}') if depth == 0 => break,
            Some('}') => depth -= 1,
            _ => {}
        }
    }
    names
}

/// Uses of a module by one that is below it in the order of `lib.rs`: "file: module", and modules without a line there.
fn upward(source: &Path) -> Vec<String> {
    let lib = std::fs::read_to_string(source.join("lib.rs")).expect("lib.rs");
    let (order, given_again) = (order(&lib), given_again(&lib));
    let place = |module: &str| order.iter().position(|name| *name == module);
    let declared = declared(&lib);
    let unlisted = declared.iter().filter(|module| place(module).is_none());
    let mut wrong: Vec<String> = unlisted.map(|module| format!("lib.rs: no line for {module}")).collect();
    let gone = order.iter().filter(|module| !declared.contains(module));
    wrong.extend(gone.map(|module| format!("lib.rs: a line for {module}, which is none of its modules")));
    for file in sources(source) {
        let inside = file.strip_prefix(source).expect("below the folder").with_extension("");
        let mut parts: Vec<&str> = inside.iter().filter_map(|part| part.to_str()).collect();
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        let Some(own) = parts.first().and_then(|module| place(module)) else {
            continue;
        };
        let code = code(&std::fs::read_to_string(&file).expect("a source file"));
        let root = [String::from("crate::"), "super::".repeat(parts.len())];
        for root in root {
            for (at, _) in code.match_indices(&root) {
                if code[..at].ends_with("super::") {
                    continue;
                }
                for name in first_names(&code[at + root.len()..]) {
                    let module = given_again.get(name).copied().unwrap_or(name);
                    if place(module).is_some_and(|place| place < own) {
                        wrong.push(format!("{}: {module}", inside.display()));
                    }
                }
            }
        }
    }
    wrong
}

#[test]
fn no_module_uses_one_above_it() {
    for name in ["cords", "runner"] {
        let wrong = upward(&repository().join("crates").join(name).join("src"));
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}

#[test]
fn names_of_a_path() {
    assert_eq!(first_names("net::{Cnn, View};"), ["net"]);
    assert_eq!(
        first_names("{Real, net::{Cnn, View}, rng::Stream};"),
        ["Real", "net", "rng"]
    );
    assert_eq!(
        code("use crate::a; // crate::b\n#[cfg(test)]\nmod tests {\ncrate::c"),
        "use crate::a; "
    );
}
