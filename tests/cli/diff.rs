//! `diff`: what changed between two runs, folders of results, or table files.

use crate::harness::Project;

/// Three seeds of a stage, whose tables are collected.
fn pipeline(shift: &str, level: &str) -> String {
    r#"
name: study
stages:
  score:
    command:
      run: [sh, -c, "awk -v s=${matrix.seed} -v d=SHIFT -v l=LEVEL -f {files.1} {files.0} > t.csv"]
      files: [offset.txt, score.awk]
      outputs: { scores: { path: t.csv, type: table } }
    matrix: { seed: [1, 2, 3] }
  all:
    collect: { tables: ["score@*/scores"] }
"#
    .replace("SHIFT", shift)
    .replace("LEVEL", level)
}

fn study() -> Project {
    let project = Project::new();
    project
        .write("offset.txt", "0\n")
        .write(
            "score.awk",
            "{ print \"level,accuracy\"; print \"0,0.5\"; print l \",\" s * 0.01 + d + $1 }\n",
        )
        .write("p.yaml", &pipeline("0.6", "1"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
}

#[test]
fn runs_that_do_not_differ() {
    let project = study();
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project.dynvis(&["diff", "@-1", "@"]).expect(0).snapshot("diff_equal");
}

#[test]
fn a_change_is_held_against_the_spread_of_seeds() {
    let project = study();
    project.write("p.yaml", &pipeline("0.7", "1"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
        .dynvis(&["diff", "@-1", "@", "all"])
        .expect(1)
        .snapshot("diff_seeds");
    // A tenth of the seeds' spread, from a file outside.
    project.write("offset.txt", "0.001\n");
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
        .dynvis(&["diff", "@-1", "@", "all", "--md"])
        .expect(1)
        .snapshot("diff_file_md");
    let json = project.dynvis(&["diff", "@-1", "@", "--json"]).expect(1).json();
    let seeds = &json["tables"].as_array().expect("tables").last().expect("one")["diff"]["seeds"];
    assert_eq!(seeds[0]["exceeds_spread"], false, "{seeds:#}");
    let changed = json["changed"].as_array().expect("a list");
    let of = |what: &str| changed.iter().filter(|c| c["what"] == what).count();
    assert_eq!((of("file"), of("input"), of("parameter")), (3, 3, 0), "{json:#}");
    assert_eq!(changed.last().expect("one")["from"], "score@seed=3");
}

#[test]
fn rows_come_and_go() {
    let project = study();
    project.write("p.yaml", &pipeline("0.6", "2"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
        .dynvis(&["diff", "@-1", "@", "score@seed=1"])
        .expect(1)
        .snapshot("diff_rows");
}

#[test]
fn files_folders_and_runs_are_compared_with_each_other() {
    let project = study();
    let table = project
        .dynvis(&["show", "@", "score@seed=1/scores", "--format", "csv"])
        .expect(0)
        .stdout;
    project
        .write("old/score@seed=1/scores.csv", &table)
        .write("new/score@seed=1/scores.csv", &table.replace("0.5", "0.25"))
        .write("new/more.csv", "x\n1\n")
        .write("one.csv", &table.replace("0.5", "0.125"));
    project
        .dynvis(&["diff", "old", "new"])
        .expect(1)
        .snapshot("diff_folders");
    project
        .dynvis(&["diff", "old", "one.csv"])
        .expect(1)
        .snapshot("diff_folder_file");
    project.dynvis(&["diff", "@", "old", "score@seed=1/scores"]).expect(0);
    let ran = project.dynvis(&["diff", "@", "new", "score@seed=1/scores"]).expect(1);
    assert!(ran.stdout.contains("0.25"), "{}", ran.stdout);
    // A run's folder is the run.
    let runs = project.path("cache/runs");
    let folder = std::fs::read_dir(runs)
        .expect("runs")
        .next()
        .expect("one")
        .expect("entry");
    project
        .dynvis(&["diff", "@", &folder.path().to_string_lossy()])
        .expect(0);
    // The folder of one output, and a Parquet file.
    let stored = project.dynvis(&["show", "@", "score@seed=1/scores", "--format", "parquet"]);
    drop(stored);
    let output = project
        .command(&["show", "@", "score@seed=1/scores", "--format", "parquet"])
        .output()
        .expect("runs");
    std::fs::write(project.path("one.parquet"), output.stdout).expect("written");
    project.dynvis(&["diff", "one.parquet", "old"]).expect(0);
    project.dynvis(&["diff", "one.parquet", "one.csv"]).expect(1);
}

#[test]
fn what_cannot_be_compared_is_said() {
    let project = study();
    project.write("empty/readme.txt", "").write("one.csv", "a\n1\n");
    project
        .dynvis(&["diff", "@", "nowhere.csv"])
        .expect(2)
        .snapshot("diff_no_file");
    project
        .dynvis(&["diff", "@", "empty"])
        .expect(2)
        .snapshot("diff_no_tables");
    project
        .dynvis(&["diff", "@", "one.csv"])
        .expect(2)
        .snapshot("diff_which_table");
    project
        .dynvis(&["diff", "@", "@", "al"])
        .expect(2)
        .snapshot("diff_no_table");
    project.dynvis(&["diff", "@", "@-5"]).expect(2).snapshot("diff_no_run");
    project.write("one.parquet", "not a parquet file");
    project.dynvis(&["diff", "one.csv", "one.parquet"]).expect(2);
    assert!(!Project::new().path("cache").exists());
    // Files need no cache, and none is made for them.
    let other = Project::new();
    other
        .write("a.csv", "level,accuracy\n0,1\n")
        .write("b.csv", "level,accuracy\n0,2\n");
    other
        .dynvis(&["diff", "a.csv", "b.csv"])
        .expect(1)
        .snapshot("diff_files");
    assert!(!other.path("cache").exists());
}

/// A stage whose table of 150 rows has this value in each, and one that never changes.
fn two_tables(value: &str) -> String {
    let command = |script: &str| {
        format!("command: {{ run: [sh, -c, \"{script}\"], outputs: {{ t: {{ path: t.csv, type: table }} }} }}")
    };
    let many = command(&format!("echo n,v > t.csv; seq 1 150 | sed s/$/,{value}/ >> t.csv"));
    let same = command("(echo n,w; echo 1,0.5) > t.csv");
    format!("stages:\n  many: {{ {many} }}\n  same: {{ {same} }}\n")
}

fn two_runs() -> Project {
    let project = Project::new();
    for value in ["0.5", "0.25"] {
        project.write("p.yaml", &two_tables(value));
        project.dynvis(&["run", "p.yaml"]).expect(0);
    }
    project
}

#[test]
fn all_rows_are_all_rows() {
    let project = two_runs();
    let rows = |more: &str| {
        let shown = project.dynvis(&["diff", "@-1", "@", more]).expect(1).stdout;
        shown.lines().filter(|line| line.contains("0.25")).count()
    };
    assert!(rows("many/t") < 110, "a hundred rows, and what changed");
    assert!(rows("--all") >= 150);
}

#[test]
fn a_column_that_no_table_has_is_told_though_tables_are_equal() {
    let project = two_runs();
    for (option, value) in [("--columns", "nosuch"), ("--where", "nosuch=1")] {
        let ran = project.dynvis(&["diff", "@-1", "@", option, value]).expect(2);
        assert!(ran.stderr.contains("nosuch"), "{}", ran.stderr);
    }
    // Of two tables one has it.
    project.dynvis(&["diff", "@-1", "@", "--columns", "v"]).expect(1);
    project.dynvis(&["diff", "@-1", "@", "--columns", "w"]).expect(1);
}
