//! Image sets: reading the usual sources, preparing them once into a memory-mapped artifact, augmentation.
//!
//! Nothing here knows about networks. Images are 8-bit in files and memory maps; they become floats in [0, 1]
//! and are normalised only when an image is asked for.

mod augment;
mod batch;
mod cifar;
mod decode;
mod digits;
mod error;
mod idx;
mod image_folder;
mod image_set;
mod images;
mod labels;
mod pickle;
mod prepare;
mod resize;
mod source;
mod split;

pub use augment::{Affine, Augment, Elastic, RandomResizedCrop};
pub use batch::SplitImages;
pub use error::DataError;
pub use image_set::{ImageSet, ImageSetWriter, Manifest, Splits};
pub use images::Images;
pub use prepare::{ClassCount, Limit, Normalisation, PrepareConfig, Summary, prepare};
pub use source::{Emnist, ImageSource, Requirement, file_name};

use serde::{Deserialize, Serialize};

/// The three disjoint parts of an image set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Images that parameters are fitted to; the mean and standard deviation come from these alone.
    Train,
    /// Images for choosing between settings while training.
    Validation,
    /// Images for the reported figures.
    Test,
}
