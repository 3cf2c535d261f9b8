//! How an image set is prepared.

use crate::data::image_set::MeanAndStd;
use crate::data::{DataError, ImageSource};
use serde::{Deserialize, Serialize};

/// Fraction of every class's training images that become validation images where none is given.
pub const DEFAULT_VALIDATION: f64 = 0.1;
/// Fraction of every class's images that become test images where none is given.
pub const DEFAULT_TEST: f64 = 0.2;

/// At most so many images, chosen by seed. Applied to training and official test (and validation) images separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Images of every class.
    PerClass(usize),
    /// Images in all, divided over the classes in proportion to their sizes.
    Total(usize),
}

/// Where the constants of the per-channel normalisation come from, mean and standard deviation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// measured on the training split
    #[default]
    TrainingSplit,
    /// the constants that the literature uses for this data set
    Published,
}

/// What an image set keeps of its images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// levels of one size: each image resized and cropped
    #[default]
    Raw,
    /// the files as they are, so that random crops are those of the originals; images are decoded when they are used
    Encoded,
}

/// What is done about an image that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// the data set is not prepared; up to 20 such images are named, the others counted
    #[default]
    Error,
    /// the image is left out, and a table tells which were
    Skip,
}

/// How to prepare an image set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareConfig {
    /// Where the images come from.
    pub source: ImageSource,
    /// Height and width of the prepared images in pixels (centre crop).
    pub side: usize,
    /// Length of the shorter side before the crop; `side` if not given.
    #[serde(default)]
    pub resize: Option<usize>,
    /// 1 or 3: colour becomes luminance, grey is repeated.
    pub channels: usize,
    /// Fraction of every class's training images that become validation images; 0.1 if not given. Not allowed where
    /// the source has a validation part of its own.
    #[serde(default)]
    pub validation_fraction: Option<f64>,
    /// Fraction of every class's images that become test images; 0.2 if not given. Not allowed where the source has a
    /// test part of its own.
    #[serde(default)]
    pub test_fraction: Option<f64>,
    /// Seed of the division and of the choice under a limit.
    #[serde(default)]
    pub seed: u64,
    /// Fewer images, for quick tests.
    #[serde(default)]
    pub limit: Option<Limit>,
    /// Constants of the normalisation.
    #[serde(default)]
    pub normalisation: Normalisation,
    /// What is kept of the images.
    #[serde(default)]
    pub store: Store,
    /// Longest side in pixels of what is kept of an original: larger ones are shrunk and encoded again.
    #[serde(default)]
    pub max_side: Option<usize>,
    /// Whether images are turned and mirrored as their EXIF or XMP data say; torchvision's `ImageFolder` does not.
    #[serde(default)]
    pub upright: bool,
    /// What is done about images that cannot be read.
    #[serde(default)]
    pub on_bad: OnBad,
}

impl PrepareConfig {
    /// All images of a source at a side in pixels, with the defaults for everything else.
    pub fn new(source: ImageSource, channels: usize, side: usize) -> Self {
        Self {
            source,
            side,
            resize: None,
            channels,
            validation_fraction: None,
            test_fraction: None,
            seed: 0,
            limit: None,
            normalisation: Normalisation::default(),
            store: Store::default(),
            max_side: None,
            upright: false,
            on_bad: OnBad::default(),
        }
    }

    pub(super) fn check(&self) -> Result<(), DataError> {
        const LARGEST: usize = 1 << 14;
        if self.side == 0 || self.side > LARGEST {
            return Err(DataError::option(
                "side",
                format!("{} given; it must be 1 to {LARGEST}", self.side),
            ));
        }
        if let Some(resize) = self.resize
            && (resize < self.side || resize > LARGEST)
        {
            let range = format!(
                "{resize} given; it must be at least the side, {}, and at most {LARGEST}",
                self.side
            );
            return Err(DataError::option("resize", range));
        }
        if ![1, 3].contains(&self.channels) {
            return Err(DataError::option(
                "channels",
                format!("{} given; it must be 1 or 3", self.channels),
            ));
        }
        for (option, fraction) in [
            ("validation_fraction", self.validation_fraction),
            ("test_fraction", self.test_fraction),
        ] {
            if let Some(fraction) = fraction
                && !(0.0..1.0).contains(&fraction)
            {
                return Err(DataError::option(
                    option,
                    format!("{fraction} given; it must be at least 0 and below 1"),
                ));
            }
        }
        if let Some(max_side) = self.max_side {
            if self.store == Store::Raw {
                let what = "levels of one size are kept, so there are no larger images".to_owned();
                return Err(DataError::option("max_side", what));
            }
            if max_side < self.resize.unwrap_or(self.side) || max_side > LARGEST {
                let least = self.resize.unwrap_or(self.side);
                let what = format!("{max_side} given; it must be at least {least}, to which images are resized");
                return Err(DataError::option("max_side", what));
            }
        }
        if let Some(Limit::PerClass(0) | Limit::Total(0)) = self.limit {
            return Err(DataError::option("limit", "0 given; it must keep at least one image"));
        }
        Ok(())
    }

    /// The constants of the normalisation; `None` where they are to be measured.
    pub(super) fn constants(&self) -> Result<Option<MeanAndStd>, DataError> {
        if self.normalisation == Normalisation::TrainingSplit {
            return Ok(None);
        }
        let published = self.source.name.published_normalisation();
        let (mean, std) = published
            .ok_or_else(|| DataError::option("normalisation", "there are no published constants for this source"))?;
        // A grey source has the same constants in all of its repeated channels.
        if mean.len() == 1 {
            return Ok(Some((vec![mean[0]; self.channels], vec![std[0]; self.channels])));
        }
        if mean.len() != self.channels {
            let what = format!(
                "the published constants are those of {} channels, and {} were asked for",
                mean.len(),
                self.channels
            );
            return Err(DataError::option("normalisation", what));
        }
        Ok(Some((mean, std)))
    }

    pub(super) fn describe(&self, kind: &str) -> String {
        let (resize, side) = (self.resize_to(), self.side);
        let view = format!("shorter side resized to {resize} (antialiased bilinear), centre crop {side} x {side}");
        match (self.store, self.max_side) {
            (Store::Raw, _) => format!("{kind}; {view}"),
            (Store::Encoded, None) => format!("{kind}; originals; for evaluation {view}"),
            (Store::Encoded, Some(longest)) => {
                format!("{kind}; originals, larger ones shrunk to {longest}; for evaluation {view}")
            }
        }
    }

    /// Length of the shorter side before the crop.
    pub(super) fn resize_to(&self) -> usize {
        self.resize.unwrap_or(self.side)
    }
}
