//! Times that are no multiple of a network's step, and counts that follow from times and other numbers: refused where
//! they are formed, before anything is computed.

use crate::harness::{Project, number, rows};

/// A dataset, a network with steps of 5 ms that trains in a moment, and what it goes on from.
const HEAD: &str = r#"
name: t
stages:
  digits: { dataset: { use: dataset/digits, limit_per_class: 12, side: 16 } }
  net:
    train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, spontaneous: 10, stimulus: 20, after: 10,
      readout_window: 10, return_window: 10, warmup: 0 }
"#;

fn project(stages: &str) -> Project {
    let project = Project::with_presets();
    project.write("p.yaml", &format!("{HEAD}{stages}"));
    project
}

/// What a stage that cannot run says.
fn failed(project: &Project, stage: &str) -> String {
    let ran = project.dynvis(&["run", "p.yaml", stage]).expect(100);
    ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `12 ms` beside steps of 5 ms.
fn misfit(parameter: &str) -> String {
    format!("`{parameter}` is 12 ms, which is not a multiple of the step of 5 ms; the nearest are 10 and 15 ms")
}

#[test]
fn times_that_are_no_multiple_of_a_given_step_are_refused_by_check() {
    let cordsnet = "train: { use: train/digits/cordsnet, data: digits, areas: 2";
    for (stage, says) in [
        (format!("{cordsnet}, spontaneous: 12 }}"), misfit("spontaneous")),
        (
            format!("{cordsnet}, stimulus: 12, readout_window: 10 }}"),
            misfit("stimulus"),
        ),
        (format!("{cordsnet}, after: 12, return_window: 10 }}"), misfit("after")),
        (format!("{cordsnet}, readout_window: 12 }}"), misfit("readout_window")),
        (format!("{cordsnet}, return_window: 12 }}"), misfit("return_window")),
        (
            format!("{cordsnet}, readout_window: 3 }}"),
            "`readout_window` is 3 ms at steps of 5 ms; the nearest that can be simulated is 5 ms".to_owned(),
        ),
        (
            "train: { use: train/invert, start: net, data: digits, dt: 5, stimulus: 12 }".to_owned(),
            misfit("stimulus"),
        ),
        // Also where the step is given and the times are those of a preset.
        (
            "train: { use: train/cordsnet, data: digits, dt: 3, tau: 9 }".to_owned(),
            "`stimulus` is 200 ms, which is not a multiple of the step of 3 ms; the nearest are 198 and 201 ms"
                .to_owned(),
        ),
        (
            "import: { path: w.pth, dt: 5, stimulus: 12 }".to_owned(),
            misfit("stimulus"),
        ),
        (
            "import: { path: w.pth, dt: 5, spontaneous: 12 }".to_owned(),
            misfit("spontaneous"),
        ),
        (
            "noise: { models: [net], data: digits, levels: [0], frame_step: 5, stimulus: 12 }".to_owned(),
            "which is 12 ms, which is not a multiple of the step of 5 ms".to_owned(),
        ),
    ] {
        let project = project(&format!("  s: {{ {stage} }}\n"));
        let ran = project.dynvis(&["check", "p.yaml"]).expect(2);
        let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        let drawn = said.replace("│ ", "");
        assert!(drawn.contains(&says), "{stage}: {}", ran.stderr);
    }
    let fine = format!(
        "  s: {{ {cordsnet}, spontaneous: 15, stimulus: 35, readout_window: 5, after: 0, return_window: 0 }} }}\n"
    );
    project(&fine).dynvis(&["check", "p.yaml"]).expect(0);
}

#[test]
fn times_that_are_no_multiple_of_a_networks_step_are_refused_before_anything_is_computed() {
    let project = project(
        "  more: { train: { use: train/digits/finetune, start: net, data: digits, epochs: 1, spontaneous: 12, readout_window: 20 } }
  evaluate: { evaluate: { models: [net], data: digits, stimulus: 12 } }
  noise: { noise: { models: [net], data: digits, levels: [0, 1], spontaneous: 12 } }
  record: { record: { model: net, data: digits, stimulus: 12 } }
  joint: { fixed_points: { models: [net], data: digits, images: 1, joint: 12 } }
  later: { fixed_points: { models: [net], data: digits, images: 1, after: 12 } }
  growth: { fixed_points: { models: [net], data: digits, images: 1, singular_values: 1, growth: [10, 12] } }
  exponents: { fixed_points: { models: [net], data: digits, images: 1, exponents: 1, exponent_time: 12 } }
  cycles: { fixed_points: { models: [net], data: digits, images: 1, attractors: { time: 100 } } }
  unused: { fixed_points: { models: [net], data: digits, images: 1, joint: 50, eigenvalues: 0, exponent_time: 12 } }
",
    );
    for (stage, parameter) in [
        ("more", "spontaneous"),
        ("evaluate", "stimulus"),
        ("noise", "spontaneous"),
        ("record", "stimulus"),
        ("joint", "joint"),
        ("later", "after"),
        ("growth", "growth"),
        ("exponents", "exponent_time"),
    ] {
        let said = failed(&project, stage);
        assert!(said.contains(&misfit(parameter)), "{stage}: {said}");
    }
    let said = failed(&project, "cycles").replace("│ ", "");
    let says = "`attractors.time` is 100 ms at steps of 5 ms; the nearest that can be simulated is 150 ms, as it must \
        be 30 steps at least";
    assert!(said.contains(says), "{said}");
    // What is not simulated may be any time.
    project.dynvis(&["run", "p.yaml", "unused"]).expect(0);
}

#[test]
fn recorded_times_are_those_that_were_simulated() {
    let project = project(
        "  given: { record: { model: net, data: digits, images: 4, times: [2, 7, 12] } }
  every: { record: { model: net, data: digits, images: 4, every: 7 } }
  tiny: { record: { model: net, data: digits, images: 4, every: 0.001 } }
",
    );
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let times = |stage: &str| -> Vec<f64> {
        let rows = rows(&project, &format!("{stage}/summary"));
        let of = rows.iter().filter(|row| row["area"] == 0);
        of.map(|row| number(row, "time")).collect()
    };
    assert_eq!(times("given"), [0.0, 5.0, 10.0]);
    assert_eq!(times("every"), [0.0, 5.0, 15.0]);
    assert_eq!(times("tiny"), [0.0, 5.0, 10.0, 15.0, 20.0]);
}

#[test]
fn counts_of_steps_are_bounded_where_they_are_formed() {
    let steps = "1e7";
    let project = project(&format!(
        "  more: {{ train: {{ use: train/digits/finetune, start: net, data: digits, epochs: 1, after: {steps} }} }}
  evaluate: {{ evaluate: {{ models: [net], data: digits, stimulus: {steps} }} }}
  noise: {{ noise: {{ models: [net], data: digits, levels: [0, 1], stimulus: {steps} }} }}
  record: {{ record: {{ model: net, data: digits, stimulus: {steps}, every: 0.001 }} }}
  late: {{ record: {{ model: net, data: digits, times: [0, {steps}] }} }}
  joint: {{ fixed_points: {{ models: [net], data: digits, images: 1, joint: {steps} }} }}
  growth: {{ fixed_points: {{ models: [net], data: digits, images: 1, singular_values: 1, growth: [{steps}] }} }}
  exponents: {{ fixed_points: {{ models: [net], data: digits, images: 1, exponents: 1, exponent_time: {steps} }} }}
  rows: {{ noise: {{ models: [net], data: digits, levels: [0, 1], stimulus: 5e6, trials: 1000 }} }}
"
    ));
    for (stage, parameter) in [
        ("more", "after"),
        ("evaluate", "stimulus"),
        ("noise", "stimulus"),
        ("record", "stimulus"),
        ("joint", "joint"),
        ("growth", "growth"),
        ("exponents", "exponent_time"),
    ] {
        let said = failed(&project, stage);
        let bound =
            format!("`{parameter}` is 10000000 ms, which is 2000000 steps of 5 ms; at most 1000000 are simulated");
        assert!(said.contains(&bound), "{stage}: {said}");
    }
    let late = failed(&project, "late");
    assert!(
        late.contains("times: 10000000 ms is beyond the 1000000 steps of 5 ms"),
        "{late}"
    );
    // 2 networks, 2 presentations of 2 levels, a million steps, a thousand trials.
    let said = failed(&project, "rows");
    assert!(said.contains("the table `time` has 8000000000 rows"), "{said}");
    assert!(said.contains("GiB of memory or more"), "{said}");
}

#[test]
fn time_windows_of_all_epochs_are_bounded() {
    let stage =
        "  s: { train: { use: train/digits/cordsnet, data: digits, areas: 2, epochs: 1000000, accuracy_window: 5 } }\n";
    let ran = project(stage).dynvis(&["check", "p.yaml"]).expect(2);
    assert!(
        ran.stderr.contains("20000000 time windows of `accuracy_window`"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("at most 10000000"), "{}", ran.stderr);
}

#[test]
fn scores_beyond_memory_are_refused_with_their_number() {
    let neural = |more: &str| {
        format!(
            "predictivity: {{ activity: [activity], recordings: simulated, latencies: [0], stratify: false, \
             components: 2, {more} }}"
        )
    };
    let project = project(&format!(
        "  activity: {{ record: {{ model: net, data: digits, split: train, images: 30, times: [5, 10, 15] }} }}
  simulated:
    synthetic_recordings:
      activity: activity
      regions: [{{ name: late, area: 1, latency: 5, neurons: 1000 }}]
      start: 10
      end: 20
      width: 5
      repetitions: 2
  splits: {{ {} }}
  halvings: {{ {} }}
",
        neural("splits: 10000000"),
        neural("splits: 2, halvings: 10000000")
    ));
    for (stage, says) in [
        ("splits", "10000000 `splits`"),
        ("halvings", "10000000 `halvings` for 1000 neurons"),
    ] {
        let said = failed(&project, stage);
        assert!(
            said.contains(says) && said.contains("GiB of memory or more"),
            "{stage}: {said}"
        );
    }
}
