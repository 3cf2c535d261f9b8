//! Image sets: reading the usual sources, preparing them once into a memory-mapped artifact, augmentation.
//!
//! Nothing here knows about networks. Images are 8-bit in files and memory maps; they become floats in [0, 1]
//! and are normalised only when an image is asked for.

mod archive;
mod archived_folders;
mod arrays;
pub mod augment;
mod batch;
mod cifar;
mod corruptions;
mod decode;
mod digits;
mod encoded_files;
mod error;
mod idx;
mod image_folder;
mod image_set;
mod imagenet;
mod imagenette;
mod images;
mod labels;
mod matlab;
mod memory_images;
mod npy;
mod parquet;
mod pickle;
mod prepare;
mod resize;
mod shards;
mod source;
mod split;
mod stimuli;
mod svhn;
mod tiny_imagenet;
mod webdataset;

pub use augment::{Affine, Augment, Elastic, MixOptions, RandAugment, RandomErasing, RandomResizedCrop};
pub use batch::SplitImages;
pub use corruptions::{
    CleanSubset, CorruptedFiles, CorruptedImages, Corruption, CorruptionCategory, CorruptionInputs, CorruptionSet,
    CorruptionSource, class_folder_files,
};
pub use error::DataError;
pub use image_set::{ImageSet, ImageSetWriter, Manifest, Originals, Shown, Splits};
pub use images::Images;
pub(crate) use images::{PartOfImages, fill_images};
pub use memory_images::MemoryImages;
pub use prepare::{
    ClassCount, DEFAULT_TEST, DEFAULT_VALIDATION, Limit, Normalisation, OnBad, Outlook, PrepareConfig, Skipped, Store,
    Summary, outlook, prepare, prepare_in_memory, prepare_resumable,
};
pub use source::{ImageSource, Requirement, SourceName, file_name};

use serde::{Deserialize, Serialize};

/// The three disjoint parts of an image set. Its mean and standard deviation come from the training images alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// training images
    Train,
    /// validation images, evaluated during training
    Validation,
    /// test images, used in no training
    Test,
}
