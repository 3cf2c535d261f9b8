//! Laws of planning: random pipelines with random edits, selections and failures, run in memory.

mod model;

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use model::{Edit, Memory, Outputs, Study, Written, chosen};

/// Stages of these names, alone.
fn only(names: &[&str]) -> Request {
    let stages = names.iter().map(|n| (*n).to_owned()).collect();
    Request {
        stages,
        only: true,
        ..Request::default()
    }
}

fn any_study() -> impl Strategy<Value = Study> {
    let inputs = vec((0..8usize, 0..3usize, 0..2usize), 0..3);
    let rare = || prop::bool::weighted(0.3);
    let stage = (0..3u8, any::<bool>(), inputs, 0..3usize, rare(), rare());
    let written = |(index, (parameter, coarse, inputs, members, reads_file, reads_variable))| Written {
        name: format!("s{index}"),
        parameter,
        coarse,
        inputs,
        members,
        reads_file,
        reads_variable,
    };
    vec(stage, 1..7).prop_map(move |stages| Study {
        stages: stages.into_iter().enumerate().map(written).collect(),
        ..Study::default()
    })
}

/// Edits that a user can take back.
fn any_edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        4 => (0..8usize, 0..3u8).prop_map(|(stage, value)| Edit::Parameter(stage, value)),
        1 => (0..8usize).prop_map(Edit::Rename),
        1 => (0..8usize).prop_map(Edit::Rewrite),
        2 => (0..2u8).prop_map(|content| Edit::File(Some(content))),
        2 => prop::option::of(0..2u8).prop_map(Edit::Variable),
    ]
}

/// Those, and accidents.
fn any_event() -> impl Strategy<Value = Edit> {
    prop_oneof![
        8 => any_edit(),
        1 => Just(Edit::File(None)),
        1 => (0..20usize).prop_map(Edit::Damage),
        1 => (0..20usize).prop_map(Edit::Forget),
        1 => (0..20usize).prop_map(Edit::Condition),
        2 => (0..16usize).prop_map(Edit::Accept),
    ]
}

/// A request by numbers of stages: named ones, `only`, `from`, `until`, a forced one, all forced, with what is
/// downstream.
type Numbers = (
    Vec<usize>,
    bool,
    Option<usize>,
    Option<usize>,
    Option<usize>,
    bool,
    bool,
);

fn any_request() -> impl Strategy<Value = Numbers> {
    let one = || prop::option::weighted(0.2, 0..8usize);
    let named = prop_oneof![Just(Vec::new()), vec(0..8usize, 1..4)];
    let rare = || prop::bool::weighted(0.1);
    (named, any::<bool>(), one(), one(), one(), rare(), any::<bool>())
}

fn request(study: &Study, (stages, only, from, until, force, force_all, force_downstream): &Numbers) -> Request {
    let name = |n: &usize| study.stages[n % study.stages.len()].name.clone();
    Request {
        stages: stages.iter().map(name).collect(),
        only: *only && !stages.is_empty(),
        from: from.iter().map(name).collect(),
        until: until.iter().map(name).collect(),
        force_all: *force_all,
        force: force.iter().map(name).collect(),
        force_downstream: *force_downstream,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// The laws in [`Memory::run`], over whole histories: what executes was planned as `run` or `maybe` and is
    /// selected, nothing is computed twice, nothing holds an old result, and whatever may execute has a reason.
    #[test]
    fn runs_do_what_plans_say(
        mut study in any_study(),
        steps in vec((
            vec(any_event(), 0..3),
            any_request(),
            prop::option::weighted(0.2, 0..8usize),
        ), 1..6),
    ) {
        let mut memory = Memory::new();
        for (events, numbers, fails) in steps {
            events.into_iter().for_each(|e| memory.apply(e, &mut study));
            let pipeline = study.pipeline();
            memory.run(&pipeline, &chosen(&pipeline, request(&study, &numbers)), fails)?;
        }
    }

    #[test]
    fn after_a_whole_run_everything_is_cached(
        mut study in any_study(),
        events in vec(any_event(), 0..4),
    ) {
        let mut memory = Memory::new();
        memory.run_all(&study)?;
        events.into_iter().for_each(|e| memory.apply(e, &mut study));
        memory.file.get_or_insert(0);
        memory.run_all(&study)?;
        let again = memory.run_all(&study)?;
        prop_assert!(again.planned.iter().all(|s| *s == State::Cached), "{:?}", again.planned);
    }

    /// What takes the same as before does not execute, whatever executes upstream of it.
    #[test]
    fn early_cutoff_holds(study in any_study(), edited in 0..8usize, value in 0..3u8) {
        let mut memory = Memory::new();
        memory.run_all(&study)?;
        let before = memory.fresh(&study.pipeline());
        let mut edited_study = study.clone();
        memory.apply(Edit::Parameter(edited, value), &mut edited_study);
        let pipeline = edited_study.pipeline();
        let after = memory.fresh(&pipeline);
        let ran = memory.run_all(&edited_study)?;
        let family = &study.stages[edited % study.stages.len()].name;
        let held = |outputs: &[Option<Outputs>], input: &InputSlot| {
            let of_stage = outputs[input.producer.0].iter().flatten();
            of_stage.filter(|(slot, _)| *slot == input.output).cloned().collect::<Vec<_>>()
        };
        for stage in pipeline.stages.iter().filter(|stage| stage.family != *family) {
            let same = stage.inputs.iter().all(|input| held(&before, input) == held(&after, input));
            prop_assert!(!same || !ran.executed.contains(&stage.id), "{} executed", stage.name);
        }
    }

    #[test]
    fn edits_taken_back_restore_everything(study in any_study(), edits in vec(any_edit(), 1..4)) {
        let mut memory = Memory::new();
        let first = memory.run_all(&study)?;
        let mut edited = study.clone();
        edits.into_iter().for_each(|e| memory.apply(e, &mut edited));
        memory.run_all(&edited)?;
        (memory.file, memory.variable) = (Some(0), None);
        let back = memory.run_all(&study)?;
        prop_assert!(back.executed.is_empty());
        prop_assert!(back.planned.iter().all(|s| matches!(s, State::Cached | State::Restore)), "{:?}", back.planned);
        prop_assert_eq!(first.keys, back.keys);
    }

    #[test]
    fn order_comments_paths_and_names_are_no_part_of_keys(mut study in any_study(), by in 0..8usize, name in 0..8usize) {
        let mut memory = Memory::new();
        let before = memory.run_all(&study)?;
        memory.apply(Edit::Rewrite(by), &mut study);
        let after = memory.run_all(&study)?;
        prop_assert_eq!(&before.keys, &after.keys);
        prop_assert!(after.planned.iter().all(|s| *s == State::Cached), "{:?}", after.planned);
        memory.apply(Edit::Rename(name), &mut study);
        let renamed = memory.run_all(&study)?;
        prop_assert!(renamed.executed.is_empty());
        prop_assert!(before.keys.values().eq(renamed.keys.values()));
    }
}

/// `a` feeds `b`; both feed `c`, and `a` does so twice.
fn triangle() -> Study {
    let stage = |name: &str, inputs| Written {
        name: name.to_owned(),
        coarse: true,
        inputs,
        ..Written::default()
    };
    let (a, b) = ((0, 0, 0), (1, 0, 0));
    Study {
        stages: vec![
            stage("a", vec![]),
            stage("b", vec![a]),
            stage("c", vec![a, b, (0, 0, 1)]),
        ],
        ..Study::default()
    }
}

/// Gives `a` another parameter with which its output comes out equal, or not.
fn edit_a(study: &mut Study, memory: &Memory, equal: bool) {
    let outputs = |study: &Study| memory.fresh(&study.pipeline())[0].clone();
    let before = outputs(study);
    while study.stages[0].parameter == 0 || (outputs(study) == before) != equal {
        study.stages[0].parameter += 1;
    }
}

/// A stage left out between two selected ones may come out current, so that what needs it executes after all.
#[test]
fn a_gap_in_the_selection_does_not_block() {
    let (mut memory, mut study) = (Memory::new(), triangle());
    memory.run_all(&study).expect("lawful");
    edit_a(&mut study, &memory, true);
    study.stages[2].parameter = 7;
    let pipeline = study.pipeline();
    let ran = memory
        .run(&pipeline, &chosen(&pipeline, only(&["a", "c"])), None)
        .expect("lawful");
    assert_eq!(ran.planned, [State::Run, State::Excluded, State::Run]);
    assert_eq!(ran.executed, BTreeSet::from([StageId(0), StageId(2)]));
}

#[test]
fn reasons_name_the_right_producers_and_each_once() {
    let (mut memory, mut study) = (Memory::new(), triangle());
    memory.run_all(&study).expect("lawful");
    edit_a(&mut study, &memory, false);
    let pipeline = study.pipeline();
    memory.observe(&pipeline);
    let reasons = |memory: &mut Memory| -> Vec<String> {
        let planned = plan(&pipeline, &chosen(&pipeline, Request::default()), memory);
        planned[2].decision.reasons.iter().map(Reason::to_string).collect()
    };
    let waits = |stage| format!("waits for `{stage}`, whose result may be unchanged");
    assert_eq!(reasons(&mut memory), [waits("a"), waits("b")]);
    // Now the content of `a` is known, and that of `b` is not yet.
    memory
        .run(&pipeline, &chosen(&pipeline, only(&["a"])), None)
        .expect("lawful");
    let changed = |slot| format!("input `inputs.{slot}` changed (from `a`)");
    assert_eq!(reasons(&mut memory), [changed("i0"), changed("i2")]);
}

#[test]
fn every_name_and_pattern_must_select_something() {
    let pipeline = triangle().pipeline();
    let count =
        |names: &[&str]| select(&pipeline, &only(names)).map(|s| (0..3).filter(|i| s.includes(StageId(*i))).count());
    assert_eq!(count(&["a", "[ab]"]).ok(), Some(2));
    assert_eq!(count(&["a", "a*"]).ok(), Some(1));
    assert!(count(&["a", "d*"]).is_err());
}
