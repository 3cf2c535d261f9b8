//! Everything that can go wrong with image sets: each variant names the file, the place in it and what to do.

use dynvis_base::guard::Panicked;
use dynvis_base::memory::{NoRoom, ReadError};
use dynvis_base::{Classified, ErrorKind};
use std::path::{Path, PathBuf};

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
        /// Path of the file.
        file: PathBuf,
        /// Byte offset of the first thing that is wrong (after decompression, if the file is compressed).
        offset: u64,
        /// What the content is instead of what it should be.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// A label lies outside the classes of the data set.
    #[error("{} at byte {offset}: image {image} has label {label}, but labels run from 0 to {max}; check that the file \
        belongs to this data set", .file.display())]
    LabelOutOfRange {
        /// The file with the label.
        file: PathBuf,
        /// Byte offset of the label (after decompression).
        offset: u64,
        /// Index of the image in the file, from 0.
        image: usize,
        /// Label of the image.
        label: u32,
        /// The largest label that the data set has.
        max: u32,
    },
    /// Two files whose images must have the same size do not.
    #[error("{} has images of {found:?} pixels (height, width), but {} has {expected:?}; both must come from the same \
        data set", .file.display(), .other.display())]
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
        /// Path of the file of images.
        image_file: PathBuf,
        /// Number of images in `image_file`.
        images: usize,
        /// Path of the file of labels.
        label_file: PathBuf,
        /// Number of labels in `label_file`.
        labels: usize,
    },
    /// A class without images.
    #[error("class `{class}` ({}) has no images; add some or remove the folder", .folder.display())]
    EmptyClass {
        /// Name of the class.
        class: String,
        /// Folder of the class.
        folder: PathBuf,
    },
    /// A folder that should hold one sub-folder a class holds none.
    #[error(
        "{} has no class folders; images must lie in one sub-folder per class, or a table must give their classes \
         (`labels`: a CSV with the columns `file` and `class`){hint}",
        .folder.display()
    )]
    NoClasses {
        /// Folder that was searched.
        folder: PathBuf,
        /// More advice, with its leading separator.
        hint: String,
    },
    /// A class folder of the test or validation part that the training part does not have.
    #[error("class folder {} has no counterpart in {}; every part must have the classes of the training part", .folder.display(), .training.display())]
    UnknownClass {
        /// The folder without a counterpart.
        folder: PathBuf,
        /// Folder of the training part.
        training: PathBuf,
    },
    /// A kind of image that the decoders do not read, although it is sound.
    #[error("{}: {what}, which is not read; save the image again as PNG or as an ordinary 8-bit JPEG", .file.display())]
    Unsupported {
        /// Path of the image.
        file: PathBuf,
        /// Kind of image that it is.
        what: String,
    },
    /// What a file unpacks to does not fit into memory.
    #[error("{} is too large: {room}", .file.display())]
    TooLarge {
        /// Path of the file.
        file: PathBuf,
        /// What it takes and what there is.
        room: NoRoom,
    },
    /// A table of labels that does not fit its images.
    #[error("{}{}: {what}", .file.display(), .line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Labels {
        /// Path of the table.
        file: PathBuf,
        /// Line in it, from 1, where one is at fault.
        line: Option<u64>,
        /// What is wrong and what to do.
        what: String,
    },
    /// Several things at once, in the order of the images.
    #[error("{}", several(.0))]
    Several(
        /// Each of them; two at least.
        Vec<DataError>,
    ),
    /// Something in a class folder that is not an image.
    #[error("{} is not a JPEG or PNG image ({found}); remove it from the class folder", .file.display())]
    NotAnImage {
        /// Path of the file.
        file: PathBuf,
        /// What it is instead.
        found: String,
    },
    /// Fewer images than the splits need.
    #[error(
        "class `{class}` has {images} images, of which validation and test would take {taken} and leave none for \
         training; lower the fractions or raise the limit"
    )]
    TooFewImages {
        /// Name of the class.
        class: String,
        /// Images of the class after the limit.
        images: usize,
        /// Images that would go to validation and test.
        taken: usize,
    },
    /// A channel is constant over the training images, so it cannot be normalised by its standard deviation.
    #[error(
        "channel {channel} has the same value in every training image, so its standard deviation is 0 (are the images \
         black, \
         or the wrong ones?); look at them, or take published constants (`normalisation: published`) if they are meant so"
    )]
    ConstantChannel {
        /// Index of the channel, from 0.
        channel: usize,
    },
    /// An option that contradicts another or the source.
    #[error("{option}: {what}")]
    Option {
        /// Name of the option that is at fault.
        option: &'static str,
        /// What is wrong with it and what would be right.
        what: String,
    },
    /// Preparing was broken off, as its caller asked.
    #[error("stopped before the image set was complete")]
    Stopped,
    /// A directory that is not a complete image set.
    #[error("{}: {what}; prepare the image set again", .file.display())]
    NotAnImageSet {
        /// The file at fault.
        file: PathBuf,
        /// What is wrong with the file.
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

/// Most problems that one message names.
const SHOWN: usize = 20;

fn several(problems: &[DataError]) -> String {
    let shown = problems.iter().take(SHOWN).map(|problem| format!("\n  {problem}"));
    let rest = match problems.len().saturating_sub(SHOWN) {
        0 => String::new(),
        rest => format!("\n  and {rest} more"),
    };
    format!("{} problems:{}{rest}", problems.len(), shown.collect::<String>())
}

impl Classified for DataError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Io(error) => Classified::kind(error),
            Self::TooLarge { .. } => ErrorKind::Memory,
            Self::Stopped => ErrorKind::Stopped,
            // Trouble with reading may pass, but the rest of the problems would not.
            Self::Several(problems) => match problems.iter().map(Self::kind).find(|kind| *kind == ErrorKind::Input) {
                Some(kind) => kind,
                None => problems.first().map_or(ErrorKind::Bug, Self::kind),
            },
            Self::Missing { .. }
            | Self::Damaged { .. }
            | Self::LabelOutOfRange { .. }
            | Self::MixedSizes { .. }
            | Self::CountMismatch { .. }
            | Self::EmptyClass { .. }
            | Self::NoClasses { .. }
            | Self::UnknownClass { .. }
            | Self::Unsupported { .. }
            | Self::Labels { .. }
            | Self::NotAnImage { .. }
            | Self::TooFewImages { .. }
            | Self::ConstantChannel { .. }
            | Self::Option { .. }
            | Self::NotAnImageSet { .. } => ErrorKind::Input,
        }
    }
}

impl DataError {
    /// All problems as one error; `None` where there are none.
    pub(crate) fn all(mut problems: Vec<Self>) -> Option<Self> {
        match problems.len() {
            0 | 1 => problems.pop(),
            _ => Some(Self::Several(problems)),
        }
    }

    /// A reader gave up on `file` by a panic.
    pub(crate) fn panicked(file: &Path, panicked: &Panicked) -> Self {
        Self::damaged(file, 0, panicked.to_string())
    }

    pub(crate) fn too_large(file: &Path, room: NoRoom) -> Self {
        Self::TooLarge {
            file: file.to_owned(),
            room,
        }
    }

    pub(crate) fn labels(file: &Path, line: Option<u64>, what: impl Into<String>) -> Self {
        Self::Labels {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }

    /// `file`, of which `read` bytes were unpacked, could not be read on.
    pub(crate) fn unpacking(file: &Path, read: usize, error: ReadError) -> Self {
        let error = match error {
            ReadError::NoRoom(no_room) => return Self::too_large(file, no_room),
            ReadError::Io(error) => error,
        };
        let what = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "truncated gzip archive".to_owned(),
            _ => format!("damaged gzip archive ({error})"),
        };
        Self::damaged(file, read as u64, what + " (offset counted after decompression)")
    }

    /// `Damaged` with the usual advice for files that were downloaded.
    pub(crate) fn damaged(file: &Path, offset: u64, what: impl Into<String>) -> Self {
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
