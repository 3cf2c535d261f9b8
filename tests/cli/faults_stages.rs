//! Faults found in use, in what stages read and write: each test is named after its fault.

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::harness::{Project, repository};

/// The content of the files of that name in the cache's results.
fn stored(project: &Project, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    for shelf in std::fs::read_dir(project.path("cache/objects"))
        .into_iter()
        .flatten()
        .flatten()
    {
        for object in std::fs::read_dir(shelf.path()).expect("a shelf").flatten() {
            let path = object.path().join(name);
            if path.is_file() {
                found.push(std::fs::read_to_string(path).expect("text"));
            }
        }
    }
    found
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let start = Instant::now();
    while !there() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a run, whose standard error can be read at its end.
fn start(project: &Project, arguments: &[&str]) -> Child {
    let mut command = project.command(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().expect("starts")
}

/// The exit code and what stood on standard error.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("ends");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn image(folder: &std::path::Path, name: &str) {
    std::fs::create_dir_all(folder).expect("a folder");
    let from = repository().join("crates/cords/tests/fixtures/progressive_decoded.png");
    std::fs::copy(from, folder.join(name)).expect("copied");
}

#[test]
fn an_empty_folder_is_a_result_and_one_that_was_not_made_an_error() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"name: empty
stages:
  sort:
    command: { run: [sh, -c, "mkdir rejected; echo 1 > kept.txt"], outputs: { rejected: { path: rejected }, kept: { path: kept.txt } } }
  nested:
    command: { run: [sh, -c, "mkdir -p out/a out/b; echo x > out/a/x"], outputs: { out: { path: out } } }
  uses:
    command: { run: [sh, -c, "ls {inputs.o} > l.txt; ls {inputs.r} >> l.txt"], inputs: { o: nested, r: sort/rejected }, outputs: { l: { path: l.txt } } }
"#,
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(
        stored(&project, "l.txt"),
        ["a\nb\n"],
        "empty folders are there for later stages"
    );
    let states = project.states(&["p.yaml"]);
    assert!(states.values().all(|state| state == "cached"), "{states:?}");
    project.dynvis(&["verify"]).expect(0);
    // Made again where it is gone.
    project
        .dynvis(&["gc", "--keep-runs", "0", "--keep-days", "0"])
        .expect(0);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.write(
        "p.yaml",
        r#"{ name: none, stages: { sort: { command: { run: ["true"], outputs: { rejected: { path: rejected } } } } } }"#,
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(ran.stderr.contains("did not write `rejected`"), "{}", ran.stderr);
}

#[test]
fn pictures_may_be_none() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "name: pictures
stages:
  digits: { dataset: { source: digits, side: 16, limit_per_class: 20 } }
  cnn: { train: { use: train/digits/cnn, data: digits, areas: 2, epochs: 1 } }
  rnn: { train: { use: train/digits/cordsnet, data: digits, areas: 2, epochs: 1 } }
  feed_forward: { record: { model: cnn, data: digits, images: 4 } }
  at_one_time: { record: { model: rnn, data: digits, images: 4, times: [20] } }
  states: { fixed_points: { models: [rnn], data: digits, images: 1, eigenvalues: 0 } }
  neural: { noise: { models: [cnn], data: digits, images: 10, levels: [0, 1], noises: [{ kind: neural }] } }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    for stage in ["feed_forward", "at_one_time", "states", "neural"] {
        assert_eq!(project.outcomes()[stage], "ran", "{stage}");
    }
}

#[test]
fn an_output_through_a_link_stays_the_users_own() {
    let project = Project::new();
    project.write("mine/scores.txt", "mine");
    let pipeline = |script: &str, path: &str| {
        format!(
            "name: x\nstages:\n  a: {{ command: {{ run: [sh, -c, '{script}'], outputs: {{ o: {{ path: {path} }} }} }} \
             }}\n"
        )
    };
    for (script, path) in [
        ("ln -s {root}/mine out", "out/scores.txt"),
        ("ln -s {root}/mine out", "out"),
    ] {
        project.write("p.yaml", &pipeline(script, path));
        let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
        assert!(ran.stderr.contains("link"), "{}", ran.stderr);
        assert_eq!(project.read("mine/scores.txt"), "mine");
    }
    // A link to a file is copied, and so is a hard link; one to a folder within the working folder is followed.
    for (script, path) in [
        ("ln -s {root}/mine/scores.txt o.txt", "o.txt"),
        ("ln {root}/mine/scores.txt o.txt", "o.txt"),
        (
            "mkdir run_1; ln -s run_1 latest; cp {root}/mine/scores.txt run_1/o.txt",
            "latest/o.txt",
        ),
    ] {
        project.write("p.yaml", &pipeline(script, path));
        project.dynvis(&["run", "p.yaml", "--force"]).expect(0);
        assert_eq!(stored(&project, "o.txt"), ["mine"], "{script}");
        std::fs::write(project.path("mine/scores.txt"), "mine").expect("it can be written as before");
    }
}

#[test]
fn names_and_places_of_outputs_do_no_harm() {
    let project = Project::new();
    let run = |outputs: &str, script: &str, code: i32| {
        project.write(
            "p.yaml",
            &format!("name: x\nstages:\n  a: {{ command: {{ run: [sh, -c, '{script}'], outputs: {outputs} }} }}\n"),
        );
        let _ = std::fs::remove_dir_all(project.path("cache"));
        project.dynvis(&["run", "p.yaml"]).expect(code)
    };
    let elsewhere = project.path("elsewhere");
    for wrong in [
        format!("{{ '{}': {{ path: o }} }}", elsewhere.display()),
        "{ ../up: { path: o } }".to_owned(),
        "{ o: { path: /elsewhere/o } }".to_owned(),
        "{ o: { path: ../o } }".to_owned(),
    ] {
        run(&wrong, "echo 1 > o", 2);
        assert!(!elsewhere.exists());
    }
    run("{ work: { path: o.txt } }", "echo 1 > o.txt; echo secret > junk.txt", 0);
    assert_eq!(
        (stored(&project, "o.txt").len(), stored(&project, "junk.txt").len()),
        (1, 0)
    );
    run(
        "{ work: { path: o.txt }, z: { path: z.txt } }",
        "echo 1 > o.txt; echo 2 > z.txt",
        0,
    );
    assert_eq!(
        (stored(&project, "o.txt"), stored(&project, "z.txt")),
        (vec!["1\n".into()], vec!["2\n".into()])
    );
    // A folder and a file within it, whatever they are called.
    for outputs in [
        "{ all: { path: out }, scores: { path: out/scores.csv, type: table } }",
        "{ zz_all: { path: out }, scores: { path: out/scores.csv, type: table } }",
        "{ a: { path: out }, b: { path: out }, scores: { path: out/scores.csv } }",
    ] {
        run(
            outputs,
            "mkdir out; printf \"subject,score\\na,0.5\\n\" > out/scores.csv; echo x > out/p.svg",
            0,
        );
        assert_eq!(stored(&project, "p.svg"), ["x\n"], "{outputs}");
        assert!(!stored(&project, "scores.csv").is_empty(), "{outputs}");
    }
}

#[test]
fn a_pipe_or_device_in_an_output_does_not_hang() {
    let project = Project::new();
    for (script, what) in [
        ("mkdir d; mkfifo d/f", "a named pipe"),
        ("mkdir d; ln -s /dev/zero d/f", "a device"),
        (
            "mkdir d; mkfifo ../pipe d/f; rm d/f; ln -s $PWD/../pipe d/f",
            "named pipe",
        ),
        ("mkfifo d", "a named pipe"),
    ] {
        project.write(
            "p.yaml",
            &format!(
                "name: x\nstages:\n  a: {{ command: {{ run: [sh, -c, '{script}'], outputs: {{ o: {{ path: d }} }} \
                }} }}\n"
            ),
        );
        let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
        assert!(ran.stderr.contains(what), "{script}: {}", ran.stderr);
    }
}

#[test]
fn a_pipe_or_device_among_inputs_does_not_hang() {
    let project = Project::new();
    let mkfifo = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(project.path(name)).status();
        assert!(made.expect("mkfifo").success());
    };
    image(&project.path("img/a"), "1.png");
    image(&project.path("img/b"), "1.png");
    mkfifo("img/a/zz.png");
    let dataset = "name: x\nstages:\n  d: { dataset: { source: image_folder, path: img, side: 16 } }\n";
    project.write("p.yaml", dataset);
    let refused = |what: &str| {
        for command in ["plan", "run"] {
            let ran = project.dynvis(&[command, "p.yaml"]);
            // `plan` shows a stage that is blocked, `run` refuses.
            assert_eq!(ran.code == 0, command == "plan", "{}", ran.stdout);
            let said = ran.stdout + &ran.stderr;
            assert!(said.contains(what) && said.contains("zz.png"), "{said}");
        }
    };
    refused("a named pipe");
    std::fs::remove_file(project.path("img/a/zz.png")).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", project.path("img/a/zz.png")).expect("linked");
    refused("a device");
    // Pipelines and presets, too.
    mkfifo("q.yaml");
    // Lines are wrapped.
    let words = |text: &str| text.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    let checked = project.dynvis(&["check", "q.yaml"]).expect(2);
    assert!(words(&checked.stderr).contains("a named pipe"), "{}", checked.stderr);
    mkfifo("stages/p.yaml");
    project.write("p.yaml", "name: x\nstages:\n  d: { dataset: { use: p } }\n");
    let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(words(&checked.stderr).contains("a named pipe"), "{}", checked.stderr);
}

const READS: &str = r#"name: x
stages:
  a:
    command:
      run: [sh, -c, "touch {root}/started; while [ ! -e {root}/go ]; do sleep 0.05; done; cat {files.0} > o.txt || echo none > o.txt"]
      files: [data.txt]
      outputs: { o: { path: o.txt } }
"#;

#[test]
fn a_pipe_or_device_among_a_programs_files_does_not_hang() {
    let project = Project::new();
    project.write("p.yaml", READS);
    let refused = |what: &str| {
        let ran = project.dynvis(&["run", "p.yaml"]);
        assert_ne!(ran.code, 0, "{}", ran.stdout);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains(what) && said.contains("data.txt"), "{said}");
        assert!(!project.path("started").exists(), "the program was not started");
    };
    let made = std::process::Command::new("mkfifo")
        .arg(project.path("data.txt"))
        .status();
    assert!(made.expect("mkfifo").success());
    refused("a named pipe");
    std::fs::remove_file(project.path("data.txt")).expect("removed");
    std::os::unix::fs::symlink("/dev/zero", project.path("data.txt")).expect("linked");
    refused("a device");
}

#[test]
fn a_file_that_is_changed_and_changed_back_while_a_stage_runs_has_changed() {
    let project = Project::new();
    project.write("p.yaml", READS).write("data.txt", "A\n");
    // So that the times are old enough to be told apart.
    std::thread::sleep(Duration::from_millis(50));
    let run = start(&project, &["run", "p.yaml"]);
    wait_for("the program", || project.path("started").exists());
    project.write("data.txt", "B\n");
    project.write("data.txt", "A\n");
    project.write("go", "");
    let (code, said) = end(run);
    assert_eq!(code, Some(101), "{said}");
    assert!(said.contains("data.txt` changed while"), "{said}");
    assert!(stored(&project, "o.txt").is_empty());
}

#[test]
fn a_file_that_is_deleted_before_it_is_read_has_changed() {
    let project = Project::new();
    project.write("p.yaml", READS).write("data.txt", "A\n");
    let run = start(&project, &["run", "p.yaml"]);
    wait_for("the program", || project.path("started").exists());
    std::fs::remove_file(project.path("data.txt")).expect("removed");
    project.write("go", "");
    let (code, said) = end(run);
    assert_eq!(code, Some(101), "{said}");
    assert!(stored(&project, "o.txt").is_empty());
}

#[test]
fn an_image_that_goes_or_comes_while_the_dataset_waits_has_changed() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"name: x
stages:
  first:
    command:
      run: [sh, -c, "touch {root}/started; while [ ! -e {root}/go ]; do sleep 0.05; done; echo 1 > o"]
      outputs: { o: { path: o } }
  d: { dataset: { source: image_folder, path: img, side: 16, validation: 0, test: 0.2 } }
"#,
    );
    for edit in ["removed", "added", "unlistable", "there and back"] {
        let _ = std::fs::remove_dir_all(project.path("cache"));
        let _ = std::fs::remove_dir_all(project.path("img"));
        for file in ["started", "go"] {
            let _ = std::fs::remove_file(project.path(file));
        }
        for (class, name) in [
            ("a", "1.png"),
            ("a", "2.png"),
            ("a", "3.png"),
            ("b", "1.png"),
            ("b", "2.png"),
            ("b", "3.png"),
        ] {
            image(&project.path("img").join(class), name);
        }
        let run = start(&project, &["run", "p.yaml", "--jobs", "1"]);
        wait_for("the program", || project.path("started").exists());
        match edit {
            "removed" => std::fs::rename(project.path("img/a/1.png"), project.path("away")).expect("moved"),
            "added" => image(&project.path("img/a"), "4.png"),
            "unlistable" => std::fs::create_dir(project.path("img/new")).expect("made"),
            _ => {
                image(&project.path("img/a"), "4.png");
                std::fs::remove_file(project.path("img/a/4.png")).expect("removed");
            }
        }
        project.write("go", "");
        let (code, said) = end(run);
        assert_eq!(code, Some(101), "{edit}: {said}");
        assert_eq!(project.outcomes()["d"], "failed", "{edit}");
    }
}

#[test]
fn a_file_left_in_an_inputs_folder_is_not_read_by_later_stages() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"name: x
stages:
  a: { command: { run: [sh, -c, "mkdir d; echo 1 > d/x"], outputs: { d: { path: d } } } }
  b: { command: { run: [sh, -c, "echo index > {inputs.d}/index.tmp; echo done > o"], inputs: { d: a }, outputs: { o: { path: o } } } }
  c: { command: { run: [sh, -c, "ls {inputs.d} > l.txt"], inputs: { d: a, o: b }, outputs: { l: { path: l.txt } } } }
"#,
    );
    let ran = project.dynvis(&["run", "p.yaml"]);
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if is_root {
        // Permissions do not bind it, so the content is looked at.
        let ran = ran.expect(101);
        assert!(ran.stderr.contains("must leave as it is"), "{}", ran.stderr);
    } else {
        project.dynvis(&["plan", "p.yaml"]).expect(0);
    }
    assert!(stored(&project, "l.txt").iter().all(|seen| seen == "x\n"));
    for shelf in std::fs::read_dir(project.path("cache/objects"))
        .expect("objects")
        .flatten()
    {
        for object in std::fs::read_dir(shelf.path()).expect("a shelf").flatten() {
            let mode = object.metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o200, 0, "{}: {mode:o}", object.path().display());
        }
    }
    // What is left there is noticed before it is used.
    let fixed = project
        .read("p.yaml")
        .replace("echo index > {inputs.d}/index.tmp; ", "");
    project.write("p.yaml", &fixed);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(stored(&project, "l.txt"), ["x\n"]);
}

#[test]
fn folders_and_globs_are_declared_files() {
    let project = Project::new();
    project
        .write("scripts/a.py", "1")
        .write("scripts/deep/b.py", "2")
        .write("scripts/n.txt", "3");
    let pipeline = |files: &str| {
        format!(
            "name: x\nstages:\n  a: {{ command: {{ run: [sh, -c, 'ls -d {{files.0}} > n.txt'], files: ['{files}'], \
             outputs: {{ n: {{ path: n.txt }} }} }} }}\n"
        )
    };
    let lines = |files: &str| {
        let _ = std::fs::remove_dir_all(project.path("cache"));
        project.write("p.yaml", &pipeline(files));
        project.dynvis(&["run", "p.yaml"]).expect(0);
        stored(&project, "n.txt")[0].lines().count()
    };
    assert_eq!(lines("scripts/*.py"), 1);
    assert_eq!(lines("scripts/**"), 3);
    assert_eq!(lines("scripts"), 1);
    assert_eq!(project.states(&["p.yaml"])["a"], "cached");
    project.write("scripts/__pycache__/a.pyc", "x");
    assert_eq!(
        project.states(&["p.yaml"])["a"],
        "cached",
        "what comes and goes does not count"
    );
    project.write("scripts/deep/c.py", "4");
    assert_eq!(project.states(&["p.yaml"])["a"], "run");
    project.write("p.yaml", &pipeline("scripts/*.r"));
    let ran = project.dynvis(&["run", "p.yaml"]).expect(2);
    assert!(ran.stderr.contains("scripts/*.r"), "{}", ran.stderr);
}

#[test]
fn collected_tables_say_which_member_a_row_is_of() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"name: x
stages:
  part:
    command: { run: [sh, -c, "(echo n,score; echo 7,0.5) > t.csv"], outputs: { t: { path: t.csv, type: table } }, environment: ["X${matrix.seed}${matrix.net}"] }
    matrix: { seed: [3, 4], net: [a, b] }
  all: { collect: { tables: ["part@*/t"] } }
"#,
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let shown = project
        .dynvis(&["show", "@", "all/collected", "--format", "csv"])
        .expect(0)
        .stdout;
    let mut lines = shown.lines();
    assert!(
        lines.next().is_some_and(|header| header.contains("seed,net,n,score")),
        "{shown}"
    );
    let rows: Vec<&str> = lines
        .map(|row| row.split_once(',').map_or("", |(_, rest)| rest))
        .collect();
    for row in ["3,a,7,0.5", "3,b,7,0.5", "4,a,7,0.5", "4,b,7,0.5"] {
        assert!(rows.iter().any(|found| found.ends_with(row)), "{row}: {shown}");
    }
}

#[test]
fn spaces_in_paths_do_not_break_scripts() {
    let project = Project::new();
    project
        .write("my lab/p $x/stages/none.yaml", "")
        .write("my lab/p $x/a b.txt", "found\n");
    project.write(
        "my lab/p $x/p.yaml",
        r#"name: x
stages:
  a: { command: { run: [sh, -c, "cat {files.0} \"{files.0}\" '{files.0}' > o.txt"], files: ["a b.txt"], outputs: { o: { path: o.txt } } } }
  b: { command: { run: [sh, -c, "cat {inputs.a}/o.txt > p.txt"], inputs: { a: a }, outputs: { p: { path: p.txt } } } }
"#,
    );
    let mut command = project.command(&["run", "p.yaml"]);
    let output = command.current_dir(project.path("my lab/p $x")).output().expect("runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let objects = project.path("my lab/p $x/cache/objects");
    let mut found = Vec::new();
    for shelf in std::fs::read_dir(objects).expect("objects").flatten() {
        for object in std::fs::read_dir(shelf.path()).expect("a shelf").flatten() {
            found.extend(std::fs::read_to_string(object.path().join("p.txt")));
        }
    }
    assert_eq!(found, ["found\n".repeat(3)]);
}

#[test]
fn values_of_environment_variables_do_not_stand_in_clear() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "name: x\nstages:\n  a: { command: { run: [sh, -c, 'echo 1 > o.txt'], environment: [LAB_TOKEN], outputs: { o: \
         { path: o.txt } } } }\n",
    );
    let with = |value: Option<&str>, arguments: &[&str]| {
        let mut command = project.command(arguments);
        match value {
            Some(value) => command.env("LAB_TOKEN", value),
            None => command.env_remove("LAB_TOKEN"),
        };
        let output = command.output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    with(Some("hunter2"), &["run", "p.yaml"]);
    for (value, state) in [
        (Some("hunter2"), "cached"),
        (Some(""), "run"),
        (None, "run"),
        (Some("s3cret"), "run"),
    ] {
        let plan = with(value, &["plan", "p.yaml", "--json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("json");
        assert_eq!(plan["stages"][0]["state"], state, "{value:?}");
    }
    let why = with(Some("s3cret"), &["why", "p.yaml", "a"]);
    assert!(
        why.contains("LAB_TOKEN") && !why.contains("hunter2") && !why.contains("s3cret"),
        "{why}"
    );
    let found = std::process::Command::new("grep")
        .args(["-rl", "hunter2", "cache"])
        .current_dir(project.path(""))
        .output();
    assert_eq!(String::from_utf8_lossy(&found.expect("grep").stdout), "");
}

#[test]
fn escape_sequences_and_bars_of_a_failed_program_are_made_harmless() {
    let project = Project::new();
    project.write(
        "p.yaml",
        r#"name: x
stages:
  a: { command: { run: [sh, -c, "printf '\\033]0;title\\007\\033[31mred\\033[2J\\n' >&2; i=0; while [ $i -lt 2000 ]; do printf '\\r %5d/2000 |##########| loss=0.123' $i >&2; i=$((i+1)); done; exit 3"], outputs: { o: { path: o } } } }
"#,
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{7}'),
        "{:?}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("red") && ran.stderr.contains("1999/2000"),
        "{:?}",
        ran.stderr
    );
    assert!(
        !ran.stderr.contains("1998/2000") && ran.stderr.len() < 4000,
        "{} bytes",
        ran.stderr.len()
    );
    let log = project.dynvis(&["log", "@", "a"]).expect(0);
    assert!(
        !log.stdout.contains('\u{1b}') && log.stdout.contains("red"),
        "{:?}",
        log.stdout
    );
    project.write(
        "p.yaml",
        "name: \"x\\e[31m\"\nstages:\n  a: { command: { run: [\"\\e[31mprog\"], outputs: { o: { path: o } } } }\n",
    );
    let ran = project.dynvis(&["run", "p.yaml"]);
    assert!(ran.code != 0 && !ran.stderr.contains('\u{1b}'), "{:?}", ran.stderr);
}

#[test]
fn a_program_ends_with_its_stage_whoever_is_killed() {
    let project = Project::new();
    let pipeline = |script: &str| {
        format!(
            "name: x\nstages:\n  a: {{ command: {{ run: [sh, -c, '{script}'], outputs: {{ o: {{ path: o.txt }} }} }} \
             }}\n"
        )
    };
    // A child in a session of its own, whose parent has ended.
    project.write(
        "p.yaml",
        &pipeline("cd {root}; (setsid sleep 1000 &) ; cd - > /dev/null; echo 1 > o.txt"),
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.expect_no_process();
    // The tool and its worker are killed.
    project.write(
        "p.yaml",
        &pipeline("cd {root}; touch started; (setsid sleep 1000 &); sleep 1000"),
    );
    let mut run = start(&project, &["run", "p.yaml"]);
    wait_for("the program", || project.path("started").exists());
    for pid in children(run.id()) {
        kill(pid);
    }
    run.kill().expect("killed");
    run.wait().expect("ended");
    project.expect_no_process();
}

fn kill(pid: u32) {
    let killed = std::process::Command::new("kill")
        .args(["-9", &pid.to_string()])
        .status();
    assert!(killed.expect("kill").success());
}

/// The processes that a process started.
fn children(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("tasks").flatten();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<u32>>()
        })
        .collect()
}
