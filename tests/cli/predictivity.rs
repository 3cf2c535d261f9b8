//! Neurons, recorded and simulated, beside activity, as a user does it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::harness::{Project, number, repository, rows};

const PIPELINE: &str = r#"
name: small
headline: predictivity/summary
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 40, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 8, epochs: 1, batch: 16 }
  activity:
    record: { model: cordsnet, data: digits, split: train, images: 120, times: [10, 20, 30, 40, 50] }
  untrained:
    record: { model: cordsnet, data: digits, split: train, images: 120, times: [10, 20, 30, 40, 50], untrained: true, pooled: true }
  simulated:
    synthetic_recordings:
      activity: activity
      regions: [{ name: late, area: 1, latency: 10, neurons: 6 }]
      start: 20
      end: 50
      repetitions: 6
      noise: 0.5
  predictivity:
    predictivity:
      activity: [activity, untrained]
      recordings: simulated
      data: digits
      components: 10
      latencies: [0, 10, 20]
      splits: 4
      stratify: false
      controls: [pixels, time_shuffled, frozen, image_shuffled]
"#;

#[test]
fn simulated_neurons_are_predicted_where_they_read() {
    let project = Project::with_presets();
    project.write("p.yaml", PIPELINE);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let summary: BTreeMap<(String, String, i64), Map<String, Value>> = rows(&project, "predictivity/summary")
        .into_iter()
        .map(|row| {
            let text = |column: &str| row[column].as_str().expect("text").to_owned();
            (
                (text("activity"), text("features"), row["area"].as_i64().unwrap_or(-1)),
                row,
            )
        })
        .collect();
    // Two areas of two networks, pixels, and two areas of three other controls.
    assert_eq!(summary.len(), 2 * 2 + 1 + 3 * 2);
    let of = |activity: &str, features: &str, area: i64| &summary[&(activity.to_owned(), features.to_owned(), area)];
    let own = of("activity", "network", 1);
    assert!(
        number(own, "r") > number(of("activity", "network", 0), "r"),
        "{summary:?}"
    );
    assert!(
        number(own, "r") > number(of("untrained", "network", 1), "r"),
        "{summary:?}"
    );
    // r^2 cannot be much above its ceiling, and is near it in the right area.
    assert!((0.5..1.15).contains(&number(own, "r2_over_ceiling")), "{own:?}");
    let (r, ceiling) = (number(own, "r"), number(own, "ceiling"));
    assert!((number(own, "r_over_ceiling_squared") - (r / ceiling).powi(2)).abs() < 1e-12);
    // The best of 15 pairs of times of what should be 0, each of spread 1 / sqrt(12) over 6 neurons and 4 splits.
    assert!(number(of("activity", "image_shuffled", 1), "r") < 0.35, "{summary:?}");

    // The estimated ceilings are the true ones, on average over neurons and bins.
    let truth = rows(&project, "simulated/truth");
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let expected = mean(truth.iter().map(|row| number(row, "reliability")).collect());
    let scores = rows(&project, "predictivity/scores");
    let found = mean(scores.iter().map(|row| number(row, "ceiling")).collect());
    assert!((expected - found).abs() < 0.05, "{found} for {expected}");

    let paired = rows(&project, "predictivity/paired");
    let shuffled = paired
        .iter()
        .filter(|row| row["features"] == "image_shuffled" && row["network_area"] == 1);
    assert_eq!(mean(shuffled.map(|row| number(row, "better")).collect()), 1.0);
    assert_eq!(rows(&project, "predictivity/neurons").len(), 6 * summary.len());

    let folder = project.dynvis(&["show", "@", "predictivity/pictures"]).expect(0).stdout;
    let svg = std::fs::read_to_string(std::path::Path::new(folder.trim()).join("area1_late.svg")).expect("a picture");
    assert!(svg.contains("model time") && svg.contains("<svg"));
    assert!(!svg.contains("NaN"));
    let png = std::fs::read(std::path::Path::new(folder.trim()).join("area1_late.png")).expect("a picture");
    assert!(png.starts_with(b"\x89PNG"));

    // Other ways to fit run on the same results; other splits than classes allow are refused with a way out.
    let others = [
        "predictivity.weights=shared",
        "predictivity.weights=window",
        "predictivity.regression=ridge_cv",
        "predictivity.regression=neuron_to_neuron",
        "predictivity.reduction=pca",
        "predictivity.reduction=random_projection",
    ];
    for change in others {
        let arguments = [
            "run",
            "p.yaml",
            "predictivity",
            "-S",
            change,
            "-S",
            "predictivity.fit_bin=[20,40]",
        ];
        project
            .dynvis(&[&arguments[..], &["-S", "predictivity.dimensions=20"]].concat())
            .expect(0);
    }
    let ran = project.dynvis(&[
        "run",
        "p.yaml",
        "-S",
        "predictivity.stratify=true",
        "-S",
        "predictivity.train=0.95",
    ]);
    assert!(ran.expect(100).stderr.contains("stratify: false"));
}

const RECORDINGS: &str = r#"
name: files
stages:
  netcdf: { recordings: { path: assembly.nc } }
  npz: { recordings: { path: assembly.npz } }
  nwb: { recordings: { path: units.nwb, bins: [[0, 50], [50, 150]] } }
  csv: { recordings: { path: responses.csv } }
"#;

#[test]
fn recordings_come_from_files() {
    let project = Project::new();
    project.write("p.yaml", RECORDINGS);
    for name in ["assembly.nc", "assembly.npz", "units.nwb"] {
        let from = repository().join("crates/cords/tests/fixtures").join(name);
        std::fs::copy(from, project.path(name)).expect("a copy");
    }
    project.write(
        "responses.csv",
        "stimulus_id,repetition,neuroid_id,region,time_bin_start,time_bin_end,response\n\
         b,0,n1,V4,70,170,1.5\na,0,n1,V4,70,170,2.5\na,1,n1,V4,70,170,3.5\nb,1,n1,V4,70,170,\nb,0,n2,IT,70,170,7\n",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(rows(&project, "netcdf/neurons"), rows(&project, "npz/neurons"));
    assert_eq!(rows(&project, "nwb/neurons").len(), 3 * 2);
    let table = rows(&project, "csv/neurons");
    let first = table.iter().find(|row| row["neuron"] == "n1").expect("n1");
    assert_eq!((number(first, "mean_response"), number(first, "missing")), (2.5, 0.25));
    let second = table.iter().find(|row| row["neuron"] == "n2").expect("n2");
    assert_eq!(
        (&second["region"], number(second, "missing")),
        (&Value::from("IT"), 0.75)
    );

    // A file that lacks a coordinate fails by its name.
    project.write(
        "responses.csv",
        "stimulus_id,neuroid_id,time_bin_start,time_bin_end,rate\na,n1,70,170,2.5\n",
    );
    let ran = project.dynvis(&["run", "p.yaml", "csv"]).expect(100);
    assert!(ran.stderr.contains("variable `response`"), "{}", ran.stderr);
    // What is not there is said before anything runs.
    std::fs::remove_file(project.path("units.nwb")).expect("removed");
    let ran = project.dynvis(&["plan", "p.yaml"]);
    assert!((ran.stdout + &ran.stderr).contains("units.nwb"));
}
