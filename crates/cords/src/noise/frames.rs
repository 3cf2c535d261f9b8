//! Images of a group with and without noise, on a device.

use super::pixels::{FrameSequence, NoisePresentation, PixelNoise, Pixels};
use crate::data::{DataError, ImageSet, fill_images};
use crate::device::{Device, Maps, NormalNoise};
use crate::rng::Stream;

/// A group of images on a device, as they are.
pub(super) struct CleanImages<'a, D: Device<f32>> {
    device: &'a D,
    pub(super) images: &'a [u32],
    pub(super) maps: Maps,
    /// Values in [0, 1], on the host and on the device.
    host: Vec<f32>,
    unit: D::Buffer,
    /// Normalised values, on the device.
    pub(super) normalised: D::Buffer,
    scale: Vec<f64>,
    shift: Vec<f64>,
}

impl<'a, D: Device<f32>> CleanImages<'a, D> {
    /// Images of a set, to be normalised by these constants per channel.
    ///
    /// # Errors
    /// [`DataError`] where an image cannot be read.
    pub(super) fn new(
        device: &'a D,
        set: &ImageSet,
        normalisation: (&[f32], &[f32]),
        images: &'a [u32],
    ) -> Result<Self, DataError> {
        let mut host = vec![0.0; set.image_len() * images.len()];
        fill_images(images, &mut host, |image, pixels| set.fill_unit(image as usize, pixels))?;
        Ok(Self::of_values(device, set, host, normalisation, images))
    }

    /// Images in the place of those of a set: values in [0, 1], `[images, channels, side, side]`.
    pub(super) fn of_values(
        device: &'a D,
        set: &ImageSet,
        host: Vec<f32>,
        normalisation: (&[f32], &[f32]),
        images: &'a [u32],
    ) -> Self {
        let maps = Maps {
            batch: images.len(),
            channels: set.channels(),
            side: set.side(),
        };
        let mut unit = device.zeros_maps(maps);
        device.upload_maps(maps, &host, &mut unit);
        let scale: Vec<f64> = normalisation.1.iter().map(|std| 1.0 / f64::from(*std)).collect();
        let means = normalisation.0.iter().zip(&scale);
        let shift = means.map(|(mean, scale)| -f64::from(*mean) * scale).collect();
        let mut clean = Self {
            device,
            images,
            maps,
            host,
            unit,
            normalised: device.zeros_maps(maps),
            scale,
            shift,
        };
        let mut normalised = device.zeros_maps(maps);
        clean.normalise(&clean.unit, &mut normalised);
        clean.normalised = normalised;
        clean
    }

    pub(super) fn device(&self) -> &'a D {
        self.device
    }

    fn normalise(&self, unit: &D::Buffer, normalised: &mut D::Buffer) {
        self.device
            .channel_affine(self.maps, &self.scale, &self.shift, unit, normalised);
    }

    /// Sum of squares of x - y.
    pub(super) fn difference(&self, x: &D::Buffer, y: &D::Buffer) -> f64 {
        let mut reductions = D::Reductions::default();
        self.device.sum_squared_differences(x, y, &mut reductions);
        self.device.read(&mut reductions).concat().iter().sum()
    }

    /// Sum of squares of x.
    pub(super) fn squares(&self, x: &D::Buffer) -> f64 {
        let mut reductions = D::Reductions::default();
        self.device.sum_squares(x, &mut reductions);
        self.device.read(&mut reductions).concat().iter().sum()
    }
}

/// Frames of a group of images under noise.
pub(super) struct NoisyFrames<'a, D: Device<f32>> {
    clean: &'a CleanImages<'a, D>,
    noise: PixelNoise,
    clip: bool,
    sequences: Vec<FrameSequence>,
    host: Vec<f32>,
    /// The frame drawn last, in [0, 1] but for noise.
    unit: D::Buffer,
    /// Sums of squares of the noise in every frame drawn, and how many values they are of.
    reductions: D::Reductions,
    values: u64,
}

impl<'a, D: Device<f32>> NoisyFrames<'a, D> {
    pub(super) fn new(clean: &'a CleanImages<'a, D>, noise: PixelNoise, clip: bool) -> Self {
        let sequence = |image: &u32| FrameSequence::new(noise, clean.maps.side, u64::from(*image));
        Self {
            clean,
            noise,
            clip,
            sequences: clean.images.iter().map(sequence).collect(),
            host: Vec::new(),
            unit: clean.device.zeros_maps(clean.maps),
            reductions: D::Reductions::default(),
            values: 0,
        }
    }

    /// Whether every step shows the same frame.
    pub(super) fn is_held(&self) -> bool {
        self.noise.is_held()
    }

    /// The frame drawn last.
    pub(super) fn frame(&self) -> &D::Buffer {
        &self.unit
    }

    /// Draws the frame of a step and counts its noise.
    pub(super) fn draw(&mut self, step: usize) -> &D::Buffer {
        let (clean, device) = (self.clean, self.clean.device);
        let step = step as u32;
        let proportional = self.noise.pixels == Pixels::Speckle;
        let fresh = !matches!(self.noise.timing, NoisePresentation::OrnsteinUhlenbeck { .. });
        if fresh && (proportional || self.noise.pixels == Pixels::Gaussian) {
            let stream = |image: &u32| self.noise.stream(u64::from(*image), step);
            let streams: Vec<Stream> = clean.images.iter().map(stream).collect();
            let noise = NormalNoise {
                streams: &streams,
                std: self.noise.frame_level(),
                proportional,
            };
            device.add_normal(clean.maps, noise, &clean.unit, &mut self.unit);
        } else {
            self.draw_on_host(step);
        }
        if self.clip {
            device.clamp_unit(clean.maps, &mut self.unit);
        }
        device.sum_squared_differences(&self.unit, &clean.unit, &mut self.reductions);
        self.values += clean.maps.len() as u64;
        &self.unit
    }

    fn draw_on_host(&mut self, step: u32) {
        use rayon::prelude::*;
        let clean = self.clean;
        let len = clean.maps.with_batch(1).len();
        self.host.resize(clean.host.len(), 0.0);
        self.sequences
            .par_iter_mut()
            .zip(clean.host.par_chunks_exact(len))
            .zip(self.host.par_chunks_exact_mut(len))
            .for_each(|((sequence, clean), out)| sequence.frame(clean, step, out));
        clean.device.upload_maps(clean.maps, &self.host, &mut self.unit);
    }

    /// Draws the frame of a step and writes it as a network takes it.
    pub(super) fn write(&mut self, step: usize, normalised: &mut D::Buffer) {
        self.draw(step);
        self.clean.normalise(&self.unit, normalised);
    }

    /// Sum of squares of the noise in all frames that were drawn, and how many values it is of.
    pub(super) fn noise(mut self) -> (f64, u64) {
        let squares = self.clean.device.read(&mut self.reductions).concat().iter().sum();
        (squares, self.values)
    }
}

/// Sum of frames, and their number: what their mean is made of.
pub(super) struct MeanFrame<D: Device<f32>> {
    sum: D::Buffer,
    frames: usize,
}

impl<D: Device<f32>> MeanFrame<D> {
    pub(super) fn new(clean: &CleanImages<'_, D>) -> Self {
        Self {
            sum: clean.device.zeros_maps(clean.maps),
            frames: 0,
        }
    }

    pub(super) fn add(&mut self, clean: &CleanImages<'_, D>, frame: &D::Buffer) {
        clean.device.add(frame, &mut self.sum);
        self.frames += 1;
    }

    /// The mean, as a network takes it.
    pub(super) fn normalised(mut self, clean: &CleanImages<'_, D>) -> D::Buffer {
        clean.device.scale(1.0 / self.frames as f64, &mut self.sum);
        let mut normalised = clean.device.zeros_maps(clean.maps);
        clean.normalise(&self.sum, &mut normalised);
        normalised
    }
}
