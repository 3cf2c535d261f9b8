//! Singular values, growth, noise response and exponents.

use cords::device::Phi;
use cords::dynamics::*;
use cords::net::{CordsNet, Euler, Parameters};
use cords::rng::{Purpose, Stream};

use super::nets::*;
use crate::support::Fixture;

#[test]
fn fixture_singular_values_of_the_convolution_match_the_reference() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let units = net.bias(0).len();
    let jacobian = AreaJacobian::with_derivative(&net, 0, vec![1.0; units]);
    let convolution = jacobian.coupling();
    let mut expected = fixture.tensor("conv.singular_values").data;
    expected.sort_by(|a, b| b.total_cmp(a));
    let options = KrylovOptions {
        count: 10,
        ..KrylovOptions::default()
    };
    let found = singular_values(&convolution, &options, &mut |_, _| {});
    assert!(found.converged && found.values.len() == 10);
    for (found, expected) in found.values.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-8, "{found} {expected}");
    }
    // The norm is bounded by that of the circular convolution, closely.
    let (channels, side) = (fixture.number("channels") as usize, fixture.number("size") as usize);
    let bound = norm_bound(&fixture.tensor("weight").data, channels, side).expect("finite");
    assert!(
        bound >= expected[0] && bound < 1.1 * expected[0],
        "{bound} {}",
        expected[0]
    );
    // |A|_F^2 is the sum of their squares; no eigenvalue is to the right of the numerical abscissa, which no singular value is below.
    let non_normality = departure_from_normality(&convolution, 200, 1);
    let squares: f64 = expected.iter().map(|value| value * value).sum();
    let Estimate { value, error } = non_normality.squared_norm;
    assert!(
        (value - squares).abs() < 5.0 * error && error < 0.01 * squares,
        "{value} +- {error}, {squares}"
    );
    let abscissa = numerical_abscissa(&convolution, &options).values[0];
    let rightmost = complex(&fixture, "conv.eigenvalues")[0][0];
    assert!(
        abscissa > rightmost && abscissa < expected[0],
        "{rightmost} {abscissa} {}",
        expected[0]
    );
    let eigenvalues: f64 = complex(&fixture, "conv.eigenvalues")
        .iter()
        .map(|v| v[0] * v[0] + v[1] * v[1])
        .sum();
    let departure = ((squares - eigenvalues) / squares).sqrt();
    let exact = non_normality.with_exact(
        squared_norm(&convolution),
        squared_eigenvalues(&convolution).expect("small"),
    );
    assert!(
        (exact.departure.expect("given") - departure).abs() < 1e-8,
        "{exact:?} {departure}"
    );
    assert!((exact.squared_norm.value - squares).abs() < 1e-8 * squares);
    assert!(
        non_normality.departure_at_least > 0.0 && non_normality.departure_at_least < departure,
        "{non_normality:?} {departure}"
    );
    // From probes: with a per cent of grace.
    assert!(
        departure < 1.01 * non_normality.departure_at_most && non_normality.departure_at_most <= 1.0,
        "{non_normality:?} {departure}"
    );
}

#[test]
fn fixture_covariances_match_the_reference() {
    let fixture = Fixture::open("dynamics.safetensors");
    let net = fixture_net(&fixture);
    let mut compared = 0;
    for i in (0..).take_while(|i| fixture.has(&format!("jacobian.{i}.covariance_diagonal"))) {
        compared += 1;
        let expected = fixture.tensor(&format!("jacobian.{i}.covariance_diagonal")).data;
        let jacobian = jacobian(&net, &fixture, i);
        // The file's time is in units of tau.
        let covariance = stationary_covariance(&jacobian, 2.0 / TAU).expect("stable");
        let n = expected.len();
        for (unit, expected) in expected.iter().enumerate() {
            let found = covariance[unit * n + unit];
            assert!(
                (found - expected).abs() < 1e-6,
                "state {i}, unit {unit}: {found}, {expected}"
            );
        }
        // Euler steps small enough to be the continuous system, and probes enough for a part of a per cent.
        let dt = 0.02;
        let noise = (2.0 / TAU * dt).sqrt();
        let system = NoisySteps::new(&jacobian, dt, vec![noise; n]);
        let options = ResponseOptions {
            max_steps: 100_000,
            ..ResponseOptions::default()
        };
        let found = system.response(0..n, &vec![1.0 - dt / TAU; n], &[], &options, &mut |_, _| {});
        let trace: f64 = expected.iter().sum();
        let Estimate { value, error } = found.trace;
        assert!(found.converged && error < 0.02 * trace);
        assert!(
            (value - trace).abs() < 4.0 * error + 0.005 * trace,
            "{value} +- {error}, {trace}"
        );
    }
    assert!(compared > 0, "the file holds no covariance");
}

/// A convolution that moves everything by one pixel: out of the map, in the end. Its norm is 1, its only eigenvalue 0;
/// in a circle it would be as large as 1.
#[test]
fn a_shift_has_norm_1_and_spectral_radius_0() {
    let mut parameters = arbitrary(&small(), 1.0);
    let set = |parameters: &mut Parameters<f64>, part: &str, value: &dyn Fn(usize) -> f64| {
        let name = format!("area_conv.0.parametrizations.weight.{part}");
        let data = &mut parameters.get_mut(&name).expect("there").data;
        data.iter_mut().enumerate().for_each(|(i, v)| *v = value(i));
    };
    set(&mut parameters, "original0", &|_| 1.0);
    // Channel to itself, from the left.
    set(&mut parameters, "original1", &|i| {
        f64::from(u8::from(i / 9 % 8 == i / 72 && i % 9 == 3))
    });
    let net = CordsNet::new(&small(), &parameters, &Euler::published(), Phi::Relu).expect("a network");
    let units = net.bias(0).len();
    let jacobian = AreaJacobian::with_derivative(&net, 0, vec![1.0; units]);
    let shift = jacobian.coupling();
    let largest = KrylovOptions {
        count: 3,
        which: Which::FarthestFrom(0.0),
        ..KrylovOptions::default()
    };
    let found = leading_eigenvalues(&shift, &largest, &mut |_, _| {});
    // Eight moves lead out: rounding 1e-16 may show as its eighth root, 1e-2.
    assert!(
        found.pairs.iter().all(|pair| pair.value.norm() < 2e-2),
        "{:?}",
        found.pairs[0].value
    );
    let norm = singular_values(&shift, &KrylovOptions::default(), &mut |_, _| {});
    assert!((norm.values[0] - 1.0).abs() < 1e-10, "{}", norm.values[0]);
}

/// A steady state of an image in the small network, settled far below the tolerances, with its embedding.
fn image_state(net: &CordsNet<f64>) -> (cords::net::State<f64>, Vec<f64>) {
    let options = SteadyOptions {
        tolerance: 1e-13,
        method: SteadyMethod::NewtonKrylov,
        ..SteadyOptions::default()
    };
    let spontaneous = spontaneous_steady_state(net, &options, &mut |_, _| {});
    let mut pixels = vec![0.0; net.architecture().image_len()];
    image(0, &mut pixels).expect("drawn");
    let pixels: Vec<f64> = pixels.iter().map(|v| f64::from(*v)).collect();
    let inp = net.embed(&pixels, 1);
    let steady = steady_state(net, &inp, &spontaneous, &options, &mut |_, _| {});
    assert!(spontaneous.converged() && steady.converged());
    (steady.state, inp)
}

#[test]
fn the_network_s_jacobian_is_that_of_its_steps_and_has_the_areas_eigenvalues() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let whole = NetworkJacobian::at(&net, &state, &inp);
    let n = whole.dim();
    let mut stream = Stream::new(3, Purpose::Probe, 0, 0, 0, 0);
    let x: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
    let y: Vec<f64> = (0..n).map(|_| stream.normal()).collect();
    let (mut ax, mut aty) = (vec![0.0; n], vec![0.0; n]);
    whole.apply(&x, &mut ax);
    whole.apply_transpose(&y, &mut aty);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    assert!((dot(&ax, &y) - dot(&x, &aty)).abs() < 1e-10);
    // One Euler step, a little beside the steady state where units are active: dt J x, but for roundings, since phi is
    // linear there.
    let dt = net.euler().dt_ms;
    let little = 1e-7;
    let active: Vec<f64> = state
        .areas
        .iter()
        .flatten()
        .zip(&x)
        .map(|(r, x)| if *r > 1e-4 { *x } else { 0.0 })
        .collect();
    whole.apply(&active, &mut ax);
    let mut moved = state.clone();
    for (area, activity) in moved.areas.iter_mut().enumerate() {
        let changes = &active[whole.range(area)];
        activity.iter_mut().zip(changes).for_each(|(r, x)| *r += little * x);
    }
    let started = moved.clone();
    net.step(&mut moved, &inp);
    let mut still = state.clone();
    net.step(&mut still, &inp);
    for area in 0..whole.areas() {
        let range = whole.range(area);
        for (i, unit) in range.enumerate() {
            let change =
                (moved.areas[area][i] - still.areas[area][i]) - (started.areas[area][i] - state.areas[area][i]);
            // Units that are about to become active are not linear.
            if state.areas[area][i] > 1e-4 {
                let expected = dt * little * ax[unit];
                assert!(
                    (change - expected).abs() < 1e-5 * little,
                    "area {area}, unit {i}: {change} {expected}"
                );
            }
        }
    }
    // The union of the areas' spectra.
    let options = KrylovOptions {
        count: 6,
        ..KrylovOptions::default()
    };
    let found = leading_eigenvalues(&whole, &options, &mut |_, _| {});
    let spectrum = SpectrumOptions::default();
    let spectra: Vec<Spectrum> = (0..whole.areas())
        .map(|area| {
            let jacobian = AreaJacobian::at(&net, area, &state, &inp);
            area_spectrum(&jacobian, dt, &spectrum, &mut |_, _| {})
        })
        .collect();
    let lists: Vec<(Vec<f64>, bool)> = spectra
        .iter()
        .map(|spectrum| (spectrum.modes.iter().map(|mode| mode.real_per_ms).collect(), false))
        .collect();
    assert!(found.converged);
    let mut compared = 0;
    for (list, ranks) in lists.iter().zip(ranks_in_union(&lists)) {
        for (value, rank) in list.0.iter().zip(ranks) {
            let Some(pair) = rank.and_then(|rank| found.pairs.get(rank)) else {
                continue;
            };
            assert!((pair.value.re - value).abs() < 1e-8, "{} {value}", pair.value);
            compared += 1;
        }
    }
    assert!(compared >= 6, "{lists:?}");
    let network = NetworkSpectrum::of(spectra.iter().map(Some).enumerate(), dt).expect("converged");
    let slowest = network.slowest.expect("modes").1;
    assert!((slowest.real_per_ms - found.pairs[0].value.re).abs() < 1e-8);
    let alone = NetworkSpectrum::of([(0, Some(&spectra[0])), (1, None)], dt);
    assert_eq!(alone, None, "nothing is said of areas that are missing");
}

#[test]
fn lyapunov_exponents_at_a_stable_steady_state_are_its_euler_factors() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let options = LyapunovOptions {
        count: 2,
        // Slow modes are close to each other.
        burn_in: 20_000,
        steps: 2000,
        ..LyapunovOptions::default()
    };
    let input = cords::net::Input::Constant(&inp);
    let found = exponents(&net, &state, input, None, &options, &mut |_, _| {});
    let dt = net.euler().dt_ms;
    // The slowest modes of area 1 are so close to each other that so many steps do not tell them apart.
    for (area, found) in found.iter().enumerate().take(1) {
        let jacobian = AreaJacobian::at(&net, area, &state, &inp);
        let spectrum = area_spectrum(&jacobian, dt, &SpectrumOptions::default(), &mut |_, _| {});
        let slowest = spectrum
            .modes
            .iter()
            .max_by(|a, b| a.euler_factor.total_cmp(&b.euler_factor));
        let slowest = slowest.expect("modes");
        assert!((slowest.euler_factor - spectrum.euler_radius).abs() < 1e-9);
        // A mode that turns stretches its plane evenly, but not a single direction.
        let exponent = match slowest.imaginary_per_ms == 0.0 {
            true => found[0].per_ms,
            false => 0.5 * (found[0].per_ms + found[1].per_ms),
        };
        let expected = spectrum.euler_radius.ln() / dt;
        assert!((exponent - expected).abs() < 1e-6, "area {area}: {found:?} {expected}");
    }
}

/// Exponents are counted in whole intervals, of which none begins before the burn-in ends.
#[test]
fn a_burn_in_that_ends_within_an_interval_goes_on_to_its_end() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let found = |burn_in: usize, steps: usize| {
        let options = LyapunovOptions {
            count: 2,
            burn_in,
            steps,
            interval: 10,
            ..LyapunovOptions::default()
        };
        let input = cords::net::Input::Constant(&inp);
        exponents(&net, &state, input, None, &options, &mut |_, _| {})
    };
    assert_eq!(found(13, 45), found(20, 50));
    assert_ne!(found(13, 45), found(10, 50));
}

#[test]
fn an_abscissa_that_was_not_found_is_not_given() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let jacobian = AreaJacobian::at(&net, 3, &state, &inp);
    let with = |tolerance: f64, max_restarts: usize| {
        let options = KrylovOptions {
            tolerance,
            max_restarts,
            ..KrylovOptions::default()
        };
        numerical_abscissa(&jacobian, &options)
    };
    let given_up = with(0.0, 0);
    assert!(!given_up.converged && !given_up.values.is_empty());
    assert_eq!(given_up.largest(), None);
    let found = with(1e-8, 300);
    assert_eq!(found.largest(), Some(found.values[0]));
}

#[test]
fn perturbations_grow_no_more_than_the_abscissa_allows_and_then_decay() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let jacobian = AreaJacobian::at(&net, 3, &state, &inp);
    let dt = net.euler().dt_ms;
    let steps = [0, 1, 2, 5, 200];
    let options = KrylovOptions {
        tolerance: 1e-8,
        ..KrylovOptions::default()
    };
    let found = growth(&jacobian, dt, jacobian.tau_ms(), &steps, &options, &mut |_, _| {});
    let factors: Vec<f64> = found.iter().map(|growth| growth.euler).collect();
    assert!((factors[0] - 1.0).abs() < 1e-10, "{factors:?}");
    // |M^2| <= |M|^2, and every mode decays in the end.
    assert!(
        factors[2] <= factors[1] * factors[1] * (1.0 + 1e-9) && factors[4] < 0.1,
        "{factors:?}"
    );
    let abscissa = numerical_abscissa(&jacobian, &options).values[0];
    // |I + dt A|^2 <= 1 + 2 dt abscissa + dt^2 |A|^2.
    let norm = singular_values(&jacobian, &options, &mut |_, _| {}).values[0];
    assert!(
        factors[1].powi(2) <= 1.0 + 2.0 * dt * abscissa + (dt * norm).powi(2) + 1e-9,
        "{factors:?} {abscissa}"
    );
}

/// Silent units have no rows in D W, but columns: their activity would drive others. And the whole network has
/// connections between areas. Held against dense matrices.
#[test]
fn singular_values_norms_and_departure_are_those_of_d_w() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let area = 1;
    let jacobian = AreaJacobian::at(&net, area, &state, &inp);
    let units = jacobian.dim();
    let silent = jacobian.derivative().iter().filter(|d| **d == 0.0).count();
    assert!(silent > units / 10 && silent < units, "{silent} of {units}");
    let coupling = Coupling::of(&jacobian, vec![jacobian.tau_ms(); units]);
    // D W from the convolution itself, column by column.
    let mut columns = Vec::new();
    for j in 0..units {
        let mut unit = vec![0.0; units];
        unit[j] = 1.0;
        let column = net.recurrent(area, &unit, 1);
        let column: Vec<f64> = column.iter().zip(jacobian.derivative()).map(|(w, d)| w * d).collect();
        columns.push(column);
    }
    let squares: f64 = columns.iter().flatten().map(|w| w * w).sum();
    assert!((squared_norm(&coupling) - squares).abs() < 1e-10 * squares);
    // Of D W D it would be less.
    let active = jacobian.coupling();
    assert!(squared_norm(&active) < 0.95 * squares);
    // The largest singular value by the power method on the dense matrix.
    let mut v = vec![1.0; units];
    let mut largest = 0.0;
    for _ in 0..3000 {
        let u: Vec<f64> = (0..units)
            .map(|i| (0..units).map(|j| columns[j][i] * v[j]).sum())
            .collect();
        let w: Vec<f64> = columns
            .iter()
            .map(|column| column.iter().zip(&u).map(|(a, b)| a * b).sum())
            .collect();
        largest = w.iter().map(|x: &f64| x * x).sum::<f64>().sqrt();
        v = w.iter().map(|x| x / largest).collect();
    }
    let options = KrylovOptions {
        count: 1,
        tolerance: 1e-10,
        ..KrylovOptions::default()
    };
    let found = singular_values(&coupling, &options, &mut |_, _| {}).values[0];
    assert!((found - largest.sqrt()).abs() < 1e-6, "{found} {}", largest.sqrt());
    // Eigenvalues of D W are those among active units, and zeros.
    let whole = squared_eigenvalues(&coupling).expect("small");
    let among_active = squared_eigenvalues(&active).expect("small");
    assert!((whole - among_active).abs() < 1e-8 * whole, "{whole} {among_active}");
}

#[test]
fn departure_of_a_nilpotent_operator_is_1_whatever_its_bounds_say() {
    struct Chain;
    impl LinearOperator for Chain {
        fn dim(&self) -> usize {
            50
        }
        fn apply(&self, x: &[f64], out: &mut [f64]) {
            out[0] = 0.0;
            out[1..].copy_from_slice(&x[..49]);
        }
        fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
            out[49] = 0.0;
            out[..49].copy_from_slice(&x[1..]);
        }
    }
    let non_normality = departure_from_normality(&Chain, 16, 0);
    let exact = non_normality.with_exact(squared_norm(&Chain), squared_eigenvalues(&Chain).expect("small"));
    assert!((exact.departure.expect("given") - 1.0).abs() < 1e-9, "{exact:?}");
    // A bound that is right and says little.
    assert!(
        exact.departure_at_least < 0.2 && exact.departure_at_most > 0.9,
        "{exact:?}"
    );
}

#[test]
fn the_whole_network_grows_more_than_its_areas() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let whole = NetworkJacobian::at(&net, &state, &inp);
    let options = KrylovOptions {
        tolerance: 1e-8,
        ..KrylovOptions::default()
    };
    let steps = [5, 20];
    let dt = net.euler().dt_ms;
    let of = |jacobian: &dyn LinearOperator| growth(jacobian, dt, TAU, &steps, &options, &mut |_, _| {});
    let of_network = of(&whole);
    let mut strictly = false;
    for area in 0..whole.areas() {
        for (area, network) in of(&AreaJacobian::at(&net, area, &state, &inp)).iter().zip(&of_network) {
            // An area's block of the power is the power of its block.
            assert!(network.euler >= area.euler - 1e-6 && network.continuous >= area.continuous - 1e-6);
            strictly |= network.continuous > 1.2 * area.continuous;
        }
    }
    assert!(strictly, "connections between areas count: {of_network:?}");
}

/// Ten Euler steps of a tenth are nearer to continuous time than one, and continuous time is what they come to.
#[test]
fn fluctuations_and_growth_of_small_steps_are_those_in_continuous_time() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let jacobian = AreaJacobian::at(&net, 3, &state, &inp);
    let n = jacobian.dim();
    let options = ResponseOptions {
        max_steps: 200_000,
        ..ResponseOptions::default()
    };
    let frequencies = [0.0, 20.0];
    let with = |dt: f64| {
        let noise: Vec<f64> = jacobian
            .derivative()
            .iter()
            .map(|d| (2.0 / TAU * dt).sqrt() * d)
            .collect();
        let system = NoisySteps::new(&jacobian, dt, noise);
        let euler = system.response(0..n, &vec![1.0 - dt / TAU; n], &frequencies, &options, &mut |_, _| {});
        let continuous = system.continuous_response(0..n, (&vec![TAU; n], TAU), &frequencies, &options, &mut |_, _| {});
        assert!(euler.converged && continuous.converged);
        (euler, continuous)
    };
    let (coarse, continuous) = with(5.0);
    let (fine, the_same) = with(0.05);
    assert!(
        (continuous.trace.value / the_same.trace.value - 1.0).abs() < 1e-9,
        "no step is in it"
    );
    // The same probes, so that steps alone differ.
    let ratio = |of: &Response| of.trace.value / continuous.trace.value;
    assert!(
        (ratio(&fine) - 1.0).abs() < 0.01 && ratio(&coarse) > 1.1,
        "{} {}",
        ratio(&fine),
        ratio(&coarse)
    );
    assert!((continuous.uncoupled / jacobian.derivative().iter().sum::<f64>() - 1.0).abs() < 1e-9);
    for (fine, continuous) in fine.spectrum.iter().zip(&continuous.spectrum) {
        assert!((fine.value / continuous.value - 1.0).abs() < 0.01);
    }
    let krylov = KrylovOptions {
        tolerance: 1e-9,
        ..KrylovOptions::default()
    };
    let steps = growth(&jacobian, 0.02, TAU, &[500], &krylov, &mut |_, _| {});
    assert!((steps[0].euler / steps[0].continuous - 1.0).abs() < 0.01, "{steps:?}");
}

/// How often two standard errors of a trace, from eight probes, hold it: of Student's t with seven degrees of freedom,
/// 91 %.
#[test]
fn standard_errors_of_traces_hold_them() {
    let net = network(0.8);
    let (state, inp) = image_state(&net);
    let jacobian = AreaJacobian::at(&net, 3, &state, &inp);
    let n = jacobian.dim();
    let noise: Vec<f64> = jacobian.derivative().iter().map(|d| 0.6 * d).collect();
    let system = NoisySteps::new(&jacobian, 2.0, noise);
    let with = |probes: usize, seed: u64| {
        let options = ResponseOptions {
            probes,
            seed,
            ..ResponseOptions::default()
        };
        system
            .response(0..n, &vec![0.8; n], &[], &options, &mut |_, _| {})
            .trace
    };
    let truth = with(4000, 999);
    let held = (0..100).filter(|seed| {
        let found = with(8, *seed);
        (found.value - truth.value).abs() <= 2.0 * found.error
    });
    let held = held.count();
    assert!((82..=99).contains(&held), "{held} of 100");
}

/// Everything at once, on a network that contracts: all starts agree, activity returns, and coupling that damps leaves
/// less noise.
#[test]
fn everything_about_a_contracting_network() {
    let net = network(0.8);
    let seed = 1;
    let options = FixedPointOptions {
        steady: SteadyOptions {
            tolerance: 1e-9,
            method: SteadyMethod::Anderson,
            ..SteadyOptions::default()
        },
        initial_conditions: Some(InitialConditionOptions {
            count: 4,
            spread: 0.5,
            tolerance: 1e-4,
            seed,
        }),
        return_steps: Some(300),
        non_normality: Some(NonNormalityOptions {
            singular_values: 2,
            growth_steps: vec![1, 10],
            probes: 4,
            seed,
        }),
        response: Some(NoiseOptions {
            response: ResponseOptions {
                probes: 4,
                ..ResponseOptions::default()
            },
            frequencies_hz: vec![0.0, 20.0],
            modes: 2,
        }),
        exponents: Some(ExponentOptions {
            lyapunov: LyapunovOptions {
                count: 2,
                steps: 200,
                ..LyapunovOptions::default()
            },
            noise: vec![0.0, 0.2],
        }),
        ..FixedPointOptions::default()
    };
    let mut last = (0, 0);
    let FixedPoints {
        spontaneous,
        images,
        states,
    } = fixed_points(&net, 2, &image, &options, false, &mut |done, total| {
        last = (done, total)
    })
    .expect("images");
    assert!(
        last.0 > 0 && last.0 == last.1,
        "all that was to be done was reported: {last:?}"
    );
    assert!(states.iter().all(Vec::is_empty), "they were not to be kept");
    assert!(spontaneous.areas.iter().all(|area| area.return_distance.is_none()));
    for point in images.iter().chain([&spontaneous]) {
        for (area, figures) in point.areas.iter().enumerate() {
            let initial_conditions = figures.initial_conditions.expect("asked for");
            assert_eq!(
                (
                    initial_conditions.tried,
                    initial_conditions.agreeing,
                    initial_conditions.distinct
                ),
                (4, 4, 1)
            );
            assert_eq!(initial_conditions.mono_stable(), Some(true));
            let non_normality = figures.non_normality.as_ref().expect("asked for");
            assert!(non_normality.singular_values.converged);
            let bound = recurrent_norm_bound(&net, area).expect("finite");
            assert!(
                bound >= non_normality.singular_values.values[0],
                "D W is no larger than W"
            );
            assert!(
                non_normality.growth[0].euler > 0.5 && non_normality.growth[1].continuous < 2.0,
                "{non_normality:?}"
            );
            let response = figures.response.as_ref().expect("asked for");
            assert!(response.converged && response.trace.value > 0.0 && response.uncoupled > 0.0);
            assert!(
                response.spectrum[0].value > response.spectrum[1].value,
                "slow fluctuations are larger"
            );
            // A bound of |W| below 1 makes every trajectory contract, with noise or without.
            let exponents = figures.exponents.as_ref().expect("asked for");
            assert_eq!(exponents.len(), 2);
            assert!(
                exponents.iter().all(|e| e.len() == 2 && e[0].per_ms < 0.0),
                "{exponents:?}"
            );
            assert_ne!(exponents[0], exponents[1]);
        }
        let traces = point
            .areas
            .iter()
            .map(|area| area.response.as_ref().expect("asked for"));
        let whole: f64 = traces
            .map(|response| response.trace.value + 5.0 * response.trace.error)
            .sum();
        let modes = &point.fluctuations;
        assert!(modes.len() == 2 && modes[0].variance >= modes[1].variance && modes[1].variance > 0.0);
        assert!(modes[0].variance + modes[1].variance < whole, "{modes:?} {whole}");
        for mode in modes {
            assert!(mode.residual < 1e-5 * mode.variance, "{mode:?}");
            assert!((mode.shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{mode:?}");
        }
    }
    for point in &images {
        assert!(
            point
                .areas
                .iter()
                .all(|area| area.return_distance.expect("an image") < 1e-3)
        );
    }
}
