//! Small networks of odd sizes, forward and backward through time.

use super::{Finding, error};
use crate::Real;
use crate::device::{Cpu, Device, Phi, Target};
use crate::learn::{
    Batch, CordsNetGradient, Gradient, HistoryPrecision, Initialisation, Memory, Objective, TrainError, cnn_gradient,
    logspace,
};
use crate::net::{Architecture, Euler, Graph, Parameters, Preset};
use crate::rng::{Purpose, Stream};

/// With so many channels before and after the change.
fn architecture([first, last]: [usize; 2]) -> Architecture {
    Architecture {
        in_channels: 3,
        image_side: 33,
        channels: vec![first, first, first, last, last],
        strides: vec![1, 1, 2, 1],
        classes: 4,
    }
}

fn objective() -> Objective {
    Objective {
        spontaneous_steps: 4,
        stimulus_steps: 7,
        after_steps: 5,
        ramp: logspace(-1.0, 0.0, 3),
        return_weight: 0.5,
        return_window: 2,
    }
}

const STEPS: [usize; 3] = [0, 7, 12];

fn trial<T: Real, D: Device<T>>(
    device: &D,
    (architecture, parameters): (&Graph, &Parameters<f32>),
    (phi, memory, history): (Phi, Memory, HistoryPrecision),
    (images, targets): (&[f32], &[Target]),
    steps: &[usize],
) -> Result<Gradient<T>, TrainError> {
    let (euler, parameters) = (Euler::new(2.0, 10.0), parameters.cast());
    let gradient = CordsNetGradient::new(device, architecture, &parameters, &euler, phi, &objective())?;
    let images: Vec<T> = images.iter().map(|value| T::from_f64(f64::from(*value))).collect();
    let batch = Batch {
        images: &images,
        targets,
    };
    gradient.keeping(memory, history).run(batch, steps)
}

/// Losses, activity and gradients of a CordsNet and of the CNN twin, held against float64, and what must not show in
/// any bit.
///
/// `bounds` are what results may be off by, forward and backward.
///
/// # Errors
/// [`TrainError::Device`] where the device fails.
pub fn networks<D: Device<f32>>(device: &D, bounds: [f64; 2]) -> Result<Vec<Finding>, TrainError> {
    let odd = architecture([7, 20]).graph()?;
    let count = 11;
    let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
    let images: Vec<f32> = (0..count * odd.image_len()).map(|_| stream.normal() as f32).collect();
    let labels: Vec<u32> = (0..count as u32).map(|image| image % 4).collect();
    let targets = Target::of_mixed(&labels, 0.8);
    let (images, targets) = (&images[..], &targets[..]);
    let [forward, backward] = bounds;
    let mut findings = Vec::new();
    let mut note = |name: String, error: f64, bound: f64| findings.push(Finding { name, error, bound });
    let initialisation = Initialisation::default();
    let even = architecture([8, 24]).graph()?;
    let feedback = architecture([6, 12]).preset(Preset::Feedback)?;
    for (phi, architecture) in [
        (Phi::Relu, &odd),
        (Phi::LeakyRelu(0.4), &odd),
        (Phi::Identity, &odd),
        (Phi::Relu, &even),
        (Phi::Relu, &feedback),
        (Phi::LeakyRelu(0.4), &feedback),
    ] {
        let parameters = initialisation.cordsnet(architecture, 3);
        let network = (architecture, &parameters);
        let exact = (phi, Memory::Unlimited, HistoryPrecision::Float32);
        let found = trial::<f32, D>(device, network, exact, (images, targets), &STEPS)?;
        let expected = trial::<f64, Cpu>(&Cpu, network, exact, (images, targets), &STEPS)?;
        let channels = architecture.input_channels();
        let name = |what: &str| format!("CordsNet, {phi:?}, {channels} channels: {what}");
        note(name("loss"), error(&[found.loss.loss], &[expected.loss.loss]), forward);
        let losses = error(&found.loss.cross_entropy, &expected.loss.cross_entropy);
        note(name("cross-entropy"), losses, forward);
        note(name("logits"), error(&wide(&found.logits), &expected.logits), forward);
        for ((step, found), expected) in STEPS.iter().zip(&found.activity).zip(&expected.activity) {
            for (area, (found, expected)) in found.iter().zip(expected).enumerate() {
                let name = name(&format!("activity of area {area} after {step} steps"));
                note(name, error(&wide(found), expected), forward);
            }
        }
        gradients(&name, &found.gradients, &expected.gradients, backward, &mut note);

        let whole = trial::<f32, D>(device, network, exact, (images, targets), &[])?;
        let again = trial::<f32, D>(device, network, exact, (images, targets), &[])?;
        note(name("the same bits again"), differs(&whole, &again), 0.0);
        for history in [HistoryPrecision::Float32, HistoryPrecision::Bfloat16] {
            let [all, some] = [Memory::Unlimited, Memory::Every(3)].map(|memory| (phi, memory, history));
            let all = trial::<f32, D>(device, network, all, (images, targets), &[])?;
            let some = trial::<f32, D>(device, network, some, (images, targets), &[])?;
            let name = name(&format!("the same bits from checkpoints, history {history:?}"));
            note(name, differs(&all, &some), 0.0);
            if history == HistoryPrecision::Bfloat16 {
                let forward = (all.loss != whole.loss) || (all.logits != whole.logits);
                let name = "packed history changes no bit of the forward pass";
                note(
                    format!("CordsNet, {phi:?}, {channels} channels: {name}"),
                    f64::from(u8::from(forward)),
                    0.0,
                );
            }
        }
    }
    let parameters = initialisation.cnn(&odd, 3);
    let found = cnn_gradient(device, &odd, &parameters, Batch { images, targets })?;
    let exact: Vec<f64> = wide(images);
    let batch = Batch {
        images: &exact,
        targets,
    };
    let expected = cnn_gradient::<f64, Cpu>(&Cpu, &odd, &parameters.cast(), batch)?;
    let name = |what: &str| format!("CNN: {what}");
    note(name("loss"), error(&[found.loss.loss], &[expected.loss.loss]), forward);
    note(name("logits"), error(&wide(&found.logits), &expected.logits), forward);
    gradients(&name, &found.gradients, &expected.gradients, backward, &mut note);
    Ok(findings)
}

pub(super) fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

pub(super) fn gradients(
    name: &dyn Fn(&str) -> String,
    found: &Parameters<f32>,
    expected: &Parameters<f64>,
    bound: f64,
    note: &mut dyn FnMut(String, f64, f64),
) {
    // A convolution's gain and direction are judged together: before a batch norm the gain has no effect, and its
    // gradient is nothing but roundings.
    let mut modules: Vec<(&str, [Vec<f64>; 2])> = Vec::new();
    for (parameter, expected) in expected.iter() {
        let module = parameter.split(".parametrizations").next().unwrap_or(parameter);
        if modules.last().is_none_or(|(last, _)| *last != module) {
            modules.push((module, Default::default()));
        }
        let Some((_, [values, wanted])) = modules.last_mut() else {
            continue;
        };
        // What cannot be found differs in number from what is expected.
        values.extend(found.get(parameter).map(|found| wide(&found.data)).unwrap_or_default());
        wanted.extend(&expected.data);
    }
    for (module, [values, wanted]) in modules {
        note(name(&format!("gradient of {module}")), error(&values, &wanted), bound);
    }
}

/// 1 where a bit differs.
fn differs(a: &Gradient<f32>, b: &Gradient<f32>) -> f64 {
    let same = a.loss == b.loss && a.logits == b.logits && a.gradients == b.gradients;
    f64::from(u8::from(!same))
}

#[cfg(test)]
mod tests {
    use super::super::memory::noise;
    use super::*;
    use crate::device::plain::Plain;
    use crate::learn::{Data, DirectConfig, Fit, OptimiserKind, OptimiserSettings, Training};

    fn values<T: Real>(parameters: &Parameters<T>) -> Vec<f64> {
        let tensors = parameters.iter();
        tensors
            .flat_map(|(_, tensor)| tensor.data.iter().map(|value| value.to_f64()))
            .collect()
    }

    /// Steps, their adjoint, and a twin's gradient on a device that has only the primitive operations.
    #[test]
    fn networks_run_on_primitive_operations_alone() {
        // Two groups.
        let count = 9;
        for (phi, graph) in [
            (Phi::Relu, architecture([3, 4]).graph()),
            (Phi::LeakyRelu(0.4), architecture([3, 4]).preset(Preset::Feedback)),
        ] {
            let graph = graph.expect("valid");
            let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
            let images: Vec<f32> = (0..count * graph.image_len()).map(|_| stream.normal() as f32).collect();
            let labels: Vec<u32> = (0..count as u32).map(|image| image % 4).collect();
            let targets = Target::of_mixed(&labels, 0.8);
            let shown = (&images[..], &targets[..]);
            let parameters = Initialisation::default().cordsnet(&graph, 3);
            let network = (&graph, &parameters);
            for (memory, steps) in [(Memory::Unlimited, &STEPS[..]), (Memory::Every(3), &[][..])] {
                let how = (phi, memory, HistoryPrecision::Float32);
                let found = trial::<f64, Plain>(&Plain, network, how, shown, steps).expect("no failure");
                let expected = trial::<f64, Cpu>(&Cpu, network, how, shown, steps).expect("no failure");
                assert!(error(&[found.loss.loss], &[expected.loss.loss]) < 1e-10, "{how:?}");
                assert!(error(&found.logits, &expected.logits) < 1e-10, "{how:?}");
                let (states, wanted) = (found.activity.concat().concat(), expected.activity.concat().concat());
                assert!(error(&states, &wanted) < 1e-10, "{how:?}");
                let [gradients, wanted] = [found, expected].map(|gradient| values(&gradient.gradients));
                assert!(error(&gradients, &wanted) < 1e-10, "{how:?}");
            }
            // Kept as they are: the same as without packing.
            let [exact, packed] = [HistoryPrecision::Float32, HistoryPrecision::Bfloat16].map(|history| {
                let how = (phi, Memory::Unlimited, history);
                trial::<f64, Plain>(&Plain, network, how, shown, &[]).expect("no failure")
            });
            assert!(exact.gradients == packed.gradients, "{phi:?}");
        }
        let graph = architecture([3, 4]).graph().expect("valid");
        let parameters = Initialisation::default().cnn(&graph, 3).cast::<f64>();
        let mut stream = Stream::new(2, Purpose::Probe, 0, 0, 0, 0);
        let images: Vec<f64> = (0..count * graph.image_len()).map(|_| stream.normal()).collect();
        let labels: Vec<u32> = (0..count as u32).map(|image| image % 4).collect();
        let targets = Target::of_mixed(&labels, 0.8);
        let batch = || Batch {
            images: &images,
            targets: &targets,
        };
        let found = cnn_gradient(&Plain, &graph, &parameters, batch()).expect("no failure");
        let expected = cnn_gradient(&Cpu, &graph, &parameters, batch()).expect("no failure");
        assert!(error(&found.logits, &expected.logits) < 1e-10);
        assert!(error(&values(&found.gradients), &values(&expected.gradients)) < 1e-10);
    }

    /// One batch of a training on such a device.
    #[test]
    fn a_batch_is_learnt_on_primitive_operations_alone() {
        let graph = architecture([3, 4]).graph().expect("valid");
        let (train, validation) = (noise(8, [3, 33], 4), noise(4, [3, 33], 4));
        let data = Data {
            train: &train,
            validation: &validation,
        };
        let config = DirectConfig {
            spontaneous_ms: 20.0,
            stimulus_ms: 40.0,
            after_ms: 20.0,
            readout_window_ms: 20.0,
            fit: Fit {
                epochs: 1,
                batch: 8,
                optimiser: OptimiserSettings {
                    momentum: 0.9,
                    ..OptimiserSettings::new(OptimiserKind::Sgd, 0.0)
                },
                learning_rate: 0.1,
                warm_up: None,
                ..Fit::default()
            },
            ..DirectConfig::default()
        };
        let training = || Training::new(&graph, &config, &data);
        let start = config.fit.initialisation.cordsnet(&graph, config.fit.seed);
        let learnt = |parameters: Parameters<f32>| -> Vec<f64> {
            let pairs = parameters.iter().flat_map(|(name, after)| {
                let before = &start.get(name).expect("the same parameters").data;
                after.data.iter().zip(before)
            });
            pairs.map(|(after, before)| f64::from(after - before)).collect()
        };
        let found = learnt(training().run(&Plain).expect("trained").parameters);
        let expected = learnt(training().run(&Cpu).expect("trained").parameters);
        assert!(expected.iter().any(|change| change.abs() > 1e-4), "nothing was learnt");
        assert!(error(&found, &expected) < 1e-3, "{}", error(&found, &expected));
    }
}
