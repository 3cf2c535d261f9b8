//! Three small programs in a row.

use std::path::{Path, PathBuf};

use crate::harness::{Project, Ran};

/// Three stages in a row that count how often they execute, in a file that is no input.
pub const CHAIN: &str = r#"
name: chain
stages:
  a:
    command:
      run: [sh, -c, "echo a >> $COUNT; cp {files.0} out.txt"]
      files: [in.txt]
      outputs: { out: { path: out.txt } }
  b:
    command:
      run: [sh, -c, "echo b >> $COUNT; tr -d x < {inputs.from}/out.txt > out.txt"]
      inputs: { from: a }
      outputs: { out: { path: out.txt } }
  c:
    command:
      run: [sh, -c, "echo c >> $COUNT; cat {inputs.from}/out.txt > out.txt; (echo n; cat out.txt) > t.csv"]
      inputs: { from: b }
      outputs: { out: { path: out.txt }, t: { path: t.csv, type: table } }
"#;

pub fn chain() -> Project {
    let project = Project::new();
    project.write("p.yaml", CHAIN).write("in.txt", "1\n");
    project
}

pub fn run(project: &Project, arguments: &[&str]) -> Ran {
    project.dynvis(&[&["run", "p.yaml"], arguments].concat())
}

/// Letters of the stages that executed since this was last asked.
pub fn executed(project: &Project) -> String {
    let text = project.read("count").replace('\n', "");
    let _ = std::fs::remove_file(project.path("count"));
    text
}

/// All files below a folder.
pub fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(walk(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Files of that name among the stored results.
pub fn stored(project: &Project, name: &str) -> Vec<PathBuf> {
    let mut files = walk(&project.path("cache/objects"));
    files.retain(|path| path.ends_with(name));
    files
}

/// What a file holds once a line is complete.
pub fn wait_for(project: &Project, file: &str) -> String {
    for _ in 0..1000 {
        let text = project.read(file);
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("`{file}` never came");
}
