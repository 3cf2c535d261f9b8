//! Faults that were found in use: what commands show of matrices, differences and tables.

use crate::harness::Project;

/// Two members of a matrix, each with a table of two rows.
fn matrix() -> Project {
    let project = Project::new();
    project.write("p.yaml", &pipeline("0.5"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    project
}

fn pipeline(accuracy: &str) -> String {
    r#"
name: study
headline: score/scores
stages:
  score:
    command:
      run: [sh, -c, "echo ${matrix.tau} > tau; printf 'level,accuracy\n0,0.${matrix.seed}\n1,ACCURACY\n' > t.csv; echo x > f"]
      outputs: { scores: { path: t.csv, type: table }, text: { path: f } }
    matrix: { tau: [10, 20], seed: [1, 2] }
  all:
    collect: { tables: ["score@*/scores"] }
"#
    .replace("ACCURACY", accuracy)
}

#[test]
fn show_of_a_matrix_shows_all_members_with_their_fields() {
    let project = matrix();
    let csv = |name: &str| project.dynvis(&["show", "@", name, "--format", "csv"]).expect(0).stdout;
    let all = csv("score/scores");
    assert!(all.starts_with("tau,seed,level,accuracy\n10,1,0,0.1\n"), "{all}");
    assert_eq!(all.lines().count(), 1 + 4 * 2, "{all}");
    assert_eq!(csv("score@*/scores"), all);
    assert_eq!(csv("score"), all);
    let some = csv("score@tau=20,*/scores");
    assert_eq!(some.lines().count(), 1 + 2 * 2, "{some}");
    assert!(some.lines().skip(1).all(|line| line.starts_with("20,")), "{some}");
    // One member has no fields to tell.
    assert_eq!(csv("score@tau=20,seed=2/scores"), "level,accuracy\n0,0.2\n1,0.5\n");
}

#[test]
fn an_output_of_several_members_is_refused_with_the_list() {
    let project = matrix();
    let ran = project.dynvis(&["show", "@", "score/text"]).expect(2);
    assert!(ran.stderr.contains("stands for 4 outputs"), "{}", ran.stderr);
    assert!(ran.stderr.contains("score@tau=20,seed=2"), "{}", ran.stderr);
    let each = project.dynvis(&["show", "@", "score@*/text"]).expect(0);
    assert_eq!(each.stdout.lines().count(), 4, "{}", each.stdout);
}

#[test]
fn diff_of_runs_is_a_summary_and_details_on_demand() {
    let project = matrix();
    project.write("p.yaml", &pipeline("0.25"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let brief = project.dynvis(&["diff", "@-1", "@"]).expect(1).stdout;
    assert!(brief.contains("largest change"), "{brief}");
    assert!(brief.contains("accuracy 0.5 -> 0.25"), "{brief}");
    let whole = project.dynvis(&["diff", "@-1", "@", "--all"]).expect(1).stdout;
    assert!(
        whole.matches("rows changed").count() > brief.matches("rows changed").count(),
        "{brief}\n{whole}"
    );
    // A table of all members is one table, and its seeds are averaged within each tau.
    let json = project
        .dynvis(&["diff", "@-1", "@", "score/scores", "--json"])
        .expect(1)
        .json();
    let seeds = json["tables"][0]["diff"]["seeds"]
        .as_array()
        .expect("comparisons")
        .clone();
    assert_eq!(seeds.len(), 2, "{seeds:#?}");
    assert!(seeds.iter().all(|s| s["a"]["n"] == 2), "{seeds:#?}");
    let taus: Vec<_> = seeds.iter().map(|s| s["group"]["tau"].as_i64()).collect();
    assert_eq!(taus, [Some(10), Some(20)]);
    let part = project
        .dynvis(&[
            "diff",
            "@-1",
            "@",
            "--table",
            "score/scores",
            "--where",
            "tau=10",
            "--json",
        ])
        .expect(1)
        .json();
    assert_eq!(part["tables"][0]["diff"]["changed"].as_array().expect("rows").len(), 2);
    project.dynvis(&["diff", "@-1", "@", "--where", "level=0"]).expect(1);
    let ran = project.dynvis(&["diff", "@-1", "@", "--where", "nothing=0"]).expect(2);
    assert!(ran.stderr.contains("no column `nothing`"), "{}", ran.stderr);
}

#[test]
fn rows_and_columns_on_demand_and_what_columns_mean() {
    let project = Project::new();
    project.write("t.csv", "model,acc,tau\na,0.5,10\nb,0.25,NA\nNA,1,20\n");
    let csv = |arguments: &[&str]| {
        let all: Vec<&str> = ["show", "t.csv", "--format", "csv"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        project.dynvis(&all).expect(0).stdout
    };
    assert_eq!(
        csv(&["--where", "acc>=0.5", "--columns", "model"]),
        "model\na\n\"NA\"\n"
    );
    assert_eq!(csv(&["--where", "tau=", "--columns", "acc"]), "acc\n0.25\n");
    assert_eq!(
        csv(&["--where", "model!=a", "--where", "tau=20", "--columns", "acc"]),
        "acc\n1.0\n"
    );
    project.dynvis(&["show", "t.csv", "--where", "acc>x"]).expect(2);
    let described = project.dynvis(&["show", "t.csv", "--describe"]).expect(0).stdout;
    assert!(
        described.contains("model") && described.contains("may be missing"),
        "{described}"
    );
}

/// The same recording in the ways of pandas, R and spreadsheets.
#[test]
fn tables_as_pandas_r_and_spreadsheets_write_them() {
    let project = Project::new();
    let plain = "id,rep,x\nu1,0,0.5\nu2,1,\nu3,2,1.25\n";
    project.write("plain.csv", plain);
    let wanted = project
        .dynvis(&["show", "plain.csv", "--format", "csv"])
        .expect(0)
        .stdout;
    let same = [
        ("na.csv", plain.replace("1,\n", "1,NA\n")),
        ("null.csv", plain.replace("1,\n", "1,null\n")),
        ("semicolon.csv", plain.replace(',', ";").replace('.', ",")),
        ("tab.tsv", plain.replace(',', "\t")),
        ("spaces.csv", plain.replace(',', ", ")),
        ("mac.csv", plain.replace('\n', "\r")),
        ("windows.csv", plain.replace('\n', "\r\n")),
        ("comment.csv", format!("# exported\n{plain}")),
        ("excel.csv", format!("sep=;\n{}", plain.replace(',', ";"))),
        ("trailing.csv", plain.replace('\n', ",,\n")),
        (
            "quoted.csv",
            "\"id\",\"rep\",\"x\"\n\"u1\",\"0\",\"0.5\"\n\"u2\",\"1\",\n\"u3\",\"2\",\"1.25\"\n".to_owned(),
        ),
    ];
    for (name, text) in same {
        project.write(name, &text);
        let ran = project.dynvis(&["show", name, "--format", "csv"]).expect(0);
        assert_eq!(ran.stdout, wanted, "{name}");
        project.dynvis(&["diff", "plain.csv", name]).expect(0);
    }
}

#[test]
fn a_value_that_is_no_number_is_named_by_its_line() {
    let project = Project::new();
    let head = "stimulus_id,neuroid_id,time_bin_start,time_bin_end,response\n";
    project
        .write(
            "r.csv",
            &format!("# a comment\n{head}a,n,70,170,1\nb,n,70,170,NA\nc,n,70,170,oops\n"),
        )
        .write("p.yaml", "name: p\nstages:\n  it: { recordings: { path: r.csv } }\n");
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(
        ran.stderr.contains("line 5 holds `oops`, which is not a number"),
        "{}",
        ran.stderr
    );
}

#[test]
fn foreign_parquet_files_that_are_damaged_are_named() {
    let project = Project::new();
    std::fs::write(project.path("x.parquet"), b"PAR1 this is no such file PAR1").expect("written");
    let ran = project.dynvis(&["show", "x.parquet"]).expect(2);
    assert!(
        ran.stderr.contains("x.parquet: not a readable Parquet file"),
        "{}",
        ran.stderr
    );
    assert!(
        !ran.stderr.contains("since it was written") && !ran.stderr.contains("panicked"),
        "{}",
        ran.stderr
    );
}
