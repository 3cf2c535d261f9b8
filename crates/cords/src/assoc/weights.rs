//! Weights of association areas: initial values, what the dynamics sees of them, lesions, files.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{AssocError, Layout};
use crate::Real;
use crate::dynamics::{KrylovOptions, LinearOperator, Which, leading_eigenvalues};
use crate::rng::{Purpose, Stream};

/// Metadata key, and the version that a change of the layout raises. Version 1 held the trained values alone, under the
/// names that now are those of what acts.
const KEY: &str = "cords.assoc";
const VERSION: u32 = 2;

/// Trained values. What acts is [`effective`](Self::effective): these under masks and signs.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights<T> {
    /// Between units, `[units, units]`, row: from.
    pub recurrent: Vec<T>,
    /// From features, cues and the constant, `[features + cues + 1, units]`; the last row is the bias.
    pub input: Vec<T>,
    /// To the outputs, `[units, outputs]`.
    pub output: Vec<T>,
    /// Bias of the outputs, `[outputs]`.
    pub output_bias: Vec<T>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    version: u32,
    layout: Layout,
}

impl<T: Real> Weights<T> {
    /// The four blocks in their order.
    pub fn blocks(&self) -> [&Vec<T>; 4] {
        [&self.recurrent, &self.input, &self.output, &self.output_bias]
    }

    /// The four blocks in their order, to change.
    pub fn blocks_mut(&mut self) -> [&mut Vec<T>; 4] {
        [
            &mut self.recurrent,
            &mut self.input,
            &mut self.output,
            &mut self.output_bias,
        ]
    }

    /// Zeros of the layout's sizes.
    pub fn zeros(layout: &Layout) -> Self {
        let zeros = |n| vec![T::ZERO; n];
        let units = layout.units();
        Self {
            recurrent: zeros(units * units),
            input: zeros(layout.inputs() * units),
            output: zeros(units * layout.outputs),
            output_bias: zeros(layout.outputs),
        }
    }

    /// Checks sizes against a layout.
    ///
    /// # Errors
    /// [`AssocError::Shape`].
    pub fn check(&self, layout: &Layout) -> Result<(), AssocError> {
        let names = ["recurrent weights", "input weights", "output weights", "output biases"];
        let expected = Self::zeros(layout);
        for ((what, found), expected) in names.into_iter().zip(self.blocks()).zip(expected.blocks()) {
            if found.len() != expected.len() {
                let (found, expected) = (found.len(), expected.len());
                return Err(AssocError::Shape { what, found, expected });
            }
        }
        Ok(())
    }

    /// The same values in another number type.
    pub fn cast<U: Real>(&self) -> Weights<U> {
        let cast = |values: &[T]| values.iter().map(|v| U::from_f64(v.to_f64())).collect();
        Weights {
            recurrent: cast(&self.recurrent),
            input: cast(&self.input),
            output: cast(&self.output),
            output_bias: cast(&self.output_bias),
        }
    }

    /// What acts: unconnected pairs are 0; under Dale's law a connection's strength is the magnitude and its sign that
    /// of the unit it comes from.
    pub fn effective(&self, layout: &Layout) -> Self {
        let masked = |values: &[T], mask: Vec<f64>, magnitude: bool| {
            let one = |(value, mask): (&T, f64)| {
                let value = if magnitude && *value < T::ZERO { -*value } else { *value };
                value * T::from_f64(mask)
            };
            values.iter().zip(mask).map(one).collect()
        };
        Self {
            recurrent: masked(&self.recurrent, layout.recurrent_mask(), layout.excitatory.is_some()),
            input: masked(&self.input, layout.input_mask(), false),
            output: masked(&self.output, layout.output_mask(), false),
            output_bias: self.output_bias.clone(),
        }
    }

    /// Without the connections from one area to another; areas may be the same.
    pub fn without(&self, layout: &Layout, from: usize, to: usize) -> Self {
        let mut cut = self.clone();
        let units = layout.units();
        for row in layout.range(from) {
            cut.recurrent[row * units..][..units][layout.range(to)].fill(T::ZERO);
        }
        cut
    }
}

impl Weights<f32> {
    /// Random weights. Recurrent ones are normal (under Dale's law of the gamma distribution of shape 2, inhibition
    /// scaled up by the ratio of numbers so that a unit's mean input is balanced), then all scaled to the spectral
    /// radius `gain`; those of a projection come with the variance of an all-to-all one. Input weights are normal with
    /// variance 1 / inputs that vary, biases 0, output weights normal with variance 1 / units read.
    pub fn initial(layout: &Layout, gain: f64, seed: u64) -> Self {
        let mut weights = Self::zeros(layout);
        let units = layout.units();
        let mask = layout.recurrent_mask();
        let dale = layout.excitatory.is_some();
        let stream = |block: u32, row: usize| Stream::new(seed, Purpose::Initialisation, row as u64, 0, block, 2);
        let area_of: Vec<usize> = (0..layout.areas.len())
            .flat_map(|area| layout.range(area).map(move |_| area))
            .collect();
        for (row, values) in weights.recurrent.chunks_exact_mut(units).enumerate() {
            let mut stream = stream(0, row);
            let own = layout.range(area_of[row]);
            let sign = own.clone().map(|to| mask[row * units + to]).sum::<f64>();
            for (to, value) in values.iter_mut().enumerate() {
                // Drawn for every pair, so that a density does not shift the draws of other pairs.
                let draw = if dale {
                    -(1.0 - stream.uniform()).ln() - (1.0 - stream.uniform()).ln()
                } else {
                    stream.normal()
                };
                let density = layout
                    .projections
                    .iter()
                    .find(|p| (p.from, p.to) == (area_of[row], area_of[to]));
                let density = density.map_or(1.0, |projection| projection.density);
                let scale = 1.0 / (own.len() as f64 * density).sqrt();
                let excess = match layout.excitatory {
                    Some(share) if sign < 0.0 => share / (1.0 - share),
                    _ => 1.0,
                };
                *value = (draw * scale * excess * mask[row * units + to].abs()) as f32;
            }
        }
        let radius = spectral_radius(&weights.effective(layout).recurrent, units);
        if radius > 0.0 {
            let scale = (gain / radius) as f32;
            weights.recurrent.iter_mut().for_each(|value| *value *= scale);
        }
        let varying = (layout.features + layout.cues).max(1);
        let rows = layout.features + layout.cues;
        for (row, values) in weights.input.chunks_exact_mut(units).take(rows).enumerate() {
            let mut stream = stream(1, row);
            let fan_in = if row < layout.features {
                layout.features
            } else {
                varying - layout.features
            };
            values
                .iter_mut()
                .for_each(|value| *value = (stream.normal() / (fan_in as f64).sqrt()) as f32);
        }
        let read = layout.output_mask().iter().filter(|mask| **mask != 0.0).count() / layout.outputs.max(1);
        for (row, values) in weights.output.chunks_exact_mut(layout.outputs).enumerate() {
            let mut stream = stream(2, row);
            let scale = 1.0 / (read.max(1) as f64).sqrt();
            values
                .iter_mut()
                .for_each(|value| *value = (stream.normal() * scale) as f32);
        }
        weights
    }

    /// Writes layout and weights: what [acts](Weights::effective) as `recurrent`, `input`, `output` and `output_bias`,
    /// so that whoever reads the file has the network, and the trained values behind it as `raw.recurrent` and so on,
    /// from which training would go on. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`AssocError::Io`], [`AssocError::File`].
    pub fn save(&self, layout: &Layout, path: &Path) -> Result<(), AssocError> {
        self.check(layout)?;
        let bad = |problem: String| AssocError::File {
            file: path.to_owned(),
            problem,
        };
        let (units, outputs) = (layout.units(), layout.outputs);
        let shapes = [
            vec![units, units],
            vec![layout.inputs(), units],
            vec![units, outputs],
            vec![outputs],
        ];
        let acting = self.effective(layout);
        let mut views = Vec::new();
        for (prefix, weights) in [("", &acting), (RAW, self)] {
            for ((name, block), shape) in NAMES.iter().zip(weights.blocks()).zip(&shapes) {
                let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(block));
                views.push((format!("{prefix}{name}"), view.map_err(|error| bad(error.to_string()))?));
            }
        }
        let header = Header {
            version: VERSION,
            layout: layout.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|error| bad(error.to_string()))?;
        let metadata = HashMap::from([(KEY.to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| bad(error.to_string()))?;
        Ok(dynvis_base::files::persist(path, &bytes)?)
    }

    /// Reads the trained values that [`save`](Self::save) wrote, also from files of version 1, which hold nothing else.
    ///
    /// # Errors
    /// [`AssocError::Io`], [`AssocError::File`], and what [`Layout::validate`] finds.
    pub fn load(path: &Path) -> Result<(Layout, Self), AssocError> {
        let bad = |problem: String| AssocError::File {
            file: path.to_owned(),
            problem,
        };
        let bytes = dynvis_base::files::read(path)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| bad(error.to_string()))?;
        let header = metadata.metadata().as_ref().and_then(|metadata| metadata.get(KEY));
        let header = header.ok_or_else(|| bad("it does not say what its tensors are".into()))?;
        let header: Header = serde_json::from_str(header).map_err(|error| bad(error.to_string()))?;
        let prefix = match header.version {
            1 => "",
            VERSION => RAW,
            other => return Err(bad(format!("version {other}, but this program reads 1 to {VERSION}"))),
        };
        header.layout.validate()?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| bad(error.to_string()))?;
        let mut weights = Self::zeros(&header.layout);
        for (name, block) in NAMES.iter().zip(weights.blocks_mut()) {
            let name = format!("{prefix}{name}");
            let view = tensors.tensor(&name).map_err(|error| bad(error.to_string()))?;
            if view.dtype() != Dtype::F32 || view.data().len() != 4 * block.len() {
                return Err(bad(format!("tensor `{name}` does not fit the layout")));
            }
            *block = bytemuck::pod_collect_to_vec(view.data());
        }
        Ok((header.layout, weights))
    }
}

/// Before the names of trained values, which are not under masks and signs.
const RAW: &str = "raw.";

const NAMES: [&str; 4] = ["recurrent", "input", "output", "output_bias"];

/// A dense matrix as an operator: out = A x with A stored by rows as `[from, to]`, so that x runs over `from`.
struct Dense {
    values: Vec<f64>,
    units: usize,
}

impl LinearOperator for Dense {
    fn dim(&self) -> usize {
        self.units
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        for (row, x) in self.values.chunks_exact(self.units).zip(x) {
            out.iter_mut().zip(row).for_each(|(out, weight)| *out += weight * x);
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        for (out, row) in out.iter_mut().zip(self.values.chunks_exact(self.units)) {
            *out = row.iter().zip(x).map(|(weight, x)| weight * x).sum();
        }
    }
}

/// Largest magnitude of an eigenvalue; 0 where none was found.
fn spectral_radius(recurrent: &[f32], units: usize) -> f64 {
    let matrix = Dense {
        values: recurrent.iter().map(|value| f64::from(*value)).collect(),
        units,
    };
    let options = KrylovOptions {
        count: 1,
        which: Which::FarthestFrom(0.0),
        tolerance: 1e-6,
        ..KrylovOptions::default()
    };
    let found = leading_eigenvalues(&matrix, &options, &mut |_, _| {});
    found.pairs.first().map_or(0.0, |pair| pair.value.norm())
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::small;
    use super::*;

    #[test]
    fn initial_weights_have_the_spectral_radius_and_signs() {
        for share in [None, Some(0.8)] {
            let layout = small(share);
            let weights = Weights::initial(&layout, 1.2, 3);
            let effective = weights.effective(&layout);
            // float32 weights, and 1e-6 of the eigenvalue: 1e-5 is ten times that.
            assert!((spectral_radius(&effective.recurrent, 15) - 1.2).abs() < 1e-5);
            let mask = layout.recurrent_mask();
            let agrees = |(value, mask): (&f32, &f64)| share.is_none() || f64::from(*value) * mask >= 0.0;
            assert!(effective.recurrent.iter().zip(&mask).all(agrees));
            assert!(
                effective
                    .recurrent
                    .iter()
                    .zip(&mask)
                    .all(|(value, mask)| *mask != 0.0 || *value == 0.0)
            );
        }
    }

    #[test]
    fn a_lesion_cuts_one_projection() {
        let layout = small(None);
        let weights = Weights::initial(&layout, 1.0, 0);
        let cut = weights.without(&layout, 1, 0);
        for (index, (before, after)) in weights.recurrent.iter().zip(&cut.recurrent).enumerate() {
            let (from, to) = (index / 15, index % 15);
            assert_eq!(*after, if from >= 10 && to < 10 { 0.0 } else { *before });
        }
    }

    #[test]
    fn files_come_back_and_others_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("areas.safetensors");
        let layout = small(Some(0.8));
        let weights = Weights::initial(&layout, 1.0, 0);
        weights.save(&layout, &path).expect("written");
        assert_eq!(Weights::load(&path).expect("read"), (layout, weights));
        std::fs::write(&path, b"12345678").expect("written");
        assert!(matches!(Weights::load(&path), Err(AssocError::File { .. })));
    }

    #[test]
    fn a_file_under_dales_law_holds_the_weights_that_act_and_the_raw_ones_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("areas.safetensors");
        let layout = small(Some(0.8));
        let mut weights = Weights::initial(&layout, 1.0, 0);
        // As training leaves them: of either sign, also where nothing is connected.
        for (index, value) in weights.blocks_mut().into_iter().flatten().enumerate() {
            *value += if index % 2 == 0 { 0.3 } else { -0.4 };
        }
        weights.save(&layout, &path).expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let read = |name: &str| -> Vec<f32> { bytemuck::pod_collect_to_vec(file.tensor(name).expect("there").data()) };
        let recurrent = read("recurrent");
        for (value, mask) in recurrent.iter().zip(layout.recurrent_mask()) {
            assert!(
                f64::from(*value) * mask >= 0.0 && (mask != 0.0 || *value == 0.0),
                "{value} under {mask}"
            );
        }
        let acting = weights.effective(&layout);
        assert_ne!(acting.recurrent, weights.recurrent);
        for ((name, acting), trained) in NAMES.iter().zip(acting.blocks()).zip(weights.blocks()) {
            assert_eq!(&read(name), acting, "{name}");
            assert_eq!(&read(&format!("raw.{name}")), trained, "{name}");
        }
        assert_eq!(Weights::load(&path).expect("read"), (layout.clone(), weights.clone()));

        // A file of version 1 holds the trained ones under the plain names.
        let header = serde_json::json!({ "version": 1, "layout": layout });
        let names = NAMES.iter().zip(weights.blocks());
        let views: Vec<_> = names
            .map(|(name, block)| {
                let view = TensorView::new(Dtype::F32, vec![block.len()], bytemuck::cast_slice(block));
                (*name, view.expect("fits"))
            })
            .collect();
        let metadata = HashMap::from([(KEY.to_owned(), header.to_string())]);
        std::fs::write(&path, safetensors::serialize(views, Some(metadata)).expect("fits")).expect("written");
        assert_eq!(Weights::load(&path).expect("read"), (layout.clone(), weights));
        let header = serde_json::json!({ "version": 3, "layout": layout });
        let metadata = HashMap::from([(KEY.to_owned(), header.to_string())]);
        let none: Vec<(&str, TensorView)> = Vec::new();
        std::fs::write(&path, safetensors::serialize(none, Some(metadata)).expect("fits")).expect("written");
        let error = Weights::load(&path).expect_err("refused").to_string();
        assert!(error.contains("version 3, but this program reads 1 to 2"), "{error}");
    }
}
