//! Where activity goes: small networks whose attractors follow by hand, a cycle that PyTorch simulated, and a published
//! network.

use cords::Tensor;
use cords::device::Phi;
use cords::dynamics::*;
use cords::net::{CordsNet, Euler, Graph, Parameters, State};

use super::nets::{image, network};
use crate::support::Fixture;

/// Areas e and i of one unit each, which drive each other and themselves, and an area o that follows e.
const PAIR: &str = r#"{
    "in_channels": 1, "image_side": 4, "classes": 2, "input_channels": 1,
    "areas": [
        {"name": "e", "channels": 1, "side": 1},
        {"name": "i", "channels": 1, "side": 1},
        {"name": "o", "channels": 1, "side": 1}
    ],
    "projections": [
        {"name": "e.in", "to": "e", "from": ["image"], "kernel": 1},
        {"name": "ee", "to": "e", "from": ["e"], "kernel": 1},
        {"name": "ei", "to": "e", "from": ["i"], "kernel": 1},
        {"name": "ie", "to": "i", "from": ["e"], "kernel": 1},
        {"name": "ii", "to": "i", "from": ["i"], "kernel": 1},
        {"name": "oe", "to": "o", "from": ["e"], "kernel": 1}
    ],
    "readout": ["o"]
}"#;

/// dt/tau.
const ALPHA: f64 = 0.2;

/// Weights of e from e, of e from i, of i from e and of i from i, and the biases of e and i.
#[derive(Clone, Copy)]
struct Pair {
    weights: [f64; 4],
    biases: [f64; 2],
}

impl Pair {
    fn net(&self) -> CordsNet<f64> {
        let graph: Graph = serde_json::from_str(PAIR).unwrap_or_else(|error| panic!("{error}"));
        let [ee, ei, ie, ii] = self.weights;
        let values = [("ee", ee), ("ei", ei), ("ie", ie), ("ii", ii)];
        let biases = [
            ("conv_bias.0", self.biases[0]),
            ("conv_bias.1", self.biases[1]),
            ("conv_bias.2", 0.0),
        ];
        let mut parameters = Parameters::new();
        for (name, shape) in graph.cordsnet_shapes() {
            let mut tensor = Tensor::zeros(&shape);
            let (of, part) = name.split_once(".parametrizations.").unwrap_or((&name, ""));
            let value = values.into_iter().chain(biases).find(|(known, _)| *known == of);
            let value = value.map_or(1.0, |(_, value)| value);
            // w = g v/|v|.
            tensor.data.fill(match part {
                "weight.original0" => value.abs(),
                "weight.original1" => 1f64.copysign(value),
                _ => value,
            });
            parameters.insert(name, tensor);
        }
        CordsNet::new(&graph, &parameters, &Euler::new(2.0, 10.0), Phi::Relu).expect("a network")
    }

    /// One step of e and i.
    fn step(&self, [e, i]: [f64; 2]) -> [f64; 2] {
        let [ee, ei, ie, ii] = self.weights;
        let currents = [ee * e + ei * i + self.biases[0], ie * e + ii * i + self.biases[1]];
        [(e, currents[0]), (i, currents[1])].map(|(r, u)| (1.0 - ALPHA) * r + ALPHA * u.max(0.0))
    }

    /// The state in which e and i have these activities, and o follows.
    fn state(&self, [e, i]: [f64; 2]) -> State<f64> {
        let mut state = self.net().zeros(1);
        state.areas = vec![vec![e], vec![i], vec![e]];
        state
    }

    /// Attractors of e and i together and of o, and the steady state that was found.
    fn attractors(
        &self,
        initial_conditions: usize,
        elsewhere: &[State<f64>],
        method: SteadyMethod,
    ) -> ([Attractors; 2], FixedPoint) {
        let options = FixedPointOptions {
            steady: SteadyOptions {
                max_steps: 2000,
                method,
                ..SteadyOptions::default()
            },
            attractors: Some(AttractorOptions {
                initial_conditions,
                ..AttractorOptions::default()
            }),
            ..FixedPointOptions::default()
        };
        let (_, point) = fixed_point(&self.net(), None, elsewhere, &options, &|| {});
        let of = |area: usize| point.areas[area].attractors.clone();
        assert!(of(1).is_none(), "it stands at the first of areas that drive each other");
        let found = [of(0), of(2)].map(|found| found.expect("asked for"));
        for attractors in &found {
            let reached = attractors.found.iter().map(|attractor| attractor.reached);
            assert_eq!(
                (reached.sum::<usize>(), attractors.tried),
                (initial_conditions, initial_conditions)
            );
        }
        (found, point)
    }
}

fn period(attractor: &Attractor) -> f64 {
    match attractor.kind {
        AttractorKind::LimitCycle { period_steps } => period_steps,
        kind => panic!("{kind:?}"),
    }
}

/// A state that excitation makes unstable (eigenvalues 0.25 +- 2.1 i in 1/tau) and around which activity turns: the
/// period is that of crossings over 20,000 steps of the equations. Newton's method finds that state, and activity does
/// not stay there.
#[test]
fn a_limit_cycle_around_an_unstable_state() {
    let pair = Pair {
        weights: [2.5, -3.0, 2.0, 0.0],
        biases: [0.5, 0.0],
    };
    let mut states = vec![[0.0, 0.0]];
    (0..22_000).for_each(|step| states.push(pair.step(states[step])));
    let settled = &states[2000..];
    let mean = settled.iter().map(|[e, _]| e).sum::<f64>() / settled.len() as f64;
    let crossings: Vec<f64> = settled
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0][0] < mean && pair[1][0] >= mean)
        .map(|(step, pair)| step as f64 + (mean - pair[0][0]) / (pair[1][0] - pair[0][0]))
        .collect();
    let expected = (crossings[crossings.len() - 1] - crossings[0]) / (crossings.len() - 1) as f64;
    assert!((expected - 21.432).abs() < 0.01, "{expected}");
    let range = |unit: usize| {
        let values = || settled.iter().map(|state| state[unit]);
        values().fold(0.0, f64::max) - values().fold(1.0, f64::min)
    };
    let amplitude = range(0).max(range(1)) / 2.0;

    for method in [SteadyMethod::Simulation, SteadyMethod::NewtonKrylov] {
        let ([both, after], point) = pair.attractors(6, &[], method);
        assert_eq!(point.areas[0].steady.converged, method == SteadyMethod::NewtonKrylov);
        for attractors in [&both, &after] {
            let [cycle] = attractors.found[..] else {
                panic!("{method:?}: {attractors:?}")
            };
            assert!(!attractors.is_multistable());
            assert!((period(&cycle) - expected).abs() < 0.02, "{method:?}: {cycle:?}");
            assert!(!cycle.is_found_state && cycle.euler_stable.is_none() && cycle.distance.is_none());
        }
        let seen = both.found[0].amplitude.expect("bounded");
        // Steps do not meet the extremes of every turn.
        assert!(
            seen > 0.97 * amplitude && seen < amplitude + 1e-9,
            "{method:?}: {seen} {amplitude}"
        );
    }
}

/// Excitation above a threshold, and inhibition above a higher one: silent below r_e = 1, else r_e = 2, r_i = 0.5.
#[test]
fn two_steady_states_of_excitation_with_a_threshold() {
    let pair = Pair {
        weights: [1.5, -1.0, 1.0, 0.0],
        biases: [-0.5, -1.5],
    };
    // The first three are silent.
    let elsewhere = [pair.state([3.0, 0.0]), pair.state([1.1, 0.0])];
    let ([both, after], _) = pair.attractors(5, &elsewhere, SteadyMethod::Simulation);
    assert!(both.is_multistable() && after.is_multistable());
    for (attractors, norm) in [(both, 4.25f64.sqrt()), (after, 2.0)] {
        let [silent, active] = attractors.found[..] else {
            panic!("{attractors:?}")
        };
        assert_eq!((silent.reached, active.reached), (3, 2));
        assert_eq!((silent.is_found_state, active.is_found_state), (true, false));
        for attractor in [silent, active] {
            assert_eq!(attractor.kind, AttractorKind::SteadyState);
            assert_eq!((attractor.euler_stable, attractor.amplitude), (Some(true), Some(0.0)));
            assert!((attractor.distance.expect("two") - norm).abs() < 1e-3, "{attractor:?}");
        }
        assert!(silent.norm.expect("bounded") < 1e-3, "{silent:?}");
        assert!((active.norm.expect("bounded") - norm).abs() < 1e-3, "{active:?}");
    }
}

/// Two units that inhibit each other: one of them wins. From r = 0 both come to 1/3 alike and rest there, which is no
/// attractor.
#[test]
fn a_saddle_is_left() {
    let pair = Pair {
        weights: [0.0, -2.0, -2.0, 0.0],
        biases: [1.0, 1.0],
    };
    let ([both, _], point) = pair.attractors(8, &[], SteadyMethod::Simulation);
    assert!(point.areas[0].steady.converged && (point.areas[0].steady.norm - 1.0 / 3.0).abs() < 1e-5);
    assert!(both.found.len() <= 2, "{both:?}");
    for attractor in &both.found {
        assert_eq!(
            (attractor.kind, attractor.euler_stable),
            (AttractorKind::SteadyState, Some(true))
        );
        assert!(
            !attractor.is_found_state && (attractor.norm.expect("bounded") - 1.0).abs() < 1e-3,
            "{attractor:?}"
        );
    }
}

/// Without input and bias r = 0 is steady, and the linearisation there is that of silent units, which decay; but any
/// activity of e is excited to more.
#[test]
fn silence_that_does_not_last() {
    let pair = Pair {
        weights: [1.5, 0.0, 1.0, 0.0],
        biases: [0.0, 0.0],
    };
    let ([both, _], point) = pair.attractors(3, &[], SteadyMethod::Simulation);
    assert!(point.areas[0].steady.converged && point.areas[0].steady.norm == 0.0);
    let [diverged] = both.found[..] else { panic!("{both:?}") };
    assert_eq!((diverged.kind, diverged.reached), (AttractorKind::Diverged, 3));
}

/// Excitation by 1.5 of what there is: all initial conditions grow without bound, and so does what they drive.
#[test]
fn activity_that_grows_without_bound_diverges() {
    let pair = Pair {
        weights: [1.5, 0.0, 1.0, 0.0],
        biases: [0.1, 0.0],
    };
    let (found, _) = pair.attractors(4, &[], SteadyMethod::Simulation);
    for attractors in found {
        let [diverged] = attractors.found[..] else {
            panic!("{attractors:?}")
        };
        assert_eq!((diverged.kind, diverged.reached), (AttractorKind::Diverged, 4));
        let figures = [diverged.amplitude, diverged.norm, diverged.distance];
        assert!(figures.iter().all(Option::is_none), "{diverged:?}");
    }
}

/// Inhibition so strong that a step leads beyond the steady state. e follows a piecewise-linear map with the slopes 0.8
/// and 0.8 - 0.2 w: for w = 9.5 it has a cycle of two steps, whose multiplier is -0.88; for w = 16 its Lyapunov exponent
/// is 0.38 a step (4,000 steps of the map).
#[test]
fn oscillation_from_step_to_step_and_chaos() {
    let pair = |weight: f64| Pair {
        weights: [-weight, 0.0, 0.0, 0.0],
        biases: [1.0, 0.0],
    };
    let (found, _) = pair(9.5).attractors(4, &[], SteadyMethod::Simulation);
    for attractors in found {
        let [cycle] = attractors.found[..] else {
            panic!("{attractors:?}")
        };
        assert_eq!(period(&cycle), 2.0);
    }
    let ([both, _], _) = pair(16.0).attractors(4, &[], SteadyMethod::Simulation);
    let [chaos] = both.found[..] else { panic!("{both:?}") };
    assert_eq!((chaos.kind, chaos.reached), (AttractorKind::Unsettled, 4));
    assert!(chaos.amplitude.expect("bounded") > 0.01);
    assert!(both.has_unsettled() && !both.is_multistable());
}

/// One steady state, beside activity that is slow to come there and activity that diverges.
#[test]
fn only_what_attracts_is_one_of_several_attractors() {
    let attractor = |kind| Attractor {
        kind,
        reached: 1,
        amplitude: None,
        norm: None,
        distance: None,
        is_found_state: false,
        euler_stable: None,
    };
    let mut attractors = Attractors {
        tried: 4,
        found: vec![
            attractor(AttractorKind::SteadyState),
            attractor(AttractorKind::Unsettled),
            attractor(AttractorKind::Diverged),
        ],
    };
    assert!(attractors.has_unsettled() && !attractors.is_multistable());
    attractors
        .found
        .push(attractor(AttractorKind::LimitCycle { period_steps: 30.0 }));
    assert!(attractors.is_multistable());
    attractors.found.remove(1);
    assert!(!attractors.has_unsettled() && attractors.is_multistable());
}

/// The cycle that PyTorch's simulation of the same network has.
#[test]
fn fixture_limit_cycle_matches_the_reference() {
    let fixture = Fixture::open("oscillating_dynamics.safetensors");
    let graph = fixture.architecture();
    let euler = Euler::new(fixture.number("dt_ms"), fixture.number("tau_ms"));
    let net = CordsNet::new(&graph, &fixture.parameters::<f64>("param."), &euler, Phi::Relu).expect("a network");
    let inp = net.embed(&fixture.tensor("images").data, 1);
    let options = FixedPointOptions {
        attractors: Some(AttractorOptions {
            initial_conditions: 2,
            steps: 6000,
            ..AttractorOptions::default()
        }),
        ..FixedPointOptions::default()
    };
    let spontaneous = spontaneous_steady_state(&net, &options.steady, &mut |_, _| {});
    let (_, point) = fixed_point(&net, Some((&inp, &spontaneous)), &[], &options, &|| {});
    let attractors = point.areas[0].attractors.as_ref().expect("asked for");
    let cycles = attractors
        .found
        .iter()
        .filter(|attractor| matches!(attractor.kind, AttractorKind::LimitCycle { .. }));
    let expected = fixture.tensor("cycle.period_ms").data[0];
    let errors = cycles.map(|cycle| (period(cycle) * euler.dt_ms / expected - 1.0).abs());
    assert!(
        errors.fold(f64::INFINITY, f64::min) < 2e-3,
        "{expected}: {attractors:?}"
    );
}

/// Steady states that attract everything are found from everywhere, area by area.
#[test]
fn a_published_network_has_one_attractor_an_area() {
    let options = FixedPointOptions {
        attractors: Some(AttractorOptions {
            initial_conditions: 5,
            ..AttractorOptions::default()
        }),
        ..FixedPointOptions::default()
    };
    let mut last = (0, 0);
    let found = fixed_points(&network(0.4), 2, &image, &options, false, &mut |done, total| {
        last = (done, total)
    })
    .expect("images");
    // Two parts for each of four areas of three steady states.
    assert_eq!(last, (24, 24));
    for point in found.images.iter().chain([&found.spontaneous]) {
        for area in &point.areas {
            assert!(area.steady.converged);
            let attractors = area.attractors.as_ref().expect("asked for");
            let [steady] = attractors.found[..] else {
                panic!("{attractors:?}")
            };
            assert_eq!((steady.kind, steady.reached), (AttractorKind::SteadyState, 5));
            assert!(steady.is_found_state && steady.euler_stable == Some(true), "{steady:?}");
            assert!((steady.norm.expect("bounded") - area.steady.norm).abs() <= 1e-3 * area.steady.norm + 1e-3);
        }
    }
}
