//! Everything that can go wrong with image sets: each variant names the file, the place in it and what to do.

use std::path::PathBuf;

/// Errors of reading sources, preparing image sets and opening them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file operation failed; the message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file that the source needs is not there under any of its accepted names.
    #[error("{what} not found; put one of these in place: {}", list(.alternatives))]
    Missing {
        /// What the file holds.
        what: String,
        /// Every path that would do.
        alternatives: Vec<PathBuf>,
    },
    /// A file does not have the content its format prescribes.
    #[error("{} at byte {offset}: {what}; {advice}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Byte offset of the first thing that is wrong (after decompression, if the file is compressed).
        offset: u64,
        /// What is wrong.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// A label lies outside the classes of the data set.
    #[error("{} at byte {offset}: image {image} has label {label}, but labels run from 0 to {max}; check that the file belongs to this data set", .file.display())]
    LabelOutOfRange {
        /// The file with the label.
        file: PathBuf,
        /// Byte offset of the label (after decompression).
        offset: u64,
        /// Index of the image in the file, from 0.
        image: usize,
        /// The label found.
        label: u32,
        /// The largest label that the data set has.
        max: u32,
    },
    /// Two files whose images must have the same size do not.
    #[error("{} has images of {found:?} pixels (height, width), but {} has {expected:?}; both must come from the same data set", .file.display(), .other.display())]
    MixedSizes {
        /// The file that differs.
        file: PathBuf,
        /// Height and width in `file`.
        found: [usize; 2],
        /// The file it is compared with.
        other: PathBuf,
        /// Height and width in `other`.
        expected: [usize; 2],
    },
    /// The number of labels is not the number of images.
    #[error("{} has {images} images, but {} has {labels} labels; both must come from the same download", .image_file.display(), .label_file.display())]
    CountMismatch {
        /// The image file.
        image_file: PathBuf,
        /// Images in it.
        images: usize,
        /// The label file.
        label_file: PathBuf,
        /// Labels in it.
        labels: usize,
    },
    /// A class without images.
    #[error("class `{class}` ({}) has no images; add some or remove the folder", .folder.display())]
    EmptyClass {
        /// Class name.
        class: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// A folder that should hold one sub-folder a class holds none.
    #[error("{} has no class folders; images must lie in one sub-folder per class{hint}", .folder.display())]
    NoClasses {
        /// The folder.
        folder: PathBuf,
        /// More advice, with its leading separator.
        hint: String,
    },
    /// A class folder of the test or validation part that the training part does not have.
    #[error("class folder {} has no counterpart in {}; every part must have the classes of the training part", .folder.display(), .training.display())]
    UnknownClass {
        /// The folder without a counterpart.
        folder: PathBuf,
        /// The training part.
        training: PathBuf,
    },
    /// Something in a class folder that is not an image.
    #[error("{} is not a JPEG or PNG image ({found}); remove it from the class folder", .file.display())]
    NotAnImage {
        /// The file.
        file: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// Fewer images than the splits need.
    #[error(
        "class `{class}` has {images} images, of which validation and test would take {taken} and leave none for training; lower the fractions or raise the limit"
    )]
    TooFewImages {
        /// Class name.
        class: String,
        /// Images of the class after the limit.
        images: usize,
        /// Images that would go to validation and test.
        taken: usize,
    },
    /// A channel is constant over the training images, so it cannot be normalised by its standard deviation.
    #[error(
        "channel {channel} has the same value in every training image, so its standard deviation is 0; give mean and std explicitly"
    )]
    ConstantChannel {
        /// Channel index.
        channel: usize,
    },
    /// An option that contradicts another or the source.
    #[error("{option}: {what}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// What is wrong with it and what would be right.
        what: String,
    },
    /// A directory that is not a complete image set.
    #[error("{}: {what}; prepare the image set again", .file.display())]
    NotAnImageSet {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

impl DataError {
    /// `Damaged` with the usual advice for files that were downloaded.
    pub(crate) fn damaged(file: &std::path::Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_owned(),
            offset,
            what: what.into(),
            advice: "download or copy the file again".to_owned(),
        }
    }

    pub(crate) fn option(option: &'static str, what: impl Into<String>) -> Self {
        Self::Option {
            option,
            what: what.into(),
        }
    }
}
