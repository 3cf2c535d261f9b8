//! The engine's side of `benches/dynamics/compare.py`: steady states and the slowest modes of a network of published
//! sizes with random weights, in float64. One line of JSON for each result; FOLDER receives one area's linearisation.
//!
//! `bench_dynamics FOLDER AREAS SIDE AREA`

#![allow(missing_docs, reason = "an example has no users")]
#![expect(clippy::print_stdout, reason = "results are lines on the standard output")]

use std::path::Path;
use std::time::Instant;

use cords::device::Phi;
use cords::dynamics::{
    AreaJacobian, SpectrumOptions, SteadyMethod, SteadyOptions, SteadyState, area_spectrum, recurrent_norm_bound,
    spontaneous_steady_state, steady_state,
};
use cords::learn::Initialisation;
use cords::net::{CordsNet, Euler, Graph};
use cords::rng::{Purpose, Stream};
use safetensors::tensor::{Dtype, TensorView};

/// Modes of every area.
const MODES: usize = 10;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, areas, side, chosen] = arguments.as_slice() else {
        return Err("usage: bench_dynamics FOLDER AREAS SIDE AREA".into());
    };
    let (areas, side, chosen): (usize, usize, usize) = (areas.parse()?, side.parse()?, chosen.parse()?);
    let architecture = Graph::published(areas, 3, side, 1000)?;
    let mut parameters = Initialisation::default().cordsnet(&architecture, 1);
    for area in 0..areas {
        // Without biases the spontaneous state is 0.
        if let Some(bias) = parameters.get_mut(&format!("conv_bias.{area}")) {
            Stream::new(1, Purpose::Initialisation, 1000 + area as u64, 0, 0, 0).normal_fill(&mut bias.data);
        }
    }
    let net = CordsNet::<f32>::new(&architecture, &parameters, &Euler::published(), Phi::Relu)?.cast::<f64>();
    let options = |method| SteadyOptions {
        tolerance: 1e-9,
        method,
        ..SteadyOptions::default()
    };
    let mut pixels = vec![0.0f32; net.architecture().image_len()];
    Stream::new(1, Purpose::Probe, 0, 0, 0, 0).normal_fill(&mut pixels);
    let pixels: Vec<f64> = pixels.into_iter().map(f64::from).collect();
    let inp = net.embed(&pixels, 1);
    let mut last = None;
    for method in [
        SteadyMethod::Simulation,
        SteadyMethod::Anderson,
        SteadyMethod::NewtonKrylov,
    ] {
        let start = Instant::now();
        let spontaneous = spontaneous_steady_state(&net, &options(method), &mut |_, _| {});
        report("spontaneous", method, &spontaneous, start);
        let start = Instant::now();
        let steady = steady_state(&net, &inp, &spontaneous, &options(method), &mut |_, _| {});
        report("image", method, &steady, start);
        last = Some(steady);
    }
    let Some(steady) = last else { return Ok(()) };
    for area in 0..areas {
        let jacobian = AreaJacobian::at(&net, area, &steady.state, &inp);
        let start = Instant::now();
        let spectrum = SpectrumOptions {
            modes: MODES,
            tolerance: 1e-6,
            ..SpectrumOptions::default()
        };
        let spectrum = area_spectrum(&jacobian, net.euler().dt_ms, &spectrum, &mut |_, _| {});
        let seconds = start.elapsed().as_secs_f64();
        // Residuals in units of 1/tau, as of tau J = -I + D W.
        let residuals = spectrum
            .modes
            .iter()
            .map(|mode| mode.residual_per_ms * jacobian.tau_ms());
        println!(
            "{}",
            serde_json::json!({
                "what": "modes", "area": area, "units": spectrum.units, "coupled": spectrum.coupled_units,
                "converged": spectrum.converged, "products": spectrum.products, "seconds": seconds,
                "worst_residual": residuals.fold(0.0, f64::max),
                "values": spectrum.modes.iter().map(|mode| [
                    mode.real_per_ms * jacobian.tau_ms(), mode.imaginary_per_ms * jacobian.tau_ms(),
                ]).collect::<Vec<_>>(),
                "norm_bound": (area == chosen).then(|| recurrent_norm_bound(&net, area)),
            })
        );
        if area == chosen {
            save(&net, area, &jacobian, Path::new(folder))?;
        }
    }
    Ok(())
}

fn report(what: &str, method: SteadyMethod, steady: &SteadyState, start: Instant) {
    let size = steady.areas.iter().map(|area| area.norm).fold(0.0, f64::max);
    println!(
        "{}",
        serde_json::json!({
            "what": what, "method": format!("{method:?}"), "seconds": start.elapsed().as_secs_f64(),
            "converged": steady.converged(),
            "products": steady.areas.iter().map(|area| area.products).collect::<Vec<_>>(),
            "worst_residual": steady.areas.iter().map(|area| area.residual).fold(0.0, f64::max),
            "largest_norm": size,
        })
    );
}

/// The area's weight `[channels, channels, 3, 3]` and phi'(u) `[channels, side, side]`.
fn save(net: &CordsNet<f64>, area: usize, jacobian: &AreaJacobian<'_>, folder: &Path) -> std::io::Result<()> {
    let [channels, side, _] = net.area_shape(area);
    let tensor = |part: &str| {
        net.parameters()
            .get(&format!("area_conv.{area}.parametrizations.weight.{part}"))
    };
    let (Some(gains), Some(directions)) = (tensor("original0"), tensor("original1")) else {
        return Ok(());
    };
    let bytes = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let (g, v, d) = (
        bytes(&gains.data),
        bytes(&directions.data),
        bytes(jacobian.derivative()),
    );
    let view = |shape: Vec<usize>, data| TensorView::new(Dtype::F64, shape, data).map_err(std::io::Error::other);
    let views = [
        ("g", view(vec![channels, 1, 1, 1], &g)?),
        ("v", view(vec![channels, channels, 3, 3], &v)?),
        ("derivative", view(vec![channels, side, side], &d)?),
    ];
    let file = safetensors::serialize(views, None).map_err(std::io::Error::other)?;
    std::fs::write(folder.join("area.safetensors"), file)
}
