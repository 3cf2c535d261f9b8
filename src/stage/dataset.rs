//! `dataset`: images, labels and splits in the form that later stages memory-map.

use std::path::{Path, PathBuf};

use cords::data::{
    DEFAULT_TEST, DEFAULT_VALIDATION, DataError, ImageSet, ImageSource, Limit, Normalisation, PrepareConfig,
    SourceName, Split, file_name, prepare,
};
use dynvis_runner::table::{Row, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyed_defaults;
use super::{
    Artifact, Context, DATASET, Declared, External, ExternalFile, Kind, MissingData, StageError, Update, Violation,
    located,
};

pub(super) struct Dataset;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Where the images come from.
    source: SourceName,
    /// Folder with the source's files, relative to the project's folder; `data/SOURCE` if not given.
    #[serde(default)]
    #[schemars(extend("x-path" = true))]
    path: Option<String>,
    /// Table of the images' classes for an image folder without class folders, or for stimuli: CSV with the columns
    /// `file` and `class`, and `split` (train, validation, test) if need be. If not given, a table that lies beside the
    /// images, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-path" = true))]
    labels: Option<String>,
    /// Height and width of the prepared images.
    #[serde(default = "default_side")]
    #[schemars(range(min = 8, max = 1024), extend("x-unit" = "px"))]
    side: usize,
    /// Length of the shorter side before the centre crop; `side` if not given.
    #[serde(default)]
    #[schemars(range(min = 8, max = 2048), extend("x-unit" = "px"))]
    resize: Option<usize>,
    /// 1 (luminance) or 3 (grey repeated); as the source has them if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3))]
    channels: Option<usize>,
    /// Fraction of each class's training images held out for validation; 0.1 if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    validation: Option<f64>,
    /// Fraction of each class's images held out for testing, where the source has no test part; 0.2 if not given.
    #[serde(default)]
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    test: Option<f64>,
    /// Use this many images in all, chosen by seed, for quick tests; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    limit: Option<usize>,
    /// Use this many images of each class, chosen by seed, for quick tests; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    limit_per_class: Option<usize>,
    /// Constants of the per-channel normalisation.
    #[serde(default)]
    normalisation: Normalisation,
    /// Seed of the splits and of the choice under a limit; the pipeline's if not given.
    #[serde(default)]
    #[schemars(range(min = 0))]
    seed: u64,
}

fn default_side() -> usize {
    224
}

/// The folder where a source's files are looked for, if none is given, and what they are and where they come from.
fn files_of(source: SourceName) -> (&'static str, &'static str) {
    match source {
        SourceName::Digits => ("data/digits", ""),
        SourceName::Mnist => (
            "data/mnist",
            "MNIST: four IDX files, as distributed by Y. LeCun and many mirrors (train-images-idx3-ubyte.gz …)",
        ),
        SourceName::FashionMnist => (
            "data/fashion_mnist",
            "Fashion-MNIST: four IDX files from Zalando Research (train-images-idx3-ubyte.gz …)",
        ),
        SourceName::EmnistBalanced
        | SourceName::EmnistByclass
        | SourceName::EmnistBymerge
        | SourceName::EmnistDigits
        | SourceName::EmnistLetters
        | SourceName::EmnistMnist => (
            "data/emnist",
            "EMNIST: four IDX files of one division, as NIST distributes them \
             (emnist-letters-train-images-idx3-ubyte.gz …)",
        ),
        SourceName::Cifar10 => (
            "data/cifar10",
            "CIFAR-10: cifar-10-binary.tar.gz or cifar-10-python.tar.gz from A. Krizhevsky's page, as it is or unpacked; \
             or train/ and test/ with a folder for each class",
        ),
        SourceName::Cifar100 => (
            "data/cifar100",
            "CIFAR-100: cifar-100-binary.tar.gz or cifar-100-python.tar.gz from A. Krizhevsky's page, as it is or \
             unpacked; or train/ and test/ with a folder for each class",
        ),
        SourceName::Svhn => (
            "data/svhn",
            "SVHN, cropped digits: train_32x32.mat and test_32x32.mat from Stanford's page",
        ),
        SourceName::TinyImagenet => (
            "data/tiny_imagenet",
            "Tiny ImageNet: tiny-imagenet-200.zip from Stanford's CS231n, as it is or unpacked",
        ),
        SourceName::Imagenette => (
            "data/imagenette",
            "Imagenette: imagenette2.tgz, imagenette2-320.tgz or imagenette2-160.tgz from fast.ai, as it is or unpacked",
        ),
        SourceName::Imagenet => (
            "data/imagenet",
            "ImageNet (ILSVRC 2012): ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz \
             from image-net.org, which asks for an account, or folders train/ and val/ of them",
        ),
        SourceName::Webdataset => (
            "data/webdataset",
            ".tar files whose members are KEY.jpg (or .jpeg, .png) and KEY.cls (or KEY.json with a field `label`)",
        ),
        SourceName::Parquet => (
            "data/parquet",
            "Parquet files of Hugging Face with columns `image` and `label`: train-*.parquet, test-*.parquet",
        ),
        SourceName::Arrays => (
            "data/arrays",
            "one .npz, or .npy files, of arrays `train_images`, `train_labels`, `test_images` and `test_labels`",
        ),
        SourceName::Stimuli => (
            "data/stimuli",
            "images, or a .zip of them, and a CSV with a row for each: `filename`, and `object_name` or another class",
        ),
        SourceName::ImageFolder => (
            "data/image_folder",
            "one folder a class, below train/ and val/ if the data set is divided (ImageNet: train/n01440764/…)",
        ),
    }
}

impl Params {
    fn folder(&self, root: &Path) -> PathBuf {
        located(root, self.path.as_deref().unwrap_or(files_of(self.source).0))
    }

    fn source(&self, root: &Path) -> ImageSource {
        ImageSource {
            name: self.source,
            path: self.folder(root),
            labels: self.labels.as_ref().map(|labels| located(root, labels)),
        }
    }
}

/// Options under the names that they have as parameters.
fn by_parameter(error: DataError) -> DataError {
    match error {
        DataError::Option { option, what } => DataError::Option {
            option: match option {
                "validation_fraction" => "validation",
                "test_fraction" => "test",
                other => other,
            },
            what,
        },
        other => other,
    }
}

/// The folders that hold these files, up to that of the data set: whatever comes into them is read, too.
fn folders_of(root: &Path, files: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders = std::collections::BTreeSet::from([root.to_owned()]);
    for file in files {
        let above = file.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        for folder in above {
            if !folders.insert(folder.to_owned()) {
                break;
            }
        }
    }
    folders.into_iter().collect()
}

/// A path as the user would write it in the project's folder.
fn within(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

impl Kind for Dataset {
    type Params = Params;
    const NAME: &'static str = "dataset";
    const SUMMARY: &'static str =
        "prepare images, labels and splits: digits, MNIST, CIFAR, ImageNet, folders, archives, Parquet, arrays";
    const CODE_VERSION: u32 = 2;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::DATASET;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("images", DATASET, "prepared images, labels and splits"),
        Declared::always(Count::NAME, Artifact::TABLE, "images of each class in each split"),
        Declared::always(
            File::NAME,
            Artifact::TABLE,
            "the images in order: index, file, class and split",
        ),
    ];

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        if params.channels == Some(2) {
            found.push(Violation::new("channels", "channels must be 1 or 3"));
        }
        if params.labels.is_some() && !params.source.takes_labels() {
            found.push(Violation::new(
                "labels",
                "only an `image_folder` and `stimuli` take a table of labels",
            ));
        }
        if params.resize.is_some_and(|r| r < params.side) {
            found.push(Violation::new("resize", "resize must not be smaller than side"));
        }
        if params.limit.is_some() && params.limit_per_class.is_some() {
            found.push(Violation::new("limit", "give `limit` or `limit_per_class`, not both"));
        }
        if params.validation.unwrap_or(DEFAULT_VALIDATION) + params.test.unwrap_or(DEFAULT_TEST) >= 1.0 {
            found.push(Violation::new(
                "validation",
                "validation and test leave no training images",
            ));
        }
        found
    }

    fn external(params: &Params, root: &Path) -> External {
        let source = params.source(root);
        let folder = params.folder(root);
        let (_, hint) = files_of(params.source);
        let missing: Vec<MissingData> = source
            .required_files()
            .iter()
            .filter(|r| r.found().is_none())
            .map(|r| MissingData {
                what: r.what.clone(),
                place: within(root, r.alternatives.first().unwrap_or(&folder)),
                hint: hint.to_owned(),
                ..MissingData::default()
            })
            .collect();
        if !missing.is_empty() {
            return External {
                missing,
                ..External::default()
            };
        }
        match source.input_files() {
            Ok(paths) => External {
                folders: match params.source.finds_files() {
                    true => folders_of(&folder, &paths),
                    false => Vec::new(),
                },
                files: paths
                    .into_iter()
                    .map(|path| ExternalFile {
                        // Never a path of this machine, also where a table of labels lies elsewhere.
                        slot: match path.strip_prefix(&folder) {
                            Ok(within) => file_name(within),
                            Err(_) => "labels".to_owned(),
                        },
                        path,
                    })
                    .collect(),
                ..External::default()
            },
            Err(error) => External {
                missing: vec![MissingData {
                    what: "the images".to_owned(),
                    place: within(root, &folder),
                    hint: hint.to_owned(),
                    unusable: Some(error.to_string()),
                }],
                ..External::default()
            },
        }
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let config = PrepareConfig {
            source: params.source(&context.root),
            side: params.side,
            resize: params.resize,
            channels: params.channels.unwrap_or(params.source.channels()),
            validation_fraction: params.validation,
            test_fraction: params.test,
            seed: params.seed,
            limit: match (params.limit, params.limit_per_class) {
                (Some(total), _) => Some(Limit::Total(total)),
                (None, Some(each)) => Some(Limit::PerClass(each)),
                (None, None) => None,
            },
            normalisation: params.normalisation,
        };
        let folder = context.output("images")?;
        let summary = prepare(&config, &folder, &mut |done, total| {
            context.report(Update {
                done: done as u64,
                total: total as u64,
                unit: "images".into(),
                phase: "preparing".into(),
                figures: Vec::new(),
                milestone: done == total,
            });
        })
        .map_err(by_parameter)?;
        for note in &summary.notes {
            context.note(note);
        }
        // Opening it as later stages will is the last check of what was written.
        let set = ImageSet::open(&folder)?;
        if set.split(Split::Train).is_empty() {
            return Err(StageError::new("no training images are left")
                .hint("use smaller fractions for validation and test, or a larger limit"));
        }
        let counts = summary.classes.iter().flat_map(|class| {
            let splits = [(TRAIN, class.train), (VALIDATION, class.validation), (TEST, class.test)];
            splits.map(|(split, images)| Count {
                class: class.class.clone(),
                split,
                images,
            })
        });
        context.write_rows(Count::NAME, counts)?;
        context.write_rows(File::NAME, files(&set, summary.files))
    }
}

const TRAIN: &str = "train";
const VALIDATION: &str = "validation";
const TEST: &str = "test";

/// Images of each class in each split
#[derive(Row)]
#[table(name = "counts")]
struct Count {
    /// Name of the class
    #[column(key)]
    class: String,
    /// train, validation or test
    #[column(key)]
    split: &'static str,
    /// Number of images
    images: usize,
}

/// As a doc comment it would be taken for a link.
const FILE_OF_IMAGE: &str =
    "Its file below the source's folder; FILE[N] for image N, from 0, of a file that holds many";

/// The image set's images in order
#[derive(Row)]
#[table(name = "files")]
struct File {
    /// Index of the image in the set, from 0
    #[column(key)]
    index: usize,
    #[column(description = FILE_OF_IMAGE)]
    file: String,
    /// Name of its class
    class: String,
    /// train, validation or test
    split: Option<&'static str>,
}

/// Which image of the set comes from which file.
fn files(set: &ImageSet, files: Vec<String>) -> impl Iterator<Item = File> {
    let mut splits = vec![None; set.len()];
    for (split, name) in [
        (Split::Train, TRAIN),
        (Split::Validation, VALIDATION),
        (Split::Test, TEST),
    ] {
        for image in set.split(split) {
            splits[*image as usize] = Some(name);
        }
    }
    files
        .into_iter()
        .zip(splits)
        .enumerate()
        .map(|(index, (file, split))| File {
            index,
            file,
            class: set.classes()[set.label(index) as usize].clone(),
            split,
        })
}
