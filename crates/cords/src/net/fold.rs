//! Phase 1b: the CNN twin with every batch norm folded into weights and biases per unit.
//!
//! With scale s = weight/sqrt(variance + epsilon) and shift t = bias - s mean of a batch norm, the row lengths g before
//! it become s g. The shifts after inp_conv and skip_area go on through the convolutions that follow, whose zero
//! padding makes them differ near the borders: hence a bias per unit.

use super::cnn::{NORM_EPSILON, norm_names};
use super::filters::{ConvName, conv_names};
use super::folded::area_bias_name;
use super::parameters::{READOUT_BIAS, bias_name};
use super::{Architecture, NetError, Parameters};
use crate::device::{Aligned, Cpu, Device, Maps};
use crate::{Real, Tensor};

/// Parameters of the folded CNN ([`Architecture::folded_cnn_shapes`]), whose logits are those of the CNN in evaluation
/// mode. Computed in float64; rows of v leave with length 1.
///
/// # Errors
/// A [`NetError`] where `parameters` are not a CNN's with batch norms.
pub fn fold<T: Real>(architecture: &Architecture, parameters: &Parameters<T>) -> Result<Parameters<T>, NetError> {
    architecture.validate()?;
    let parameters: Parameters<f64> = parameters.arranged(&architecture.cnn_shapes())?.cast();
    let values = |name: &str| &parameters.get(name).expect("parameters are arranged").data;
    let areas = architecture.areas();
    let mut folded = Parameters::new();
    let mut shifts = Vec::new();
    for name in conv_names(architecture) {
        let rows = name.shape(architecture).outputs;
        let (scale, shift) = match norm_names(name) {
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
        let [(g_name, g_shape), (v_name, v_shape)] = name.parameter_shapes(architecture);
        let lengths = values(&g_name).iter().zip(&scale).map(|(g, scale)| g * scale);
        let patch = name.shape(architecture).patch();
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
    let shift = |name: ConvName| &shifts[name.index(areas)];
    let maps = |name: ConvName| name.shape(architecture).out_maps(1);

    // What the shift of inp_conv's norm is after the average pool, which counts the padding's zeros.
    let convolved = upload(
        maps(ConvName::InpConv),
        &constant(maps(ConvName::InpConv), shift(ConvName::InpConv)),
    );
    let inp_maps = ConvName::InpSkip.shape(architecture).in_maps(1);
    let mut pooled = Cpu.zeros_maps(inp_maps);
    Cpu.avg_pool(maps(ConvName::InpConv), &convolved, &mut pooled);
    let inp = download(inp_maps, &pooled);
    for area in 0..areas {
        let forward = ConvName::Feedforward(area);
        let source = match area {
            0 => Some(inp.clone()),
            1 => Some(convolve(architecture, &folded, ConvName::InpSkip, &inp)),
            _ if area.is_multiple_of(2) => None,
            _ => {
                let shortcut = ConvName::Shortcut(area);
                Some(constant(maps(shortcut), shift(shortcut)))
            }
        };
        let mut area_bias = constant(maps(forward), shift(forward));
        if let Some(source) = source {
            let through = convolve(architecture, &folded, forward, &source);
            area_bias.iter_mut().zip(through).for_each(|(bias, more)| *bias += more);
        }
        let recurrent = ConvName::Recurrent(area);
        let unit_shape = [maps(recurrent).channels, maps(recurrent).side, maps(recurrent).side];
        let per_unit = |data| Tensor {
            shape: unit_shape.to_vec(),
            data,
        };
        folded.insert(area_bias_name(area), per_unit(area_bias));
        folded.insert(bias_name(area), per_unit(constant(maps(recurrent), shift(recurrent))));
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
fn convolve(architecture: &Architecture, parameters: &Parameters<f64>, name: ConvName, x: &[f64]) -> Vec<f64> {
    let shape = name.shape(architecture);
    let [g, v] = name
        .parameter_names()
        .map(|name| Cpu.upload(&parameters.get(&name).expect("every convolution was folded").data));
    let filter = Cpu.filter(shape, &Cpu.weight_norm(shape.outputs, &g, &v));
    let mut y = Cpu.zeros_maps(shape.out_maps(1));
    let x = upload(shape.in_maps(1), x);
    Cpu.conv(&mut Default::default(), &filter, 1, &x, &mut y, false);
    download(shape.out_maps(1), &y)
}
