//! Parameters of the `noise` stage.

use cords::data::Split;
use cords::device::cuda::Precision;
use cords::noise::{Condition, NoisePresentation, Perturbation, Pixels, Severities};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::gpu::tf32;
use crate::stage::{DatasetRef, ModelRef, Violation, test_split};

// By name alone, and in one list: the engine's `Perturbation`, `Pixels` and `NoisePresentation` hold lengths and time
// constants, which are parameters of their own here, and a kind of noise has several presentations.

/// What is perturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum NoiseName {
    /// pixels: level times a normal value is added; levels in pixel units of [0, 1], before normalisation
    Gaussian,
    /// pixels: the same, correlated over space (`length`)
    Correlated,
    /// pixels: counts of photons; the level is the standard deviation at white, 1/sqrt(photons)
    Shot,
    /// pixels: a fraction of the values becomes 0 or 1
    Impulse,
    /// pixels: level times a normal value times the pixel is added
    Speckle,
    /// units of CordsNets: sqrt(2 tau/dt) times level times a normal value is added to the current inside phi, in every
    /// step
    Neural,
    /// units: a fraction of them is silenced, the same for all images
    Silencing,
    /// weights of the areas' convolutions: each is multiplied by 1 + level times a normal value
    Weights,
}

/// When noise on pixels is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum PresentationName {
    /// one draw per image, held while it is shown
    Static,
    /// redrawn at every step: another experiment at another step. The level is that of a step of 2 ms and scales with
    /// sqrt(2 ms / dt); impulses last 2 ms, or a step where that is longer. A finer step is the same experiment only
    /// while the noise is small beside what rectifies it
    Dynamic,
    /// a process that forgets with `time_constant`, whatever the step: for statements over time and for networks of
    /// different steps. Gaussian, correlated and speckle noise only
    OrnsteinUhlenbeck,
}

/// One kind of noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoiseParams {
    /// Kind of noise and what it perturbs.
    kind: NoiseName,
    /// Levels, 0 for none; those of the stage if not given.
    #[serde(default)]
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    levels: Option<Vec<f64>>,
    /// In place of levels: 0 and the five published severities, with pixels clipped to [0, 1] as published; `levels`
    /// count if not given.
    #[serde(default)]
    severities: Option<Severities>,
    /// When noise on pixels is drawn; as the stage says if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    presentations: Option<Vec<PresentationName>>,
    /// Correlated noise: standard deviation of the Gaussian that white noise is filtered with; 1 if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "pixels"))]
    length: Option<f64>,
    /// `ornstein_uhlenbeck`: time in which the noise's correlation falls to 1/e; as the stage says if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    time_constant: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// Stages whose models are evaluated on the same images.
    #[schemars(length(min = 1))]
    pub(super) models: Vec<ModelRef>,
    /// Images to evaluate them on.
    pub(super) data: DatasetRef,
    /// Part of the dataset.
    #[serde(default = "test_split")]
    pub(super) split: Split,
    /// What is perturbed, and how; Gaussian noise on pixels if not given.
    #[serde(default = "gaussian")]
    #[schemars(length(min = 1))]
    noises: Vec<NoiseParams>,
    /// Levels of all kinds of noise that name none themselves. Thresholds and areas under accuracy over level need 0,
    /// the clean image.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)))]
    levels: Vec<f64>,
    /// When noise on pixels is drawn, for all kinds of it that do not say so themselves. If not given, each is held
    /// (static), and gaussian, correlated and speckle noise also goes on in time (ornstein_uhlenbeck).
    #[serde(default)]
    #[schemars(length(min = 1))]
    presentations: Option<Vec<PresentationName>>,
    /// `ornstein_uhlenbeck`: time in which the noise's correlation falls to 1/e, for all kinds of noise that do not say
    /// so themselves.
    #[serde(default = "twenty")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    time_constant: f64,
    /// Areas that neural noise, silencing and noise on weights reach, from 0; all if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) areas: Option<Vec<usize>>,
    /// Use this many images, evenly spread over the part; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    pub(super) images: Option<usize>,
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    pub(super) spontaneous: Option<f64>,
    /// Time that the image is shown; as each CordsNet was trained, if not given. A CNN sees frames for as long as the
    /// CordsNets, where they agree, or else for 200 ms.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(super) stimulus: Option<f64>,
    /// What products of convolutions are computed from on a GPU: cuDNN is several times slower with float32. A processor
    /// computes in float32.
    #[serde(default = "tf32")]
    pub(super) precision: Precision,
    /// Time between the frames that a CNN sees the mean of. If not given, that of the CordsNets,
    /// where they agree, or else 2 ms. A CNN's single frame under dynamic noise is always that of a step of 2 ms, at
    /// which levels are stated.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(super) frame_step: Option<f64>,
    /// Independent repetitions of the noise.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) trials: u32,
    /// Clip noisy pixels to [0, 1].
    #[serde(default)]
    clip: bool,
    /// Images whose frames under every noise on pixels and level are drawn, as `frames_NOISE.png` among the pictures.
    #[serde(default = "three")]
    #[schemars(range(max = 100), extend("x-unit" = "images"))]
    pub(super) pictured: usize,
    /// Write all frames of this many images under every noise on pixels and level, as `frames/frames.safetensors`; none
    /// if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    pub(super) frames: Option<usize>,
    /// Seed of the noise; the pipeline's if not given.
    #[serde(default)]
    pub(super) seed: u64,
}

fn gaussian() -> Vec<NoiseParams> {
    vec![NoiseParams {
        kind: NoiseName::Gaussian,
        levels: None,
        severities: None,
        presentations: None,
        length: None,
        time_constant: None,
    }]
}

fn twenty() -> f64 {
    20.0
}

fn three() -> usize {
    3
}

fn one() -> u32 {
    1
}

impl NoiseParams {
    /// The noise of pixels that it is; none where something else is perturbed.
    fn pixels(&self) -> Option<Pixels> {
        match self.kind {
            NoiseName::Gaussian => Some(Pixels::Gaussian),
            NoiseName::Correlated => Some(Pixels::Correlated {
                length: self.length.unwrap_or(1.0),
            }),
            NoiseName::Shot => Some(Pixels::Shot),
            NoiseName::Impulse => Some(Pixels::Impulse),
            NoiseName::Speckle => Some(Pixels::Speckle),
            NoiseName::Neural | NoiseName::Silencing | NoiseName::Weights => None,
        }
    }

    /// Published levels, severities 1 to 5.
    fn published(&self) -> Option<[f64; 5]> {
        self.severities?.levels(self.pixels()?)
    }

    fn levels(&self, params: &Params) -> Vec<f64> {
        match (self.published(), &self.levels) {
            (Some(published), _) => [0.0].into_iter().chain(published).collect(),
            (None, Some(levels)) => levels.clone(),
            (None, None) => params.levels.clone(),
        }
    }

    /// When it is drawn; of noise on pixels.
    fn presentations(&self, params: &Params) -> Vec<PresentationName> {
        let given = self.presentations.as_ref().or(params.presentations.as_ref());
        given.cloned().unwrap_or_else(|| match self.pixels() {
            Some(noise) if noise.is_normal() => vec![PresentationName::Static, PresentationName::OrnsteinUhlenbeck],
            _ => vec![PresentationName::Static],
        })
    }

    fn perturbations(&self, params: &Params) -> Vec<Perturbation> {
        let Some(noise) = self.pixels() else {
            return vec![match self.kind {
                NoiseName::Silencing => Perturbation::Silencing,
                NoiseName::Weights => Perturbation::Weights,
                _ => Perturbation::Neural,
            }];
        };
        let presentations = self.presentations(params);
        let of = |presentation: &PresentationName| Perturbation::Pixels {
            noise,
            timing: match presentation {
                PresentationName::Static => NoisePresentation::Static,
                PresentationName::Dynamic => NoisePresentation::Dynamic,
                PresentationName::OrnsteinUhlenbeck => NoisePresentation::OrnsteinUhlenbeck {
                    tau_ms: self.time_constant.unwrap_or(params.time_constant),
                },
            },
            clip: params.clip || self.severities.is_some(),
        };
        presentations.iter().map(of).collect()
    }

    fn violations(&self, params: &Params, found: &mut Vec<Violation>) {
        let kind = self.name();
        let mut wrong = |message: String| found.push(Violation::new("noises", format!("{kind} noise: {message}")));
        let levels = self.levels(params);
        if levels.is_empty() {
            wrong("there are no levels; give `levels` here or to the stage".into());
        }
        let is_fraction = matches!(self.kind, NoiseName::Impulse | NoiseName::Silencing);
        let [least, most] = LEVELS;
        let is_far = |level: &&f64| **level != 0.0 && (**level < least || **level > most);
        if let Some(level) = levels.iter().find(|level| is_fraction && **level > 1.0) {
            wrong(format!("level {level} is a fraction and must not be above 1"));
        } else if let Some(level) = levels.iter().find(is_far) {
            wrong(format!("level {level} must be 0 or from {least:e} to {most:e}"));
        }
        if self.levels.as_ref().is_some_and(|levels| has_twice(levels)) {
            wrong("a level is given twice".into());
        }
        if self
            .presentations
            .as_ref()
            .is_some_and(|presentations| has_twice(presentations))
        {
            wrong("a presentation is given twice".into());
        }
        if self.severities.is_some() && self.levels.is_some() {
            wrong("`levels` and `severities` exclude each other".into());
        }
        if self.severities.is_some() && self.published().is_none() {
            wrong("has no published severities; give `levels`".into());
        }
        if (self.kind == NoiseName::Correlated) != self.length.is_some() {
            wrong("`length`, in pixels, belongs to correlated noise and to no other".into());
        }
        if self.pixels().is_none() && self.presentations.is_some() {
            wrong("`presentations` are of noise on pixels".into());
        }
        let presentations = self.presentations(params);
        let goes_on = self.pixels().is_some() && presentations.contains(&PresentationName::OrnsteinUhlenbeck);
        if self.time_constant.is_some() && !goes_on {
            wrong("`time_constant`, in ms, belongs to the presentation `ornstein_uhlenbeck` and to no other".into());
        }
        if goes_on && !self.pixels().is_some_and(Pixels::is_normal) {
            wrong("only gaussian, correlated and speckle noise can be presented as `ornstein_uhlenbeck`".into());
        }
    }

    fn name(&self) -> &'static str {
        match self.kind {
            NoiseName::Gaussian => "gaussian",
            NoiseName::Correlated => "correlated",
            NoiseName::Shot => "shot",
            NoiseName::Impulse => "impulse",
            NoiseName::Speckle => "speckle",
            NoiseName::Neural => "neural",
            NoiseName::Silencing => "silencing",
            NoiseName::Weights => "weights",
        }
    }
}

impl Params {
    /// Every perturbation at every level, each once: several kinds of noise may share the clean image.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let mut conditions: Vec<Condition> = Vec::new();
        for noise in &self.noises {
            for perturbation in noise.perturbations(self) {
                for level in noise.levels(self) {
                    let condition = Condition { perturbation, level };
                    if !conditions.contains(&condition) {
                        conditions.push(condition);
                    }
                }
            }
        }
        conditions
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for noise in &self.noises {
            noise.violations(self, &mut found);
        }
        if self.presentations.as_ref().is_some_and(|p| has_twice(p)) {
            found.push(Violation::new("presentations", "a presentation is given twice"));
        }
        if has_twice(&self.levels) {
            found.push(Violation::new("levels", "a level is given twice"));
        }
        if let (Some(step), Some(stimulus)) = (self.frame_step, self.stimulus)
            && let Some(problem) = cords::net::unfit(stimulus, step, 1)
        {
            let message = format!("frames of `frame_step` cannot fill `stimulus`, which is {problem}");
            found.push(Violation::new("frame_step", message));
        }
        let reached = |noise: &NoiseParams| noise.pixels().is_none();
        if self.areas.is_some() && !self.noises.iter().any(reached) {
            let message = "noise on pixels knows no areas; they belong to neural noise, silencing and noise on weights";
            found.push(Violation::new("areas", message));
        }
        if self.areas.as_ref().is_some_and(|areas| has_twice(areas)) {
            found.push(Violation::new("areas", "an area is given twice"));
        }
        found
    }
}

fn has_twice<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(i, entry)| list[..i].contains(entry))
}

/// Levels of noise other than fractions: beyond them a count of photons is no number that a processor can draw.
const LEVELS: [f64; 2] = [1e-6, 1e6];

#[cfg(test)]
mod tests {
    use super::*;

    fn params(more: serde_json::Value) -> Params {
        let mut json = serde_json::json!({ "models": ["m"], "data": "d" });
        for (name, value) in more.as_object().expect("an object") {
            json[name] = value.clone();
        }
        serde_json::from_value(json).expect("parameters")
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let broken = |more: serde_json::Value| -> Vec<String> {
            let violations = params(more).violations();
            violations
                .into_iter()
                .map(|v| format!("{}: {}", v.parameter, v.message))
                .collect()
        };
        let one = |noise: serde_json::Value| broken(serde_json::json!({ "levels": [0, 0.5], "noises": [noise] }));
        let fine =
            serde_json::json!({ "kind": "gaussian", "presentations": ["ornstein_uhlenbeck"], "time_constant": 5 });
        assert!(one(fine).is_empty());
        for (noise, about) in [
            (serde_json::json!({ "kind": "correlated" }), "`length`"),
            (serde_json::json!({ "kind": "gaussian", "length": 2 }), "`length`"),
            (
                serde_json::json!({ "kind": "gaussian", "presentations": ["static"], "time_constant": 2 }),
                "`time_constant`",
            ),
            (
                serde_json::json!({ "kind": "shot", "presentations": ["ornstein_uhlenbeck"], "time_constant": 2 }),
                "only gaussian, correlated and speckle",
            ),
            (
                serde_json::json!({ "kind": "neural", "presentations": ["static"] }),
                "`presentations`",
            ),
            (
                serde_json::json!({ "kind": "neural", "severities": "imagenet_c" }),
                "no published severities",
            ),
            (
                serde_json::json!({ "kind": "shot", "severities": "imagenet_c", "levels": [0] }),
                "exclude each other",
            ),
            (
                serde_json::json!({ "kind": "impulse", "levels": [2] }),
                "must not be above 1",
            ),
            (serde_json::json!({ "kind": "shot", "levels": [1e-9] }), "must be 0 or"),
            (
                serde_json::json!({ "kind": "shot", "levels": [0.5, 0.5] }),
                "is given twice",
            ),
        ] {
            let found = one(noise.clone());
            assert!(found.len() == 1 && found[0].contains(about), "{noise}: {found:?}");
        }
        assert!(broken(serde_json::json!({}))[0].contains("no levels"));
        assert!(broken(serde_json::json!({ "levels": [1, 1] }))[0].contains("is given twice"));
        assert!(broken(serde_json::json!({ "levels": [1], "areas": [0] }))[0].contains("knows no areas"));
    }

    #[test]
    fn both_published_sets_can_stand_beside_free_levels() {
        let noises = serde_json::json!([
            { "kind": "gaussian" },
            { "kind": "gaussian", "severities": "imagenet_c" },
            { "kind": "gaussian", "severities": "cifar_c" }
        ]);
        let params = params(serde_json::json!({ "levels": [0, 0.08], "noises": noises, "presentations": ["static"] }));
        assert!(params.violations().is_empty());
        // 0.08 and the clean image are in both sets.
        assert_eq!(params.conditions().len(), 2 + 6 + 4);
    }
}
