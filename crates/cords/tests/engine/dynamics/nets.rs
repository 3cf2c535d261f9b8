//! Networks to test with, and what the reference file holds of them.

use cords::data::DataError;
use cords::device::Phi;
use cords::dynamics::*;
use cords::net::{Architecture, CordsNet, Euler, Graph, Parameters};
use cords::rng::{Purpose, Stream};

use crate::support::Fixture;

pub(crate) const TAU: f64 = 10.0;

/// A network of two areas whose area 0 has the fixture's convolution and bias; everything else is arbitrary.
pub(crate) fn fixture_net(fixture: &Fixture) -> CordsNet<f64> {
    let (channels, side) = (fixture.number("channels") as usize, fixture.number("size") as usize);
    let architecture = Architecture {
        in_channels: 1,
        image_side: 4 * side,
        channels: vec![channels; 3],
        strides: vec![1, 1],
        classes: 2,
    }
    .graph()
    .expect("valid");
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
pub(crate) fn arbitrary(architecture: &Graph, recurrent: f64) -> Parameters<f64> {
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

pub(crate) fn complex(fixture: &Fixture, name: &str) -> Vec<[f64; 2]> {
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

/// The four steady states of the fixture, solved here to far below the comparison's tolerance, and the products that
/// each took.
pub(crate) fn settled_by(net: &CordsNet<f64>, fixture: &Fixture, method: SteadyMethod) -> Vec<(Vec<f64>, usize)> {
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

pub(crate) fn settled(net: &CordsNet<f64>, fixture: &Fixture) -> Vec<Vec<f64>> {
    let settled = settled_by(net, fixture, SteadyMethod::Simulation);
    settled.into_iter().map(|(activity, _)| activity).collect()
}

/// The Jacobian of area 0 at a settled activity under drive `i`.
pub(crate) fn jacobian<'a>(net: &'a CordsNet<f64>, fixture: &Fixture, i: usize) -> AreaJacobian<'a> {
    let activity = &settled(net, fixture)[i];
    let drive = fixture.tensor("drive");
    let drive = &drive.data[i * activity.len()..][..activity.len()];
    let coupled = net.recurrent(0, activity, 1);
    let current = coupled.iter().zip(drive).zip(net.bias(0)).map(|((w, d), b)| w + d + b);
    AreaJacobian::with_derivative(net, 0, current.map(|u| f64::from(u > 0.0)).collect())
}

pub(crate) fn small() -> Graph {
    Architecture {
        in_channels: 3,
        image_side: 32,
        channels: vec![8, 8, 8, 12, 12],
        strides: vec![1, 1, 2, 1],
        classes: 5,
    }
    .graph()
    .expect("valid")
}

pub(crate) fn network(recurrent: f64) -> CordsNet<f64> {
    CordsNet::new(
        &small(),
        &arbitrary(&small(), recurrent),
        &Euler::published(),
        Phi::Relu,
    )
    .expect("a network")
}

pub(crate) fn image(i: usize, out: &mut [f32]) -> Result<(), DataError> {
    Stream::new(9, Purpose::Probe, i as u64, 0, 0, 0).normal_fill(out);
    Ok(())
}
