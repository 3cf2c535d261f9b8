//! Steady states and the spectra there.

use cords::device::Phi;
use cords::dynamics::*;
use cords::net::{CordsNet, Euler};
use cords::rng::{Purpose, Stream};

use super::nets::*;
use crate::support::Fixture;

#[test]
fn fixture_steady_states_match_the_reference_by_every_method() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let expected = fixture.tensor("steady");
    let methods = [
        SteadyMethod::Simulation,
        SteadyMethod::Anderson,
        SteadyMethod::NewtonKrylov,
    ];
    let [simulated, accelerated, newton] = methods.map(|method| {
        let mut products = 0;
        for (i, (activity, used)) in settled_by(&net, &fixture, method).iter().enumerate() {
            let expected = &expected.data[i * activity.len()..][..activity.len()];
            let worst = activity
                .iter()
                .zip(expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(worst < 1e-10, "{method:?}, drive {i}: {worst}");
            products += used;
        }
        products
    });
    assert!(
        accelerated < simulated && newton < simulated,
        "{simulated} {accelerated} {newton}"
    );
}

#[test]
fn fixture_leading_modes_match_all_eigenvalues_of_the_reference() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let dt = net.euler().dt_ms;
    let states = (0..).take_while(|i| fixture.has(&format!("jacobian.{i}.eigenvalues")));
    let mut compared = 0;
    for i in states {
        compared += 1;
        // In units of 1/tau: J = -I + D W.
        let expected = complex(&fixture, &format!("jacobian.{i}.eigenvalues"));
        let jacobian = jacobian(&net, &fixture, i);
        let options = SpectrumOptions {
            by_magnitude: 7,
            vectors: true,
            ..SpectrumOptions::default()
        };
        let spectrum = area_spectrum(&jacobian, dt, &options, &mut |_, _| {});
        assert!(spectrum.converged && spectrum.modes.len() >= options.modes && spectrum.by_magnitude.len() >= 7);
        let mut sizes: Vec<f64> = expected.iter().map(|v| v[0].hypot(v[1])).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        for (mode, expected) in spectrum.by_magnitude.iter().zip(sizes) {
            assert!(
                (TAU * mode.magnitude_per_ms() - expected).abs() < 1e-8,
                "{mode:?} {expected}"
            );
            assert!(mode.residual_per_ms < 1e-9, "state {i}: {mode:?}");
        }
        let coupled = spectrum.modes.iter().filter(|mode| mode.participation.is_some());
        assert_eq!(spectrum.vectors.len(), coupled.count());
        for vector in &spectrum.vectors {
            let mode = &spectrum.modes[vector.rank];
            let [re, im] = [&vector.re, &vector.im].map(|part| part.iter().copied().map(f64::from).collect::<Vec<_>>());
            let [out_re, out_im] = [&re, &im].map(|part| {
                let mut out = vec![0.0; part.len()];
                jacobian.apply(part, &mut out);
                out
            });
            let (real, imaginary) = (mode.real_per_ms, mode.imaginary_per_ms);
            let missed = (0..re.len()).map(|unit| {
                (out_re[unit] - real * re[unit] + imaginary * im[unit])
                    .hypot(out_im[unit] - real * im[unit] - imaginary * re[unit])
            });
            // Vectors are kept in single precision.
            assert!(missed.fold(0.0, f64::max) < 1e-7, "state {i}: {mode:?}");
            let fourth: f64 = re.iter().zip(&im).map(|(re, im)| (re * re + im * im).powi(2)).sum();
            let participation = mode.participation.expect("coupled") * re.len() as f64;
            assert!((participation * fourth - 1.0).abs() < 1e-5, "{participation} {fourth}");
        }
        for (k, mode) in spectrum.modes.iter().enumerate() {
            let difference =
                (TAU * mode.real_per_ms - expected[k][0]).hypot(TAU * mode.imaginary_per_ms - expected[k][1]);
            assert!(
                difference < 1e-8,
                "state {i}, mode {k}: {mode:?} against {:?}",
                expected[k]
            );
            assert!(mode.residual_per_ms < 1e-9, "state {i}, mode {k}: {mode:?}");
            assert!((mode.time_constant_ms.expect("stable") * -mode.real_per_ms - 1.0).abs() < 1e-12);
            let turns_per_ms = mode.imaginary_per_ms.abs() / std::f64::consts::TAU;
            assert!((mode.frequency_hz - 1000.0 * turns_per_ms).abs() < 1e-12);
        }
        let alpha = fixture.number("alpha");
        let radius = expected
            .iter()
            .map(|v| (1.0 + alpha * v[0]).hypot(alpha * v[1]))
            .fold(0.0, f64::max);
        assert!(
            (spectrum.euler_radius - radius).abs() < 1e-8,
            "{} against {radius}",
            spectrum.euler_radius
        );
        assert_eq!(spectrum.stable, Some(expected[0][0] < 0.0));
        assert_eq!(spectrum.euler_stable, Some(radius < 1.0));
    }
    assert!(compared > 0, "the file holds no eigenvalues of a Jacobian");
}

#[test]
fn fixture_eigenvalues_of_the_convolution_match_the_reference() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let units = net.bias(0).len();
    let jacobian = AreaJacobian::with_derivative(&net, 0, vec![1.0; units]);
    let all = complex(&fixture, "conv.eigenvalues");
    let rightmost = leading_eigenvalues(&jacobian.coupling(), &KrylovOptions::default(), &mut |_, _| {});
    assert!(rightmost.converged);
    for (pair, expected) in rightmost.pairs.iter().zip(&all) {
        assert!(
            (pair.value.re - expected[0]).hypot(pair.value.im - expected[1]) < 1e-8,
            "{} {expected:?}",
            pair.value
        );
    }
    let mut sizes: Vec<f64> = all.iter().map(|v| v[0].hypot(v[1])).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let [largest, again] = recurrent_spectrum(&net, 0, &SpectrumOptions::default());
    assert!(largest.converged && again.converged);
    for (pair, expected) in again.pairs.iter().zip(&rightmost.pairs) {
        assert!((pair.value.re - expected.value.re).abs() < 1e-8);
    }
    for (pair, expected) in largest.pairs.iter().zip(&sizes) {
        assert!((pair.value.norm() - expected).abs() < 1e-8);
    }
}

#[test]
fn fixture_transposes_are_transposes() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let jacobian = jacobian(&net, &fixture, 0);
    let coupling = jacobian.coupling();
    let operators: [&dyn LinearOperator; 2] = [&jacobian, &coupling];
    for operator in operators {
        let n = operator.dim();
        let mut stream = Stream::new(3, Purpose::Probe, 0, 0, 0, 0);
        let x: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let y: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
        let (mut ax, mut aty) = (vec![0.0; n], vec![0.0; n]);
        operator.apply(&x, &mut ax);
        operator.apply_transpose(&y, &mut aty);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        // Sums of some 500 products of size 1 in f64.
        assert!((dot(&ax, &y) - dot(&x, &aty)).abs() < 1e-11);
    }
}

#[test]
fn fixture_without_coupling_every_mode_is_the_leak() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let units = net.bias(0).len();
    let silent = AreaJacobian::with_derivative(&net, 0, vec![0.0; units]);
    let spectrum = area_spectrum(&silent, 2.0, &SpectrumOptions::default(), &mut |_, _| {});
    assert!(spectrum.converged && spectrum.stable == Some(true) && spectrum.euler_stable == Some(true));
    assert_eq!(
        (spectrum.coupled_units, spectrum.modes.len(), spectrum.products),
        (0, 6, 0)
    );
    for mode in &spectrum.modes {
        assert_eq!(
            (mode.real_per_ms, mode.time_constant_ms, mode.frequency_hz),
            (-0.1, Some(10.0), 0.0)
        );
        assert!((mode.euler_factor - 0.8).abs() < 1e-15);
    }
    // A handful of coupled units, fewer than the Krylov subspace has dimensions: dense.
    let mut few = vec![0.0; units];
    few[..5].fill(1.0);
    let few = AreaJacobian::with_derivative(&net, 0, few);
    let spectrum = area_spectrum(&few, 2.0, &SpectrumOptions::default(), &mut |_, _| {});
    assert!(spectrum.converged && spectrum.coupled_units == 5 && spectrum.modes.len() >= 6);
}

#[test]
fn steady_states_of_a_network_solve_its_equations() {
    let net = network(0.4);
    let options = SteadyOptions {
        tolerance: 1e-9,
        ..SteadyOptions::default()
    };
    let mut calls = Vec::new();
    let spontaneous = spontaneous_steady_state(&net, &options, &mut |done, total| calls.push((done, total)));
    assert_eq!(calls, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    assert!(spontaneous.converged());
    assert!(
        spontaneous
            .areas
            .iter()
            .all(|area| area.distance == 0.0 && area.relative_distance == Some(0.0))
    );

    let mut pixels = vec![0.0; net.architecture().image_len()];
    image(0, &mut pixels).expect("drawn");
    let pixels: Vec<f64> = pixels.iter().map(|v| f64::from(*v)).collect();
    let inp = net.embed(&pixels, 1);
    let steady = steady_state(&net, &inp, &spontaneous, &options, &mut |_, _| {});
    assert!(steady.converged());
    // One Euler step of the whole network moves nothing by more than alpha times the residual (and the reaction of
    // later areas to it); and simulating on from the image's trajectory ends in the same place.
    let mut next = steady.state.clone();
    net.step(&mut next, &inp);
    let worst = |a: &cords::net::State<f64>, b: &cords::net::State<f64>| {
        let pairs = a.areas.iter().flatten().zip(b.areas.iter().flatten());
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    assert!(worst(&next, &steady.state) < 1e-8);
    let mut simulated = spontaneous.state.clone();
    for _ in 0..600 {
        net.step(&mut simulated, &inp);
    }
    assert!(
        worst(&simulated, &steady.state) < 1e-6,
        "{}",
        worst(&simulated, &steady.state)
    );
    for (area, figures) in steady.areas.iter().enumerate() {
        let distance = steady.state.areas[area]
            .iter()
            .zip(&spontaneous.state.areas[area])
            .map(|(a, b)| (a - b).powi(2));
        let distance = distance.sum::<f64>().sqrt();
        assert!((figures.distance - distance).abs() < 1e-9 * distance && distance > 0.0);
        let relative = figures.relative_distance.expect("the spontaneous state is not zero");
        assert!((relative - distance / spontaneous.areas[area].norm).abs() < 1e-9);
        assert!((0.05..0.95).contains(&figures.active_fraction));
    }
}

#[test]
fn fixed_points_do_not_depend_on_threads() {
    let net = network(0.8);
    let options = FixedPointOptions {
        spectrum: Some(SpectrumOptions {
            modes: 3,
            ..Default::default()
        }),
        ..Default::default()
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| {
            let mut last = (0, 0);
            let found =
                fixed_points(&net, 5, &image, &options, true, &mut |done, total| last = (done, total)).expect("images");
            // Two parts for each of four areas of six steady states.
            assert_eq!(last, (48, 48));
            found
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let FixedPoints {
        spontaneous,
        images,
        states,
    } = one;
    assert_eq!((images.len(), states.len()), (5, 5));
    for (point, state) in images.iter().zip(&states) {
        for (area, activity) in point.areas.iter().zip(state) {
            let norm = activity.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>().sqrt();
            assert!((norm - area.steady.norm).abs() <= 1e-6 * area.steady.norm);
        }
    }
    for point in images.iter().chain([&spontaneous]) {
        assert!(point.answer.is_some());
        for area in &point.areas {
            let spectrum = area.spectrum.as_ref().expect("converged");
            assert!(area.steady.converged && spectrum.converged);
            // Simulation only finds states that are stable under its own steps.
            assert_eq!(spectrum.euler_stable, Some(true));
            assert!(spectrum.modes.iter().all(|mode| mode.residual_per_ms < 1e-8));
        }
    }
}

#[test]
fn activity_that_grows_without_bound_is_reported() {
    let net = network(20.0);
    let steady = SteadyOptions {
        max_steps: 2000,
        ..SteadyOptions::default()
    };
    let options = FixedPointOptions {
        steady,
        spectrum: Some(SpectrumOptions::default()),
        ..FixedPointOptions::default()
    };
    let (state, point) = fixed_point(&net, None, &[], &options, &|| {});
    assert!(!state.converged());
    let first = &point.areas[0];
    assert!(!first.steady.converged && first.spectrum.is_none());
    assert!(first.steady.residual.is_nan() || first.steady.residual > 1.0);
    assert!(first.steady.products <= 2001);
}

#[test]
fn time_constants_differ_between_areas() {
    let euler = Euler {
        dt_ms: 2.0,
        tau_ms: vec![10.0, 20.0, 10.0, 40.0],
    };
    let net = CordsNet::new(&small(), &arbitrary(&small(), 0.0), &euler, Phi::Relu).expect("a network");
    let options = FixedPointOptions {
        spectrum: Some(SpectrumOptions::default()),
        ..Default::default()
    };
    let (_, point) = fixed_point(&net, None, &[], &options, &|| {});
    for (area, tau) in euler.tau_ms.iter().enumerate() {
        let spectrum = point.areas[area].spectrum.as_ref().expect("converged");
        // No recurrent weights: every mode is the leak.
        assert!(
            spectrum
                .modes
                .iter()
                .all(|mode| (mode.time_constant_ms.expect("stable") - tau).abs() < 1e-9)
        );
        assert!((spectrum.euler_radius - (1.0 - 2.0 / tau)).abs() < 1e-12);
    }
}

#[test]
fn leaky_and_linear_units_are_all_coupled() {
    for (phi, slope) in [(Phi::LeakyRelu(0.5), 0.5), (Phi::Identity, 1.0)] {
        let net = CordsNet::new(&small(), &arbitrary(&small(), 0.3), &Euler::published(), phi).expect("a network");
        let spontaneous = spontaneous_steady_state(&net, &SteadyOptions::default(), &mut |_, _| {});
        assert!(spontaneous.converged());
        let inp = vec![0.0; 8 * 8 * 8];
        let jacobian = AreaJacobian::at(&net, 0, &spontaneous.state, &inp);
        assert_eq!(jacobian.coupling().dim(), jacobian.dim());
        // Column 0 of J from one product and from the definition.
        let mut unit = vec![0.0; jacobian.dim()];
        unit[0] = 1.0;
        let mut column = vec![0.0; jacobian.dim()];
        jacobian.apply(&unit, &mut column);
        let weights = net.recurrent(0, &unit, 1);
        let active = |i: usize| spontaneous.state.areas[0][i] > 0.0;
        for i in 0..column.len() {
            let derivative = if active(i) { 1.0 } else { slope };
            let expected = (derivative * weights[i] - unit[i]) / TAU;
            assert!((column[i] - expected).abs() < 1e-15, "{i}");
        }
    }
}

/// A network whose area 0 relays its own activity with this weight, and whose area 1 has no recurrent weights.
fn relay(weight: f64) -> CordsNet<f64> {
    let mut parameters = arbitrary(&small(), 1.0);
    let mut set = |name: &str, value: &dyn Fn(usize) -> f64| {
        let data = &mut parameters.get_mut(name).expect("there").data;
        data.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
    };
    // Channel to itself, from the same place.
    let same = |i: usize| f64::from(u8::from(i / 9 % 8 == i / 72 && i % 9 == 4));
    set("area_conv.0.parametrizations.weight.original1", &same);
    set("area_conv.0.parametrizations.weight.original0", &|_| weight);
    set("conv_bias.0", &|_| 0.1);
    set("area_conv.1.parametrizations.weight.original0", &|_| 0.0);
    CordsNet::new(&small(), &parameters, &Euler::published(), Phi::Relu).expect("a network")
}

#[test]
fn an_area_below_an_unsettled_one_is_not_settled() {
    // Area 0 has a time constant of 1 s; area 1 alone would be at rest after some sixty steps.
    let net = relay(0.99);
    let options = SteadyOptions {
        max_steps: 300,
        ..SteadyOptions::default()
    };
    let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
    assert!(spontaneous.areas[0].residual > options.tolerance && !spontaneous.areas[0].converged);
    assert!(spontaneous.areas[1].residual <= options.tolerance);
    assert!(!spontaneous.areas[1].converged, "its input still changes");
    assert!(spontaneous.areas.iter().all(|area| !area.diverged));
    let long = SteadyOptions::default();
    let settled = spontaneous_steady_state(&net, &long, &mut |_, _| {});
    assert!(settled.converged());
    let all = FixedPointOptions {
        steady: options,
        spectrum: Some(SpectrumOptions::default()),
        ..FixedPointOptions::default()
    };
    let (_, point) = fixed_point(&net, None, &[], &all, &|| {});
    assert!(
        point.areas.iter().all(|area| area.spectrum.is_none()),
        "there is no steady state to call stable"
    );
}

#[test]
fn a_network_that_diverges_has_no_steady_state_and_says_so() {
    for method in [SteadyMethod::Simulation, SteadyMethod::Anderson] {
        let options = SteadyOptions {
            method,
            joint_steps: 3000,
            ..SteadyOptions::default()
        };
        let found = spontaneous_steady_state(&relay(5.0), &options, &mut |_, _| {});
        assert!(
            found.areas.iter().all(|area| area.diverged && !area.converged),
            "{:?}",
            found.areas
        );
    }
}
