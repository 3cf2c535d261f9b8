//! Parameters and outputs whose published names are not those that keys and stored results have: results of before stay
//! up to date, and the old names go on working.

use crate::harness::Project;
use crate::old_cache::unpacked;

const PARAMETER: &str = "`starts` is now called `initial_conditions`; the old name still works";
const TABLE: &str = "`sizes` is now called `non_normality`; the old name still works";

/// The project of the earlier version, whose pipeline has the old names, with `text` in the place of `starts: 3`.
fn with_parameter(text: &str) -> Project {
    let project = unpacked();
    let pipeline = project.read("p.yaml");
    assert!(pipeline.contains("starts: 3\n"), "{pipeline}");
    project.write("p.yaml", &pipeline.replace("starts: 3\n", &format!("{text}\n")));
    project
}

/// Adds a stage, or parts of the last one.
fn add(project: &Project, text: &str) {
    let pipeline = project.read("p.yaml");
    project.write("p.yaml", &format!("{}\n{text}", pipeline.trim_end()));
}

#[test]
fn a_result_is_up_to_date_under_both_names_of_a_parameter() {
    for (text, is_old) in [("starts: 3", true), ("initial_conditions: 3", false)] {
        let project = with_parameter(text);
        let planned = project.dynvis(&["plan", "p.yaml"]).expect(0);
        assert_eq!(planned.stderr.contains(PARAMETER), is_old, "{}", planned.stderr);
        assert_eq!(planned.stderr.matches("p.yaml:26:").count(), usize::from(is_old));
        let states = project.states(&["p.yaml"]);
        assert!(states.values().all(|state| state == "cached"), "{text}: {states:?}");
        // Whichever of the two overrides the other, and a difference has the published name.
        for name in ["starts", "initial_conditions"] {
            let given = format!("fixed_points.{name}=4");
            let why = project
                .dynvis(&["why", "p.yaml", "fixed_points", "-S", &given])
                .expect(0);
            assert!(why.stdout.contains("  initial_conditions: 3 -> 4\n"), "{}", why.stdout);
            assert!(why.stdout.contains("params.initial_conditions  3"), "{}", why.stdout);
            let warned = is_old || name == "starts";
            assert_eq!(
                why.stderr.contains(PARAMETER),
                warned,
                "{text}, {given}: {}",
                why.stderr
            );
        }
    }
}

#[test]
fn a_preset_and_the_stage_that_uses_it_may_spell_a_parameter_differently() {
    for (own, of_preset) in [("starts", "initial_conditions"), ("initial_conditions", "starts")] {
        let project = with_parameter(&format!("{own}: 3\n      use: some"));
        project.write("stages/some.yaml", &format!("fixed_points: {{ {of_preset}: 7 }}\n"));
        assert_eq!(project.states(&["p.yaml"])["fixed_points"], "cached");
    }
}

#[test]
fn both_names_of_a_parameter_are_an_error() {
    let project = with_parameter("starts: 3\n      initial_conditions: 3");
    let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(
        checked.stderr.contains("`initial_conditions` is declared twice"),
        "{}",
        checked.stderr
    );
    assert!(
        checked.stderr.contains("first here, by its other name"),
        "{}",
        checked.stderr
    );
    let project = with_parameter("method: simulation");
    let matrix = "fixed_points.matrix={ starts: [3], initial_conditions: [3] }";
    let checked = project.dynvis(&["check", "p.yaml", "-S", matrix]).expect(2);
    assert!(
        checked.stderr.contains("`initial_conditions` is declared twice"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_wrong_name_is_answered_with_the_published_one() {
    let project = with_parameter("initial_condition: 3");
    let checked = project.dynvis(&["check", "p.yaml"]).expect(2);
    assert!(
        checked.stderr.contains("did you mean `initial_conditions`?"),
        "{}",
        checked.stderr
    );
    let described = project.dynvis(&["stages", "fixed_points"]).expect(0).stdout;
    let first_words = described
        .lines()
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    let listed: Vec<String> = first_words.map(|words| words.join(" ")).collect();
    for row in ["integer", "table"].map(|is| format!("initial_conditions {is}")) {
        assert!(listed.contains(&row), "{described}");
    }
    for table in ["non_normality table", "network_non_normality table"] {
        assert!(listed.contains(&table.to_owned()), "{described}");
    }
    assert!(
        !described.contains("starts") && !described.contains("sizes"),
        "{described}"
    );
}

/// The member is called as the pipeline has it; what is made of it, a stage that sees matrix fields included, is the
/// same.
#[test]
fn a_matrix_has_the_same_keys_by_both_names() {
    let project = with_parameter("method: simulation");
    add(
        &project,
        "  all:\n    collect: { tables: [\"fixed_points@*/sizes\"] }\n",
    );
    let matrix = |name: &str| format!("fixed_points.matrix={{ {name}: [3] }}");
    let ran = project
        .dynvis(&["run", "p.yaml", "all", "-S", &matrix("starts")])
        .expect(0);
    assert!(
        ran.stderr.contains(PARAMETER) && ran.stderr.contains(TABLE),
        "{}",
        ran.stderr
    );
    let states = project.states(&["p.yaml", "all", "-S", &matrix("starts")]);
    assert_eq!(states["fixed_points@starts=3"], "cached", "{states:?}");
    let states = project.states(&["p.yaml", "all", "-S", &matrix("initial_conditions")]);
    assert_eq!(states["fixed_points@initial_conditions=3"], "restore", "{states:?}");
    assert_eq!(states["all"], "cached", "{states:?}");
}

#[test]
fn a_table_is_found_by_both_names() {
    let project = with_parameter("initial_conditions: 3");
    add(
        &project,
        "  old: { collect: { tables: [fixed_points/sizes] } }\n  new: { collect: { tables: [fixed_points/non_normality] } }\n",
    );
    let ran = project.dynvis(&["run", "p.yaml"]).expect(0);
    assert_eq!(ran.stderr.matches(TABLE).count(), 1, "{}", ran.stderr);
    let listed = project.dynvis(&["show", "@"]).expect(0).stdout;
    assert!(
        listed.contains("fixed_points/initial_conditions ") && !listed.contains("/starts "),
        "{listed}"
    );
    assert!(listed.contains("fixed_points/network_non_normality "), "{listed}");
    let show = |name: &str| project.dynvis(&["show", "@", name, "--describe"]).expect(0);
    let (old, new) = (show("fixed_points/sizes"), show("fixed_points/non_normality"));
    assert_eq!(old.stdout, new.stdout);
    assert!(new.stdout.starts_with("non_normality: "), "{}", new.stdout);
    assert_eq!((old.stderr.contains(TABLE), new.stderr.as_str()), (true, ""));
    let compared = project.dynvis(&["diff", "@", "@", "fixed_points/sizes"]).expect(0);
    assert!(compared.stderr.contains(TABLE), "{}", compared.stderr);
}

#[test]
fn conditions_may_name_a_table_by_both_names() {
    for (name, is_old) in [("sizes", true), ("non_normality", false)] {
        let project = with_parameter("initial_conditions: 3");
        let condition = |rows: usize| format!("fixed_points.ensure={{ {name}: {{ rows: {rows} }} }}");
        assert_eq!(
            project.states(&["p.yaml", "-S", &condition(1)])["fixed_points"],
            "cached"
        );
        let planned = project.dynvis(&["plan", "p.yaml", "-S", &condition(1000)]).expect(0);
        assert!(
            planned.stdout.contains("output `non_normality` breaks a"),
            "{}",
            planned.stdout
        );
        assert_eq!(planned.stderr.contains(TABLE), is_old, "{}", planned.stderr);
    }
    let project = with_parameter("initial_conditions: 3");
    let both = "fixed_points.ensure={ sizes: {}, non_normality: {} }";
    let checked = project.dynvis(&["check", "p.yaml", "-S", both]).expect(2);
    assert!(
        checked.stderr.contains("`non_normality` is declared twice"),
        "{}",
        checked.stderr
    );
}
