//! A project in a temporary folder and the built binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A fresh project: `stages/` exists, so that the folder is found as the project's root.
pub struct Project {
    folder: tempfile::TempDir,
}

/// What a command did, as a user sees it.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        Self {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }
}

impl Ran {
    /// Fails the test with everything that was printed, unless the exit code is this one.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\n--- stdout\n{}\n--- stderr\n{}",
            self.stdout, self.stderr
        );
        self
    }

    /// Everything that a user sees, as the snapshot of that name has it. What differs from run to run is replaced.
    #[track_caller]
    pub fn snapshot(&self, name: &str) {
        self.masked_snapshot(name, &[]);
    }

    /// The same where measurements are shown: numbers with a unit, the machine's name and the widths of columns are
    /// left out.
    #[track_caller]
    pub fn snapshot_of_measurements(&self, name: &str) {
        let masks = [
            (
                r#""(ts|dur|started|threads|cpu_seconds|peak_bytes)": \d[\d.e-]*"#,
                r#""$1": #"#,
            ),
            (r#""(host|dynvis_version)": "[^"]*""#, r#""$1": TEXT"#),
            (r"\b\d+(\.\d+)? (ms|s|min|h|[kMG]?B)\b", "# $2"),
            (r"(?m)^(host|device|dynvis) .*$", "$1 TEXT"),
            (r"  +", "  "),
            // As many letters as make it unique.
            (r"(?m)^([k-z]{8})  [k-z]+ ", "$1  PREFIX "),
            (r"(?m) +$", ""),
        ];
        self.masked_snapshot(name, &masks);
    }

    #[track_caller]
    fn masked_snapshot(&self, name: &str, masks: &[(&str, &str)]) {
        let Self { code, stdout, stderr } = self;
        let screen = format!("exit code {code}\n--- stdout\n{stdout}--- stderr\n{stderr}");
        let always = [
            (r"\b[k-z]{8}\b", "RUNIDRUN"),
            (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+Z)?", "TIME"),
            (r"\b([0-9a-f]{2}/)?[0-9a-f]{64}\b", "HASH"),
            (r"\b[0-9a-f]{12}\b", "HASH12"),
            (r"/[^ \n]*/\.tmp[A-Za-z0-9]+", "PROJECT"),
            (r"\b\d+\.\d+ (s|MB)\b", "#.# $1"),
            (r#""expected_seconds": \d[\d.e-]*"#, r#""expected_seconds": #.#"#),
            (r"\(\d+ threads?\)", "(# threads)"),
        ];
        let mut settings = insta::Settings::clone_current();
        settings.set_omit_expression(true);
        settings.set_prepend_module_to_snapshot(false);
        for (pattern, by) in masks.iter().chain(&always) {
            settings.add_filter(pattern, *by);
        }
        settings.bind(|| insta::assert_snapshot!(name, screen));
    }

    /// The standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}:\n{}", self.stdout))
    }
}

impl Project {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("stages")).expect("stages");
        Self { folder }
    }

    /// With the presets of this repository.
    pub fn with_presets() -> Self {
        let project = Self::new();
        copy(&repository().join("stages"), &project.path("stages"));
        project
    }

    /// The same project in another folder.
    pub fn moved_to(self, folder: &Path) -> Self {
        let moved = tempfile::tempdir_in(folder).expect("a temporary folder");
        copy(self.folder.path(), moved.path());
        Self { folder: moved }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("written");
        self
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// The binary in this project, without colour.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynvis"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env("COUNT", self.path("count"))
            .env_remove("DYNVIS_CACHE")
            .env_remove("DYNVIS_REMOTE");
        command
    }

    pub fn dynvis(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// `check` of a file, killed by the system where it goes beyond a limit: processor time, of which no text here
    /// takes a tenth, and whatever else `limits` sets (`ulimit` of the shell). No measure of speed.
    pub fn check_within(&self, limits: &str, file: &str) -> Ran {
        const PROCESSOR_SECONDS: u32 = 300;
        let script = format!("ulimit -t {PROCESSOR_SECONDS}; {limits} exec \"$0\" check \"$1\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &script, env!("CARGO_BIN_EXE_dynvis"), file])
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env_remove("DYNVIS_CACHE")
            .env_remove("DYNVIS_REMOTE");
        command.output().expect("a shell").into()
    }

    /// Stage -> state, as `plan --json` says it.
    pub fn states(&self, arguments: &[&str]) -> std::collections::BTreeMap<String, String> {
        let mut all = vec!["plan", "--json"];
        all.extend(arguments);
        let plan = self.dynvis(&all).expect(0).json();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        plan["stages"]
            .as_array()
            .expect("stages")
            .iter()
            .map(|s| (text(&s["stage"]), text(&s["state"])))
            .collect()
    }

    /// Processes whose working folder lies within the project: the tool, its workers and what they started.
    pub fn processes(&self) -> Vec<String> {
        let folder = self.folder.path().canonicalize().expect("a folder");
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
        pids.filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|pid| pid.bytes().all(|b| b.is_ascii_digit()))
            .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(&folder)))
            .collect()
    }

    /// Fails the test if a process is left after a while.
    #[track_caller]
    pub fn expect_no_process(&self) {
        for _ in 0..500 {
            if self.processes().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("processes outlive the tool: {:?}", self.processes());
    }

    /// Stage -> outcome of the last run.
    pub fn outcomes(&self) -> std::collections::BTreeMap<String, String> {
        let runs = self.dynvis(&["runs", "--json", "-n", "1"]).expect(0).json();
        let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
        runs[0]["stages"]
            .as_array()
            .expect("stages")
            .iter()
            .map(|s| (text(&s["name"]), text(&s["outcome"])))
            .collect()
    }
}

/// The rows of a table of the last run.
#[track_caller]
pub fn rows(project: &Project, table: &str) -> Vec<serde_json::Map<String, serde_json::Value>> {
    let shown = project
        .dynvis(&["show", "@", table, "--format", "json"])
        .expect(0)
        .json();
    let rows = shown["rows"].as_array().expect("rows").iter();
    rows.map(|row| row.as_object().expect("an object").clone()).collect()
}

/// A row's number in a column.
#[track_caller]
pub fn number(row: &serde_json::Map<String, serde_json::Value>, column: &str) -> f64 {
    row[column].as_f64().unwrap_or_else(|| panic!("no {column} in {row:?}"))
}

/// A line as a user types it into a shell.
pub fn typed(project: &Project, line: &str) -> Ran {
    let programs = Path::new(env!("CARGO_BIN_EXE_dynvis")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(project.path(""))
        // Programs of the project's own come first.
        .env(
            "PATH",
            format!("{}:{}:{path}", project.path("bin").display(), programs.display()),
        )
        .env("FAKE_SLURM", project.path("queue"))
        .env("NO_COLOR", "1")
        .env_remove("DYNVIS_CACHE")
        .env_remove("DYNVIS_REMOTE")
        .output();
    output.expect("a shell").into()
}

/// What a test has to tell though it passes.
#[expect(clippy::print_stderr, reason = "tests have no other way")]
pub fn say(text: &str) {
    eprintln!("{text}");
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
