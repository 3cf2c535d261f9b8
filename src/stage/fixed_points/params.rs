//! Parameters of the `fixed_points` stage, with their defaults, and the engine's options made of them.

use cords::data::Split;
use cords::dynamics::{
    AttractorOptions, ExponentOptions, FixedPointOptions, InitialConditionOptions, LyapunovOptions, NoiseOptions,
    NonNormalityOptions, ResponseOptions, SpectrumOptions, SteadyMethod, SteadyOptions,
};
use cords::net::CordsNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::times::Asked;
use crate::stage::{AnyRef, DatasetRef, ModelRef, Violation, test_split};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// Stages whose CordsNets are analysed.
    #[schemars(length(min = 1))]
    pub(super) models: Vec<ModelRef>,
    /// Images whose steady states are searched.
    pub(super) data: DatasetRef,
    /// Part of the dataset.
    #[serde(default = "test_split")]
    pub(super) split: Split,
    /// Use this many images, evenly spread over the part.
    #[serde(default = "ten")]
    #[schemars(range(min = 0), extend("x-unit" = "images"))]
    pub(super) images: usize,
    /// Time that the whole network is simulated before areas are settled one by one.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    joint: f64,
    /// Largest max|phi(u) - r| of a steady state.
    #[serde(default = "one_millionth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    tolerance: f64,
    /// Steps for each area after which it is reported as not converged.
    #[serde(default = "many")]
    #[schemars(range(min = 1), extend("x-unit" = "steps"))]
    max_steps: usize,
    /// Eigenvalues of each area's Jacobian, largest real part first; 0 for none.
    #[serde(default = "six")]
    #[schemars(range(min = 0, max = 200))]
    pub(super) eigenvalues: usize,
    /// Eigenvalues of each area's Jacobian with the largest magnitude; 0 for none. Needs `eigenvalues`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 200))]
    eigenvalues_by_magnitude: usize,
    /// Whether the eigenvectors of `eigenvalues` are written, as float32: real and imaginary part for each eigenvalue,
    /// unit and image.
    #[serde(default)]
    pub(super) eigenvectors: bool,
    /// How areas are settled after the joint time.
    #[serde(default)]
    method: SteadyMethod,
    /// Other initial conditions for every area: r = 0, the spontaneous state, and the steady state with noise; 0 for
    /// none.
    #[serde(default, rename = "starts")]
    #[schemars(range(min = 0, max = 10_000), extend("x-name" = "initial_conditions"))]
    pub(super) initial_conditions: usize,
    /// Standard deviation of the noise that is added to a steady state as initial condition, as a fraction of the steady
    /// state's root mean square.
    #[serde(default = "half")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    spread: f64,
    /// Distance, as a fraction of the steady state's norm, below which two steady states count as one.
    #[serde(default = "one_thousandth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    same: f64,
    /// Time without input after the image, at whose end the distance from the spontaneous state is measured; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    pub(super) after: f64,
    /// Where activity goes in the long run, in the table `attractors`: to steady states, to limit cycles, to neither,
    /// or beyond all bounds. The whole network is simulated from several initial conditions; nothing is if not given.
    #[serde(default)]
    pub(super) attractors: Option<AttractorParams>,
    /// Leading singular values of each area's coupling and of the whole network's, with norm bound, numerical abscissa
    /// and non-normality; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 200))]
    pub(super) singular_values: usize,
    /// Times over which the largest growth of a perturbation is computed, of each area and of the whole network.
    /// Needs `singular_values`.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)), extend("x-unit" = "ms"))]
    pub(super) growth: Vec<f64>,
    /// Random vectors from which the response to small noise, and norms, are estimated; 0 for no response.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub(super) probes: usize,
    /// Frequencies at which the power of the response to small noise is computed. Needs `probes`.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)), extend("x-unit" = "Hz"))]
    pub(super) frequencies: Vec<f64>,
    /// Leading modes of the whole network's response to small noise; 0 for none. Needs `probes`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 200))]
    pub(super) noise_modes: usize,
    /// Table `gains` of a `noise` stage with neural noise, whose measurements are compared with the response to small
    /// noise; nothing is compared if not given.
    #[serde(default)]
    pub(super) measured: Option<AnyRef>,
    /// Eigenvalues of each area's recurrent convolution itself, by magnitude and by real part; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 200))]
    pub(super) convolution_eigenvalues: usize,
    /// Distances of the images' steady states within and between classes, and the accuracy of a linear readout of the
    /// class.
    #[serde(default)]
    pub(super) classes: bool,
    /// Lyapunov exponents of each area along the trajectory, largest first; 0 for none.
    #[serde(default)]
    #[schemars(range(min = 0, max = 200))]
    pub(super) exponents: usize,
    /// Time over which Lyapunov exponents are averaged; a fifth of it, in whole steps, runs before as burn-in.
    #[serde(default = "two_thousand")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    exponent_time: f64,
    /// Levels of neural noise, as in `noise`, on the trajectory of the Lyapunov exponents; 0 is the trajectory without
    /// noise.
    #[serde(default = "none_of_it")]
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    pub(super) exponent_noise: Vec<f64>,
    /// Seed of initial conditions, probes, noise and the iterations' first vectors; the pipeline's if not given.
    #[serde(default)]
    pub(super) seed: u64,
}

/// How attractors are searched.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AttractorParams {
    /// Initial conditions of the whole network: r = 0, the spontaneous state, a point of the trajectory, another
    /// image's activity, and the steady state with noise (`spread`).
    #[serde(default = "eight")]
    #[schemars(range(min = 1, max = 10_000))]
    initial_conditions: usize,
    /// Longest time that is simulated from each of them: two thirds to come to rest, and one third in which limit
    /// cycles are looked for, of periods up to a fifth of it. It must be 30 steps of the network at least, in which a
    /// cycle can be seen at all, and should be several times its longest time constant, that of adaptation included.
    #[serde(default = "three_thousand")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    time: f64,
}

/// Steps in which a cycle can be seen at all; [`AttractorParams::time`] says so.
const LEAST_ATTRACTOR_STEPS: usize = 30;

fn eight() -> usize {
    8
}

fn three_thousand() -> f64 {
    3000.0
}

fn ten() -> usize {
    10
}

fn two_hundred() -> f64 {
    200.0
}

fn one_millionth() -> f64 {
    1e-6
}

fn many() -> usize {
    20_000
}

fn six() -> usize {
    6
}

fn half() -> f64 {
    0.5
}

fn one_thousandth() -> f64 {
    1e-3
}

fn two_thousand() -> f64 {
    2000.0
}

fn none_of_it() -> Vec<f64> {
    vec![0.0]
}

impl Params {
    pub(super) fn violations(&self) -> Vec<Violation> {
        let lists = [
            ("growth", &self.growth),
            ("frequencies", &self.frequencies),
            ("exponent_noise", &self.exponent_noise),
        ];
        let ascending = |list: &[f64]| list.windows(2).all(|pair| pair[0] < pair[1]);
        let wrong = lists.into_iter().filter(|(_, list)| !ascending(list));
        let mut found: Vec<Violation> = wrong
            .map(|(field, _)| Violation::new(field, "values must be in ascending order, without duplicates"))
            .collect();
        if self.classes && self.images < 2 {
            found.push(Violation::new("classes", "needs two `images` at least"));
        }
        if self.eigenvalues == 0 {
            let needing = [
                ("eigenvalues_by_magnitude", self.eigenvalues_by_magnitude > 0),
                ("eigenvectors", self.eigenvectors),
            ];
            let needing = needing.into_iter().filter(|(_, asked)| *asked);
            found.extend(needing.map(|(field, _)| Violation::new(field, "needs `eigenvalues`")));
        }
        if self.probes == 0 {
            if self.noise_modes > 0 {
                found.push(Violation::new(
                    "noise_modes",
                    "needs `probes`: modes are those of the response to noise",
                ));
            }
            if self.measured.is_some() {
                found.push(Violation::new(
                    "measured",
                    "needs `probes`: it is compared with the response to noise",
                ));
            }
            if !self.frequencies.is_empty() {
                found.push(Violation::new(
                    "frequencies",
                    "need `probes`: the power there is that of the response to noise",
                ));
            }
        }
        if self.singular_values == 0 && !self.growth.is_empty() {
            found.push(Violation::new("growth", "needs `singular_values`"));
        }
        found
    }

    /// Every time that is simulated.
    pub(super) fn times(&self) -> Vec<Asked<'_>> {
        let mut times = vec![("joint", self.joint, 0), ("after", self.after, 0)];
        let attractors = self.attractors.iter();
        times.extend(attractors.map(|attractors| ("attractors.time", attractors.time, LEAST_ATTRACTOR_STEPS)));
        times.extend(self.growth.iter().map(|ms| ("growth", *ms, 0)));
        if self.exponents > 0 {
            times.push(("exponent_time", self.exponent_time, 1));
        }
        times
    }

    pub(super) fn options(&self, net: &CordsNet<f64>) -> FixedPointOptions {
        let (euler, seed) = (net.euler(), self.seed);
        let steps = |ms: f64| euler.steps(ms);
        let growth_steps: Vec<usize> = self.growth.iter().map(|ms| steps(*ms)).collect();
        FixedPointOptions {
            steady: SteadyOptions {
                joint_steps: steps(self.joint),
                tolerance: self.tolerance,
                max_steps: self.max_steps,
                method: self.method,
            },
            spectrum: (self.eigenvalues > 0).then(|| SpectrumOptions {
                modes: self.eigenvalues,
                by_magnitude: self.eigenvalues_by_magnitude,
                vectors: self.eigenvectors,
                seed,
                ..SpectrumOptions::default()
            }),
            initial_conditions: (self.initial_conditions > 0).then_some(InitialConditionOptions {
                count: self.initial_conditions,
                spread: self.spread,
                tolerance: self.same,
                seed,
            }),
            attractors: self.attractors.as_ref().map(|attractors| AttractorOptions {
                initial_conditions: attractors.initial_conditions,
                steps: steps(attractors.time),
                tolerance: self.tolerance,
                spread: self.spread,
                same: self.same,
                seed,
            }),
            return_steps: (self.after > 0.0).then(|| steps(self.after)),
            non_normality: (self.singular_values > 0).then(|| NonNormalityOptions {
                singular_values: self.singular_values,
                growth_steps: growth_steps.clone(),
                probes: self.probes.max(8),
                seed,
            }),
            response: (self.probes > 0).then(|| NoiseOptions {
                response: ResponseOptions {
                    probes: self.probes,
                    seed,
                    ..ResponseOptions::default()
                },
                frequencies_hz: self.frequencies.clone(),
                modes: self.noise_modes,
            }),
            exponents: (self.exponents > 0).then(|| ExponentOptions {
                lyapunov: LyapunovOptions {
                    count: self.exponents,
                    burn_in: steps(self.exponent_time / 5.0),
                    steps: steps(self.exponent_time).max(1),
                    seed,
                    ..LyapunovOptions::default()
                },
                noise: self.exponent_noise.clone(),
            }),
        }
    }
}
