//! Faults of recordings and predictivity that were found in use.

use std::fmt::Write as _;

use crate::harness::{Project, number, repository, rows};

/// A project with the file `r.csv` as recordings.
fn table(text: &str) -> Project {
    let project = Project::new();
    project.write("p.yaml", "name: p\nstages:\n  r: { recordings: { path: r.csv } }\n");
    project.write("r.csv", text);
    project
}

/// Every row its own neuron, stimulus and bin: 3,000 rows would fill 27 billion values.
#[test]
fn sparse_recordings_are_refused_with_their_numbers() {
    let mut text = "stimulus_id,neuroid_id,time_bin_start,time_bin_end,response\n".to_owned();
    for row in 0..3000 {
        writeln!(text, "s{row},n{row},{row},{},1.5", row + 1).expect("text");
    }
    let project = table(&text);
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    for part in [
        "3000 rows",
        "3000 stimuli x 1 repetitions x 3000 neurons x 3000 time",
        "GiB",
        "r.csv",
    ] {
        assert!(ran.stderr.replace('\n', " ").contains(part), "{}", ran.stderr);
    }
}

/// Numbers of trials that run on over stimuli and neurons: 400 neurons, each with 2 presentations of 20 stimuli of its
/// own trials.
#[test]
fn running_trial_numbers_as_repetitions_are_presentations_in_their_order() {
    let mut text = "stimulus_id,repetition,neuroid_id,animal,time_bin_start,time_bin_end,response\n".to_owned();
    let mut trial = 0;
    for neuron in 0..100 {
        for _ in 0..2 {
            for stimulus in 0..20 {
                let animal = if neuron < 50 { "A" } else { "B" };
                writeln!(text, "{stimulus},{trial},{},{animal},70,170,{trial}", neuron % 50).expect("text");
                trial += 1;
            }
        }
    }
    let project = table(&text);
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let found = rows(&project, "r/neurons");
    assert_eq!(found.len(), 100, "neurons of two animals with the same id are two");
    assert!(
        found.iter().all(|row| number(row, "missing") == 0.0),
        "nothing is missing"
    );
    let first = found
        .iter()
        .find(|row| row["animal"] == "B" && row["neuron"] == "0")
        .expect("a neuron of B");
    // Trials 2000 to 2039.
    assert_eq!(number(first, "mean_response"), 2019.5);
    // Later presentations are larger by 20, and both halves order the stimuli in the same way.
    assert!((number(first, "reliability") - 1.0).abs() < 1e-12);
}

#[test]
fn a_table_without_repetition_numbers_counts_presentations_and_keeps_neurons_without_a_region() {
    let project = table(
        "stimulus_id,neuroid_id,region,time_bin_start,time_bin_end,response\n\
         a,1,V4,70,170,1\na,1,V4,70,170,3\nb,1,V4,70,170,5\nb,1,V4,70,170,7\n\
         a,2,,70,170,2\na,2,,70,170,2\nb,2,,70,170,\nb,2,,70,170,4\n",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let found = rows(&project, "r/neurons");
    assert_eq!(
        (number(&found[0], "mean_response"), number(&found[0], "missing")),
        (4.0, 0.0)
    );
    assert_eq!(found[1]["region"], "");
    assert_eq!(number(&found[1], "missing"), 0.25);
    // A repetition that is named twice is still an error, and so is a missing id.
    project.write(
        "r.csv",
        "stimulus_id,repetition,neuroid_id,time_bin_start,time_bin_end,response\na,0,1,70,170,1\na,0,1,70,170,3\n",
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(
        ran.stderr.contains("line 3 is a second one for stimulus `a`"),
        "{}",
        ran.stderr
    );
}

#[test]
fn responses_among_several_variables_are_named_by_the_user() {
    let project = Project::new();
    project.write(
        "p.yaml",
        "name: p\nstages:\n  r: { recordings: { path: two_variables.nc } }\n",
    );
    let from = repository().join("crates/cords/tests/fixtures/two_variables.nc");
    std::fs::copy(from, project.path("two_variables.nc")).expect("a copy");
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(
        ran.stderr.contains("`spike_count_sem`") && ran.stderr.contains("`variable`"),
        "{}",
        ran.stderr
    );
    project
        .dynvis(&["run", "p.yaml", "-S", "r.variable=spike_count", "-S", "r.session=day 1"])
        .expect(0);
    let found = rows(&project, "r/neurons");
    assert_eq!(
        (found[0]["animal"].as_str(), found[0]["session"].as_str()),
        (Some("Chabo"), Some("day 1"))
    );
    assert!(number(&found[0], "mean_response") > 10.0);
}

const NETWORK: &str = r#"
name: small
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 20, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, batch: 16 }
  activity:
    record: { model: cordsnet, data: digits, split: train, images: 60, times: [0, 10, 20, 30, 40, 50] }
  first:
    synthetic_recordings:
      activity: activity
      regions: [{ name: late, area: 1, latency: 10, neurons: 5 }]
      start: 20
      end: 50
      repetitions: 6
      noise: 0.5
      seed: 1
  second:
    synthetic_recordings:
      activity: activity
      regions: [{ name: late, area: 1, latency: 10, neurons: 3 }]
      start: 20
      end: 50
      repetitions: 4
      noise: 1000
      seed: 2
  predictivity:
    predictivity:
      activity: [activity]
      recordings: [first, second]
      components: 3
      latencies: [0, 10, 500]
      splits: 2
      stratify: false
      weights: shared
"#;

/// Two sessions in one fit, a latency that no recording reaches, ceilings of noise, and ties.
#[test]
fn recordings_of_several_sessions_go_into_one_fit_and_latencies_that_nothing_reaches_are_dropped() {
    let project = Project::with_presets();
    project.write("p.yaml", NETWORK);
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(
        said.contains("left out: the latencies 500 ms, which no recorded time reaches"),
        "{said}"
    );
    let found = rows(&project, "predictivity/latencies");
    assert!(found.iter().all(|row| number(row, "latency") < 500.0), "{found:?}");
    assert_eq!(found.len(), 2 * 2, "two areas, two latencies");
    for area in 0..2 {
        let own: Vec<_> = found.iter().filter(|row| row["area"] == area).collect();
        assert!(
            own.iter()
                .any(|row| row["best"] == true && number(row, "behind") == 0.0),
            "{own:?}"
        );
    }
    // The noisy neurons have ids of the others; they are told apart by the stage that gave them.
    let neurons = rows(&project, "predictivity/neurons");
    let of = |stage: &str| neurons.iter().filter(|row| row["recordings"] == stage).count();
    assert_eq!((of("first"), of("second")), (2 * 5, 2 * 3));
    // A quotient by a ceiling of noise is blank, for neurons and regions alike.
    for row in &neurons {
        assert_eq!(row["explained"].is_null(), number(row, "ceiling") < 0.1, "{row:?}");
    }
    let onsets = rows(&project, "predictivity/onsets");
    assert_eq!(onsets.len(), 2);
    for row in &onsets {
        let [low, high] = ["latency_low", "latency_high"].map(|column| number(row, column));
        assert!(
            low <= number(row, "latency") && number(row, "latency") <= high,
            "{row:?}"
        );
        assert_eq!(number(row, "neurons"), 8.0);
    }
    project
        .dynvis(&["run", "p.yaml", "-S", "predictivity.recordings=second"])
        .expect(0);
    for table in ["predictivity/summary", "predictivity/scores"] {
        for row in rows(&project, table) {
            assert!(number(&row, "ceiling") < 0.1, "{row:?}");
            assert!(
                row["r_over_ceiling_squared"].is_null() && row["r2_over_ceiling"].is_null(),
                "{row:?}"
            );
        }
    }
    // Nothing to compare at all is an error that says what was recorded.
    let ran = project
        .dynvis(&["run", "p.yaml", "-S", "predictivity.latencies=[500]"])
        .expect(100);
    assert!(ran.stderr.contains("from 0 to 50 ms"), "{}", ran.stderr);
    let ran = project
        .dynvis(&["run", "p.yaml", "-S", "predictivity.times=[500]"])
        .expect(100);
    assert!(
        ran.stderr.contains("500 ms was not recorded, only 0 to 50 ms"),
        "{}",
        ran.stderr
    );
}

/// Recordings that name their stimuli by file: im10 stands before im2 among the dataset's files.
#[test]
fn stimuli_are_found_by_the_names_of_their_files() {
    let project = Project::with_presets();
    let indices: Vec<u32> = (0..50).collect();
    project.write(
        "p.yaml",
        &r#"
name: named
stages:
  digits:
    dataset: { use: dataset/digits, limit_per_class: 10, side: 16 }
  cordsnet:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, batch: 16 }
  activity:
    record: { model: cordsnet, data: digits, indices: INDICES, areas: [1], times: [30, 40] }
  names:
    command: { run: [cp, "{files.0}", files.csv], files: [files.csv], outputs: { files: { path: files.csv, type: table } } }
  neural:
    recordings: { path: r.csv }
  fit:
    predictivity: { activity: [activity], recordings: neural, files: names/files, components: 2, splits: 2 }
"#
        .replace("INDICES", &format!("{indices:?}")),
    );
    let names: Vec<String> = (1..=50).map(|i| format!("im{i}.png")).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert!(sorted[1] == "im10.png");
    let files = |text: &mut String| {
        for (index, name) in sorted.iter().enumerate() {
            writeln!(text, "{index},all/{name}").expect("text");
        }
    };
    let mut text = "index,file\n".to_owned();
    files(&mut text);
    project.write("files.csv", &text);
    // Responses by index, and the same by name, must give the same scores.
    let recordings = |id: &dyn Fn(usize) -> String| {
        let mut text = "stimulus_id,repetition,neuroid_id,time_bin_start,time_bin_end,response\n".to_owned();
        for index in 0..50 {
            for repetition in 0..3 {
                let response = (index * index % 17) as f64 + 0.1 * f64::from(repetition) * (index % 3) as f64;
                writeln!(text, "{},{repetition},u1,70,170,{response}", id(index)).expect("text");
            }
        }
        text
    };
    project.write("r.csv", &recordings(&|index| sorted[index].clone()));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(
        number(&rows(&project, "fit/summary")[0], "neurons"),
        1.0,
        "one neuron is enough"
    );

    // A stimulus that no file is called, and what the ways are without names.
    let ran = project
        .dynvis(&["run", "p.yaml", "fit", "-S", "fit.files=null"])
        .expect(100);
    assert!(ran.stderr.contains("DATASET/files"), "{}", ran.stderr);
    project.write("r.csv", &recordings(&|index| format!("other{index}.png")));
    let ran = project.dynvis(&["run", "p.yaml"]).expect(100);
    assert!(
        ran.stderr
            .contains("no image of the dataset comes from a file `other0.png`"),
        "{}",
        ran.stderr
    );

    // A table of stimuli may name files too.
    let mut stimuli = "stimulus_id,file\n".to_owned();
    (0..50).for_each(|index| writeln!(stimuli, "other{index}.png,all/{}", sorted[index]).expect("text"));
    project.write("stimuli.csv", &stimuli);
    project
        .dynvis(&["run", "p.yaml", "-S", "fit.stimuli=stimuli.csv"])
        .expect(0);
}

/// Too few stimuli to divide, one stimulus: an error that says so, no panic.
#[test]
fn one_stimulus_is_too_few_to_fit() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        &NETWORK
            .replace("recordings: [first, second]", "recordings: [tiny]")
            // So that image 0 is recorded.
            .replace("split: train", "split: all")
            .replace(
                "  predictivity:\n    predictivity:",
                "  tiny:\n    recordings: { path: tiny.csv }\n  predictivity:\n    predictivity:",
            ),
    );
    project.write(
        "tiny.csv",
        "stimulus_id,repetition,neuroid_id,time_bin_start,time_bin_end,response\n0,0,1,20,30,1\n0,1,1,20,30,2\n",
    );
    let ran = project.dynvis(&["run", "p.yaml", "predictivity"]).expect(100);
    assert!(!ran.stderr.contains("panick"), "{}", ran.stderr);
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("leaves one part of 1 empty"), "{said}");
}
