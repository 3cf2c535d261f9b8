//! Phase 1b: the CNN twin with every batch norm folded into weights and biases per unit.
//!
//! With scale s = weight/sqrt(variance + epsilon) and shift t = bias - s mean of a batch norm, the row lengths g before
//! it become s g. The shifts after inp_conv and skip_area go on through the convolutions that follow, whose zero
//! padding makes them differ near the borders: hence a bias per unit.

use super::cnn::NORM_EPSILON;
use super::folded::area_bias_name;
use super::graph::{Conv, INPUT, TwinArea, Way};
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Graph, NetError, Parameters};
use crate::device::{Aligned, Cpu, Device, Maps};
use crate::{Real, Tensor};

/// Parameters of the folded CNN ([`Graph::folded_cnn_shapes`]), whose logits are those of the CNN in evaluation
/// mode. Computed in float64; rows of v leave with length 1.
///
/// # Errors
/// A [`NetError`] where `parameters` are not a CNN's with batch norms.
pub fn fold<T: Real>(architecture: &Graph, parameters: &Parameters<T>) -> Result<Parameters<T>, NetError> {
    let twin = architecture.twin()?;
    let parameters: Parameters<f64> = parameters.arranged(&architecture.cnn_shapes())?.cast();
    let values = |name: &str| &parameters.get(name).expect("parameters are arranged").data;
    let mut folded = Parameters::new();
    let mut shifts = Vec::new();
    for conv in architecture.convs() {
        let rows = conv.shape.outputs;
        let (scale, shift) = match conv.norm_names() {
            None => (vec![1.0; rows], vec![0.0; rows]),
            Some([weight, bias, mean, variance]) => {
                let rows = values(&weight).iter().zip(values(&variance));
                let scale: Vec<f64> = rows.map(|(w, variance)| w / (variance + NORM_EPSILON).sqrt()).collect();
                let rows = values(&bias).iter().zip(values(&mean)).zip(&scale);
                let shift = rows.map(|((bias, mean), scale)| bias - scale * mean).collect();
                (scale, shift)
            }
        };
        shifts.push(shift);
        let [(g_name, g_shape), (v_name, v_shape)] = conv.parameter_shapes();
        let lengths = values(&g_name).iter().zip(&scale).map(|(g, scale)| g * scale);
        let patch = conv.shape.patch();
        let directions = values(&v_name).chunks_exact(patch).flat_map(|row| {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(move |v| v / length)
        });
        let lengths = Tensor {
            shape: g_shape,
            data: lengths.collect(),
        };
        let directions = Tensor {
            shape: v_shape,
            data: directions.collect(),
        };
        folded.insert(g_name, lengths);
        folded.insert(v_name, directions);
    }
    let convs = architecture.convs();
    // The shift after a convolution, over the whole map.
    let shifted = |conv: usize| constant(convs[conv].shape.out_maps(1), &shifts[conv]);

    // What the shift of inp_conv's norm is after the average pool, which counts the padding's zeros.
    let maps = convs[INPUT].shape.out_maps(1);
    let convolved = upload(maps, &shifted(INPUT));
    let mut pooled = Cpu.zeros_maps(architecture.inp_maps(1));
    Cpu.avg_pool(maps, &convolved, &mut pooled);
    let inp = download(architecture.inp_maps(1), &pooled);
    for TwinArea { area, inlet, recurrent } in twin {
        let image = inlet.image.iter().map(|way| match way {
            Way::Direct => inp.clone(),
            Way::Conv(conv) => convolve(&convs[*conv], &folded, &inp),
            Way::Upsampled(interpolation) => {
                let mut large = Cpu.zeros_maps(inlet.reads);
                let enlargement = (inlet.reads.side, *interpolation);
                Cpu.upsample(architecture.inp_maps(1), enlargement, &pooled, &mut large, false);
                download(inlet.reads, &large)
            }
        });
        let shortcuts = inlet.areas.iter().filter_map(|(_, way)| match way {
            Way::Conv(conv) => Some(shifted(*conv)),
            Way::Direct | Way::Upsampled(_) => None,
        });
        let mut area_bias = shifted(inlet.conv);
        for source in image.chain(shortcuts) {
            let through = convolve(&convs[inlet.conv], &folded, &source);
            area_bias.iter_mut().zip(through).for_each(|(bias, more)| *bias += more);
        }
        let maps = architecture.maps(area, 1);
        let per_unit = |data| Tensor {
            shape: vec![maps.channels, maps.side, maps.side],
            data,
        };
        folded.insert(area_bias_name(area), per_unit(area_bias));
        folded.insert(bias_name(area), per_unit(shifted(recurrent)));
    }
    if let Some(bias) = parameters.get(READOUT_BIAS) {
        folded.insert(READOUT_BIAS, bias.clone());
    }
    Ok(folded.arranged(&architecture.folded_cnn_shapes())?.cast())
}

/// One value a channel, over its whole map.
fn constant(maps: Maps, channels: &[f64]) -> Vec<f64> {
    channels
        .iter()
        .flat_map(|value| std::iter::repeat_n(*value, maps.plane()))
        .collect()
}

fn upload(maps: Maps, values: &[f64]) -> Aligned<f64> {
    let mut buffer = Cpu.zeros_maps(maps);
    Cpu.upload_maps(maps, values, &mut buffer);
    buffer
}

fn download(maps: Maps, buffer: &Aligned<f64>) -> Vec<f64> {
    let mut values = vec![0.0; maps.len()];
    Cpu.download_maps(maps, buffer, &mut values);
    values
}

/// One convolution of host maps of one image.
fn convolve(conv: &Conv, parameters: &Parameters<f64>, x: &[f64]) -> Vec<f64> {
    let shape = conv.shape;
    let [g, v] = conv
        .parameter_names()
        .map(|name| Cpu.upload(&parameters.get(&name).expect("every convolution was folded").data));
    let filter = Cpu.filter(shape, &Cpu.weight_norm(shape.outputs, &g, &v));
    let mut y = Cpu.zeros_maps(shape.out_maps(1));
    let x = upload(shape.in_maps(1), x);
    Cpu.conv(&mut Default::default(), &filter, 1, &x, &mut y, false);
    download(shape.out_maps(1), &y)
}
