//! Networks as data: `network` of `train`, its errors at their places, and what reads such models.

use crate::harness::{Project, number, rows};

/// A dataset and the start of a stage that trains in a moment.
const HEAD: &str = r#"name: t
stages:
  digits: { dataset: { use: dataset/digits, limit_per_class: 12, side: 16 } }
  net:
    train:
      use: train/digits/cordsnet
      data: digits
      width: 4
      epochs: 1
      spontaneous: 10
      stimulus: 20
      after: 10
      readout_window: 10
      return_window: 10
      warmup: 0
"#;

/// Two areas with feedback, in full.
const FULL: &str = r#"      network:
        areas:
          - { name: v1, channels: 4 }
          - { name: v2, channels: 6, tau_ms: 20, cell: { adapting: { tau_a_ms: 50, beta: 0.3 } } }
        projections:
          - { name: v1.in, to: v1, from: [image] }
          - { name: v1.rec, to: v1, from: [v1] }
          - { name: v2.in, to: v2, from: [v1, { from: image, shortcut: { name: v2.skip } }], stride: 2 }
          - { name: v1.back, to: v1, from: [{ from: v2, upsample: bilinear }] }
        readout: [v2]
"#;

fn project(network: &str) -> Project {
    let project = Project::with_presets();
    project.write("p.yaml", &format!("{HEAD}{network}"));
    project
}

/// Line and column of a text in a pipeline, from 1.
fn place(text: &str, of: &str) -> String {
    let at = text.find(of).unwrap_or_else(|| panic!("no {of} in {text}"));
    let before = &text[..at];
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let column = at - before.rfind('\n').map_or(0, |end| end + 1) + 1;
    format!("p.yaml:{line}:{column}]")
}

/// What `check` says, on one line.
fn said(project: &Project) -> String {
    words(&project.dynvis(&["check", "p.yaml"]).expect(2).stderr)
}

/// A message on one line.
fn words(said: &str) -> String {
    let words: Vec<&str> = said.split_whitespace().filter(|word| *word != "│").collect();
    words.join(" ")
}

#[test]
fn good_networks_check_clean() {
    const DEEP: &str = r#"      network:
        areas: [{ name: a, channels: 4 }, { name: b, channels: 4 }, { name: c, channels: 4 }, { name: d, channels: 4 }]
        projections:
          - { name: a.in, to: a, from: [image] }
          - { name: b.in, to: b, from: [a], stride: 2 }
          - { name: c.in, to: c, from: [b], stride: 2 }
          - { name: d.in, to: d, from: [c], stride: 2 }
          - { name: c.back, to: c, from: [d] }
"#;
    for network in [
        FULL,
        "      network: { preset: feedback, areas: 4 }\n",
        "      network: { preset: blt, areas: 3, width: 6, tau: [10, 10, 20], trains_tau: true }\n",
        "      network: { areas: 2, cell: leaky }\n",
        "      network: { preset: cornet_rt, areas: 2, tau: 20, cell: { adapting: { tau_a_ms: 50, beta: 0.3 } } }\n",
    ] {
        project(network).dynvis(&["check", "p.yaml"]).expect(0);
    }
    // Sides that are stated, of whatever images.
    let stated = FULL.replace("channels: 4 }", "channels: 4, side: 4 }");
    project(&stated).dynvis(&["check", "p.yaml"]).expect(0);
    // Sides that are equal in small images alone.
    project(DEEP).dynvis(&["check", "p.yaml"]).expect(0);
    // Where every area has a time constant of its own, that of the stage is not held against the step.
    let slow = project("      dt: 20\n      network: { areas: 2, tau: 20 }\n");
    let said = words(&slow.dynvis(&["check", "p.yaml"]).stderr);
    assert!(!said.contains("tau [10.0]"), "{said}");
}

#[test]
fn what_no_memory_holds_is_refused_before_it_is_asked_for() {
    let huge = FULL
        .replace("name: v1, channels: 4", "name: v1, channels: 65536")
        .replace("from: [v1] }", "from: [v1], kernel: 65535 }");
    let ran = project(&huge).dynvis(&["run", "p.yaml"]).expect(100);
    let said = words(&ran.stderr);
    assert!(
        said.contains("weights (its value, gradient and moments)") && said.contains("GiB"),
        "{said}"
    );
}

#[test]
fn what_does_not_fit_is_named_at_its_place() {
    for (from, to, at, says) in [
        (
            "from: [image]",
            "from: [imago]",
            "imago",
            "projection `v1.in` names area `imago`; there are v1, v2",
        ),
        (
            "to: v2",
            "to: v3",
            "v3",
            "projection `v2.in` names area `v3`; there are v1, v2",
        ),
        ("readout: [v2]", "readout: [v9]", "v9", "the readout names area `v9`"),
        (
            "channels: 4 }\n          - { name: v2,",
            "channels: 4, side: 4 }\n          - { name: v2, side: 5,",
            "{ name: v2.in",
            "projection `v2.in` gives maps of side 2, but area v2 has side 5",
        ),
        (
            "{ from: v2, upsample: bilinear }",
            "v2",
            "{ name: v1.back",
            "projection `v1.back` gives maps of sides other than that of area v1, whatever the side of the images",
        ),
        (
            "upsample: bilinear",
            "upsample: cubic",
            "cubic",
            "`cubic` is not one of",
        ),
        (
            "upsample: bilinear",
            "upsampled: bilinear",
            "upsampled",
            "unknown parameter `upsampled`",
        ),
        (
            "{ name: v1, channels: 4 }",
            "{ name: v1 }",
            "{ name: v1 }",
            "missing parameter `channels`",
        ),
        (
            "tau_ms: 20",
            "tau_ms: 2",
            "2, cell",
            "area v2 has a time constant of 2 ms: it must be at least the step of 5 ms",
        ),
        (
            "tau_a_ms: 50",
            "tau_a_ms: 1",
            "1, beta",
            "area v2 adapts with tau_a = 1 ms: it must be at least the step of 5 ms",
        ),
        (
            "areas:\n",
            "preset: blt\n        areas:\n",
            "blt",
            "`preset` belongs to a preset; this network is given in full",
        ),
        (
            "from: [v1, { from: image, shortcut: { name: v2.skip } }]",
            "from: [v2]",
            "{ name: v2, channels",
            "the side of area v2 does not follow from its projections",
        ),
        (
            "{ name: v2, channels: 6",
            "{ name: v1, channels: 6",
            "{ name: v1, channels: 6",
            "area `v1` is there twice",
        ),
        (
            "name: v1, channels: 4",
            "name: image, channels: 4",
            "image, channels",
            "an area cannot be named `image`",
        ),
        (
            "name: v1.rec",
            "name: log_tau.0",
            "{ name: log_tau.0",
            "a convolution cannot be named `log_tau.0`",
        ),
        (
            "from: [v1] }",
            "from: [{ from: v2, upsample: nearest }, { from: v2, upsample: nearest }] }",
            "[{ from: v2, upsample: nearest }, {",
            "projection `v1.rec` reads area v2 twice",
        ),
    ] {
        assert!(FULL.contains(from), "{from}");
        let network = FULL.replacen(from, to, 1);
        let project = project(&network);
        let said = said(&project);
        assert!(said.contains(says), "{said}\ninstead of\n{says}");
        let at = place(&project.read("p.yaml"), at);
        assert!(said.contains(&at), "{said}\nnot at {at}");
    }
}

#[test]
fn a_name_and_a_number_of_areas_are_such() {
    for (network, says) in [
        ("{ areas: 2, name: '' }", "the name is empty"),
        (
            "{ areas: 4.0 }",
            "`areas` is a number of areas, or a list of areas with `name` and `channels`",
        ),
        ("{ areas: 1, preset: feedback }", "1 area is no pair"),
    ] {
        let said = said(&project(&format!("      network: {network}\n")));
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn a_network_is_given_once() {
    let project = project("      areas: 2\n      network: { preset: feedback, areas: 4 }\n");
    let said = said(&project);
    assert!(
        said.contains("`areas` and `network` both say which network it is: give one of them"),
        "{said}"
    );
    let at = place(&project.read("p.yaml"), "2\n      network");
    assert!(said.contains(&at), "{said}\nnot at {at}");
}

#[test]
fn published_phases_need_a_network_with_a_twin() {
    for (network, says) in [
        (
            "{ preset: blt, areas: 2 }",
            "phase `cnn`: this network has no CNN twin: areas 0, 1 drive each other; phase `direct` trains any network",
        ),
        (
            "{ areas: 2, cell: { adapting: { tau_a_ms: 50, beta: 0.3 } } }",
            "area 0 has units with adaptation or a trained time constant",
        ),
    ] {
        let project = Project::with_presets();
        let stage = format!("  cnn: {{ train: {{ use: train/digits/cnn, data: digits, network: {network} }} }}\n");
        project.write("p.yaml", &format!("{HEAD}{stage}"));
        let said = said(&project);
        assert!(said.contains(says), "{said}");
    }
    let project = Project::with_presets();
    let stage = "  more: { train: { use: train/digits/finetune, start: net, data: digits, network: { areas: 2 } } }\n";
    project.write("p.yaml", &format!("{HEAD}{stage}"));
    let said = said(&project);
    assert!(
        said.contains("phase `finetune` continues with the network of `start`: leave `network` out"),
        "{said}"
    );
}

#[test]
fn models_of_any_network_are_read_and_tables_have_its_name() {
    const READERS: &str = r#"
  accuracy: { evaluate: { models: [net], data: digits } }
  noise: { noise: { models: [net], data: digits, images: 3, levels: [0, 1] } }
  points: { fixed_points: { models: [net], data: digits, images: 1, eigenvalues: 2, singular_values: 1, probes: 1 } }
  activity: { record: { model: net, data: digits, images: 2 } }
"#;
    for (network, name) in [
        (FULL, "CordsNet-2-areas"),
        ("      network: { preset: blt, areas: 3 }\n", "BLT-3"),
        (
            "      network: { preset: feedback, areas: 3, cell: { adapting: { tau_a_ms: 50, beta: 0.3 } } }\n",
            "CordsNet-R3-feedback-adapting",
        ),
        (
            "      network: { preset: feedforward, areas: 2, name: plain }\n",
            "plain",
        ),
    ] {
        let project = project(&format!("{network}{READERS}"));
        project.dynvis(&["run", "p.yaml"]).expect(0);
        for table in ["accuracy/accuracy", "noise/accuracy", "points/states"] {
            let rows = rows(&project, table);
            assert!(!rows.is_empty(), "{table}");
            assert!(rows.iter().all(|row| row["network"] == name), "{table}: {rows:?}");
        }
        // Tensors alone would make another network.
        let refused = words(
            &project
                .dynvis(&["export", "net", "--out", "weights.pth"])
                .expect(2)
                .stderr,
        );
        let says = format!("{name} is not one of the published networks, and is not exported");
        assert!(
            refused.contains(&says) && refused.contains("model.safetensors"),
            "{refused}"
        );
        assert!(!project.path("weights.pth").exists());
        let folder = project.dynvis(&["show", "@", "net/pictures"]).expect(0);
        let folder = folder.stdout.lines().last().expect("a folder").trim().to_owned();
        for file in ["network.svg", "network.png"] {
            let file = std::path::Path::new(&folder).join(file);
            assert!(
                std::fs::metadata(&file).is_ok_and(|data| data.len() > 1000),
                "{}",
                file.display()
            );
        }
    }
}

#[test]
fn a_network_whose_loops_cannot_be_cut_has_no_view_without_recurrence() {
    const NOISE: &str = "  noise: { noise: { models: [net], data: digits, images: 3, levels: [0, 1] } }\n";
    let mix =
        "          - { name: v2.mix, to: v2, from: [v2, { from: v1, shortcut: { name: v2.bridge, stride: 2 } }] }";
    let mixed = FULL
        .replace("channels: 6,", "channels: 6, side: 2,")
        .replace("        readout: [v2]", &format!("{mix}\n        readout: [v2]"));
    for (network, has_view) in [(FULL, true), (mixed.as_str(), false)] {
        let project = project(&format!("{network}{NOISE}"));
        let said = project.dynvis(&["run", "p.yaml"]).expect(0).stderr;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let rows = rows(&project, "noise/accuracy");
        assert_eq!(rows.iter().any(|row| row["view"] == "no recurrence"), has_view);
        assert!(rows.iter().any(|row| row["view"] == "dynamics"));
        let note = "has no view `no recurrence`: without its recurrent and feedback projections this network would not \
            be feed-forward: projection `v2.mix` to area v2";
        assert_eq!(said.contains(note), !has_view, "{said}");
    }
}

#[test]
fn trained_time_constants_and_adaptation_stand_in_a_table() {
    const NETWORK: &str = "      network: { preset: blt, areas: 2, tau: [10, 20], trains_tau: true, \
        tau_per_channel: true, cell: { adapting: { tau_a_ms: 50, beta: 0.3, trained: true } } }\n";
    let trained = project(NETWORK);
    // Long enough for adaptation of the last area to change the readout.
    let longer = trained.read("p.yaml").replace("stimulus: 20", "stimulus: 60");
    trained.write("p.yaml", &longer);
    trained.dynvis(&["run", "p.yaml"]).expect(0);
    let rows = rows(&trained, "net/cell_parameters");
    let before: Vec<(f64, &str, f64)> = rows
        .iter()
        .map(|row| {
            let quantity = row["quantity"].as_str().expect("a word");
            (number(row, "area"), quantity, number(row, "before"))
        })
        .collect();
    assert_eq!(
        before,
        [
            (0.0, "tau", 10.0),
            (0.0, "tau_a", 50.0),
            (0.0, "beta", 0.3),
            (1.0, "tau", 20.0),
            (1.0, "tau_a", 50.0),
            (1.0, "beta", 0.3),
        ]
    );
    for row in &rows {
        let after = number(row, "after");
        // Rounding to single precision changes less. Changes of channels may cancel in their mean.
        let changed = |value: f64| (value / number(row, "before") - 1.0).abs() > 1e-5;
        let values = ["after", "minimum", "maximum"].into_iter();
        let mut values = values.filter_map(|column| row[column].as_f64());
        assert!(values.any(changed), "{row:?}");
        let is_tau = row["quantity"] != "beta";
        assert_eq!(row["unit"] == "ms", is_tau, "{row:?}");
        assert_eq!(row["unit"].is_null(), !is_tau, "{row:?}");
        if is_tau {
            assert!(after >= 0.999 * 5.0, "below the step of 5 ms: {row:?}");
        }
        let is_per_channel = row["quantity"] == "tau";
        for end in ["minimum", "maximum"] {
            assert_eq!(row[end].is_null(), !is_per_channel, "{row:?}");
        }
        if is_per_channel {
            assert!(number(row, "minimum") <= after * (1.0 + 1e-9), "{row:?}");
            assert!(number(row, "maximum") >= after * (1.0 - 1e-9), "{row:?}");
        }
    }
    // A stage that trains none of it has no such table.
    let plain = project("      network: { preset: blt, areas: 2, tau: 10 }\n");
    plain.dynvis(&["run", "p.yaml"]).expect(0);
    let shown = plain.dynvis(&["show", "@", "net/cell_parameters"]);
    assert_ne!(shown.code, 0, "{}", shown.stdout);
}

#[test]
fn where_activity_of_areas_that_drive_each_other_goes() {
    const POINTS: &str = "  points: { fixed_points: { models: [net], data: digits, images: 2, eigenvalues: 0, \
        attractors: { initial_conditions: 3, time: 2000 } } }\n";
    let project = project(&format!("{FULL}{POINTS}"));
    project.dynvis(&["run", "p.yaml"]).expect(0);
    let (states, attractors) = (rows(&project, "points/states"), rows(&project, "points/attractors"));
    let images: std::collections::BTreeSet<i64> = states.iter().map(|row| number(row, "image") as i64).collect();
    assert_eq!(images.len(), 3, "two images and none");
    for image in images {
        let of_image = |rows: &[serde_json::Map<String, serde_json::Value>]| -> Vec<_> {
            let rows = rows.iter().filter(|row| number(row, "image") as i64 == image);
            rows.cloned().collect()
        };
        let (states, attractors) = (of_image(&states), of_image(&attractors));
        let share: f64 = attractors.iter().map(|row| number(row, "share")).sum();
        assert!((share - 1.0).abs() < 1e-12, "{attractors:?}");
        for row in &attractors {
            assert_eq!(row["areas"], "0, 1", "{row:?}");
            assert_eq!(number(row, "area"), 0.0, "{row:?}");
            let is_cycle = row["kind"] == "limit cycle";
            assert_eq!(row["period"].is_null(), !is_cycle, "{row:?}");
        }
        // Simulation finds only what attracts.
        let converged = states.iter().all(|row| row["converged"] == true);
        let found = attractors.iter().filter(|row| row["in_states"] == true);
        assert_eq!(found.count(), usize::from(converged), "{states:?} {attractors:?}");
    }
}

#[test]
fn the_same_network_is_the_same_in_short_and_by_its_preset() {
    let short = project("      areas: 2\n");
    let preset = project("      network: { areas: 2 }\n");
    // Time constants that are not trained are given to the published class, and hinder no export.
    let slower = project("      network: { areas: 2, tau: 20 }\n");
    slower.dynvis(&["run", "p.yaml"]).expect(0);
    slower.dynvis(&["export", "net", "--out", "weights.pth"]).expect(0);
    assert!(slower.path("weights.pth").exists());
    let [short, preset] = [short, preset].map(|project| {
        project.dynvis(&["run", "p.yaml"]).expect(0);
        let folder = project.dynvis(&["show", "@", "net/model"]).expect(0);
        let folder = folder.stdout.lines().last().expect("a folder").trim().to_owned();
        std::fs::read(std::path::Path::new(&folder).join("model.safetensors")).expect("a model")
    });
    assert_eq!(short, preset);
}
