//! Linearisation, steady states, spectra and exponents, also of areas that drive each other.

use cords::device::Phi;
use cords::dynamics::{
    AreaJacobian, ExponentOptions, FixedPointOptions, KrylovOptions, LinearOperator, LyapunovOptions, NetworkJacobian,
    NetworkSpectrum, NoisySteps, ResponseOptions, SpectrumOptions, SteadyMethod, SteadyOptions, area_spectrum,
    exponents, fixed_point, numerical_abscissa, spontaneous_steady_state, steady_state,
};
use cords::net::{CellKind, CordsNet, Euler, Input, State};

use super::{networks, normal, parameters};
use crate::support::{Fixture, assert_close};

#[test]
fn operators_of_every_graph_are_adjoint() {
    for (name, graph) in networks() {
        let net = CordsNet::new(&graph, &parameters(&graph, 2), &Euler::published(), Phi::Relu).expect("a network");
        let image = normal(graph.image_len(), 4);
        let inp = net.embed(&image, 1);
        let mut state = net.zeros(1);
        net.run(&mut state, Input::Constant(&inp), 5, &mut |_, _| {});
        let whole = NetworkJacobian::at(&net, &state, &inp);
        let components = graph.components().iter();
        let blocks: Vec<_> = components
            .map(|areas| AreaJacobian::of_component(&net, areas, &state, &inp))
            .collect();
        let operators = blocks.iter().map(|block| block as &dyn LinearOperator);
        for operator in operators.chain([&whole as &dyn LinearOperator]) {
            let n = operator.dim();
            let (x, y) = (normal(n, 5), normal(n, 6));
            let (mut ax, mut aty) = (vec![0.0; n], vec![0.0; n]);
            operator.apply(&x, &mut ax);
            operator.apply_transpose(&y, &mut aty);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (left, right) = (dot(&y, &ax), dot(&aty, &x));
            assert!(
                (left - right).abs() < 1e-11 * dot(&y, &y).sqrt() * dot(&ax, &ax).sqrt(),
                "{name}"
            );
        }
        for (areas, block) in graph.components().iter().zip(&blocks) {
            // The block is the whole's, on the component's units.
            let (mut x, mut out) = (vec![0.0; whole.dim()], vec![0.0; whole.dim()]);
            let part = normal(block.dim(), 7);
            let mut expected = vec![0.0; block.dim()];
            block.apply(&part, &mut expected);
            // Hidden variables follow after all activities, in the order of the areas.
            let adapts = |area: &usize| graph.area(*area).cell != CellKind::Leaky;
            let mut end = graph.units();
            let mut hidden = vec![0..0; graph.areas()];
            for area in (0..graph.areas()).filter(adapts) {
                hidden[area] = end..end + graph.area_units(area);
                end = hidden[area].end;
            }
            let activities = areas.iter().flat_map(|area| whole.range(*area));
            let units: Vec<usize> = activities
                .chain(areas.iter().flat_map(|area| hidden[*area].clone()))
                .collect();
            units.iter().zip(&part).for_each(|(unit, part)| x[*unit] = *part);
            whole.apply(&x, &mut out);
            for (unit, expected) in units.iter().zip(&expected) {
                assert!((out[*unit] - expected).abs() < 1e-12, "{name}");
            }
        }
    }
}

/// Of the step's derivative, 1 + dt J, by central differences, along activity that is not 0.
#[test]
fn the_linearisation_is_that_of_steps_and_steady_states_are_theirs() {
    let euler = Euler::published();
    for (name, graph) in networks() {
        let net = CordsNet::new(&graph, &parameters(&graph, 2), &euler, Phi::Relu).expect("a network");
        let inp = net.embed(&normal(graph.image_len(), 4), 1);
        let mut state = net.zeros(1);
        net.run(&mut state, Input::Constant(&inp), 5, &mut |_, _| {});
        let jacobian = NetworkJacobian::at(&net, &state, &inp);
        let values = |state: &State<f64>| [state.areas.concat(), state.hidden.concat()].concat();
        let mut x = normal(jacobian.dim(), 5);
        let activity = values(&state);
        for (x, r) in x.iter_mut().zip(&activity).take(graph.units()) {
            *x = if *r > 0.0 { *x } else { 0.0 };
        }
        const STEP: f64 = 1e-7;
        let stepped = |factor: f64| {
            let mut moved = state.clone();
            let units = moved.areas.iter_mut().chain(&mut moved.hidden).flatten();
            units.zip(&x).for_each(|(unit, x)| *unit += factor * x);
            net.step(&mut moved, &inp);
            values(&moved)
        };
        let mut jx = vec![0.0; x.len()];
        jacobian.apply(&x, &mut jx);
        for (unit, (up, down)) in stepped(STEP).iter().zip(&stepped(-STEP)).enumerate() {
            let found = (up - down) / (2.0 * STEP);
            let expected = x[unit] + euler.dt_ms * jx[unit];
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}, unit {unit}: {found} {expected}"
            );
        }
        let options = SteadyOptions {
            tolerance: 1e-10,
            ..SteadyOptions::default()
        };
        let steady = spontaneous_steady_state(&net, &options, &mut |_, _| {});
        if steady.converged() {
            let mut state = steady.state.clone();
            net.step(&mut state, &net.blank(1));
            for (found, expected) in values(&state).iter().zip(&values(&steady.state)) {
                assert!((found - expected).abs() < 1e-9, "{name}");
            }
        }
    }
}

/// J by columns.
fn dense(operator: &dyn LinearOperator) -> Vec<Vec<f64>> {
    let n = operator.dim();
    let column = |j: usize| {
        let (mut unit, mut out) = (vec![0.0; n], vec![0.0; n]);
        unit[j] = 1.0;
        operator.apply(&unit, &mut out);
        out
    };
    (0..n).map(column).collect()
}

/// Steady states by each method are steady under the network's own steps, and are one; the Jacobian is the derivative
/// of a step; its leading modes have small residuals, and all decay; exponents stand at the first area of a component.
#[test]
fn areas_that_drive_each_other_are_one_system() {
    let euler = Euler::published();
    for name in ["Feedback", "Blt", "streams"] {
        let graph = networks()
            .into_iter()
            .find(|(found, _)| found == name)
            .expect("there")
            .1;
        let net = CordsNet::new(&graph, &parameters(&graph, 9), &euler, Phi::Relu).expect("a network");
        let inp = net.embed(&normal(graph.image_len(), 10), 1);
        let mut states = Vec::new();
        for method in [
            SteadyMethod::Simulation,
            SteadyMethod::Anderson,
            SteadyMethod::NewtonKrylov,
        ] {
            let options = SteadyOptions {
                tolerance: 1e-12,
                method,
                ..SteadyOptions::default()
            };
            let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
            let steady = steady_state(&net, &inp, &spontaneous, &options, &mut |_, _| {});
            assert!(
                spontaneous.converged() && steady.converged(),
                "{name}, {method:?}: {:?}",
                steady.areas
            );
            let mut next = steady.state.clone();
            net.step(&mut next, &inp);
            for (a, b) in next.areas.iter().flatten().zip(steady.state.areas.iter().flatten()) {
                assert!((a - b).abs() < 1e-11, "{name}, {method:?}: it stays");
            }
            states.push(steady.state);
        }
        for other in &states[1..] {
            for (a, b) in states[0].areas.iter().flatten().zip(other.areas.iter().flatten()) {
                assert!((a - b).abs() < 1e-10, "{name}: one steady state");
            }
        }
        let state = &states[0];
        // Between kinks a step is linear: its difference quotient is exact but for rounding.
        let whole = NetworkJacobian::at(&net, state, &inp);
        let matrix = dense(&whole);
        let dt = net.euler().dt_ms;
        for (j, column) in matrix.iter().enumerate().step_by(37) {
            const STEP: f64 = 1e-7;
            let moved = |change: f64| {
                let mut moved = state.clone();
                let mut values = moved.areas.iter_mut().chain(&mut moved.hidden).flatten();
                *values.nth(j).expect("a unit") += change;
                net.step(&mut moved, &inp);
                moved
                    .areas
                    .into_iter()
                    .chain(moved.hidden)
                    .flatten()
                    .collect::<Vec<f64>>()
            };
            let (up, still) = (moved(STEP), moved(0.0));
            let active = state
                .areas
                .iter()
                .chain(&state.hidden)
                .flatten()
                .nth(j)
                .is_some_and(|value| *value > 1e-6);
            for (i, entry) in column.iter().enumerate().filter(|_| active) {
                let expected = f64::from(u8::from(i == j)) + dt * entry;
                assert!(
                    ((up[i] - still[i]) / STEP - expected).abs() < 1e-5,
                    "{name}: column {j}, row {i}"
                );
            }
        }
        let components = graph.components();
        assert!(components.iter().any(|areas| areas.len() > 1));
        let options = SpectrumOptions::default();
        let spectra: Vec<_> = components
            .iter()
            .map(|areas| {
                let jacobian = AreaJacobian::of_component(&net, areas, state, &inp);
                area_spectrum(&jacobian, dt, &options, &mut |_, _| {})
            })
            .collect();
        for (areas, spectrum) in components.iter().zip(&spectra) {
            assert!(spectrum.converged, "{name}, {areas:?}");
            for mode in &spectrum.modes {
                assert!(mode.residual_per_ms < 1e-8, "{name}, {areas:?}: {mode:?}");
            }
        }
        let firsts = components.iter().map(|areas| areas[0]).zip(spectra.iter().map(Some));
        let network = NetworkSpectrum::of(firsts, dt).expect("converged");
        assert!(network.stable, "{name}: {network:?}");
        let exponents = ExponentOptions {
            noise: vec![0.0],
            lyapunov: LyapunovOptions {
                count: 1,
                burn_in: 4000,
                steps: 1000,
                ..LyapunovOptions::default()
            },
        };
        let options = FixedPointOptions {
            exponents: Some(exponents),
            ..FixedPointOptions::default()
        };
        let (_, point) = fixed_point(&net, None, &[], &options, &|| {});
        for (area, found) in point.areas.iter().enumerate() {
            let component = components.iter().find(|areas| areas.contains(&area)).expect("one");
            assert_eq!(found.component, component[0]);
            let exponents = found.exponents.as_ref().expect("asked for");
            assert_eq!(exponents[0].is_empty(), component[0] != area);
        }
    }
}

/// Steady state number `index` of a fixture.
fn fixture_state(fixture: &Fixture, net: &CordsNet<f64>, index: usize) -> State<f64> {
    let row = |tensor: String| {
        let tensor = fixture.tensor(&tensor);
        let len = tensor.data.len() / tensor.shape[0];
        tensor.data[index * len..][..len].to_vec()
    };
    let mut state = net.zeros(1);
    let mut hidden = 0;
    for area in 0..state.areas.len() {
        state.areas[area] = row(format!("steady.{area}"));
        if fixture.has(&format!("steady_adaptation.{area}")) {
            state.hidden[hidden] = row(format!("steady_adaptation.{area}"));
            hidden += 1;
        }
    }
    state
}

/// Variances of single units under small noise, in continuous time and under Euler steps, and Lyapunov exponents, all
/// at stable states, against dense algebra in float64. Of exponents that are close to each other only sums are sharp.
#[test]
fn fixture_noise_response_and_exponents_of_graphs() {
    for name in ["feedback_dynamics", "adapting_dynamics"] {
        let fixture = Fixture::open(&format!("{name}.safetensors"));
        let graph = fixture.architecture();
        let euler = Euler::new(fixture.number("dt_ms"), fixture.number("tau_ms"));
        let net = CordsNet::new(&graph, &fixture.parameters::<f64>("param."), &euler, Phi::Relu).expect("a network");
        let images = fixture.tensor("images").data;
        let mut compared = 0;
        for (index, image) in images.chunks(graph.image_len()).enumerate().skip(1) {
            let inp = net.embed(image, 1);
            let state = fixture_state(&fixture, &net, index);
            let of = |what: &str| fixture.tensor(&format!("jacobian.{index}.{what}")).data;
            let whole = NetworkJacobian::at(&net, &state, &inp);
            // Hidden variables come after all units, and get no noise of their own.
            let mut noise = vec![0.0; whole.dim()];
            let mut taus = vec![euler.tau_ms[0]; whole.dim()];
            let slopes = of("slopes");
            for area in 0..graph.areas() {
                for unit in whole.range(area) {
                    let alpha = net.euler().alpha(area);
                    taus[unit] = euler.dt_ms / alpha;
                    noise[unit] = (2.0 * alpha).sqrt() * slopes[unit];
                }
            }
            let system = NoisySteps::new(&whole, euler.dt_ms, noise);
            let options = ResponseOptions {
                probes: 2,
                max_steps: 50_000,
                tolerance: 1e-10,
                seed: 0,
            };
            let under_steps = of("covariance_of_steps_diagonal");
            let continuous = of("covariance_diagonal");
            // Some active units of the first and the last area, and the last value of all.
            let active = |unit: &usize| slopes.get(*unit).is_none_or(|slope| *slope > 0.0);
            let first = whole.range(0).find(active);
            let last = whole.range(graph.areas() - 1).rev().find(active);
            for unit in [first.expect("active"), last.expect("active"), whole.dim() - 1] {
                let leak = [1.0 - euler.dt_ms / taus[unit]];
                let found = system.response(unit..unit + 1, &leak, &[], &options, &mut |_, _| {});
                let close = |found: f64, expected: f64| (found - expected).abs() <= 1e-6 * expected.abs().max(1e-3);
                assert!(
                    found.converged && close(found.trace.value, under_steps[unit]),
                    "{name}, state {index}, unit {unit}: {found:?} is {}",
                    under_steps[unit]
                );
                let times = (&taus[unit..=unit], euler.tau_ms[0]);
                let found = system.continuous_response(unit..unit + 1, times, &[], &options, &mut |_, _| {});
                assert!(
                    found.converged && close(found.trace.value, continuous[unit]),
                    "{name}, state {index}, unit {unit}, in continuous time: {found:?} is {}",
                    continuous[unit]
                );
            }
            const COUNT: usize = 5;
            // What the slowest gap below leaves after the burn-in is smaller than the tolerance.
            const GAP: f64 = 2e-3;
            let options = LyapunovOptions {
                count: COUNT,
                burn_in: (20.0 / GAP / euler.dt_ms) as usize,
                steps: 500,
                ..LyapunovOptions::default()
            };
            let found = exponents(&net, &state, Input::Constant(&inp), None, &options, &mut |_, _| {});
            let expected = of("exponents");
            for count in (1..=COUNT).filter(|count| expected[count - 1] - expected[*count] > GAP) {
                let sum: f64 = found[0][..count].iter().map(|exponent| exponent.per_ms).sum();
                let reference: f64 = expected[..count].iter().sum();
                assert!(
                    (sum - reference).abs() < 1e-7,
                    "{name}, state {index}, {count} exponents: {sum} is {reference}"
                );
                compared += 1;
            }
        }
        assert!(compared >= 2, "{name}: {compared}");
    }
}

/// Steady states, products with the Jacobian, its leading modes, largest Euler factor and numerical abscissa against
/// PyTorch and dense algebra in float64, of networks with feedback and with adaptation.
#[test]
fn fixture_dynamics_of_graphs() {
    for name in ["feedback_dynamics", "adapting_dynamics", "oscillating_dynamics"] {
        let fixture = Fixture::open(&format!("{name}.safetensors"));
        let graph = fixture.architecture();
        let euler = Euler::new(fixture.number("dt_ms"), fixture.number("tau_ms"));
        let net = CordsNet::new(&graph, &fixture.parameters::<f64>("param."), &euler, Phi::Relu).expect("a network");
        let images = fixture.tensor("images").data;
        for (index, image) in images.chunks(graph.image_len()).enumerate() {
            let inp = net.embed(image, 1);
            let state = fixture_state(&fixture, &net, index);
            let mut next = state.clone();
            net.step(&mut next, &inp);
            let values = |state: &State<f64>| -> Vec<f64> {
                state.areas.iter().chain(&state.hidden).flatten().copied().collect()
            };
            let moved = values(&next)
                .iter()
                .zip(values(&state))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(moved < 1e-10, "{name}, state {index} is steady: {moved:e}");

            let whole = NetworkJacobian::at(&net, &state, &inp);
            let of = |what: &str| fixture.tensor(&format!("jacobian.{index}.{what}")).data;
            let probes = of("probes");
            for (probe, (product, transposed)) in probes.chunks(whole.dim()).zip(
                of("product")
                    .chunks(whole.dim())
                    .zip(of("transposed_product").chunks(whole.dim())),
            ) {
                let mut out = vec![0.0; whole.dim()];
                whole.apply(probe, &mut out);
                assert_close(&format!("{name}: J v"), &out, product, 1e-10);
                whole.apply_transpose(probe, &mut out);
                assert_close(&format!("{name}: J^T v"), &out, transposed, 1e-10);
            }
            let eigenvalues = of("eigenvalues");
            let conditions = of("eigenvalue_condition");
            let options = SpectrumOptions {
                modes: 8,
                ..SpectrumOptions::default()
            };
            assert_eq!(graph.components().len(), 1);
            let jacobian = AreaJacobian::of_component(&net, &graph.components()[0], &state, &inp);
            let spectrum = area_spectrum(&jacobian, euler.dt_ms, &options, &mut |_, _| {});
            assert!(spectrum.converged, "{name}, state {index}");
            for (rank, mode) in spectrum.modes.iter().enumerate().take(8) {
                let (re, im) = (eigenvalues[2 * rank], eigenvalues[2 * rank + 1].abs());
                let error = (mode.real_per_ms - re).hypot(mode.imaginary_per_ms.abs() - im);
                assert!(
                    error < 1e-8 * conditions[rank].max(1.0),
                    "{name}, state {index}: {mode:?} is {re} {im}"
                );
            }
            assert_eq!(spectrum.stable, Some(eigenvalues[0] < 0.0), "{name}");
            let (exponent, expected) = (spectrum.euler_radius.ln() / euler.dt_ms, of("exponents")[0]);
            assert!(
                (exponent - expected).abs() < 1e-7,
                "{name}, state {index}: {exponent} is {expected}"
            );
            let abscissa = numerical_abscissa(&whole, &KrylovOptions::default());
            let expected = of("numerical_abscissa")[0];
            assert!(
                abscissa.converged && (abscissa.values[0] - expected).abs() < 1e-7,
                "{name}, state {index}: {abscissa:?} is {expected}"
            );
        }
        if name == "oscillating_dynamics" {
            continue;
        }
        // The engine finds the states by itself.
        for method in [SteadyMethod::Simulation, SteadyMethod::NewtonKrylov] {
            let options = SteadyOptions {
                tolerance: 1e-13,
                joint_steps: 2000,
                method,
                ..SteadyOptions::default()
            };
            let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
            let image = &images[images.len() - graph.image_len()..];
            let steady = steady_state(&net, &net.embed(image, 1), &spontaneous, &options, &mut |_, _| {});
            for (area, found) in steady.state.areas.iter().enumerate() {
                let expected = fixture.tensor(&format!("steady.{area}")).data;
                let expected = &expected[expected.len() - found.len()..];
                let largest = found
                    .iter()
                    .zip(expected)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f64::max);
                assert!(largest < 1e-10, "{name}, {method:?}, area {area}: {largest:e}");
            }
        }
    }
}
