//! What can be asked of tables: rows, groups, order, columns, formats, and members of one run against each other.

use crate::harness::Project;

/// Two Euler steps, three seeds each; accuracy in percent after two epochs.
pub fn sweep() -> Project {
    let project = Project::new();
    project
        .write(
            "net.sh",
            "echo epoch,accuracy,images > t.csv\necho 1,$2.5,30 >> t.csv\necho 2,$(($1 + $2)).5,30 >> t.csv\n\
             echo dt,seconds > s.csv\necho $1,0.5 >> s.csv\n",
        )
        .write(
            "p.yaml",
            r#"
name: sweep
stages:
  cordsnet:
    command:
      run: [sh, "{files.0}", "${matrix.dt}", "${matrix.seed}"]
      files: [net.sh]
      outputs: { training: { path: t.csv, type: table }, speed: { path: s.csv, type: table } }
    matrix: { dt: [2, 4], seed: [0, 1, 2] }
  all:
    collect: { tables: ["cordsnet@*/training"] }
"#,
        );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
}

/// Standard output of `show @ cordsnet@*/training --format csv` with these options.
fn asked(project: &Project, options: &[&str]) -> String {
    let mut arguments = vec!["show", "@", "cordsnet@*/training", "--format", "csv"];
    arguments.extend(options);
    project.dynvis(&arguments).expect(0).stdout
}

#[test]
fn members_are_one_table_that_is_grouped_sorted_and_cut() {
    let project = sweep();
    assert_eq!(
        asked(
            &project,
            &[
                "--where",
                "epoch=2",
                "--sort",
                "-accuracy",
                "--columns",
                "dt,seed,accuracy"
            ]
        ),
        "dt,seed,accuracy\n4,2,6.5\n4,1,5.5\n2,2,4.5\n4,0,4.5\n2,1,3.5\n2,0,2.5\n"
    );
    let grouped = [
        "--group-by",
        "dt",
        "--where",
        "epoch=2",
        "--mean",
        "accuracy",
        "--sem",
        "accuracy",
        "--sort",
        "-mean(accuracy)",
    ];
    assert_eq!(
        asked(&project, &grouped),
        "dt,mean(accuracy),sem(accuracy),n(accuracy)\n4,5.5,0.5773502691896258,3\n2,3.5,0.5773502691896258,3\n"
    );
    let mut picked = grouped.to_vec();
    picked.extend(["--select", "dt,mean(accuracy)"]);
    assert_eq!(asked(&project, &picked), "dt,mean(accuracy)\n4,5.5\n2,3.5\n");
    assert_eq!(asked(&project, &["--group-by", "epoch"]), "epoch,n\n1,6\n2,6\n");
}

#[test]
fn what_was_joined_is_told_beside_the_table() {
    let project = sweep();
    let ran = project
        .dynvis(&[
            "show",
            "@",
            "cordsnet@*/training",
            "--group-by",
            "dt",
            "--mean",
            "accuracy",
        ])
        .expect(0);
    assert_eq!(ran.stderr, "12 rows joined into 2, over seed, epoch\n");
    let words: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(words[0], ["dt", "mean(accuracy)", "n(accuracy)"]);
    assert_eq!(words[2..], [["2", "2.5", "6"], ["4", "3.5", "6"]]);
    let ran = project
        .dynvis(&[
            "show",
            "@",
            "cordsnet@*/training",
            "--group-by",
            "dt",
            "--sd",
            "accuracy",
            "--describe",
        ])
        .expect(0);
    assert!(ran.stdout.contains("standard deviation (with n - 1)"), "{}", ran.stdout);
    assert!(ran.stdout.contains("over n(accuracy) rows"), "{}", ran.stdout);
}

#[test]
fn what_cannot_be_asked_is_said() {
    let project = sweep();
    let failed = |options: &[&str]| {
        let mut arguments = vec!["show", "@"];
        arguments.extend(options);
        project.dynvis(&arguments).expect(2).stderr
    };
    for (options, told) in [
        (&["all/collected", "--mean", "tables"][..], "`mean` is of numbers"),
        (&["all/collected", "--group-by", "dtt"], "no column `dtt`"),
        (&["all/collected", "--sort", "accurcy"], "no column `accurcy`"),
        (&["all/collected", "--sort", "-"], "for the largest first"),
        (&["--mean", "accuracy"], "no table is named"),
    ] {
        let stderr = failed(options);
        assert!(stderr.contains(told), "{options:?}: {stderr}");
    }
}

#[test]
fn all_formats_hold_the_same_rows() {
    let project = sweep();
    let shown = |format: &str| {
        let options = [
            "show",
            "@",
            "cordsnet@*/training",
            "--group-by",
            "dt",
            "--mean",
            "accuracy",
            "--format",
            format,
        ];
        project.command(&options).output().expect("runs").stdout
    };
    let json: serde_json::Value = serde_json::from_slice(&shown("json")).expect("JSON");
    assert_eq!(json["rows"][1]["n(accuracy)"], 6);
    assert_eq!(json["schema"]["columns"][0]["role"], "key");
    std::fs::write(project.path("t.parquet"), shown("parquet")).expect("written");
    let again = project
        .dynvis(&["show", "t.parquet", "--format", "csv"])
        .expect(0)
        .stdout;
    assert_eq!(again.as_bytes(), shown("csv"));
    let markdown = String::from_utf8(shown("md")).expect("text");
    assert!(
        markdown.starts_with("| dt | mean(accuracy) | n(accuracy) |"),
        "{markdown}"
    );
    let npy = shown("npy");
    assert!(npy.starts_with(b"\x93NUMPY\x03\x00"));
    // Two records of three fields of 8 bytes each.
    assert_eq!(npy.len() % 64, 48);
}

#[test]
fn members_of_one_run_are_compared() {
    let project = sweep();
    let ran = project
        .dynvis(&["diff", "@:cordsnet@dt=2,seed=0", "@:cordsnet@dt=4,seed=0"])
        .expect(1);
    assert!(
        ran.stdout.contains("cordsnet@dt=4,seed=0"),
        "what it was made from: {}",
        ran.stdout
    );
    assert!(ran.stdout.contains("accuracy 2.5 -> 4.5 (epoch=2)"), "{}", ran.stdout);
    assert!(ran.stderr.contains("1 of 2 tables equal"), "{}", ran.stderr);
    let ran = project
        .dynvis(&[
            "diff",
            "@:cordsnet@dt=2,*",
            "@:cordsnet@dt=4,*",
            "training",
            "--where",
            "epoch=2",
            "--json",
        ])
        .expect(1);
    let compared = ran.json();
    let found = &compared["tables"][0]["diff"];
    assert_eq!(found["changed"].as_array().map(Vec::len), Some(3), "{compared:#}");
    assert_eq!(found["seeds"][0]["a"]["mean"], 3.5, "{compared:#}");
    assert_eq!(found["seeds"][0]["b"]["mean"], 5.5, "{compared:#}");
    assert!(
        ran.stderr
            .contains("without dt=2 on the first side, dt=4 on the second"),
        "{}",
        ran.stderr
    );
    let changed = compared["changed"].as_array().expect("causes").iter();
    let stages: std::collections::BTreeSet<&str> = changed.filter_map(|cause| cause["stage"].as_str()).collect();
    assert_eq!(stages.len(), 3, "each seed is held against the same: {compared:#}");
    // Means of both, and of two runs.
    let means = ["--group-by", "epoch", "--mean", "accuracy", "--json"];
    let mut arguments = vec!["diff", "@:cordsnet@dt=2,*/training", "@:cordsnet@dt=4,*/training"];
    arguments.extend(means);
    let compared = project.dynvis(&arguments).expect(1).json();
    let found = &compared["tables"][0]["diff"];
    assert_eq!(
        found["changed"][0]["cells"][0]["column"], "mean(accuracy)",
        "{compared:#}"
    );
    assert_eq!(found["changed"][0]["cells"][0]["absolute"], 2.0, "{compared:#}");
    assert_eq!(found["equal"], 1, "{compared:#}");
    project
        .dynvis(&["diff", "@:cordsnet@dt=2,seed=0", "@:cordsnet@dt=2,seed=0"])
        .expect(0);
    project
        .write("p.yaml", &project.read("p.yaml").replace("name: sweep", "name: again"))
        .dynvis(&["run", "p.yaml"])
        .expect(0);
    project
        .dynvis(&[
            "diff",
            "@-1:cordsnet@dt=2,seed=0/training",
            "@:cordsnet@dt=2,seed=0/training",
        ])
        .expect(0);
}

#[test]
fn a_part_that_a_run_does_not_have_is_told() {
    let project = sweep();
    for (a, b, told) in [
        ("@:cordsne@dt=2", "@:all", "did you mean `cordsnet`?"),
        (
            "@:cordsnet@dt=3,*",
            "@:all",
            "of `cordsnet` it has cordsnet@dt=2,seed=0",
        ),
        ("@:all/training", "@:all", "has no stage or table `all/training`"),
        ("@:all", "@", "name the stage that it is compared with, too: `@:STAGE`"),
        ("@-7:all", "@:all", "@-7"),
    ] {
        let stderr = project.dynvis(&["diff", a, b]).expect(2).stderr;
        assert!(stderr.contains(told), "{a} {b}: {stderr}");
    }
}
