//! `synthetic_recordings`: simulated neurons with known weights on a known area, latency and noise.

use cords::neural::{ActivityFile, Recordings, SimulatedRegion, SimulationOptions, Truth, simulate};
use dynvis_runner::table::{Row, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyed_defaults;
use super::recordings::{FILE, NeuronBin};
use super::{ActivityRef, Context, Declared, Kind, RECORDINGS, StageError, Violation};

pub(super) struct SyntheticRecordings;

/// Neurons that read from one area of the network.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Region {
    /// Name of the region.
    name: String,
    /// Area that its neurons read from, from 0.
    area: usize,
    /// How long after the area's activity they respond.
    #[serde(default)]
    #[schemars(extend("x-unit" = "ms"))]
    latency: f64,
    /// Number of neurons of the region.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1))]
    neurons: usize,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The activity that the neurons read. All its images are stimuli.
    activity: ActivityRef,
    /// Simulated brain regions.
    #[schemars(length(min = 1))]
    regions: Vec<Region>,
    /// Start of the first time bin after stimulus onset.
    #[serde(default)]
    #[schemars(extend("x-unit" = "ms"))]
    start: f64,
    /// End of the last time bin.
    #[serde(default = "hundred")]
    #[schemars(extend("x-unit" = "ms"))]
    end: f64,
    /// Width of a time bin.
    #[serde(default = "ten")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    width: f64,
    /// Presentations of each stimulus.
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 1000))]
    repetitions: usize,
    /// Standard deviation of one presentation's noise, in units of the signal's.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0))]
    noise: f64,
    /// Seed of weights and noise; the pipeline's if not given.
    #[serde(default)]
    seed: u64,
}

/// Time bins of a simulation.
const MOST_BINS: f64 = 10_000.0;

fn twenty() -> usize {
    20
}

fn hundred() -> f64 {
    100.0
}

fn ten() -> f64 {
    10.0
}

fn eight() -> usize {
    8
}

fn one() -> f64 {
    1.0
}

impl Params {
    /// How many time bins fit.
    fn bin_count(&self) -> f64 {
        // The end counts in spite of rounding.
        ((self.end - self.start) / self.width + 1e-9).floor().max(0.0)
    }

    fn bins(&self) -> Vec<[f64; 2]> {
        let count = self.bin_count().min(MOST_BINS) as usize;
        let edge = |i: usize| self.start + i as f64 * self.width;
        (0..count).map(|i| [edge(i), edge(i + 1)]).collect()
    }
}

impl Kind for SyntheticRecordings {
    type Params = Params;
    const NAME: &'static str = "synthetic_recordings";
    const SUMMARY: &'static str = "simulated neurons with known weights on a known area, latency and noise";
    const CODE_VERSION: u32 = 1;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::SYNTHETIC_RECORDINGS;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("recordings", RECORDINGS, "responses of the simulated neurons"),
        Declared::table::<Simulated>("what the simulated neurons read, and how reliable they are"),
    ];

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        if params.bin_count() > MOST_BINS {
            let message = format!(
                "{} time bins of `width` between `start` and `end`; at most {MOST_BINS} can be simulated",
                params.bin_count()
            );
            found.push(Violation::new("width", message));
        }
        if params.bins().is_empty() {
            found.push(Violation::new(
                "end",
                "no time bin of `width` fits between `start` and `end`",
            ));
        }
        let mut names: Vec<&String> = params.regions.iter().map(|region| &region.name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            found.push(Violation::new("regions", "a name is given twice"));
        }
        found
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let activity = ActivityFile::open(&context.input(&params.activity.0)?.join("activity.safetensors"))?;
        let regions = params.regions.iter().map(|region| SimulatedRegion {
            name: region.name.clone(),
            area: region.area,
            latency_ms: region.latency,
            neurons: region.neurons,
        });
        let options = SimulationOptions {
            regions: regions.collect(),
            bins_ms: params.bins(),
            repetitions: params.repetitions,
            noise: params.noise,
            seed: params.seed,
        };
        let (recordings, truth) = simulate(&activity, &options)?;
        recordings.save(&context.output("recordings")?.join(FILE))?;
        let rows = truth.iter().map(|of| Simulated::of(params, &recordings, of));
        context.write_rows(Simulated::NAME, rows)
    }
}

/// What the simulated neurons read, and how reliable they are
#[derive(Row)]
#[table(name = "truth")]
struct Simulated {
    #[column(flatten)]
    of: NeuronBin,
    /// Region
    region: String,
    /// Area that it reads, from 0
    area: usize,
    /// How long after the area's activity it responds
    #[column(unit = "ms")]
    latency: f64,
    /// Variance of the noiseless response over stimuli
    signal: f64,
    /// Variance of the noise of the mean over repetitions
    noise: f64,
    /// signal / (signal + noise): the true ceiling of r^2
    reliability: f64,
}

impl Simulated {
    fn of(params: &Params, recordings: &Recordings, truth: &Truth) -> Self {
        let neuron = &recordings.neurons[truth.neuron];
        let region = params.regions.iter().find(|region| region.name == neuron.region);
        Self {
            of: NeuronBin::of(neuron, recordings.bins_ms[truth.bin]),
            region: neuron.region.clone(),
            area: region.map_or(0, |region| region.area),
            latency: region.map_or(0.0, |region| region.latency),
            signal: truth.signal,
            noise: truth.noise,
            reliability: truth.reliability(),
        }
    }
}
