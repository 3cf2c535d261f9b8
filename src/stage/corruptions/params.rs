//! Parameters of the `corruptions` stage.

use std::path::{Path, PathBuf};

use cords::data::{Corruption, CorruptionSet, CorruptionSource, Split};
use cords::device::cuda::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::gpu::tf32;
use crate::stage::{AnyRef, DatasetRef, ModelRef, Violation, located, test_split};

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::stage) struct Params {
    /// Stages whose models are evaluated on the same images.
    #[schemars(length(min = 1))]
    pub(super) models: Vec<ModelRef>,
    /// The clean images. Corrupted ones get their size and channels.
    pub(super) data: DatasetRef,
    /// The same dataset's table of images, `DATASET/files`: by it the corrupted versions of an image are found.
    pub(super) files: AnyRef,
    /// Part of the dataset; the sets are of test images (ImageNet's validation images).
    #[serde(default = "test_split")]
    pub(super) split: Split,
    /// Published set of corrupted images.
    pub(super) set: CorruptionSet,
    /// Folder with the set's files, relative to the project's folder; `data/SET` if not given.
    #[serde(default)]
    #[schemars(extend("x-path" = true))]
    path: Option<String>,
    /// Corruptions; the fifteen that the mean corruption error is over if not given.
    #[serde(default = "fifteen")]
    #[schemars(length(min = 1))]
    pub(super) corruptions: Vec<Corruption>,
    /// Severities; the mean corruption error is over all five.
    #[serde(default = "five")]
    #[schemars(length(min = 1), inner(range(min = 1, max = 5)))]
    pub(super) severities: Vec<u8>,
    /// Use this many images, chosen by seed, the same under every corruption and severity; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1), extend("x-unit" = "images"))]
    pub(super) images: Option<usize>,
    /// Length of the shorter side of corrupted images before the centre crop, as `resize` of the dataset; the dataset's
    /// side if not given. Images of ImageNet-C are cropped already and need none.
    #[serde(default)]
    #[schemars(range(min = 8, max = 2048), extend("x-unit" = "px"))]
    pub(super) resize: Option<usize>,
    /// Model whose errors on the same images corruption errors are relative to. If not given, AlexNet as published for
    /// `imagenet_c`; none for CIFAR, where mean errors are what is compared.
    #[serde(default)]
    pub(super) baseline: Option<ModelRef>,
    /// Also draw the corruptions that are noise (gaussian, shot, impulse, speckle) here, at the same levels on the same
    /// clean images. Only where the dataset's images have the size of the set's.
    #[serde(default = "yes")]
    pub(super) drawn: bool,
    /// Time without input before the image; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    pub(super) spontaneous: Option<f64>,
    /// Time that the image is shown, at the end of which networks answer; as each CordsNet was trained, if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    pub(super) stimulus: Option<f64>,
    /// What products of convolutions are computed from on a GPU: cuDNN is several times slower with float32. A processor
    /// computes in float32.
    #[serde(default = "tf32")]
    pub(super) precision: Precision,
    /// Seed of the choice of images, of drawn noise and of resamples; the pipeline's if not given.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub(super) seed: u64,
}

fn fifteen() -> Vec<Corruption> {
    Corruption::FIFTEEN.to_vec()
}

fn five() -> Vec<u8> {
    Corruption::SEVERITIES.to_vec()
}

fn yes() -> bool {
    true
}

/// The folder where a set's files are looked for, if none is given, and what they are and where they come from.
fn files_of(set: CorruptionSet) -> (&'static str, &'static str) {
    match set {
        CorruptionSet::Cifar10C => (
            "data/cifar10_c",
            "CIFAR-10-C: the arrays of CIFAR-10-C.tar from D. Hendrycks, zenodo.org/records/2535967, unpacked; \
             `dynvis data get cifar10_c` brings them",
        ),
        CorruptionSet::Cifar100C => (
            "data/cifar100_c",
            "CIFAR-100-C: the arrays of CIFAR-100-C.tar from D. Hendrycks, zenodo.org/records/3555552, unpacked; \
             `dynvis data get cifar100_c` brings them",
        ),
        CorruptionSet::ImagenetC => (
            "data/imagenet_c",
            "ImageNet-C: noise.tar, blur.tar, weather.tar and digital.tar from D. Hendrycks, \
             zenodo.org/records/2235448, unpacked to CORRUPTION/SEVERITY/CLASS",
        ),
    }
}

impl Params {
    pub(super) fn folder(&self, root: &Path) -> PathBuf {
        located(root, self.path.as_deref().unwrap_or(files_of(self.set).0))
    }

    /// What the set's files are and where they can be had.
    pub(super) fn hint(&self) -> &'static str {
        files_of(self.set).1
    }

    pub(super) fn source(&self, root: &Path) -> CorruptionSource {
        CorruptionSource {
            set: self.set,
            path: self.folder(root),
            corruptions: self.corruptions.clone(),
            severities: self.severities.clone(),
        }
    }

    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        if has_twice(&self.corruptions) {
            found.push(Violation::new("corruptions", "a corruption is given twice"));
        }
        if has_twice(&self.severities) {
            found.push(Violation::new("severities", "a severity is given twice"));
        }
        found
    }
}

fn has_twice<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(i, entry)| list[..i].contains(entry))
}
