//! Where a network settles for an image, and whether it comes back to there. From the file that `train` has written:
//!
//! ```text
//! cargo run --release -p cords --example fixed_points -- digits.safetensors
//! ```

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use std::path::Path;

use cords::data::{ImageSource, Images, PrepareConfig, SourceName, Split, SplitImages, prepare_in_memory};
use cords::dynamics::{FixedPointOptions, SpectrumOptions, SteadyMethod, SteadyOptions, fixed_points};
use cords::net::Model;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: fixed_points FILE")?;
    // In float64: residuals and eigenvalues leave float32 little room.
    let net = Model::load(Path::new(&path))?.cordsnet()?.cast::<f64>();
    let digits = PrepareConfig::new(ImageSource::new(SourceName::Digits, ""), 1, 8);
    let (set, _) = prepare_in_memory(&digits, &mut |_, _| {})?;
    let images = SplitImages::new(&set, Split::Test, None, 0)?;
    // What is not asked for is not computed. All of it walks the graph: areas that drive each other are one system.
    let options = FixedPointOptions {
        steady: SteadyOptions {
            tolerance: 1e-9,
            method: SteadyMethod::NewtonKrylov,
            ..SteadyOptions::default()
        },
        spectrum: Some(SpectrumOptions {
            modes: 4,
            ..SpectrumOptions::default()
        }),
        ..FixedPointOptions::default()
    };
    let image = |i: usize, out: &mut [f32]| images.fill(i, 0, out);
    let found = fixed_points(&net, 5, &image, &options, false, &mut |_, _| {})?;
    for (i, point) in found.images.iter().enumerate() {
        println!("image of a {}, answer {:?}", images.label(i), point.answer);
        for (number, area) in point.areas.iter().enumerate() {
            let (norm, residual) = (area.steady.norm, area.steady.residual);
            println!("  area {number}: |r| = {norm:.3}, residual {residual:.1e}");
            let Some(spectrum) = &area.spectrum else {
                println!("    has not settled");
                continue;
            };
            println!("    {:?} of {} units", spectrum.stability(), spectrum.units);
            for mode in &spectrum.modes {
                let (rate, frequency) = (1000.0 * mode.real_per_ms, mode.frequency_hz);
                println!("    decays at {rate:.1}/s, turns at {frequency:.1} Hz");
            }
        }
    }
    Ok(())
}
