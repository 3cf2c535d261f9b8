//! Weights out to PyTorch's formats and in again, and recorded activity, as a user does it.

use crate::harness::{Project, Ran};

const PIPELINE: &str = r#"
name: small
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 12, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, warmup: 0, batch: 16 }
    matrix: { seed: [0, 1] }
  record:
    record: { model: cordsnet@seed=1, data: digits, times: [0, 20, 200, 240], images: 9, stimulus: 200 }
"#;

const IMPORTED: &str = r#"
name: imported
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 12, side: 16 }
  network:
    import: { path: weights.pth, dt: 5, spontaneous: 100, stimulus: 200 }
  record:
    record: { model: network, data: digits, times: [0, 20, 200, 240], images: 9 }
"#;

fn exported(project: &Project, arguments: &[&str]) -> Ran {
    let mut all = vec!["export"];
    all.extend(arguments);
    project.dynvis(&all)
}

fn summary(project: &Project) -> serde_json::Value {
    let shown = project
        .dynvis(&["show", "@", "record/summary", "--format", "json"])
        .expect(0);
    shown.json()["rows"].clone()
}

#[test]
fn weights_go_out_and_come_back_the_same() {
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE).write("i.yaml", IMPORTED);
    // Before there are weights, the plan says what is missing and where it goes.
    let plan = project.dynvis(&["run", "i.yaml"]).expect(2);
    assert!(
        plan.stderr.contains("the weights to import") && plan.stderr.contains("weights.pth"),
        "{}",
        plan.stderr
    );

    project.dynvis(&["run", "p.yaml"]).expect(0);
    let rows = summary(&project);
    assert_eq!(rows.as_array().map(Vec::len), Some(2 * 4));
    assert!(
        rows[0]["participation_ratio"].is_null(),
        "the spontaneous state depends on no image: {rows:#}"
    );
    assert!(rows[2]["participation_ratio"].as_f64().expect("a number") >= 1.0);
    assert_eq!(
        rows[3]["accuracy"], rows[7]["accuracy"],
        "the same readout for all areas"
    );

    let folder = project.dynvis(&["show", "@", "record/activity"]).expect(0).stdout;
    let activity = std::fs::read(std::path::Path::new(folder.trim()).join("activity.safetensors")).expect("the file");
    // An 8-byte length, then JSON.
    let length = u64::from_le_bytes(activity[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&activity[8..8 + length]).expect("a header");
    assert_eq!(header["area.1"]["shape"], serde_json::json!([9, 4, 4, 4, 4]));
    assert_eq!(header["logits"]["shape"], serde_json::json!([9, 4, 10]));

    let several = exported(&project, &["cordsnet"]).expect(2);
    assert!(
        several.stderr.contains("cordsnet@seed=0, cordsnet@seed=1"),
        "{}",
        several.stderr
    );
    let none = exported(&project, &["cordnet@seed=1"]).expect(2);
    assert!(none.stderr.contains("did you mean `cordsnet@seed="), "{}", none.stderr);
    exported(&project, &["cordsnet@seed=1", "--out", "weights.pth"]).expect(0);
    exported(&project, &["cordsnet@seed=1/model", "--format", "safetensors"]).expect(0);
    let again = exported(&project, &["cordsnet@seed=1/model", "--format", "safetensors"]).expect(2);
    assert!(
        again.stderr.contains("cordsnet@seed=1.safetensors is there already"),
        "{}",
        again.stderr
    );

    project.dynvis(&["run", "i.yaml"]).expect(0);
    assert_eq!(
        summary(&project),
        rows,
        "the imported network answers as the exported one"
    );
    exported(&project, &["network", "--out", "second.pth"]).expect(0);
    let bytes = |name: &str| std::fs::read(project.path(name)).expect("read");
    assert_eq!(bytes("weights.pth"), bytes("second.pth"));
    // Another format of the same weights is another file with the same content: what depends on it stays.
    project.write(
        "i.yaml",
        &IMPORTED.replace("weights.pth", "cordsnet@seed=1.safetensors"),
    );
    project.dynvis(&["run", "i.yaml"]).expect(0);
    assert_eq!(project.outcomes()["record"], "cached", "{:?}", project.outcomes());
}

#[test]
fn weights_that_do_not_fit_fail_with_all_that_is_wrong() {
    let project = Project::with_presets();
    project.write("i.yaml", IMPORTED).write("weights.pth", "not weights");
    let ran = project.dynvis(&["run", "i.yaml", "network"]).expect(100);
    assert!(
        ran.stderr
            .contains("neither a .pth (a zip archive) nor a .safetensors file"),
        "{}",
        ran.stderr
    );

    // A safetensors file of one area's convolutions and something else.
    let mut header = serde_json::Map::new();
    let names = [
        "area_conv.0.parametrizations.weight.original0",
        "area_conv.1.parametrizations.weight.original0",
        "fc",
    ];
    for (i, name) in names.into_iter().enumerate() {
        let shape = if i == 1 {
            serde_json::json!([1, 2])
        } else {
            serde_json::json!([2, 1, 1, 1])
        };
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [8 * i, 8 * i + 8] });
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.bytes());
    bytes.extend([0; 24]);
    std::fs::write(project.path("weights.pth"), bytes).expect("written");
    let ran = project.dynvis(&["run", "i.yaml", "network"]).expect(100);
    for line in [
        "1 unexpected, 1 of wrong shape",
        "missing: `conv_bias.1`",
        "missing: `out_fc.bias`",
        "unexpected: `fc`",
        "wrong shape: `area_conv.1.parametrizations.weight.original0` is [1, 2], needed is [2, 1, 1, 1]",
    ] {
        assert!(ran.stderr.contains(line), "no `{line}` in {}", ran.stderr);
    }
}
