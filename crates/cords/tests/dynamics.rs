//! Steady states and spectra against float64 reference values, and their laws on a whole network.

mod support;

use cords::dynamics::*;
use cords::net::{Architecture, CordsNet, Euler, Parameters, Phi};
use cords::rng::{Purpose, Stream};
use support::Fixture;

const TAU: f64 = 10.0;

/// A network of two areas whose area 0 has the fixture's convolution and bias; everything else is arbitrary.
fn fixture_net(fixture: &Fixture) -> CordsNet<f64> {
    let (channels, side) = (fixture.number("channels") as usize, fixture.number("size") as usize);
    let architecture = Architecture {
        in_channels: 1,
        image_side: 4 * side,
        channels: vec![channels; 3],
        strides: vec![1, 1],
        classes: 2,
    };
    let mut parameters = arbitrary(&architecture, 1.0);
    let weight = fixture.tensor("weight");
    let row = weight.len() / channels;
    let gains = weight
        .data
        .chunks(row)
        .map(|row| row.iter().map(|w| w * w).sum::<f64>().sqrt())
        .collect();
    let set = |parameters: &mut Parameters<f64>, name: &str, data: Vec<f64>| {
        parameters.get_mut(name).unwrap_or_else(|| panic!("no {name}")).data = data;
    };
    set(&mut parameters, "area_conv.0.parametrizations.weight.original0", gains);
    set(
        &mut parameters,
        "area_conv.0.parametrizations.weight.original1",
        weight.data,
    );
    set(&mut parameters, "conv_bias.0", fixture.tensor("bias").data);
    CordsNet::new(
        &architecture,
        &parameters,
        &Euler::new(TAU * fixture.number("alpha"), TAU),
        Phi::Relu,
    )
    .expect("a network")
}

/// Normal weights; the gain of every recurrent convolution's output channel is `recurrent`.
fn arbitrary(architecture: &Architecture, recurrent: f64) -> Parameters<f64> {
    let mut parameters = Parameters::new();
    for (i, (name, shape)) in architecture.cordsnet_shapes().into_iter().enumerate() {
        let mut tensor = cords::Tensor::zeros(&shape);
        let mut stream = Stream::new(1, Purpose::Initialisation, i as u64, 0, 0, 0);
        tensor.data.iter_mut().for_each(|v| *v = stream.normal());
        if name.ends_with("original0") {
            tensor
                .data
                .fill(if name.starts_with("area_conv") { recurrent } else { 1.0 });
        } else if name.starts_with("conv_bias") {
            tensor.data.iter_mut().for_each(|v| *v *= 0.3);
        }
        parameters.insert(name, tensor);
    }
    parameters
}

fn complex(fixture: &Fixture, name: &str) -> Vec<[f64; 2]> {
    let mut values: Vec<[f64; 2]> = fixture
        .tensor(name)
        .data
        .chunks(2)
        .map(|pair| [pair[0], pair[1]])
        .collect();
    // Real part descending; of a pair the positive imaginary part first.
    values.sort_by(|a, b| b[0].total_cmp(&a[0]).then(b[1].total_cmp(&a[1])));
    values
}

/// The four steady states of the fixture, solved here to far below the comparison's tolerance, and the products that each took.
fn settled_by(net: &CordsNet<f64>, fixture: &Fixture, method: SteadyMethod) -> Vec<(Vec<f64>, usize)> {
    let drive = fixture.tensor("drive");
    let options = SteadyOptions {
        tolerance: 1e-12,
        method,
        ..SteadyOptions::default()
    };
    let units = drive.len() / drive.shape[0];
    let solve = |drive: &[f64]| {
        let mut activity = vec![0.0; units];
        let (residual, products) = settle_area(net, 0, drive, &mut activity, &options);
        assert!(
            residual <= 1e-12 && products > 0,
            "residual {residual} after {products} products"
        );
        (activity, products)
    };
    drive.data.chunks(units).map(solve).collect()
}

fn settled(net: &CordsNet<f64>, fixture: &Fixture) -> Vec<Vec<f64>> {
    let settled = settled_by(net, fixture, SteadyMethod::Simulation);
    settled.into_iter().map(|(activity, _)| activity).collect()
}

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

/// The Jacobian of area 0 at a settled activity under drive `i`.
fn jacobian<'a>(net: &'a CordsNet<f64>, fixture: &Fixture, i: usize) -> AreaJacobian<'a> {
    let activity = &settled(net, fixture)[i];
    let drive = fixture.tensor("drive");
    let drive = &drive.data[i * activity.len()..][..activity.len()];
    let coupled = net.recurrent(0, activity, 1);
    let current = coupled.iter().zip(drive).zip(net.bias(0)).map(|((w, d), b)| w + d + b);
    AreaJacobian::with_derivative(net, 0, current.map(|u| f64::from(u > 0.0)).collect())
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
        let spectrum = area_spectrum(&jacobian, dt, &SpectrumOptions::default(), &mut |_, _| {});
        assert!(spectrum.converged && spectrum.modes.len() >= SpectrumOptions::default().modes);
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
    let options = KrylovOptions {
        which: Which::FarthestFrom(0.0),
        ..KrylovOptions::default()
    };
    let largest = leading_eigenvalues(&jacobian.coupling(), &options, &mut |_, _| {});
    assert!(largest.converged);
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

// ------------------------------------------------------------------------------------------------------- whole networks

fn small() -> Architecture {
    Architecture {
        in_channels: 3,
        image_side: 32,
        channels: vec![8, 8, 8, 12, 12],
        strides: vec![1, 1, 2, 1],
        classes: 5,
    }
}

fn network(recurrent: f64) -> CordsNet<f64> {
    CordsNet::new(
        &small(),
        &arbitrary(&small(), recurrent),
        &Euler::published(),
        Phi::Relu,
    )
    .expect("a network")
}

fn image(i: usize, out: &mut [f32]) {
    Stream::new(9, Purpose::Probe, i as u64, 0, 0, 0).normal_fill(out);
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
    image(0, &mut pixels);
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
            let found = fixed_points(&net, 5, &image, &options, &mut |done, total| last = (done, total));
            assert_eq!(last, (6, 6));
            found
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let (spontaneous, images) = one;
    assert_eq!(images.len(), 5);
    for point in images.iter().chain([&spontaneous]) {
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
    let (state, point) = fixed_point(&net, None, &options);
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
    let (_, point) = fixed_point(&net, None, &options);
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

// --------------------------------------------------------------------------------------- singular values, growth, exponents

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
    let sizes = non_normality(&convolution, 200, 1);
    let squares: f64 = expected.iter().map(|value| value * value).sum();
    let Estimate { value, error } = sizes.squared_norm;
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
    assert!(
        sizes.least_departure > 0.0 && sizes.least_departure < departure,
        "{sizes:?} {departure}"
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
        let found = system.response(0..n, 1.0 - dt / TAU, &[], &options, &mut |_, _| {});
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

/// A convolution that moves everything by one pixel: out of the map, in the end. Its norm is 1, its only eigenvalue 0; in a circle
/// it would be as large as 1.
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
    image(0, &mut pixels);
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
    // One Euler step, a little beside the steady state where units are active: dt J x, but for roundings, since phi is linear there.
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
    let mut modes: Vec<f64> = (0..whole.areas())
        .flat_map(|area| {
            let jacobian = AreaJacobian::at(&net, area, &state, &inp);
            area_spectrum(&jacobian, dt, &spectrum, &mut |_, _| {}).modes
        })
        .map(|mode| mode.real_per_ms)
        .collect();
    modes.sort_by(|a, b| b.total_cmp(a));
    assert!(found.converged);
    for (pair, expected) in found.pairs.iter().zip(&modes) {
        assert!((pair.value.re - expected).abs() < 1e-8, "{} {expected}", pair.value);
    }
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
    let found = exponents(&net, &state, input, &options, &mut |_, _| {});
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
    let found = amplification(&jacobian, dt, &steps, &options, &mut |_, _| {});
    let factors: Vec<f64> = found.iter().map(|leading| leading.values[0]).collect();
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

/// Everything at once, on a network that contracts: all starts agree, activity returns, and coupling that damps leaves less noise.
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
        starts: Some(StartOptions {
            count: 4,
            spread: 0.5,
            tolerance: 1e-4,
            seed,
        }),
        return_steps: Some(300),
        sizes: Some(SizeOptions {
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
        }),
        exponents: Some(LyapunovOptions {
            count: 2,
            steps: 200,
            ..LyapunovOptions::default()
        }),
        ..FixedPointOptions::default()
    };
    let (spontaneous, images) = fixed_points(&net, 2, &image, &options, &mut |_, _| {});
    assert!(spontaneous.areas.iter().all(|area| area.return_distance.is_none()));
    for point in images.iter().chain([&spontaneous]) {
        for (area, figures) in point.areas.iter().enumerate() {
            let starts = figures.starts.expect("asked for");
            assert_eq!((starts.tried, starts.agreeing, starts.distinct), (4, 4, 1));
            assert_eq!(starts.mono_stable(), Some(true));
            let sizes = figures.sizes.as_ref().expect("asked for");
            assert!(sizes.singular_values.converged);
            let bound = recurrent_norm_bound(&net, area).expect("finite");
            assert!(bound >= sizes.singular_values.values[0], "D W is no larger than W");
            assert!(sizes.growth[0].1 > 0.5 && sizes.growth[1].1 < 2.0, "{sizes:?}");
            let response = figures.response.as_ref().expect("asked for");
            assert!(response.converged && response.trace.value > 0.0 && response.uncoupled > 0.0);
            assert!(
                response.spectrum[0].value > response.spectrum[1].value,
                "slow fluctuations are larger"
            );
            let exponents = figures.exponents.as_ref().expect("asked for");
            assert!(exponents.len() == 2 && exponents[0].per_ms < 0.0);
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
