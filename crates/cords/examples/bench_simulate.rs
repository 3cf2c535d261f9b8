//! Times the calls that Python's bindings make, without Python, for `benches/python/compare.py`: simulation and gradient
//! with respect to images of a network of random weights, which it leaves in a file.
//!
//! ```text
//! bench_simulate FILE AREAS SIDE BATCH STEPS REPEATS
//! ```
//!
//! Prints `{"simulate": seconds, "gradient": seconds}`, the least of the repeats each.

#![expect(clippy::print_stdout, reason = "an example tells what it finds")]

use std::path::Path;
use std::time::Instant;

use cords::device::Phi;
use cords::learn::{Initialisation, Memory, image_gradient};
use cords::net::{Architecture, Euler, Input, Model, ModelInfo};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, numbers @ ..] = arguments.as_slice() else {
        return Err("usage: bench_simulate FILE AREAS SIDE BATCH STEPS REPEATS".into());
    };
    let numbers: Vec<usize> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let [areas, image_side, batch, steps, repeats] = numbers[..] else {
        return Err("five numbers are needed: AREAS SIDE BATCH STEPS REPEATS".into());
    };
    let architecture = Architecture {
        in_channels: 3,
        image_side,
        channels: Architecture::published_channels(areas, 64),
        strides: Architecture::published_strides(areas),
        classes: 10,
    }
    .graph()?;
    let model = Model::CordsNet {
        parameters: Initialisation::default().cordsnet(&architecture, 0),
        architecture,
        euler: Euler::published(),
        phi: Phi::Relu,
        info: ModelInfo::default(),
    };
    model.save(Path::new(path))?;
    let net = model.cordsnet()?;
    let images: Vec<f32> = (0..batch * 3 * image_side * image_side)
        .map(|i| (i as f32 * 0.37).sin())
        .collect();
    let (mut simulate, mut gradient) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..repeats {
        let start = Instant::now();
        let mut state = net.spontaneous(steps).repeated(batch);
        let inp = net.embed(&images, batch);
        net.run(&mut state, Input::Constant(&inp), steps, &mut |_, _| {});
        std::hint::black_box((net.logits(&state), state));
        simulate = simulate.min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let at = |_: usize, step: usize, _: usize, out: &mut [f32]| {
            out.fill(1.0);
            step == steps
        };
        let last = [areas - 1];
        std::hint::black_box(image_gradient(
            &net,
            &images,
            (steps, steps),
            Memory::Unlimited,
            &last,
            &at,
        )?);
        gradient = gradient.min(start.elapsed().as_secs_f64());
    }
    println!(r#"{{"simulate": {simulate}, "gradient": {gradient}}}"#);
    Ok(())
}
