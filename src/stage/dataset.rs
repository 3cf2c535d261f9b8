//! `dataset`: images, labels and splits in the form that later stages memory-map.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cords::data::{
    DEFAULT_TEST, DEFAULT_VALIDATION, DataError, ImageSet, ImageSource, Limit, Normalisation, OnBad, PrepareConfig,
    Skipped, SourceName, Split, Store, file_name, outlook, prepare_resumable,
};
use dynvis_runner::table::{Row, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::extent::{Facts, ImageCounts};
use super::{
    Context, DATASET, Declared, Extent, External, ExternalFile, FirstBytes, InputExtents, Kind, MissingData, Size,
    StageError, Tree, TreeFiles, Update, Violation, located,
};
use super::{checkpoints, keyed_defaults};

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
    /// 1 (luminance) or 3 (grey repeated); if not given, 1 for `digits`, MNIST, Fashion-MNIST and EMNIST, and 3 for all
    /// others.
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
    /// Use this many images of each part that the source has (training, validation, test), chosen by seed, for quick
    /// tests; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    limit: Option<usize>,
    /// Use this many images of each class and part, chosen by seed, for quick tests; all if not given.
    #[serde(default)]
    #[schemars(range(min = 1))]
    limit_per_class: Option<usize>,
    /// Constants of the per-channel normalisation.
    #[serde(default)]
    normalisation: Normalisation,
    /// What is kept of the images. Random crops in training are of the original images with `encoded` alone.
    #[serde(default)]
    store: Store,
    /// Longest side of what `store: encoded` keeps of an image: larger ones are shrunk and encoded again, once, as JPEG
    /// of quality 95 or as PNG. Images are kept as they are if not given.
    #[serde(default)]
    #[schemars(range(min = 8, max = 16384), extend("x-unit" = "px"))]
    max_side: Option<usize>,
    /// Turn and mirror images as their EXIF or XMP data say; cameras store the way they were held there. Off, images are
    /// taken as they are stored, as torchvision's `ImageFolder` takes them.
    #[serde(default)]
    exif_orientation: bool,
    /// What is done about images that cannot be read.
    #[serde(default)]
    on_bad: OnBad,
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
            "MNIST: four IDX files, as distributed by Y. LeCun and many mirrors (train-images-idx3-ubyte.gz …); \
             `dynvis data get mnist` fetches them",
        ),
        SourceName::FashionMnist => (
            "data/fashion_mnist",
            "Fashion-MNIST: four IDX files from Zalando Research (train-images-idx3-ubyte.gz …); \
             `dynvis data get fashion_mnist` fetches them",
        ),
        SourceName::EmnistBalanced
        | SourceName::EmnistByclass
        | SourceName::EmnistBymerge
        | SourceName::EmnistDigits
        | SourceName::EmnistLetters
        | SourceName::EmnistMnist => (
            "data/emnist",
            "EMNIST: four IDX files of one division, as NIST distributes them \
             (emnist-letters-train-images-idx3-ubyte.gz …); `dynvis data get emnist` fetches all divisions",
        ),
        SourceName::Cifar10 => (
            "data/cifar10",
            "CIFAR-10: cifar-10-binary.tar.gz or cifar-10-python.tar.gz from A. Krizhevsky's page, as it is or unpacked, \
             or train/ and test/ with a folder for each class; `dynvis data get cifar10` fetches it",
        ),
        SourceName::Cifar100 => (
            "data/cifar100",
            "CIFAR-100: cifar-100-binary.tar.gz or cifar-100-python.tar.gz from A. Krizhevsky's page, as it is or \
             unpacked, or train/ and test/ with a folder for each class; `dynvis data get cifar100` fetches it",
        ),
        SourceName::Svhn => (
            "data/svhn",
            "SVHN, cropped digits: train_32x32.mat and test_32x32.mat from Stanford's page",
        ),
        SourceName::TinyImagenet => (
            "data/tiny_imagenet",
            "Tiny ImageNet: tiny-imagenet-200.zip from Stanford's CS231n, as it is or unpacked; \
             `dynvis data get tiny_imagenet` fetches it",
        ),
        SourceName::Imagenette => (
            "data/imagenette",
            "Imagenette: imagenette2.tgz, imagenette2-320.tgz or imagenette2-160.tgz from fast.ai, as it is or unpacked; \
             `dynvis data get imagenette` fetches it",
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

    fn config(&self, root: &Path) -> PrepareConfig {
        PrepareConfig {
            source: self.source(root),
            side: self.side,
            resize: self.resize,
            channels: self.channels.unwrap_or(self.source.channels()),
            validation_fraction: self.validation,
            test_fraction: self.test,
            seed: self.seed,
            limit: match (self.limit, self.limit_per_class) {
                (Some(total), _) => Some(Limit::Total(total)),
                (None, Some(each)) => Some(Limit::PerClass(each)),
                (None, None) => None,
            },
            normalisation: self.normalisation,
            store: self.store,
            max_side: self.max_side,
            upright: self.exif_orientation,
            on_bad: self.on_bad,
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

/// A folder of images: whatever comes into it or below it is read, too.
fn image_tree(source: ImageSource, root: &Path) -> Tree {
    let folder = source.path.clone();
    let labels = source.labels.as_deref().unwrap_or(Path::new(""));
    let rule = format!("{:?} {}", source.name, labels.display());
    let (_, hint) = files_of(source.name);
    let place = within(root, &folder);
    let select = move |heads: &mut dyn FirstBytes| {
        let found = source.folder_files(&mut |files| heads.of(files));
        let (files, elsewhere) = found.map_err(|error| MissingData {
            what: "the images".to_owned(),
            place: place.clone(),
            hint: hint.to_owned(),
            unusable: Some(error.to_string()),
        })?;
        let others = elsewhere.into_iter().map(|path| ExternalFile {
            // Never a path of this machine.
            slot: "labels".to_owned(),
            path,
        });
        Ok(TreeFiles {
            files,
            others: others.collect(),
        })
    };
    Tree {
        folder,
        prefix: String::new(),
        rule,
        is_watched: true,
        select: Arc::new(select),
    }
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
        Declared::table::<Count>("images of each class in each split"),
        Declared::table::<File>("the images in order: index, file, class and split"),
        Declared::table::<LeftOut>("images that cannot be read, and why")
            .when("with `on_bad: skip`", |params| params.on_bad == OnBad::Skip),
    ];
    const KEEPS_CHECKPOINTS: bool = true;

    /// Since version 3 pictures are decoded as libjpeg and resized as Pillow does. Other sources that hold pictures are
    /// newer than that.
    fn code_version(params: &Params) -> u32 {
        match params.source {
            SourceName::ImageFolder => 3,
            _ => Self::CODE_VERSION,
        }
    }

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
        if params.max_side.is_some() && params.store == Store::Raw {
            found.push(Violation::new("max_side", "only `store: encoded` keeps larger images"));
        }
        if params
            .max_side
            .is_some_and(|longest| longest < params.resize.unwrap_or(params.side))
        {
            let message = "max_side must not be smaller than `resize`, or `side` without it";
            found.push(Violation::new("max_side", message));
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
        if params.source.finds_files() {
            return External {
                trees: vec![image_tree(source, root)],
                ..External::default()
            };
        }
        match source.input_files() {
            Ok(paths) => External {
                files: paths
                    .into_iter()
                    .map(|path| ExternalFile {
                        // Never a path of this machine.
                        slot: file_name(path.strip_prefix(&folder).unwrap_or(&path)),
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

    fn extent(params: &Params, root: &Path, _inputs: &InputExtents) -> Result<Option<Extent>, StageError> {
        let config = params.config(root);
        let told = outlook(&config).map_err(by_parameter)?;
        let size = told.bytes.map(|bytes| Size {
            bytes,
            is_most: params.max_side.is_some() || params.on_bad == OnBad::Skip,
        });
        let images = ImageCounts {
            train: told.train as u64,
            validation: told.validation as u64,
            test: told.test as u64,
            channels: config.channels,
            side: config.side,
            classes: told.classes,
        };
        let told = Facts {
            images: Some(images),
            ..Facts::default()
        };
        Ok(Some(Extent::with_facts(size, told)))
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let config = params.config(&context.root);
        let folder = context.output("images")?;
        let work = context.checkpoint.clone();
        let mut is_first = true;
        let summary = prepare_resumable(&config, &folder, &work, &mut |done, total| {
            if std::mem::take(&mut is_first) && done > 0 {
                context.note(format!(
                    "goes on where it was stopped: {done} of {total} images are there"
                ));
            }
            context.report(Update {
                done: done as u64,
                total: total as u64,
                unit: "images".into(),
                phase: "preparing".into(),
                figures: Vec::new(),
                milestone: done == total,
            });
            checkpoints::heed(context)
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
        if params.on_bad == OnBad::Skip {
            let root = format!("{}/", context.root.display());
            let left_out = |Skipped { file, problem }| LeftOut {
                file,
                // Never a path of this machine.
                problem: problem.replace(&root, ""),
            };
            context.write_rows(LeftOut::NAME, summary.skipped.into_iter().map(left_out))?;
        }
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

/// The images that cannot be read
#[derive(Row)]
#[table(name = "skipped")]
struct LeftOut {
    #[column(key, description = FILE_OF_IMAGE)]
    file: String,
    /// What is wrong with it
    problem: String,
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
