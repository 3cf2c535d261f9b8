//! Accuracy under noise on pixels and in the units' currents, with recurrence and without. From the file that `train`
//! has written:
//!
//! ```text
//! cargo run --release -p cords --example noise -- digits.safetensors
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use std::path::Path;

use cords::data::{ImageSource, PrepareConfig, SourceName, Split, prepare_in_memory};
use cords::device::Cpu;
use cords::net::Model;
use cords::noise::{Condition, EvaluationOptions, NoisePresentation, Observer, Perturbation, Pixels, evaluate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: noise FILE")?;
    let model = Model::load(Path::new(&path))?;
    let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
    let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
    // Noise on pixels is drawn anew at every step; levels are standard deviations of pixels in [0, 1] at a step of 2
    // ms, and less at longer ones. Noise in the currents of all units has levels in units of activity.
    let pixels = Perturbation::Pixels {
        noise: Pixels::Gaussian,
        timing: NoisePresentation::Dynamic,
        clip: false,
    };
    let mut conditions = Vec::new();
    for perturbation in [pixels, Perturbation::Neural] {
        conditions.extend([0.0, 0.5, 1.0, 2.0].map(|level| Condition { perturbation, level }));
    }
    let options = EvaluationOptions {
        observers: vec![Observer::Cordsnet, Observer::CordsnetWithoutRecurrence],
        conditions,
        presentation: model
            .info()
            .presentation
            .ok_or("the model does not say how long it saw images")?,
        ..EvaluationOptions::default()
    };
    // The same draws for both observers: every image has its own noise, whatever else is evaluated.
    let results = evaluate(&Cpu, &model, &set, set.split(Split::Test), &options, &mut |_, _| {})?;
    for result in results {
        let (accuracy, [low, high]) = result
            .accuracy
            .zip(result.accuracy_interval)
            .ok_or("all images diverged")?;
        let Condition { perturbation, level } = result.condition;
        let noise = if perturbation == Perturbation::Neural {
            "units"
        } else {
            "pixels"
        };
        let observer = result.observer;
        println!("{observer:?}, {noise} {level}: accuracy {accuracy:.3}, 95 % in {low:.3} to {high:.3}");
    }
    Ok(())
}
