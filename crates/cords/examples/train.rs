//! Trains a small CordsNet on handwritten digits and writes it into a file, which `noise` and `fixed_points` read:
//!
//! ```text
//! cargo run --release -p cords --example train -- digits.safetensors
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use std::path::Path;

use cords::data::{ImageSource, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
use cords::device::Cpu;
use cords::learn::{Data, DirectConfig, Training, evaluate};
use cords::net::{Architecture, Euler, ModelInfo};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: train FILE")?;
    // Grey images of 8 x 8 pixels, divided into training, validation and test images by the seed.
    let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
    let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
    let images = |split| SplitImages::new(&set, split, None, 0);
    let data = Data {
        train: &images(Split::Train)?,
        validation: &images(Split::Validation)?,
    };
    // Two areas by the published rule: channels of the input layer and of each area, stride into each area.
    let network = Architecture {
        in_channels: 1,
        image_side: 8,
        channels: vec![16, 16, 16],
        strides: vec![1, 1],
        classes: 10,
    };
    let graph = network.graph()?;
    // Nothing is shown, then the image, then nothing again. The answer counts over the last 25 ms of the image.
    let mut config = DirectConfig {
        spontaneous_ms: 50.0,
        stimulus_ms: 50.0,
        after_ms: 50.0,
        readout_window_ms: 25.0,
        ..DirectConfig::default()
    };
    (config.fit.epochs, config.fit.learning_rate) = (4, 1e-2);
    // Who wants to watch, or to stop it, gives it an `observer`.
    let training = Training::new(&graph, &config, &data).euler(&Euler::new(5.0, 10.0));
    let trained = training.run(&Cpu)?;
    for record in &trained.epochs {
        let accuracy = record.validation_accuracy;
        println!("epoch {}: validation accuracy {accuracy:.3}", record.epoch);
    }
    let model = trained.into_model(ModelInfo {
        presentation: Some(config.presentation()),
        ..ModelInfo::default()
    });
    let tested = evaluate(&Cpu, &model, &images(Split::Test)?, None)?;
    println!("test accuracy {:.3}", tested.answers.accuracy);
    model.save(Path::new(&path))?;
    Ok(())
}
