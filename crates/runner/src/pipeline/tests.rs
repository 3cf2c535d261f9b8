//! Matrices and references between their members, through the whole of resolving, with a stage kind of two parameters.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::kind::{AnyRef, Context, Declared, Kind, Registry, StageError};

/// A kind with parameters of many types, that does nothing.
struct Probe;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    #[serde(default)]
    text: String,
    #[serde(default)]
    areas: Option<u32>,
    #[serde(default)]
    rate: Option<f64>,
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    start: Option<AnyRef>,
    #[serde(default)]
    models: Vec<AnyRef>,
}

impl Kind for Probe {
    type Params = Params;
    const NAME: &'static str = "probe";
    const SUMMARY: &'static str = "nothing";
    const CODE_VERSION: u32 = 1;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("model", Artifact::TABLE, "nothing"),
        Declared::always("more", Artifact::TABLE, "nothing"),
    ];

    fn run(_: &Params, _: &mut Context) -> Result<(), StageError> {
        Ok(())
    }
}

/// A pipeline of stages in one line each: name, parameters, matrix; and the notes on it.
fn pipeline(stages: &[(&str, &str, &str)]) -> (Result<Pipeline, Vec<Problem>>, Vec<Problem>) {
    let line = |(name, params, matrix): &(&str, &str, &str)| {
        let matrix = match *matrix {
            "" => String::new(),
            matrix => format!(", matrix: {matrix}"),
        };
        format!("  {name}: {{ probe: {params}{matrix} }}\n")
    };
    let text = format!("stages:\n{}", stages.iter().map(line).collect::<String>());
    let registry = Registry::new("0").with::<Probe>();
    let mut notes = Vec::new();
    (from_text_with_notes("p.yaml", &text, &registry, &mut notes), notes)
}

fn sound(stages: &[(&str, &str, &str)]) -> Pipeline {
    match pipeline(stages).0 {
        Ok(pipeline) => pipeline,
        Err(problems) => panic!("{:?}", problems.iter().map(|p| p.kind.to_string()).collect::<Vec<_>>()),
    }
}

/// The first problem, with what helps.
fn problem(stages: &[(&str, &str, &str)]) -> String {
    let problems = pipeline(stages).0.err().expect("a problem");
    let kind = &problems[0].kind;
    format!("{kind}; {}", kind.help().unwrap_or_default())
}

/// Names of the members of a matrix of fields that are used.
fn members(matrix: &str, fields: &[&str]) -> Vec<String> {
    let texts: Vec<String> = fields.iter().map(|field| format!("${{matrix.{field}}}")).collect();
    let params = format!("{{ text: \"{}\" }}", texts.join(" "));
    let pipeline = sound(&[("s", &params, matrix)]);
    pipeline.stages.iter().map(|stage| stage.name.clone()).collect()
}

/// What a matrix of one field is refused with.
fn refused(matrix: &str) -> String {
    problem(&[("s", "{ text: \"${matrix.a}\" }", matrix)])
}

/// The producers of every stage.
fn producers(pipeline: &Pipeline, stage: &str) -> Vec<String> {
    let stage = pipeline.stages.iter().find(|s| s.name == stage).expect(stage);
    let inputs = stage.inputs.iter();
    inputs
        .map(|input| format!("{}/{}", pipeline.stage(input.producer).name, input.output))
        .collect()
}

/// A parameter as the key has it.
fn parameter(pipeline: &Pipeline, stage: &str, name: &str) -> Json {
    let stage = pipeline.stages.iter().find(|s| s.name == stage).expect(stage);
    stage.work.identity().get(name).cloned().unwrap_or(Json::Null)
}

#[test]
fn fields_are_combined_and_those_of_a_zip_go_together() {
    assert_eq!(
        members("{ a: [1, 2], zip: { b: [x, y], c: [3, 4] } }", &["a", "b", "c"]),
        ["s@a=1,b=x,c=3", "s@a=1,b=y,c=4", "s@a=2,b=x,c=3", "s@a=2,b=y,c=4"]
    );
    assert_eq!(
        members(
            "{ zip: [{ a: [1, 2], b: [3, 4] }, { c: [5, 6], d: [7, 8] }] }",
            &["a", "b", "c", "d"]
        )[1],
        "s@a=1,b=3,c=6,d=8"
    );
    // A field that is called so is a field.
    assert_eq!(members("{ zip: [1, 2] }", &["zip"]), ["s@zip=1", "s@zip=2"]);
    let told = refused("{ zip: { a: [1, 2], b: [1] } }");
    assert!(told.starts_with("`b` has 1 values and `a` has 2;"), "{told}");
    assert!(refused("{ a: [1], zip: { a: [2] } }").starts_with("`a` is declared twice"));
    assert!(refused("{ a: [1], zip: {} }").starts_with("an empty mapping is out of range"));
}

#[test]
fn members_are_excluded_and_included() {
    assert_eq!(
        members(
            "{ a: [1, 2], b: [x, y], exclude: [{ a: 1, b: y }, { a: 2.0, b: x }] }",
            &["a", "b"]
        ),
        ["s@a=1,b=x", "s@a=2,b=y"]
    );
    assert_eq!(
        members("{ a: [1, 2], b: [x], include: [{ b: z, a: 7 }] }", &["a", "b"]),
        ["s@a=1,b=x", "s@a=2,b=x", "s@a=7,b=z"]
    );
    assert_eq!(
        members("{ include: [{ a: 1, b: 2 }, { b: 4, a: 3 }] }", &["a", "b"]),
        ["s@a=1,b=2", "s@a=3,b=4"]
    );
    for (matrix, told) in [
        ("{ a: [1], exclude: { a: 1 } }", "this leaves no member"),
        ("{ a: [1], exclude: { b: 1 } }", "unknown matrix field `b`"),
        ("{ a: [1], include: { b: 1 } }", "unknown matrix field `b`"),
        (
            "{ a: [1], areas: [2], include: { a: 1 } }",
            "missing matrix field `areas`; each member of `include` has all",
        ),
        ("{ a: [1], include: { a: 1 } }", "`s@a=1` is declared twice"),
    ] {
        let found = refused(matrix);
        assert!(found.starts_with(told), "{matrix}: {found}");
    }
}

#[test]
fn an_exclusion_of_nothing_is_noted() {
    let (pipeline, notes) = pipeline(&[("s", "{}", "{ areas: [1, 2], exclude: [{ areas: 3 }, { areas: 2 }] }")]);
    assert_eq!(pipeline.map(|pipeline| pipeline.stages.len()).ok(), Some(1));
    let notes: Vec<String> = notes.iter().map(|note| note.kind.to_string()).collect();
    assert_eq!(
        notes,
        ["this excludes no member of the matrix that is not excluded already"]
    );
}

#[test]
fn ranges_are_the_values_between_their_ends() {
    for (range, expected) in [
        ("{ range: { from: 1, to: 4 } }", "1 2 3 4"),
        ("{ range: { from: 4, to: 1, step: -2 } }", "4 2"),
        ("{ range: { from: 0, to: 0.3, step: 0.1 } }", "0 0.1 0.2 0.3"),
        ("{ range: { from: 0, to: 1, n: 5 } }", "0 0.25 0.5 0.75 1"),
        ("{ range: { from: 0, to: 10, n: 3 } }", "0 5 10"),
        (
            "{ log_range: { from: 0.0001, to: 0.1, n: 4 } }",
            "0.0001 0.001 0.01 0.1",
        ),
        (
            "{ log_range: { from: 0.1, to: 0.001, n: 5 } }",
            "0.1 0.03162 0.01 0.003162 0.001",
        ),
        ("{ log_range: { from: 8, to: 512, n: 7 } }", "8 16 32 64 128 256 512"),
        ("{ range: { from: 3, to: 3 } }", "3"),
    ] {
        let expected: Vec<String> = expected.split(' ').map(|value| format!("s@a={value}")).collect();
        assert_eq!(members(&format!("{{ a: {range} }}"), &["a"]), expected, "{range}");
    }
    for (range, told) in [
        (
            "{ range: { from: 0, to: 1.5 } }",
            "a `range` of numbers that are not whole needs `step`",
        ),
        ("{ range: { from: 0, to: 1, step: 0 } }", "this `step` never leads"),
        ("{ range: { from: 0, to: 1, step: -1 } }", "this `step` never leads"),
        (
            "{ range: { from: 0, to: 1, step: 1, n: 2 } }",
            "`step` and `n` both say",
        ),
        ("{ range: { from: 0, to: 1, n: 1 } }", "one value cannot be both ends"),
        ("{ range: { from: 0, to: 1, n: 0 } }", "`n` is out of range"),
        (
            "{ range: { from: 0, to: 1000000000 } }",
            "this makes more than 100000 values of a range",
        ),
        ("{ range: { from: 0 } }", "missing key `to`"),
        ("{ range: { from: x, to: 1 } }", "expected a number, found text"),
        (
            "{ range: { form: 0, from: 0, to: 1 } }",
            "unknown key of a range `form`; did you mean `from`?",
        ),
        ("{ log_range: { from: 1, to: 10 } }", "a `log_range` needs `n`"),
        (
            "{ log_range: { from: 0, to: 10, n: 3 } }",
            "an end of a `log_range` is out of range: larger than 0",
        ),
    ] {
        let found = refused(&format!("{{ a: {range} }}"));
        assert!(found.starts_with(told), "{range}: {found}");
    }
}

#[test]
fn samples_stay_what_they_are_when_more_are_drawn() {
    let sample = |n: usize, seed: i64, more: &str| {
        let fields = format!("rate: {{ log_range: {{ from: 0.0001, to: 0.1 }} }}, areas: [2, 4, 8]{more}");
        format!("{{ sample: {{ n: {n}, seed: {seed}, fields: {{ {fields} }} }} }}")
    };
    let of = |n, seed| {
        let pipeline = sound(&[("s", "{}", &sample(n, seed, ""))]);
        let fields = |stage: &Stage| {
            (
                stage.fields["rate"].as_f64().unwrap(),
                stage.fields["areas"].as_i64().unwrap(),
            )
        };
        pipeline.stages.iter().map(fields).collect::<Vec<_>>()
    };
    let (few, many) = (of(5, 0), of(200, 0));
    assert_eq!(few, many[..5]);
    assert_ne!(few, of(5, 1));
    assert!(many.iter().all(|(rate, _)| (0.0001..=0.1).contains(rate)));
    // Each third of the decades, and each number of areas, has about a third of 200: 67, standard deviation 6.7.
    for decade in 0..3 {
        let within = |rate: &f64| (rate.log10() + 4.0).floor() as i64 == decade;
        let count = many.iter().filter(|(rate, _)| within(rate)).count();
        assert!((40..=94).contains(&count), "decade {decade}: {count}");
    }
    for areas in [2, 4, 8] {
        let count = many.iter().filter(|(_, own)| *own == areas).count();
        assert!((40..=94).contains(&count), "{areas} areas: {count}");
    }
    // Another field changes none of the others.
    let wider = sound(&[(
        "s",
        "{ text: \"${matrix.x}\" }",
        &sample(5, 0, ", x: { range: { from: 1, to: 9 } }"),
    )]);
    let rates = |stage: &Stage| stage.fields["rate"].as_f64().unwrap();
    assert_eq!(
        wider.stages.iter().map(rates).collect::<Vec<_>>(),
        few.iter().map(|(r, _)| *r).collect::<Vec<_>>()
    );
    assert!(
        wider
            .stages
            .iter()
            .all(|s| (1..=9).contains(&s.fields["x"].as_i64().unwrap()))
    );
    // An axis like any other.
    let crossed = "{ sample: { n: 3, fields: { rate: { range: { from: 0, to: 1.0 } } } }, seed: [0, 1] }";
    assert_eq!(sound(&[("s", "{}", crossed)]).stages.len(), 6);
    for (matrix, told) in [
        (
            "{ sample: { n: 4, fields: { a: [1, 2, 3] } } }",
            "4 draws is out of range: only 3 that differ",
        ),
        ("{ sample: { fields: { a: [1] } } }", "missing key `n`"),
        ("{ a: [1], sample: { n: 1 } }", "missing key of `sample` `fields`"),
        (
            "{ sample: { n: 1, sed: 1, fields: { a: [1] } } }",
            "unknown key of `sample` `sed`; did you mean `seed`?",
        ),
        (
            "{ sample: { n: 1, fields: { a: [] } } }",
            "an empty list is out of range",
        ),
    ] {
        let found = refused(matrix);
        assert!(found.starts_with(told), "{matrix}: {found}");
    }
}

#[test]
fn a_stage_alone_is_the_member_with_the_same_fields() {
    let pipeline = sound(&[
        ("images", "{ text: \"${matrix.set}\" }", "{ set: [mnist, cifar] }"),
        ("net", "{ start: images }", "{ set: [mnist, cifar], areas: [2, 4] }"),
        (
            "next",
            "{ start: net/more, models: [images, net, \"net@*\"] }",
            "{ areas: [4], set: [mnist, cifar] }",
        ),
        ("score", "{ start: \"net@areas=2\" }", "{ set: [mnist, cifar] }"),
    ]);
    assert_eq!(
        producers(&pipeline, "net@set=cifar,areas=2"),
        ["images@set=cifar/model"]
    );
    let next = producers(&pipeline, "next@areas=4,set=cifar");
    assert_eq!(
        next[..3],
        [
            "net@set=cifar,areas=4/more",
            "images@set=cifar/model",
            "net@set=cifar,areas=4/model"
        ]
    );
    assert_eq!(next.len(), 7);
    assert_eq!(producers(&pipeline, "score@set=cifar"), ["net@set=cifar,areas=2/model"]);
    // The field that `net` chose its images by is not `net`'s to set; those of its own are.
    assert_eq!(parameter(&pipeline, "net@set=cifar,areas=2", "areas"), 2);
    // `next` has its `areas` from nobody: it took members of `net` by them.
    assert_eq!(parameter(&pipeline, "next@areas=4,set=cifar", "areas"), Json::Null);
}

#[test]
fn a_field_by_which_a_member_is_taken_sets_no_parameter_unless_it_is_asked_to() {
    let net = ("net", "{}", "{ areas: [2, 4], seed: [0, 1] }");
    let record = |params: &str| {
        let (pipeline, notes) = pipeline(&[net, ("record", params, "{ areas: [2, 4], seed: [0, 1] }")]);
        let pipeline = pipeline.unwrap_or_else(|problems| panic!("{}", problems[0].kind));
        let notes: Vec<String> = notes.iter().map(|note| note.kind.to_string()).collect();
        let name = "record@areas=4,seed=1";
        (
            parameter(&pipeline, name, "areas"),
            parameter(&pipeline, name, "seed"),
            notes,
        )
    };
    assert_eq!(record("{ start: net }"), (Json::Null, 1.into(), Vec::new()));
    assert_eq!(
        record("{ start: net, areas: \"${matrix.areas}\" }"),
        (4.into(), 1.into(), Vec::new())
    );
    assert_eq!(record("{ start: net, areas: 7 }"), (7.into(), 1.into(), Vec::new()));
    // Written out, it sets the parameter, as it always has, and a note says so; `seed` is meant to.
    let (areas, seed, notes) = record("{ start: \"net@areas=${matrix.areas},seed=${matrix.seed}\" }");
    assert_eq!((areas, seed), (4.into(), 1.into()));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("matrix field `areas` sets the parameter `areas` of `probe` too"),
        "{notes:?}"
    );
    // A text that happens to be the name of a stage is no reference.
    let own = sound(&[net, ("other", "{ text: net }", "{ areas: [3] }")]);
    assert_eq!(parameter(&own, "other@areas=3", "areas"), 3);
}

#[test]
fn what_no_member_or_several_agree_with_is_told() {
    let net = ("net", "{ text: \"${matrix.set}\" }", "{ set: [a, b], areas: [2, 4] }");
    for (other, told) in [
        (
            ("x", "{ start: net }", "{ set: [c] }"),
            "`net` has no member with set=c, as the member that refers to it has; members: net@set=a,areas=2, ",
        ),
        (
            ("x", "{ start: net }", "{ set: [a] }"),
            "`net` has 2 members with set=a; a single one is needed here; write `net@set=a,areas=2` for one",
        ),
        (
            ("x", "{ start: net }", ""),
            "`net` has 4 members; a single one is needed here; ",
        ),
        (
            ("x", "{ start: net }", "{ seed: [1] }"),
            "`net` has 4 members; a single one is needed here; ",
        ),
        (
            (
                "x",
                "{ models: [\"net@*\"], text: \"${matrix.set}\" }",
                "{ set: [a], z: [1] }",
            ),
            "matrix field `z` is neither a parameter of `probe` nor used",
        ),
    ] {
        let found = problem(&[net, other]);
        assert!(found.starts_with(told), "{other:?}: {found}");
    }
    // Of two members that take the same of everything one is too many; those that take different ones are not.
    let twins = [
        ("net", "{ text: \"${matrix.v}\" }", "{ v: [1, 2] }"),
        ("x", "{ start: \"net@v=1\", rate: \"${matrix.w}\" }", "{ w: [1, 1.0] }"),
    ];
    assert!(
        problem(&twins).starts_with("`x@w=1` and `x@w=1.0` are one and the same"),
        "{}",
        problem(&twins)
    );
    assert_eq!(
        sound(&[twins[0], ("y", "{ start: net }", "{ v: [2, 1] }")])
            .stages
            .len(),
        4
    );
}

#[test]
fn numbers_that_are_names_are_told_apart_by_how_they_are_written() {
    let pipeline = sound(&[
        (
            "load",
            "{ text: \"${matrix.version}\" }",
            "{ version: [1.1, 1.10, 01] }",
        ),
        ("fit", "{ start: load }", "{ version: [1.10, 01] }"),
        ("rate", "{ }", "{ rate: [0.001, 0.01] }"),
        ("next", "{ start: rate }", "{ rate: [1e-3] }"),
    ]);
    assert_eq!(producers(&pipeline, "fit@version=1.10"), ["load@version=1.10/model"]);
    assert_eq!(producers(&pipeline, "fit@version=01"), ["load@version=01/model"]);
    assert_eq!(producers(&pipeline, "next@rate=1e-3"), ["rate@rate=0.001/model"]);
}
