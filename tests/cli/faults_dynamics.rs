//! Faults found in the analysis of dynamics.

use crate::harness::{Project, number, rows};

/// Activity that overflows: an end with rows that say so, whatever is asked for.
#[test]
fn fixed_points_of_a_network_that_diverges() {
    let project = Project::with_presets();
    project.write(
        "p.yaml",
        "
name: t
stages:
  digits: { dataset: { source: digits, side: 16 } }
  boom: { train: { use: train/digits/cordsnet, data: digits, areas: 2, width: 4, epochs: 1, spontaneous: 5, stimulus: 10, after: 5, readout_window: 5, return_window: 5, initialisation: { recurrent: 20 } } }
  plain: { fixed_points: { models: [boom], data: digits, images: 2 } }
  all: { fixed_points: { models: [boom], data: digits, images: 2, starts: 2, after: 50, singular_values: 1, growth: [10], probes: 2, frequencies: [0], noise_modes: 1, classes: true, exponents: 2, exponent_time: 20000, eigenvectors: true, convolution_eigenvalues: 1 } }
  far: { fixed_points: { models: [boom], data: digits, images: 2, eigenvalues: 0, attractors: { initial_conditions: 2 } } }
",
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for then in ["give `attractors: {}`", "the table `attractors` says"] {
        let note = format!("3 of 3 states did not converge (3 diverged): {then}");
        assert!(said.contains(&note), "{said}\nwithout\n{note}");
    }
    let attractors = rows(&project, "far/attractors");
    assert_eq!(attractors.len(), 6, "one of each area: {attractors:?}");
    for row in &attractors {
        assert_eq!(row["kind"], "diverged", "{row:?}");
        assert_eq!((number(row, "share"), number(row, "initial_conditions")), (1.0, 2.0));
        assert!(row["norm"].is_null() && row["amplitude"].is_null(), "{row:?}");
    }
    for stage in ["plain", "all"] {
        let states = project
            .dynvis(&["show", "@", &format!("{stage}/states"), "--format", "json"])
            .expect(0)
            .json();
        let rows = states["rows"].as_array().expect("rows");
        assert_eq!(rows.len(), 6);
        for row in rows {
            assert_eq!(row["diverged"], true, "{row}");
            assert_eq!(row["converged"], false, "{row}");
            assert!(
                row["kind"].is_null() && row["residual"].is_null() && row["norm"].is_null(),
                "{row}"
            );
        }
    }
}

/// A parameter that would do nothing for want of another one is an error that names it.
#[test]
fn a_parameter_that_needs_another_one_says_which() {
    let project = Project::with_presets();
    for (given, needed) in [
        ("growth: [10]", "singular_values"),
        ("frequencies: [0]", "probes"),
        ("noise_modes: 1", "probes"),
        ("eigenvalues: 0, eigenvectors: true", "eigenvalues"),
        ("eigenvalues: 0, eigenvalues_by_magnitude: 3", "eigenvalues"),
    ] {
        project.write(
            "p.yaml",
            &format!(
                "
name: t
stages:
  digits: {{ dataset: {{ source: digits }} }}
  net: {{ train: {{ use: train/digits/cordsnet, data: digits, areas: 2 }} }}
  points: {{ fixed_points: {{ models: [net], data: digits, {given} }} }}
"
            ),
        );
        let said = project.dynvis(&["check", "p.yaml"]).expect(2).stderr;
        assert!(said.contains(&format!("`{needed}`")), "{given}: {said}");
        project.write("p.yaml", &project.read("p.yaml").replace(given, ""));
        project.dynvis(&["check", "p.yaml"]).expect(0);
    }
}
