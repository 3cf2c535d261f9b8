//! Parameters of the `noise` stage.

use cords::noise::{CIFAR_C, Condition, IMAGENET_C, Perturbation, Pixels, Timing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::{DatasetRef, ModelRef, SplitName, Violation};

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
    /// units of CordsNets: sqrt(2 tau/dt) times level times a normal value is added to the current inside phi, in every step
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
    /// a fresh draw at every step; the level is that of a step of 2 ms and scales with sqrt(2 ms / dt)
    Dynamic,
    /// a process that forgets with `time_constant`; gaussian and correlated noise only
    OrnsteinUhlenbeck,
}

/// Published constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SeveritiesName {
    /// ImageNet-C (Hendrycks and Dietterich 2019)
    ImagenetC,
    /// CIFAR-10-C
    CifarC,
}

/// One kind of noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NoiseParams {
    /// What is perturbed.
    kind: NoiseName,
    /// Levels, 0 for none; those of the stage if not given.
    #[serde(default)]
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    levels: Option<Vec<f64>>,
    /// In place of levels: 0 and the five published severities, with pixels clipped to [0, 1] as published.
    #[serde(default)]
    severities: Option<SeveritiesName>,
    /// When noise on pixels is drawn; as the stage says if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    presentations: Option<Vec<PresentationName>>,
    /// Correlated noise: standard deviation of the Gaussian that white noise is filtered with.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "pixels"))]
    length: Option<f64>,
    /// `ornstein_uhlenbeck`: time in which the noise's correlation falls to 1/e.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    time_constant: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// Models to evaluate.
    #[schemars(length(min = 1))]
    pub(super) models: Vec<ModelRef>,
    /// Images to evaluate them on.
    pub(super) data: DatasetRef,
    /// Part of the dataset.
    #[serde(default)]
    pub(super) split: SplitName,
    /// What is perturbed, and how; Gaussian noise on pixels if not given.
    #[serde(default = "gaussian")]
    #[schemars(length(min = 1))]
    noises: Vec<NoiseParams>,
    /// Levels of all kinds of noise that name none themselves. Half-levels and areas under the curve need 0, the clean image.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)))]
    levels: Vec<f64>,
    /// When noise on pixels is drawn, for all kinds of it that do not say so themselves.
    #[serde(default = "both")]
    #[schemars(length(min = 1))]
    presentations: Vec<PresentationName>,
    /// Areas that neural noise, silencing and noise on weights reach, from 0; all if not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub(super) areas: Option<Vec<usize>>,
    /// Use the first this many images of the part; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    pub(super) images: Option<usize>,
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    pub(super) spontaneous: Option<f64>,
    /// Time that the image is shown; as each CordsNet was trained, if not given. A CNN gets the frames of the first
    /// CordsNet among the models.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(super) stimulus: Option<f64>,
    /// Independent repetitions of the noise.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub(super) trials: u32,
    /// Clip noisy pixels to [0, 1].
    #[serde(default)]
    clip: bool,
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

fn both() -> Vec<PresentationName> {
    vec![PresentationName::Static, PresentationName::Dynamic]
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
        let set = match self.severities? {
            SeveritiesName::ImagenetC => IMAGENET_C,
            SeveritiesName::CifarC => CIFAR_C,
        };
        set.levels(self.pixels()?)
    }

    fn levels(&self, params: &Params) -> Vec<f64> {
        match (self.published(), &self.levels) {
            (Some(published), _) => [0.0].into_iter().chain(published).collect(),
            (None, Some(levels)) => levels.clone(),
            (None, None) => params.levels.clone(),
        }
    }

    fn perturbations(&self, params: &Params) -> Vec<Perturbation> {
        let Some(noise) = self.pixels() else {
            return vec![match self.kind {
                NoiseName::Silencing => Perturbation::Silencing,
                NoiseName::Weights => Perturbation::Weights,
                _ => Perturbation::Neural,
            }];
        };
        let presentations = self.presentations.as_ref().unwrap_or(&params.presentations);
        let of = |presentation: &PresentationName| Perturbation::Pixels {
            noise,
            timing: match presentation {
                PresentationName::Static => Timing::Static,
                PresentationName::Dynamic => Timing::Dynamic,
                PresentationName::OrnsteinUhlenbeck => Timing::OrnsteinUhlenbeck {
                    tau_ms: self.time_constant.unwrap_or(1.0),
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
        if let Some(level) = levels.iter().find(|level| is_fraction && **level > 1.0) {
            wrong(format!("level {level} is a fraction and must not be above 1"));
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
        let presentations = self.presentations.as_ref().unwrap_or(&params.presentations);
        let goes_on = self.pixels().is_some() && presentations.contains(&PresentationName::OrnsteinUhlenbeck);
        if goes_on != self.time_constant.is_some() {
            wrong("`time_constant`, in ms, belongs to the presentation `ornstein_uhlenbeck` and to no other".into());
        }
        if goes_on && !self.pixels().is_some_and(Pixels::is_additive) {
            wrong("only gaussian and correlated noise can be presented as `ornstein_uhlenbeck`".into());
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
    /// Every perturbation at every level.
    pub(super) fn conditions(&self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for noise in &self.noises {
            for perturbation in noise.perturbations(self) {
                let levels = noise.levels(self).into_iter();
                conditions.extend(levels.map(|level| Condition { perturbation, level }));
            }
        }
        conditions
    }

    /// The published severity that a condition is.
    pub(super) fn severity(&self, condition: &Condition) -> Option<i64> {
        let noise = self
            .noises
            .iter()
            .find(|noise| noise.severities.is_some() && noise.perturbations(self).contains(&condition.perturbation))?;
        let place = noise.levels(self).iter().position(|level| *level == condition.level)?;
        Some(place as i64)
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        for noise in &self.noises {
            noise.violations(self, &mut found);
        }
        if self
            .presentations
            .iter()
            .enumerate()
            .any(|(i, p)| self.presentations[..i].contains(p))
        {
            found.push(Violation::new("presentations", "a presentation stands twice"));
        }
        let conditions = self.conditions();
        let twice = conditions
            .iter()
            .enumerate()
            .find(|(i, c)| conditions[..*i].contains(c));
        if let Some((_, condition)) = twice {
            // Where the stage's own levels hold it, that is the place to mend.
            let parameter = if self.levels.contains(&condition.level) {
                "levels"
            } else {
                "noises"
            };
            let level = condition.level;
            found.push(Violation::new(
                parameter,
                format!("level {level} of the same noise stands twice"),
            ));
        }
        found
    }
}
