//! Dynamics, objective and every gradient against float64 reference tensors computed with PyTorch.
//!
//! Error measure, per tensor: largest difference over largest entry. In float64 only the order of sums differs (1e-9
//! leaves a factor of 1e6 over rounding after 60 steps). In float32 a rounding error is 6e-8; what leaks away with 1 -
//! alpha keeps it from growing over the steps, so activity, loss and logits hold 1e-5. Gradients are sums of some 1e4
//! such products and hold 1e-4, away from ReLU's kink.

use crate::support::{Fixture, assert_close};
use cords::Real;
use cords::device::{Aligned, Cpu, Device, Phi, Target};
use cords::learn::{Batch, CordsNetGradient, Objective, cnn_gradient, logspace};
use cords::net::{Cnn, CordsNet, Euler, Input, Parameters};
use std::ops::Range;

/// Tolerances of what the forward pass gives and of gradients.
#[derive(Clone, Copy)]
struct Tolerance {
    forward: f64,
    gradient: f64,
}

const DOUBLE: Tolerance = Tolerance {
    forward: 1e-9,
    gradient: 1e-9,
};
const SINGLE: Tolerance = Tolerance {
    forward: 1e-5,
    gradient: 1e-4,
};

fn euler(fixture: &Fixture) -> Euler {
    Euler::new(10.0 * fixture.number("alpha"), 10.0)
}

fn phi(fixture: &Fixture) -> Phi {
    match fixture.number("negative_slope") {
        0.0 => Phi::Relu,
        slope => Phi::LeakyRelu(slope),
    }
}

fn objective(fixture: &Fixture) -> Objective {
    let steps = fixture.number("steps") as usize;
    Objective {
        spontaneous_steps: steps,
        stimulus_steps: steps,
        after_steps: steps,
        ramp: logspace(-3.0, 0.0, fixture.number("window") as usize),
        return_weight: fixture.number("spont_weight"),
        return_window: fixture.number("spont_window") as usize,
    }
}

/// Names in `expected`, each compared; none may be left out of `found`.
fn compare<T: Real>(what: &str, found: &Parameters<T>, expected: &Parameters<f64>, tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "number of {what}");
    for (name, expected) in expected.iter() {
        let found = found.get(name).unwrap_or_else(|| panic!("no {what} of {name}"));
        assert_eq!(found.shape, expected.shape, "{what} of {name}");
        assert_close(&format!("{what} of {name}"), &found.data, &expected.data, tolerance);
    }
}

fn check_trial<T: Real>(name: &str, phi: impl Fn(&Fixture) -> Phi, tolerance: Tolerance) {
    let fixture = Fixture::open(name);
    let objective = objective(&fixture);
    let images = fixture.tensor("images").cast::<T>();
    let steps = objective.stimulus_steps;
    let gradient = CordsNetGradient::new(
        &Cpu,
        &fixture.architecture(),
        &fixture.parameters::<T>("param."),
        &euler(&fixture),
        phi(&fixture),
        &objective,
    )
    .and_then(|mut gradient| {
        let batch = Batch {
            images: &images.data,
            targets: &Target::of(&fixture.labels()),
        };
        gradient.run(batch, &[0, 1, steps, 2 * steps])
    })
    .expect("the fixture is a network");
    let loss = &gradient.loss;
    let forward = tolerance.forward;
    assert_close("loss", &[loss.loss], &fixture.tensor("loss").data, forward);
    assert_close(
        "cross-entropies",
        &loss.cross_entropy,
        &fixture.tensor("ce").data,
        forward,
    );
    // A mean of (r - spontaneous)^2, in which the activities cancel: an error d of an activity changes it by up to
    // 2 sqrt(term) d + d^2.
    let term = fixture.tensor("spont").data[0];
    let d = forward
        * (0..gradient.activity[3].len())
            .map(|area| largest(&fixture, area))
            .fold(0.0, f64::max);
    let difference = (loss.return_term - term).abs();
    assert!(
        difference <= 2.0 * term.sqrt() * d + d * d,
        "return term {} against {term}",
        loss.return_term
    );
    assert_close("logits", &gradient.logits, &fixture.tensor("logits_last").data, forward);
    for (at, when) in ["spontaneous", "stimulus_first", "stimulus_last", "after_last"]
        .into_iter()
        .enumerate()
    {
        for (area, found) in gradient.activity[at].iter().enumerate() {
            let mut expected = fixture.tensor(&format!("{when}.{area}")).data;
            if at == 0 {
                expected = expected.repeat(fixture.labels().len());
            }
            assert_close(&format!("{when}, area {area}"), found, &expected, forward);
        }
    }
    compare(
        "gradient",
        &gradient.gradients,
        &fixture.parameters("grad."),
        tolerance.gradient,
    );
}

/// Largest activity of an area at the end of the trial.
fn largest(fixture: &Fixture, area: usize) -> f64 {
    let activity = fixture.tensor(&format!("after_last.{area}")).data;
    activity.iter().fold(0.0, |largest, r| largest.max(r.abs()))
}

#[test]
fn fixture_graphs_in_double() {
    for name in ["feedback", "feedback_nearest", "graph", "adapting", "time_constants"] {
        check_trial::<f64>(&format!("{name}.safetensors"), phi, DOUBLE);
    }
}

#[test]
fn fixture_graphs_in_single() {
    for name in ["feedback", "feedback_nearest", "graph", "adapting", "time_constants"] {
        check_trial::<f32>(&format!("{name}.safetensors"), phi, SINGLE);
    }
}

#[test]
fn fixture_rollout_in_double() {
    check_trial::<f64>("rollout.safetensors", phi, DOUBLE);
}

#[test]
fn fixture_rollout_in_single() {
    check_trial::<f32>("rollout.safetensors", phi, SINGLE);
}

/// A leaky slope of 0 is ReLU, by the path that does not assume non-negative activity.
#[test]
fn fixture_rollout_by_leaky_slope() {
    check_trial::<f64>(
        "rollout.safetensors",
        |fixture| Phi::LeakyRelu(fixture.number("negative_slope")),
        DOUBLE,
    );
}

#[test]
fn fixture_annealed_in_double() {
    check_trial::<f64>("annealed.safetensors", phi, DOUBLE);
}

#[test]
fn fixture_annealed_in_single() {
    check_trial::<f32>("annealed.safetensors", phi, SINGLE);
}

fn check_linear<T: Real>(
    Tolerance {
        forward,
        gradient: in_gradient,
    }: Tolerance,
) {
    let fixture = Fixture::open("linear.safetensors");
    let steps = fixture.number("steps") as usize;
    let objective = Objective {
        spontaneous_steps: 0,
        stimulus_steps: steps,
        after_steps: 0,
        ramp: logspace(-3.0, 0.0, fixture.number("window") as usize),
        return_weight: 0.0,
        return_window: 0,
    };
    let images = fixture.tensor("images").cast::<T>();
    let gradient = CordsNetGradient::new(
        &Cpu,
        &fixture.architecture(),
        &fixture.parameters::<T>("param."),
        &euler(&fixture),
        Phi::Identity,
        &objective,
    )
    .and_then(|mut gradient| {
        let batch = Batch {
            images: &images.data,
            targets: &Target::of(&fixture.labels()),
        };
        gradient.run(batch, &[steps])
    })
    .expect("the fixture is a network");
    assert_close("loss", &[gradient.loss.loss], &fixture.tensor("loss").data, forward);
    assert_close(
        "cross-entropies",
        &gradient.loss.cross_entropy,
        &fixture.tensor("ce").data,
        forward,
    );
    for (area, found) in gradient.activity[0].iter().enumerate() {
        let expected = fixture.tensor(&format!("stimulus_last.{area}")).data;
        assert_close(&format!("area {area}"), found, &expected, forward);
    }
    compare(
        "gradient",
        &gradient.gradients,
        &fixture.parameters("grad."),
        in_gradient,
    );
}

#[test]
fn fixture_linear_in_double() {
    check_linear::<f64>(DOUBLE);
}

#[test]
fn fixture_linear_in_single() {
    check_linear::<f32>(SINGLE);
}

/// As `compare`, but for a row length g ahead of a batch norm. Batch norm undoes any scaling of a row, so dL/dg =
/// <v/|v|, dL/dw> is zero but for epsilon: a sum that cancels. What rounding leaves is relative to |dL/dw| = |dL/dv|
/// |v| / g.
fn compare_before_norm<T: Real>(found: &Parameters<T>, fixture: &Fixture, tolerance: f64) {
    let expected = fixture.parameters::<f64>("grad.");
    let values = fixture.parameters::<f64>("param.");
    assert_eq!(found.len(), expected.len(), "number of gradients");
    for (name, expected_tensor) in expected.iter() {
        let found = found.get(name).unwrap_or_else(|| panic!("no gradient of {name}"));
        let what = format!("gradient of {name}");
        let Some(module) = name
            .strip_suffix("original0")
            .filter(|_| !name.starts_with("out_fc") && !name.starts_with("inp_skip"))
        else {
            assert_close(&what, &found.data, &expected_tensor.data, tolerance);
            continue;
        };
        let of = |set: &Parameters<f64>, part: &str| set.get(&format!("{module}{part}")).expect("g and v").data.clone();
        let (g, v, dv) = (
            of(&values, "original0"),
            of(&values, "original1"),
            of(&expected, "original1"),
        );
        let patch = v.len() / g.len();
        let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (row, (found, expected)) in found.data.iter().zip(&expected_tensor.data).enumerate() {
            let range = row * patch..(row + 1) * patch;
            let scale = norm(&dv[range.clone()]) * norm(&v[range]) / g[row].abs();
            let error = (found.to_f64() - expected).abs();
            assert!(
                error <= tolerance * scale,
                "{what}, row {row}: error {error:e}, scale {scale:e}"
            );
        }
    }
}

fn check_cnn<T: Real>(Tolerance { forward, gradient }: Tolerance) {
    let fixture = Fixture::open("cnn.safetensors");
    let architecture = fixture.architecture();
    let images = fixture.tensor("images").cast::<T>();
    let labels = fixture.labels();
    let parameters = fixture.parameters::<T>("param.");
    let pass = cnn_gradient(
        &Cpu,
        &architecture,
        &parameters,
        Batch {
            images: &images.data,
            targets: &Target::of(&labels),
        },
    )
    .expect("the fixture is a network");
    assert_close("loss", &[pass.loss.loss], &fixture.tensor("loss").data, forward);
    assert_close("logits", &pass.logits, &fixture.tensor("logits_train").data, forward);
    compare_before_norm(&pass.gradients, &fixture, gradient);
    for (name, expected) in fixture.parameters::<f64>("running.").iter() {
        let found = pass.parameters.get(name).expect("running statistics");
        assert_close(name, &found.data, &expected.data, forward);
    }
    let cnn = Cnn::new(&architecture, &pass.parameters).expect("still a network");
    let (logits, activity) = cnn.evaluate(&images.data, labels.len());
    assert_close(
        "logits in evaluation",
        &logits,
        &fixture.tensor("logits_eval_after").data,
        forward,
    );
    for (area, found) in activity.iter().enumerate() {
        let expected = fixture.tensor(&format!("activity_eval_after.{area}")).data;
        assert_close(&format!("area {area} in evaluation"), found, &expected, forward);
    }
}

#[test]
fn fixture_cnn_in_double() {
    check_cnn::<f64>(DOUBLE);
}

#[test]
fn fixture_cnn_in_single() {
    check_cnn::<f32>(SINGLE);
}

/// The public simulation against the same reference: spontaneous state, embedding, run, logits, and the operators that
/// `drive`, `recurrent` and `bias` expose, which must add up to one step. A varying input that does not vary is the
/// constant one.
#[test]
fn fixture_simulation() {
    let fixture = Fixture::open("rollout.safetensors");
    let euler = euler(&fixture);
    let net = CordsNet::new(
        &fixture.architecture(),
        &fixture.parameters::<f64>("param."),
        &euler,
        phi(&fixture),
    )
    .expect("the fixture is a network");
    let steps = fixture.number("steps") as usize;
    let batch = fixture.labels().len();
    let images = fixture.tensor("images").data;
    let inp = net.embed(&images, batch);
    let spontaneous = net.spontaneous(steps);
    for (area, found) in spontaneous.areas.iter().enumerate() {
        assert_close(
            "spontaneous",
            found,
            &fixture.tensor(&format!("spontaneous.{area}")).data,
            DOUBLE.forward,
        );
    }
    let start = spontaneous.repeated(batch);
    let mut state = start.clone();
    let mut seen = 0;
    net.run(&mut state, Input::Constant(&inp), steps, &mut |step, view| {
        seen += 1;
        if step == 0 {
            for (area, found) in view.state().areas.iter().enumerate() {
                assert_close(
                    "first",
                    found,
                    &fixture.tensor(&format!("stimulus_first.{area}")).data,
                    DOUBLE.forward,
                );
            }
        }
    });
    assert_eq!(seen, steps);
    assert_close(
        "logits",
        &net.logits(&state),
        &fixture.tensor("logits_last").data,
        DOUBLE.forward,
    );

    let mut varying = start.clone();
    let mut write = |_: usize, shown: Range<usize>, out: &mut Aligned<f64>| {
        let len = images.len() / batch;
        Cpu.upload_maps(
            net.image_maps(shown.len()),
            &images[shown.start * len..shown.end * len],
            out,
        );
    };
    net.run(&mut varying, Input::Varying(&mut write), steps, &mut |_, _| {});
    for area in 0..state.areas.len() {
        assert_close("varying", &varying.areas[area], &state.areas[area], DOUBLE.forward);
    }
    net.run(&mut state, Input::Blank, steps, &mut |_, _| {});
    for (area, found) in state.areas.iter().enumerate() {
        assert_close(
            "after",
            found,
            &fixture.tensor(&format!("after_last.{area}")).data,
            DOUBLE.forward,
        );
    }

    for area in 0..state.areas.len() {
        let recurrent = net.recurrent(area, &varying.areas[area], batch);
        let drive = net.drive(area, &varying, &inp);
        let bias = net.bias(area).repeat(batch);
        let alpha = euler.alpha(area);
        let expected: Vec<f64> = (0..drive.len())
            .map(|i| (1.0 - alpha) * varying.areas[area][i] + alpha * (recurrent[i] + drive[i] + bias[i]).max(0.0))
            .collect();
        let mut next = varying.clone();
        net.step(&mut next, &inp);
        assert_close("one step", &next.areas[area], &expected, DOUBLE.forward);
    }
}

/// <y, A x> = <A^T y, x> for every linear operator that the network exposes.
#[test]
fn fixture_transposes_are_adjoint() {
    let fixture = Fixture::open("rollout.safetensors");
    let net = CordsNet::new(
        &fixture.architecture(),
        &fixture.parameters::<f64>("param."),
        &euler(&fixture),
        phi(&fixture),
    )
    .expect("the fixture is a network");
    let batch = 3;
    let values = |n: usize, seed: u64| -> Vec<f64> {
        let mut stream = cords::rng::Stream::new(seed, cords::rng::Purpose::Probe, 0, 0, 0, 0);
        (0..n).map(|_| stream.normal()).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let check = |what: &str, inputs: usize, forward: &dyn Fn(&[f64]) -> Vec<f64>, back: &dyn Fn(&[f64]) -> Vec<f64>| {
        let x = values(inputs * batch, 1);
        let ax = forward(&x);
        let y = values(ax.len(), 2);
        let (left, right) = (dot(&y, &ax), dot(&back(&y), &x));
        assert!(
            (left - right).abs() <= 1e-12 * dot(&y, &y).sqrt() * dot(&ax, &ax).sqrt(),
            "{what}: {left} {right}"
        );
    };
    for area in 0..net.architecture().areas() {
        let units = net.area_shape(area).iter().product();
        check("recurrent", units, &|x| net.recurrent(area, x, batch), &|y| {
            net.recurrent_transpose(area, y, batch)
        });
        // Areas one after the other, each with the whole batch.
        let from = |area: usize| {
            let before: usize = (0..area).map(|area| net.architecture().area_units(area)).sum();
            before * batch..(before + net.architecture().area_units(area)) * batch
        };
        let forward = |x: &[f64]| {
            net.projected(area, &|source| x[from(source)].to_vec(), batch)
                .unwrap_or_default()
        };
        check("projected", net.architecture().units(), &forward, &|y| {
            let mut dx = vec![0.0; net.architecture().units() * batch];
            net.projected_transpose(area, y, batch, &mut |source, part| {
                dx[from(source)].iter_mut().zip(part).for_each(|(dx, part)| *dx += part);
            });
            dx
        });
    }
}

/// The gradient with respect to the images of what reads two areas after two different steps, against central
/// differences, in a network with feedback, upsampling, a shortcut and adaptation, for more images than one group has.
/// phi is the identity, but for the rectification of sources: as good as no kink lies within the difference.
#[test]
fn gradient_with_respect_to_images() {
    use cords::interrupt::{Interrupted, Stop, interruptible};
    use cords::learn::{Initialisation, Memory, image_gradient};
    let graph: cords::net::Graph = serde_json::from_str(
        r#"{
            "in_channels": 2, "image_side": 16, "classes": 3, "input_channels": 3, "readout": ["v2"],
            "areas": [
                {"name": "v1", "channels": 3, "side": 4, "cell": {"adapting": {"tau_a_ms": 30, "beta": 0.3}}},
                {"name": "v2", "channels": 4, "side": 2, "tau_ms": 20}
            ],
            "projections": [
                {"name": "v1.in", "to": "v1", "from": ["image"]},
                {"name": "v1.recurrent", "to": "v1", "from": ["v1"]},
                {"name": "v2.in", "to": "v2", "stride": 2,
                 "from": ["v1", {"from": "image", "shortcut": {"name": "short", "kernel": 1}}]},
                {"name": "v2.recurrent", "to": "v2", "from": ["v2"]},
                {"name": "v1.feedback", "to": "v1", "from": [{"from": "v2", "upsample": "bilinear"}]}
            ]
        }"#,
    )
    .expect("a network");
    let parameters: Parameters<f64> = Initialisation::default().cordsnet(&graph, 5).cast();
    let net = CordsNet::new(&graph, &parameters, &Euler::new(2.0, 10.0), Phi::LeakyRelu(1.0)).expect("a network");
    let (batch, blank, steps) = (11, 4, 6);
    let len = 2 * 16 * 16;
    let image = |i: usize| (0..len).map(move |k| ((i * len + k) as f64 * 0.7).sin());
    let images: Vec<f64> = (0..batch).flat_map(image).collect();
    // Area 0 after step 3, area 1 after the last step.
    let weight = |image: usize, area: usize, unit: usize| ((image + 3 * area + unit) as f64 * 1.3).cos();
    let read = [(3, 0), (steps, 1)];
    let loss = |images: &[f64]| {
        let mut state = net.spontaneous(blank).repeated(batch);
        let mut sum = 0.0;
        let inp = net.embed(images, batch);
        net.run(&mut state, Input::Constant(&inp), steps, &mut |step, view| {
            for (_, area) in read.iter().filter(|(at, _)| *at == step + 1) {
                let activity = &view.state().areas[*area];
                let units = activity.len() / batch;
                let each = activity.iter().enumerate();
                sum += each.map(|(i, r)| r * weight(i / units, *area, i % units)).sum::<f64>();
            }
        });
        sum
    };
    let at = |image: usize, step: usize, area: usize, out: &mut [f64]| {
        let is_read = read.contains(&(step, area));
        if is_read {
            let units = out.iter_mut().enumerate();
            units.for_each(|(unit, out)| *out = weight(image, area, unit));
        }
        is_read
    };
    let of = |memory| image_gradient(&net, &images, (blank, steps), memory, &[0, 1], &at).expect("a gradient");
    let gradient = of(Memory::Unlimited);
    assert_eq!(gradient, of(Memory::Every(2)));
    for image in [0, batch - 1] {
        let direction: Vec<f64> = (0..images.len())
            .map(|k| if k / len == image { (k as f64 * 0.31).cos() } else { 0.0 })
            .collect();
        let moved = |by: f64| -> Vec<f64> { images.iter().zip(&direction).map(|(x, d)| x + by * d).collect() };
        let difference = (loss(&moved(1e-5)) - loss(&moved(-1e-5))) / 2e-5;
        let along: f64 = gradient.iter().zip(&direction).map(|(g, d)| g * d).sum();
        assert!(along.abs() > 1e-3, "{along}");
        assert!(
            (along - difference).abs() < 1e-6 * along.abs(),
            "{along} for {difference}"
        );
    }
    let refused = |images: &[f64], steps, areas: &[usize]| {
        let error = image_gradient(&net, images, (blank, steps), Memory::Unlimited, areas, &at);
        error.expect_err("refused").to_string()
    };
    assert!(refused(&images[1..], steps, &[0]).contains("images"));
    assert!(refused(&images, 0, &[0]).contains("one step"));
    assert!(refused(&images, steps, &[2]).contains("area 2"));
    // It ends where it is asked to, on whichever thread.
    let stop = Stop::default();
    let asks = |_: usize, _: usize, _: usize, _: &mut [f64]| {
        stop.ask();
        false
    };
    let ended = interruptible(&stop, || {
        image_gradient(&net, &images, (blank, steps), Memory::Unlimited, &[0], &asks).is_ok()
    });
    assert_eq!(ended, Err(Interrupted));
}
