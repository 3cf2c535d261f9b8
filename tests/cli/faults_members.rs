//! Programs that get several members of a matrix: which folder is which.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Project, rows};

/// What stages wrote under that name.
fn written(project: &Project, name: &str) -> Vec<String> {
    let folders = |path: &Path| {
        std::fs::read_dir(path)
            .expect("a folder")
            .flatten()
            .map(|entry| entry.path())
    };
    let objects = folders(&project.path("cache/objects")).flat_map(|shelf| folders(&shelf).collect::<Vec<_>>());
    objects
        .filter_map(|object| std::fs::read_to_string(object.join(name)).ok())
        .collect()
}

/// A stage with a matrix whose members write what they are, and one that reads all of them.
const PIPELINE: &str = r#"
name: x
stages:
  part:
    command: { run: [sh, -c, "echo ${matrix.seed}${matrix.net} > o.txt"], outputs: { o: { path: o.txt } } }
    matrix: { seed: [3, 4], net: [a, "b c"] }
  alone:
    command: { run: [sh, -c, "echo alone > o.txt"], outputs: { o: { path: o.txt } } }
  all:
    command:
      run:
        - sh
        - -c
        - |
          echo place,text > all.csv
          for folder in {inputs.parts}; do echo "script,$(cat "$folder/o.txt")" >> all.csv; done
          for folder in "{inputs.parts}"; do echo "quoted,$(cat "$folder/o.txt")" >> all.csv; done
          for folder; do echo "argument,$(cat "$folder/o.txt")" >> all.csv; done
          cp "$DYNVIS_INPUTS" list.json
        - sh
        - "{inputs.parts}"
      inputs: { parts: "part@*", one: alone, single: 'part@seed=3,net="b c"' }
      outputs: { all: { path: all.csv, type: table }, list: { path: list.json } }
"#;

#[test]
fn a_program_that_gets_several_members_knows_which_is_which() {
    let project = Project::new();
    project.write("p.yaml", PIPELINE).dynvis(&["run", "p.yaml"]).expect(0);
    let texts = |place: &str| -> Vec<Value> {
        let rows = rows(&project, "all/all");
        let of = rows.into_iter().filter(|row| row["place"] == place);
        of.map(|row| row["text"].clone()).collect()
    };
    for place in ["script", "quoted", "argument"] {
        assert_eq!(texts(place), ["3a", "3b c", "4a", "4b c"], "{place}");
    }
    let [list] = written(&project, "list.json").try_into().expect("one list");
    let list: Vec<Value> = serde_json::from_str(&list).expect("json");
    let about = |entry: &Value| {
        (
            entry["name"].clone(),
            entry["artifact"].clone(),
            entry.get("fields").cloned(),
        )
    };
    let member = |seed: i64, net: &str| {
        (
            json!("parts"),
            json!("files"),
            Some(json!({ "seed": seed, "net": net })),
        )
    };
    assert_eq!(
        list.iter().map(about).collect::<Vec<_>>(),
        [
            // The fields of a stage that is an input alone are not told: no key of it has them.
            (json!("one"), json!("files"), None),
            member(3, "a"),
            member(3, "b c"),
            member(4, "a"),
            member(4, "b c"),
            (json!("single"), json!("files"), None),
        ]
    );
    let read = |entry: &Value| {
        let folder = Path::new(entry["folder"].as_str().expect("a folder"));
        std::fs::read_to_string(folder.join("o.txt")).expect("readable")
    };
    let said: Vec<String> = list.iter().map(read).collect();
    assert_eq!(said, ["alone\n", "3a\n", "3b c\n", "4a\n", "4b c\n", "3b c\n"]);
}

#[test]
fn fields_belong_to_the_key_where_several_members_are_taken_and_nowhere_else() {
    let of = |field: &str| {
        format!(
            r#"
name: x
stages:
  part:
    command: {{ run: [sh, -c, "echo $0 > o.txt", "${{matrix.{field}}}"], outputs: {{ o: {{ path: o.txt }} }} }}
    matrix: {{ {field}: [3, 4] }}
  several: {{ command: {{ run: [sh, -c, "ls {{inputs.a}} > p.txt"], inputs: {{ a: "part@*" }}, outputs: {{ p: {{ path: p.txt }} }} }} }}
  single: {{ command: {{ run: [sh, -c, "cat {{inputs.a}}/o.txt > q.txt"], inputs: {{ a: part@{field}=3 }}, outputs: {{ q: {{ path: q.txt }} }} }} }}
"#
        )
    };
    let project = Project::new();
    project
        .write("p.yaml", &of("seed"))
        .dynvis(&["run", "p.yaml"])
        .expect(0);
    project.write("p.yaml", &of("rate"));
    project.dynvis(&["run", "p.yaml", "part"]).expect(0);
    let states = project.states(&["p.yaml"]);
    assert_eq!(states["single"], "cached", "{states:?}");
    assert_eq!(states["several"], "run", "{states:?}");
}

#[test]
fn an_input_without_a_star_is_still_one_member() {
    let project = Project::new();
    for (reference, says) in [
        ("part", "`part@*` for all"),
        ("part@seed=3", "`part@*` for all"),
        ("alone@*", "has no matrix"),
        ("part@seed=9,*", "part@seed=3,net=a"),
        ("part@*/nothing", "nothing"),
    ] {
        project.write("p.yaml", &PIPELINE.replace("\"part@*\"", &format!("\"{reference}\"")));
        let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
        assert!(ran.stderr.contains(says), "{reference}: {}", ran.stderr);
    }
    let text = PIPELINE.replace("one: alone", "parts.1: alone");
    project.write("p.yaml", &text);
    let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(ran.stderr.contains("input `parts.1`"), "{}", ran.stderr);
}
