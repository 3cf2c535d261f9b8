//! Feature sets: recorded activity of an area, pixels, and random projections of either.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::NeuralError;
use super::gram::{Features, for_blocks};
use crate::data::ImageSet;
use crate::rng::{Purpose, Stream};

/// A file of activity as [`crate::record::record`] writes it, read in parts.
pub struct ActivityFile {
    path: PathBuf,
    file: std::fs::File,
    times_ms: Vec<f64>,
    images: Vec<u32>,
    labels: Vec<u32>,
    areas: BTreeMap<usize, Block>,
}

/// Place of an area's values, `[image, time, values]` of f32.
#[derive(Clone, Copy)]
struct Block {
    start: u64,
    len: usize,
}

impl ActivityFile {
    /// Opens a file of activity.
    ///
    /// # Errors
    /// [`NeuralError::Io`] where the file cannot be read, [`NeuralError::File`] where it is damaged or not one of
    /// activity.
    pub fn open(path: &Path) -> Result<Self, NeuralError> {
        let (file, path) = dynvis_base::files::open(path)?.into_parts();
        let wrong = |problem: String| NeuralError::File {
            path: path.clone(),
            problem,
        };
        let size = file.metadata()?.len();
        let mut head = vec![0; 8];
        file.read_exact_at(&mut head, 0)?;
        let length = u64::from_le_bytes(head.as_slice().try_into().unwrap_or_default());
        if length > size.saturating_sub(8) {
            return Err(wrong("is not a file of activity".to_owned()));
        }
        head.resize(8 + length as usize, 0);
        file.read_exact_at(&mut head[8..], 8)?;
        // The data are never in memory as a whole, so the header is read by itself.
        let metadata: Metadata = serde_json::from_slice(&head[8..]).map_err(|error| wrong(error.to_string()))?;
        let data = 8 + length;
        let place = |name: &str, dtype: Dtype| -> Result<(u64, Vec<usize>), NeuralError> {
            let info = metadata
                .info(name)
                .ok_or_else(|| wrong(format!("holds no tensor `{name}`; a `record` stage writes it")))?;
            let end = data + info.data_offsets.1 as u64;
            if info.dtype != dtype || end > size {
                return Err(wrong(format!(
                    "tensor `{name}` is damaged or of another type than {dtype:?}"
                )));
            }
            Ok((data + info.data_offsets.0 as u64, info.shape.clone()))
        };
        let words = |name: &str, dtype: Dtype| -> Result<Vec<[u8; 8]>, NeuralError> {
            let (start, shape) = place(name, dtype)?;
            let mut bytes = vec![0; 8 * shape.iter().product::<usize>()];
            file.read_exact_at(&mut bytes, start)?;
            Ok(bytes.as_chunks().0.to_vec())
        };
        let integers = |name: &str| -> Result<Vec<u32>, NeuralError> {
            let words = words(name, Dtype::I64)?;
            Ok(words.into_iter().map(|w| i64::from_le_bytes(w) as u32).collect())
        };
        let times_ms: Vec<f64> = words("times", Dtype::F64)?
            .into_iter()
            .map(f64::from_le_bytes)
            .collect();
        let (images, labels) = (integers("images")?, integers("labels")?);
        let mut areas = BTreeMap::new();
        for (name, _) in metadata.tensors() {
            let Some(area) = name.strip_prefix("area.").and_then(|area| area.parse().ok()) else {
                continue;
            };
            let (start, shape) = place(&name, Dtype::F32)?;
            if shape.len() < 3 || shape[..2] != [images.len(), times_ms.len()] {
                return Err(wrong(format!(
                    "tensor `{name}` has shape {shape:?}, not [image, time, ...]"
                )));
            }
            let len = shape[2..].iter().product();
            areas.insert(area, Block { start, len });
        }
        if labels.len() != images.len() {
            return Err(wrong(format!("{} labels of {} images", labels.len(), images.len())));
        }
        Ok(Self {
            file,
            times_ms,
            images,
            labels,
            areas,
            path,
        })
    }

    /// Areas that were recorded, ascending from 0.
    pub fn areas(&self) -> Vec<usize> {
        self.areas.keys().copied().collect()
    }

    /// Times after image onset in ms, ascending.
    pub fn times_ms(&self) -> &[f64] {
        &self.times_ms
    }

    /// Index of each recorded image in the image set.
    pub fn images(&self) -> &[u32] {
        &self.images
    }

    /// Label of each recorded image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Activity of an area for the images at `rows` of the file.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where the area was not recorded, or rows or times lie beyond what was.
    pub fn features(&self, area: usize, rows: Vec<usize>, when: When) -> Result<AreaFeatures<'_>, NeuralError> {
        let block = *self.areas.get(&area).ok_or_else(|| NeuralError::Option {
            option: "areas",
            problem: format!(
                "area {area} is not in {}, which has {:?}",
                self.path.display(),
                self.areas()
            ),
        })?;
        let times = match &when {
            When::Mean(times) | When::Each(times) => times,
        };
        let wanted = if matches!(when, When::Each(_)) {
            rows.len()
        } else {
            times.len().max(1)
        };
        if times.len() != wanted || times.iter().any(|time| *time >= self.times_ms.len()) {
            return Err(NeuralError::Option {
                option: "times",
                problem: format!("{times:?} of {} recorded times", self.times_ms.len()),
            });
        }
        if let Some(row) = rows.iter().find(|row| **row >= self.images.len()) {
            return Err(NeuralError::Option {
                option: "images",
                problem: format!("row {row} of {} recorded images", self.images.len()),
            });
        }
        Ok(AreaFeatures {
            file: self,
            block,
            rows,
            when,
        })
    }
}

/// Which of the recorded times, by their place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The mean over these.
    Mean(Vec<usize>),
    /// One time for each stimulus.
    Each(Vec<usize>),
}

/// Every unit of an area, or every channel where it was recorded pooled.
pub struct AreaFeatures<'a> {
    file: &'a ActivityFile,
    block: Block,
    rows: Vec<usize>,
    when: When,
}

impl Features for AreaFeatures<'_> {
    fn stimuli(&self) -> usize {
        self.rows.len()
    }

    fn len(&self) -> usize {
        self.block.len
    }

    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        let times = match &self.when {
            When::Mean(times) => times.as_slice(),
            When::Each(times) => std::slice::from_ref(&times[stimulus]),
        };
        let mut bytes = vec![0; 4 * range.len()];
        out.fill(0.0);
        for time in times {
            let place = self.rows[stimulus] * self.file.times_ms.len() + time;
            let start = self.block.start + 4 * (place * self.block.len + range.start) as u64;
            self.file.file.read_exact_at(&mut bytes, start)?;
            for (out, value) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out += f64::from(f32::from_le_bytes(*value));
            }
        }
        if times.len() > 1 {
            let scale = 1.0 / times.len() as f64;
            out.iter_mut().for_each(|v| *v *= scale);
        }
        Ok(())
    }
}

/// Pixels of images, in [0, 1].
pub struct PixelFeatures<'a> {
    set: &'a ImageSet,
    images: Vec<u32>,
}

impl<'a> PixelFeatures<'a> {
    /// Pixels of the images of these indices.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where an index lies beyond the set.
    pub fn new(set: &'a ImageSet, images: Vec<u32>) -> Result<Self, NeuralError> {
        match images.iter().find(|image| **image as usize >= set.len()) {
            None => Ok(Self { set, images }),
            Some(image) => Err(NeuralError::Option {
                option: "images",
                problem: format!("index {image}, but the image set has {}", set.len()),
            }),
        }
    }
}

impl Features for PixelFeatures<'_> {
    fn stimuli(&self) -> usize {
        self.images.len()
    }

    fn len(&self) -> usize {
        self.set.image_len()
    }

    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        let image = self.set.image(self.images[stimulus] as usize)?;
        for (out, pixel) in out.iter_mut().zip(&image[range]) {
            *out = f64::from(*pixel) / 255.0;
        }
        Ok(())
    }
}

/// Features in memory, `[stimuli, features]`.
pub struct FeatureMatrix {
    stimuli: usize,
    values: Vec<f64>,
}

impl FeatureMatrix {
    /// Row by row, as many rows as stimuli.
    ///
    /// # Errors
    /// [`NeuralError::Option`] where the values are not as many in every row.
    pub fn new(stimuli: usize, values: Vec<f64>) -> Result<Self, NeuralError> {
        if stimuli == 0 || !values.len().is_multiple_of(stimuli) {
            return Err(NeuralError::Option {
                option: "features",
                problem: format!("{} values are not a matrix of {stimuli} rows", values.len()),
            });
        }
        Ok(Self { stimuli, values })
    }

    /// A sparse random projection of a feature set onto `components` dimensions, which keeps distances (Li, Hastie and
    /// Church, KDD 2006): of p features each enters a dimension with probability 1/sqrt(p), as plus or minus
    /// sqrt(sqrt(p) / components). It depends on the seed and on p alone, never on the features: nothing is fitted.
    ///
    /// # Errors
    /// What reading the features fails with, [`NeuralError::Option`] where `components` is 0.
    pub fn projected(features: &dyn Features, components: usize, seed: u64) -> Result<Self, NeuralError> {
        if components == 0 {
            return Err(NeuralError::Option {
                option: "components",
                problem: "a projection needs at least one".to_owned(),
            });
        }
        let (n, p) = (features.stimuli(), features.len());
        let density = 1.0 / (p as f64).sqrt();
        let size = 1.0 / (density * components as f64).sqrt();
        let mut values = vec![0.0; n * components];
        let mut first = 0;
        for_blocks(&[features], |block, width| {
            let rows: Vec<Vec<(usize, f64)>> = (first..first + width)
                .into_par_iter()
                .map(|feature| projection_row(feature, components, density, size, seed))
                .collect();
            values
                .par_chunks_exact_mut(components)
                .zip(block.par_chunks_exact(width))
                .for_each(|(out, features)| {
                    for (value, row) in features.iter().zip(&rows) {
                        row.iter()
                            .for_each(|(component, weight)| out[*component] += weight * value);
                    }
                });
            first += width;
        })?;
        Self::new(n, values)
    }
}

/// Dimensions that a feature enters, with their weights: gaps between them are geometric.
fn projection_row(feature: usize, components: usize, density: f64, size: f64, seed: u64) -> Vec<(usize, f64)> {
    let mut stream = Stream::new(seed, Purpose::Projection, feature as u64, 0, 0, 0);
    let mut row = Vec::new();
    let mut component = 0;
    loop {
        if density < 1.0 {
            // 1 - u lies in (0, 1]; the gap stays within what a cast holds.
            let gap = (1.0 - stream.uniform()).ln() / (1.0 - density).ln();
            component += gap.min(components as f64) as usize;
        }
        if component >= components {
            return row;
        }
        let weight = if stream.word() & 1 == 0 { size } else { -size };
        row.push((component, weight));
        component += 1;
    }
}

impl Features for FeatureMatrix {
    fn stimuli(&self) -> usize {
        self.stimuli
    }

    fn len(&self) -> usize {
        self.values.len() / self.stimuli
    }

    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        out.copy_from_slice(&self.values[stimulus * self.len()..][range]);
        Ok(())
    }
}

/// A feature set whose stimuli are taken in another order, each, or each as often as it is named.
pub struct Reordered<'a> {
    /// The feature set that rows are taken from.
    pub features: &'a dyn Features,
    /// Which of its stimuli stands at each place.
    pub order: Vec<usize>,
}

impl Features for Reordered<'_> {
    fn stimuli(&self) -> usize {
        self.order.len()
    }

    fn len(&self) -> usize {
        self.features.len()
    }

    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        self.features.read(self.order[stimulus], range, out)
    }
}
