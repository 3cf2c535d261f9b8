//! Simulated recordings: neurons with known weights on a known area, latency and noise, so that every score has a known
//! answer.

use std::collections::BTreeMap;

use faer::{Mat, MatRef};

use super::NeuralError;
use super::algebra::product;
use super::features::{ActivityFile, When};
use super::gram::for_blocks;
use super::recordings::{Neuron, Recordings, is_bin};
use crate::rng::{Purpose, Stream};

/// Neurons that read from one area.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedRegion {
    /// Name of the region.
    pub name: String,
    /// Area of the network that they read from.
    pub area: usize,
    /// How long after the area's activity they respond, in ms.
    pub latency_ms: f64,
    /// Number of neurons in the region.
    pub neurons: usize,
}

/// Which neurons are simulated, and what of them is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulationOptions {
    /// Regions with their neurons.
    pub regions: Vec<SimulatedRegion>,
    /// Time bins, start and end in ms after stimulus onset.
    pub bins_ms: Vec<[f64; 2]>,
    /// Presentations of each stimulus.
    pub repetitions: usize,
    /// Standard deviation of the noise of one presentation, in units of the signal's standard deviation over stimuli
    /// and bins.
    pub noise: f64,
    /// Seed of weights and noise.
    pub seed: u64,
}

/// What is true of a simulated neuron in a bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Number of the neuron.
    pub neuron: usize,
    /// Index of the time bin, from 0.
    pub bin: usize,
    /// Variance of its noiseless response over stimuli.
    pub signal: f64,
    /// Variance of the noise of the mean over repetitions.
    pub noise: f64,
}

impl Truth {
    /// Reliability of the mean over repetitions: the share of its variance that is signal. 0 where nothing varies.
    pub fn reliability(&self) -> f64 {
        let all = self.signal + self.noise;
        if all > 0.0 { self.signal / all } else { 0.0 }
    }
}

/// Simulates responses to all images of a file of activity, whose indices become the ids of stimuli and whose labels
/// their classes. A neuron's noiseless response in a bin is the weighted sum of its area's activity in that bin less
/// the latency: the mean over the recorded times that lie within, or the recorded time that is nearest to its centre.
/// Weights are independent and normal; each neuron's signal is scaled to variance 1 over stimuli, averaged over bins;
/// every presentation adds independent normal noise.
///
/// # Errors
/// [`NeuralError::Option`] where an area was not recorded, neurons, bins or presentations are none, or activity does
/// not vary.
pub fn simulate(activity: &ActivityFile, options: &SimulationOptions) -> Result<(Recordings, Vec<Truth>), NeuralError> {
    check(options)?;
    let stimuli = activity.images().len();
    let bins = options.bins_ms.len();
    let total: usize = options.regions.iter().map(|region| region.neurons).sum();
    // [stimulus, neuron, bin]
    let mut signal = vec![0.0; stimuli * total * bins];
    let mut first = 0;
    for region in &options.regions {
        // Bins often share their time, and where all lie before the first one they do.
        let mut known: BTreeMap<Vec<usize>, Mat<f64>> = BTreeMap::new();
        for (bin, edges) in options.bins_ms.iter().enumerate() {
            let times = times_within(activity.times_ms(), edges.map(|edge| edge - region.latency_ms));
            if !known.contains_key(&times) {
                let drive = drive(activity, region, first, &times, options.seed)?;
                known.insert(times.clone(), drive);
            }
            let drive = &known[&times];
            for stimulus in 0..stimuli {
                for neuron in 0..region.neurons {
                    signal[(stimulus * total + first + neuron) * bins + bin] = drive[(stimulus, neuron)];
                }
            }
        }
        first += region.neurons;
    }
    let truth = standardise(&mut signal, [stimuli, total, bins], options)?;
    let names = options.regions.iter().flat_map(|region| {
        (0..region.neurons).map(|n| Neuron {
            id: format!("{}-{n}", region.name),
            region: region.name.clone(),
            ..Neuron::default()
        })
    });
    let mut responses = Vec::with_capacity(signal.len() * options.repetitions);
    for (stimulus, own) in signal.chunks_exact(total * bins).enumerate() {
        for repetition in 0..options.repetitions {
            let image = u64::from(activity.images()[stimulus]);
            let mut noise = vec![0.0f32; own.len()];
            Stream::new(options.seed, Purpose::Recordings, image, repetition as u32, 1, 0).normal_fill(&mut noise);
            responses.extend(own.iter().zip(noise).map(|(s, n)| s + options.noise * f64::from(n)));
        }
    }
    let recordings = Recordings {
        stimuli: activity.images().iter().map(u32::to_string).collect(),
        objects: activity.labels().iter().map(|label| format!("{label:04}")).collect(),
        neurons: names.collect(),
        bins_ms: options.bins_ms.clone(),
        repetitions: options.repetitions,
        responses,
    };
    Ok((recordings.new()?, truth))
}

fn check(options: &SimulationOptions) -> Result<(), NeuralError> {
    let wrong = |option, problem: String| Err(NeuralError::Option { option, problem });
    if options.regions.iter().map(|region| region.neurons).sum::<usize>() == 0 {
        return wrong("regions", "there are no neurons".to_owned());
    }
    if options.bins_ms.is_empty() || !options.bins_ms.iter().all(is_bin) {
        return wrong("bins", format!("{:?} ms", options.bins_ms));
    }
    if options.repetitions == 0 {
        return wrong("repetitions", "at least one is needed".to_owned());
    }
    if !(options.noise.is_finite() && options.noise >= 0.0) {
        return wrong("noise", format!("{} is not a standard deviation", options.noise));
    }
    Ok(())
}

/// Recorded times within [start, end), by their place; the nearest to the centre where there are none, however far it
/// is.
pub fn times_within(times_ms: &[f64], [start, end]: [f64; 2]) -> Vec<usize> {
    // A step's time is a product of floats.
    let inside = |time: f64| time >= start - 1e-6 && time < end - 1e-6;
    let within: Vec<usize> = (0..times_ms.len()).filter(|i| inside(times_ms[*i])).collect();
    if !within.is_empty() {
        return within;
    }
    let distance = |i: &usize| (times_ms[*i] - 0.5 * (start + end)).abs();
    (0..times_ms.len())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .into_iter()
        .collect()
}

/// Recorded times within [start, end), by their place; where there are none, the one that is nearest to the centre and
/// no farther from it than half of the largest distance of recorded times. Nothing where no recorded time stands for
/// that interval.
pub fn times_reached(times_ms: &[f64], [start, end]: [f64; 2]) -> Vec<usize> {
    let mut sorted = times_ms.to_vec();
    sorted.sort_by(f64::total_cmp);
    let spacing = sorted.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    let near = |i: &usize| {
        let time = times_ms[*i];
        (time >= start - 1e-6 && time < end - 1e-6) || (time - 0.5 * (start + end)).abs() <= 0.5 * spacing + 1e-6
    };
    times_within(times_ms, [start, end]).into_iter().filter(near).collect()
}

/// Weighted sums of an area's activity, mean over some times: `[stimulus, neuron]`.
fn drive(
    activity: &ActivityFile,
    region: &SimulatedRegion,
    first_neuron: usize,
    times: &[usize],
    seed: u64,
) -> Result<Mat<f64>, NeuralError> {
    let stimuli = activity.images().len();
    let features = activity.features(region.area, (0..stimuli).collect(), When::Mean(times.to_vec()))?;
    let units = super::gram::Features::len(&features);
    let weights: Vec<Vec<f32>> = (0..region.neurons)
        .map(|neuron| {
            let mut weights = vec![0.0; units];
            let name = (first_neuron + neuron) as u64;
            Stream::new(seed, Purpose::Recordings, name, 0, 0, region.area as u32).normal_fill(&mut weights);
            weights
        })
        .collect();
    let mut drive = Mat::zeros(stimuli, region.neurons);
    let mut first = 0;
    for_blocks(&[&features], |block, width| {
        let own = Mat::from_fn(width, region.neurons, |unit, neuron| {
            f64::from(weights[neuron][first + unit])
        });
        drive += product(MatRef::from_row_major_slice(block, stimuli, width), own.as_ref());
        first += width;
    })?;
    Ok(drive)
}

/// Takes each neuron's mean out, scales it to unit variance over stimuli averaged over bins, and says what is then
/// true.
fn standardise(
    signal: &mut [f64],
    [stimuli, neurons, bins]: [usize; 3],
    options: &SimulationOptions,
) -> Result<Vec<Truth>, NeuralError> {
    let mut truth = Vec::with_capacity(neurons * bins);
    for neuron in 0..neurons {
        let place = |stimulus: usize, bin: usize| (stimulus * neurons + neuron) * bins + bin;
        let everywhere = || (0..stimuli).flat_map(|s| (0..bins).map(move |b| (s, b)));
        let mean = everywhere().map(|(s, b)| signal[place(s, b)]).sum::<f64>() / (stimuli * bins) as f64;
        let variances: Vec<f64> = (0..bins)
            .map(|bin| {
                let own = || (0..stimuli).map(|s| signal[place(s, bin)]);
                let mean = own().sum::<f64>() / stimuli as f64;
                own().map(|v| (v - mean).powi(2)).sum::<f64>() / stimuli as f64
            })
            .collect();
        let variance = variances.iter().sum::<f64>() / bins as f64;
        if variance.is_nan() || variance <= 0.0 {
            return Err(NeuralError::Option {
                option: "activity",
                problem: format!(
                    "it does not vary over images where simulated neuron {neuron} reads from; record later times, or \
                     choose later bins"
                ),
            });
        }
        for (s, b) in everywhere() {
            signal[place(s, b)] = (signal[place(s, b)] - mean) / variance.sqrt();
        }
        truth.extend(variances.iter().enumerate().map(|(bin, own)| Truth {
            neuron,
            bin,
            // The rounding of a mean of equal values is no signal.
            signal: if *own > 1e-20 * variance { own / variance } else { 0.0 },
            noise: options.noise.powi(2) / options.repetitions as f64,
        }));
    }
    Ok(truth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_beyond_all_recorded_times_has_none() {
        let times = [0.0, 10.0, 20.0, 30.0];
        assert_eq!(times_reached(&times, [8.0, 21.0]), [1, 2]);
        assert_eq!(times_reached(&times, [12.0, 16.0]), [1], "the nearest");
        assert_eq!(times_reached(&times, [32.0, 36.0]), [3]);
        assert!(times_reached(&times, [36.0, 40.0]).is_empty());
        assert!(times_reached(&times, [-480.0, -470.0]).is_empty());
        assert!(times_reached(&[50.0], [0.0, 10.0]).is_empty() && times_reached(&[], [0.0, 10.0]).is_empty());
    }
}
