//! A run that has nothing to do reads no data.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

use crate::harness::Project;

/// Sees whether anybody opens a file.
pub struct Watch(std::fs::File);

impl Watch {
    pub fn on(files: &[PathBuf]) -> Self {
        let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).expect("inotify");
        for file in files {
            add_watch(&fd, file, WatchFlags::OPEN | WatchFlags::ACCESS).expect("a watch");
        }
        Self(fd.into())
    }

    pub fn is_opened(&mut self) -> bool {
        match self.0.read(&mut [0; 4096]) {
            Ok(bytes) => bytes > 0,
            Err(e) if e.kind() == ErrorKind::WouldBlock => false,
            Err(e) => panic!("{e}"),
        }
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_run_with_nothing_to_do_opens_no_data_file() {
    let project = Project::new();
    project.write("in.txt", "1\n").write(
        "p.yaml",
        r#"
stages:
  a:
    command:
      run: [sh, -c, "cat {files.0} > out.txt; echo ${matrix.n} >> out.txt"]
      files: [in.txt]
      outputs: { out: { path: out.txt } }
    matrix: { n: [1, 2, 3] }
  b:
    command:
      run: [sh, -c, "cat {inputs.from}/out.txt > out.txt"]
      inputs: { from: a@n=2 }
      outputs: { out: { path: out.txt } }
"#,
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    // A file that has just changed is read again: another edit might not show in its times.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let mut data = vec![project.path("in.txt")];
    files(&project.path("cache/objects"), &mut data);
    assert_eq!(data.len(), 4, "b holds the bytes of a@n=2: {data:?}");
    let mut watch = Watch::on(&data);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["plan", "p.yaml"]).expect(0);
    assert!(project.outcomes().values().all(|o| o == "cached"));
    assert!(!watch.is_opened(), "something was read");
    // The watch does see.
    std::fs::read(&data[3]).expect("read");
    assert!(watch.is_opened());
}
