//! Published sets of corrupted test images (Hendrycks and Dietterich 2019): CIFAR-10-C and CIFAR-100-C, an array a
//! corruption, and ImageNet-C, a folder a corruption and severity. Each corrupted image is found from the clean one, by
//! its number in the published order or by its file's name.

use super::decode::{Pixels, decode};
use super::npy::NpyFile;
use super::resize::{self, Resizer, Rule};
use super::source::{Requirement, file_name, read_file};
use super::{DataError, ImageSet};
use dynvis_base::FileList;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The published sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CorruptionSet {
    /// CIFAR-10-C: one array (`.npy`) for each corruption, and `labels.npy`
    Cifar10C,
    /// CIFAR-100-C, in the same form
    Cifar100C,
    /// ImageNet-C: JPEG files of 224 x 224 pixels in folders CORRUPTION/SEVERITY/CLASS
    ImagenetC,
}

impl CorruptionSet {
    /// What it is called.
    pub fn title(self) -> &'static str {
        match self {
            Self::Cifar10C => "CIFAR-10-C",
            Self::Cifar100C => "CIFAR-100-C",
            Self::ImagenetC => "ImageNet-C",
        }
    }

    /// Height and width of its images in pixels.
    pub fn side(self) -> usize {
        match self {
            Self::Cifar10C | Self::Cifar100C => CIFAR_SIDE,
            Self::ImagenetC => 224,
        }
    }

    /// Classes of the clean images.
    pub fn classes(self) -> usize {
        match self {
            Self::Cifar10C => 10,
            Self::Cifar100C => 100,
            Self::ImagenetC => 1000,
        }
    }
}

/// Height and width of a CIFAR image.
const CIFAR_SIDE: usize = 32;
/// Values of a CIFAR image.
const CIFAR_LEN: usize = 3 * CIFAR_SIDE * CIFAR_SIDE;

/// A corruption, under the name that it has in all sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Corruption {
    /// noise: a normal value is added
    GaussianNoise,
    /// noise: counts of photons
    ShotNoise,
    /// noise: some values become 0 or 1
    ImpulseNoise,
    /// blur: out of focus
    DefocusBlur,
    /// blur: through frosted glass
    GlassBlur,
    /// blur: a moving camera
    MotionBlur,
    /// blur: a camera that comes closer
    ZoomBlur,
    /// weather: falling snow
    Snow,
    /// weather: ice crystals on a window
    Frost,
    /// weather: fog
    Fog,
    /// weather: more light
    Brightness,
    /// digital: less contrast
    Contrast,
    /// digital: stretched in places
    ElasticTransform,
    /// digital: enlarged from fewer pixels
    Pixelate,
    /// digital: JPEG of low quality
    JpegCompression,
    /// extra, no part of the mean corruption error: a normal value times the pixel is added
    SpeckleNoise,
    /// extra: smoothed
    GaussianBlur,
    /// extra: water or mud on the lens
    Spatter,
    /// extra: other saturation of colours
    Saturate,
}

/// Kinds of corruptions, as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorruptionCategory {
    /// Noise on every pixel.
    Noise,
    /// Neighbouring pixels are mixed.
    Blur,
    /// What stands between camera and object, and light.
    Weather,
    /// What programs do to images.
    Digital,
    /// The four that were held out for tuning; they are no part of any mean.
    Extra,
}

impl Corruption {
    /// The fifteen that the mean corruption error is over, in the published order.
    pub const FIFTEEN: [Self; 15] = [
        Self::GaussianNoise,
        Self::ShotNoise,
        Self::ImpulseNoise,
        Self::DefocusBlur,
        Self::GlassBlur,
        Self::MotionBlur,
        Self::ZoomBlur,
        Self::Snow,
        Self::Frost,
        Self::Fog,
        Self::Brightness,
        Self::Contrast,
        Self::ElasticTransform,
        Self::Pixelate,
        Self::JpegCompression,
    ];

    /// Severities of every corruption.
    pub const SEVERITIES: [u8; 5] = [1, 2, 3, 4, 5];

    /// Name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::GaussianNoise => "gaussian_noise",
            Self::ShotNoise => "shot_noise",
            Self::ImpulseNoise => "impulse_noise",
            Self::DefocusBlur => "defocus_blur",
            Self::GlassBlur => "glass_blur",
            Self::MotionBlur => "motion_blur",
            Self::ZoomBlur => "zoom_blur",
            Self::Snow => "snow",
            Self::Frost => "frost",
            Self::Fog => "fog",
            Self::Brightness => "brightness",
            Self::Contrast => "contrast",
            Self::ElasticTransform => "elastic_transform",
            Self::Pixelate => "pixelate",
            Self::JpegCompression => "jpeg_compression",
            Self::SpeckleNoise => "speckle_noise",
            Self::GaussianBlur => "gaussian_blur",
            Self::Spatter => "spatter",
            Self::Saturate => "saturate",
        }
    }

    /// Which kind of corruption it is.
    pub fn category(self) -> CorruptionCategory {
        match self {
            Self::GaussianNoise | Self::ShotNoise | Self::ImpulseNoise => CorruptionCategory::Noise,
            Self::DefocusBlur | Self::GlassBlur | Self::MotionBlur | Self::ZoomBlur => CorruptionCategory::Blur,
            Self::Snow | Self::Frost | Self::Fog | Self::Brightness => CorruptionCategory::Weather,
            Self::Contrast | Self::ElasticTransform | Self::Pixelate | Self::JpegCompression => {
                CorruptionCategory::Digital
            }
            Self::SpeckleNoise | Self::GaussianBlur | Self::Spatter | Self::Saturate => CorruptionCategory::Extra,
        }
    }
}

impl CorruptionCategory {
    /// Those that means are over, in the published order.
    pub const FOUR: [Self; 4] = [Self::Noise, Self::Blur, Self::Weather, Self::Digital];

    /// Name in tables; also that of the archive and folder in which ImageNet-C is distributed.
    pub fn name(self) -> &'static str {
        match self {
            Self::Noise => "noise",
            Self::Blur => "blur",
            Self::Weather => "weather",
            Self::Digital => "digital",
            Self::Extra => "extra",
        }
    }
}

/// Corrupted versions of images.
pub trait CorruptedImages: Sync {
    /// How many versions there are of every image.
    fn versions(&self) -> usize;

    /// A version of an image, by its place among those that are evaluated: levels `[channels, side, side]` as those of
    /// the clean image.
    ///
    /// # Errors
    /// What is wrong with the file that holds it, which the error names.
    fn levels(&self, version: usize, place: usize) -> Result<Vec<u8>, DataError>;
}

/// Where a published set lies, and what of it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptionSource {
    /// Which set it is.
    pub set: CorruptionSet,
    /// Folder of the arrays or of the corruptions' folders, or the one that they were unpacked into.
    pub path: PathBuf,
    /// Corruptions, each once.
    pub corruptions: Vec<Corruption>,
    /// Severities, 1 to 5, each once.
    pub severities: Vec<u8>,
}

/// What of a set may be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CorruptionInputs {
    /// Files, each with the name that tells it from the others whatever folders the set lies in.
    pub files: Vec<(String, PathBuf)>,
    /// Folders of class folders, of which every file may be read, each with what stands before its files' names.
    pub folders: Vec<(String, PathBuf)>,
}

/// The clean images whose corrupted versions are wanted.
#[derive(Clone, Copy, Debug)]
pub struct CleanSubset<'a> {
    /// The set that they are in; corrupted images get its channels and side.
    pub set: &'a ImageSet,
    /// Their indices.
    pub images: &'a [u32],
    /// The file of each, as [`Summary::files`](super::Summary::files) has it.
    pub files: &'a [String],
    /// Length of the shorter side before the centre crop, as the set was prepared; the set's side if not given.
    pub resize: Option<usize>,
}

impl CorruptionSource {
    /// Every corruption at every severity, in order: what [`CorruptedFiles`] has as versions.
    pub fn versions(&self) -> Vec<(Corruption, u8)> {
        let corruptions = self.corruptions.iter();
        corruptions
            .flat_map(|corruption| self.severities.iter().map(|severity| (*corruption, *severity)))
            .collect()
    }

    /// The files or folders that must exist.
    pub fn required_files(&self) -> Vec<Requirement> {
        let title = self.set.title();
        match self.set {
            CorruptionSet::Cifar10C | CorruptionSet::Cifar100C => {
                let of = |name: &str, what: String| {
                    let name = format!("{name}.npy");
                    Requirement {
                        what,
                        // The archive unpacks to a folder of the set's name.
                        alternatives: vec![self.path.join(&name), self.path.join(title).join(&name)],
                    }
                };
                let array = |corruption: &Corruption| {
                    let name = corruption.name();
                    of(name, format!("{title}'s images with {name}"))
                };
                let arrays = self.corruptions.iter().map(array);
                arrays.chain([of("labels", format!("{title}'s labels"))]).collect()
            }
            CorruptionSet::ImagenetC => {
                let folder = |(corruption, severity): (Corruption, u8)| {
                    let (name, severity) = (corruption.name(), severity.to_string());
                    let within = |folder: PathBuf| folder.join(name).join(&severity);
                    Requirement {
                        what: format!("{title}'s images with {name}, severity {severity}"),
                        alternatives: vec![
                            within(self.path.clone()),
                            within(self.path.join(corruption.category().name())),
                        ],
                    }
                };
                self.versions().into_iter().map(folder).collect()
            }
        }
    }

    /// Every file that may be read: contents and names decide the result.
    ///
    /// # Errors
    /// [`DataError::Missing`] where a required file or folder is missing.
    pub fn input_files(&self) -> Result<CorruptionInputs, DataError> {
        let found: Vec<PathBuf> = self
            .required_files()
            .iter()
            .map(Requirement::locate)
            .collect::<Result<_, _>>()?;
        if self.set != CorruptionSet::ImagenetC {
            let named = |path: PathBuf| (file_name(Path::new(path.file_name().unwrap_or_default())), path);
            return Ok(CorruptionInputs {
                files: found.into_iter().map(named).collect(),
                folders: Vec::new(),
            });
        }
        let versions = self.versions().into_iter();
        let prefixes = versions.map(|(corruption, severity)| format!("{}/{severity}/", corruption.name()));
        Ok(CorruptionInputs {
            files: Vec::new(),
            folders: prefixes.zip(found).collect(),
        })
    }

    /// Opens the set for some clean images: finds each corrupted image, and holds their labels against those of the
    /// clean ones.
    ///
    /// # Errors
    /// [`DataError::Missing`], [`DataError::Damaged`] or [`DataError::Io`] where a file is missing, of another form or
    /// cannot be read, [`DataError::Labels`] where images have other labels than the clean ones, [`DataError::Option`]
    /// where an option is out of range or the clean images are no images of the set's; all that can be told at once as
    /// [`DataError::Several`].
    pub fn open(&self, clean: CleanSubset<'_>) -> Result<CorruptedFiles, DataError> {
        self.check(&clean)?;
        let found: Vec<PathBuf> = self
            .required_files()
            .iter()
            .map(Requirement::locate)
            .collect::<Result<_, _>>()?;
        let files = match self.set {
            CorruptionSet::Cifar10C | CorruptionSet::Cifar100C => self.open_arrays(&clean, &found)?,
            CorruptionSet::ImagenetC => self.open_folders(&clean, found)?,
        };
        Ok(CorruptedFiles {
            files,
            channels: clean.set.channels(),
            side: clean.set.side(),
            resize: clean.resize.unwrap_or(clean.set.side()),
        })
    }

    fn check(&self, clean: &CleanSubset<'_>) -> Result<(), DataError> {
        if clean.images.len() != clean.files.len() {
            let what = format!("{} names given for {} images", clean.files.len(), clean.images.len());
            return Err(DataError::option("files", what));
        }
        if self.corruptions.is_empty() || self.severities.is_empty() {
            return Err(DataError::option("corruptions", "none given"));
        }
        if let Some(severity) = self.severities.iter().find(|s| !Corruption::SEVERITIES.contains(s)) {
            return Err(DataError::option(
                "severities",
                format!("{severity} given; they are 1 to 5"),
            ));
        }
        let side = clean.set.side();
        if let Some(resize) = clean.resize.filter(|resize| *resize < side) {
            let what = format!("{resize} given; it must be at least the side of the clean images, {side}");
            return Err(DataError::option("resize", what));
        }
        Ok(())
    }

    /// Arrays `[5 x images, 32, 32, 3]`, severity after severity, each in the order of the published test images.
    fn open_arrays(&self, clean: &CleanSubset<'_>, found: &[PathBuf]) -> Result<Files, DataError> {
        let Some((label_file, array_files)) = found.split_last() else {
            return Err(DataError::option("corruptions", "none given"));
        };
        let (labels, mut problems) = match labels_of(label_file) {
            Ok(labels) => (labels, Vec::new()),
            Err(problem) => (Vec::new(), vec![problem]),
        };
        let mut arrays = Vec::new();
        for path in array_files {
            match NpyFile::open(path).and_then(|array| check_array(path, array)) {
                Ok(array) => arrays.push(array),
                Err(problem) => problems.push(problem),
            }
        }
        if !labels.is_empty() {
            let other = arrays
                .iter()
                .zip(array_files)
                .filter(|(array, _)| array.shape()[0] != labels.len());
            problems.extend(other.map(|(array, path)| DataError::CountMismatch {
                image_file: path.clone(),
                images: array.shape()[0],
                label_file: label_file.clone(),
                labels: labels.len(),
            }));
        }
        if let Some(error) = DataError::all(problems) {
            return Err(error);
        }
        let images = labels.len() / Corruption::SEVERITIES.len();
        let rows = rows_of(clean, images, self.set)?;
        self.check_labels(clean, &rows, label_file, &labels)?;
        Ok(Files::Arrays {
            arrays,
            severities: self.severities.clone(),
            images,
            rows,
        })
    }

    /// That every image is of the class that its row has, at every severity.
    fn check_labels(
        &self,
        clean: &CleanSubset<'_>,
        rows: &[usize],
        label_file: &Path,
        labels: &[i64],
    ) -> Result<(), DataError> {
        let images = labels.len() / Corruption::SEVERITIES.len();
        let mut differing = Vec::new();
        for (place, row) in rows.iter().enumerate() {
            let label = clean.set.label(clean.images[place] as usize);
            let severities = self.severities.iter().map(|severity| usize::from(severity - 1));
            let mut theirs = severities.map(|severity| labels[severity * images + row]);
            if let Some(other) = theirs.find(|other| *other != i64::from(label)) {
                differing.push((place, label, other));
            }
        }
        let Some((place, label, other)) = differing.first().copied() else {
            return Ok(());
        };
        let what = format!(
            "{} of {} images are of another class than the same image of the dataset: {}, of class {label} (`{}`), has \
             label {other} there. The dataset must have the published test images in their order",
            differing.len(),
            rows.len(),
            clean.files[place],
            clean.set.classes()[label as usize],
        );
        Err(DataError::labels(label_file, None, what))
    }

    /// Files CORRUPTION/SEVERITY/CLASS/NAME, with the name that the clean image's file has.
    fn open_folders(&self, clean: &CleanSubset<'_>, folders: Vec<PathBuf>) -> Result<Files, DataError> {
        let within = |(image, file): (&u32, &String)| {
            let class = &clean.set.classes()[clean.set.label(*image as usize) as usize];
            Path::new(class).join(last_part(file))
        };
        let names: Vec<PathBuf> = clean.images.iter().zip(clean.files).map(within).collect();
        let missing = |folder: &PathBuf| -> Vec<PathBuf> {
            let paths = names.iter().map(|name| folder.join(name));
            paths.filter(|path| !path.is_file()).collect()
        };
        let missing: Vec<PathBuf> = folders.par_iter().flat_map_iter(missing).collect();
        if missing.is_empty() {
            return Ok(Files::Folders { folders, names });
        }
        if missing.len() == folders.len() * names.len() {
            let what = format!(
                "none of the {} corrupted images is there, such as {}: images of the dataset must have the names of \
                 ImageNet's validation images, and their classes those of the folders (n01440764 …)",
                missing.len(),
                missing[0].display()
            );
            return Err(DataError::option("files", what));
        }
        let problem = |path: PathBuf| DataError::Missing {
            what: "a corrupted image".to_owned(),
            alternatives: vec![path],
        };
        match DataError::all(missing.into_iter().map(problem).collect()) {
            Some(error) => Err(error),
            None => Ok(Files::Folders { folders, names }),
        }
    }
}

/// Names and paths of the folders or files of a folder, by name; hidden ones aside.
fn entries(folder: &Path, folders: bool) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        // Links count as what they lead to.
        if !name.as_encoded_bytes().starts_with(b".") && entry.path().is_dir() == folders {
            found.push((file_name(Path::new(&name)), entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The files in the class folders of one of [`CorruptionInputs::folders`], in order.
///
/// # Errors
/// [`DataError::Io`] where a folder cannot be read.
pub fn class_folder_files(folder: &Path) -> Result<FileList, DataError> {
    let mut files = FileList::new(folder);
    for (_, class_folder) in entries(folder, true)? {
        let within = class_folder.strip_prefix(folder).unwrap_or(&class_folder);
        let number = files.add_folder(within);
        for (_, file) in entries(&class_folder, false)? {
            files.push(number, file.file_name().unwrap_or_default());
        }
    }
    files.sort();
    Ok(files)
}

/// Labels of the images of all severities.
fn labels_of(path: &Path) -> Result<Vec<i64>, DataError> {
    let file = NpyFile::open(path)?;
    let shape = file.shape();
    if shape.len() != 1 || shape[0] == 0 || !shape[0].is_multiple_of(Corruption::SEVERITIES.len()) {
        let what = format!("an array of shape {shape:?}; a label is needed for each image of five severities");
        return Err(DataError::damaged(path, 0, what));
    }
    file.whole_numbers()
}

fn check_array(path: &Path, array: NpyFile) -> Result<NpyFile, DataError> {
    let shape = array.shape();
    let fits = shape.len() == 4 && shape[1..] == [CIFAR_SIDE, CIFAR_SIDE, 3];
    if !fits || !array.has_levels() || shape[0] == 0 {
        let kind = array.kind();
        let what = format!("an array of shape {shape:?} and type {kind}; [images, 32, 32, 3] of type |u1 is needed");
        return Err(DataError::damaged(path, 0, what));
    }
    Ok(array)
}

/// Numbers of the clean images in the order of the published test images.
fn rows_of(clean: &CleanSubset<'_>, images: usize, set: CorruptionSet) -> Result<Vec<usize>, DataError> {
    let wrong = |what: String| DataError::option("files", what);
    let mut of_all: Option<&str> = None;
    let mut rows = Vec::with_capacity(clean.files.len());
    for file in clean.files {
        let parts = file.strip_suffix(']').and_then(|file| file.rsplit_once('['));
        let parts = parts.and_then(|(name, number)| Some((name, number.parse::<usize>().ok()?)));
        let Some((name, row)) = parts else {
            return Err(wrong(format!(
                "`{file}` does not say which of the test images it is; the dataset must be prepared from CIFAR's own \
                 files, of which images are called FILE[NUMBER]"
            )));
        };
        let first = *of_all.get_or_insert(name);
        if first != name {
            return Err(wrong(format!(
                "images come from `{first}` and from `{name}`, but {} has the test images alone; take the dataset's \
                 test split",
                set.title()
            )));
        }
        if row >= images {
            return Err(wrong(format!(
                "`{file}` is image {row}, from 0, of its file, but {} has {images} images at each severity",
                set.title()
            )));
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Name of an image's file, without the folders or the archive that it lies in.
fn last_part(file: &str) -> &str {
    let inner = file.strip_suffix(']').and_then(|file| file.rsplit_once('['));
    let file = inner.map_or(file, |(_, member)| member);
    file.rsplit_once('/').map_or(file, |(_, name)| name)
}

/// Where the corrupted versions of each clean image lie.
#[derive(Debug)]
enum Files {
    Arrays {
        /// One for each corruption.
        arrays: Vec<NpyFile>,
        severities: Vec<u8>,
        /// Images of a severity.
        images: usize,
        /// Number of each clean image among them.
        rows: Vec<usize>,
    },
    Folders {
        /// One for each corruption and severity.
        folders: Vec<PathBuf>,
        /// CLASS/NAME of each clean image.
        names: Vec<PathBuf>,
    },
}

/// The published corrupted versions of some clean images, read when they are asked for.
#[derive(Debug)]
pub struct CorruptedFiles {
    files: Files,
    channels: usize,
    side: usize,
    resize: usize,
}

impl CorruptedImages for CorruptedFiles {
    fn versions(&self) -> usize {
        match &self.files {
            Files::Arrays { arrays, severities, .. } => arrays.len() * severities.len(),
            Files::Folders { folders, .. } => folders.len(),
        }
    }

    fn levels(&self, version: usize, place: usize) -> Result<Vec<u8>, DataError> {
        let (pixels, rule) = match &self.files {
            Files::Arrays {
                arrays,
                severities,
                images,
                rows,
            } => {
                let severity = usize::from(severities[version % severities.len()] - 1);
                let mut data = vec![0; CIFAR_LEN];
                let row = severity * images + rows[place];
                arrays[version / severities.len()].levels(row * CIFAR_LEN, &mut data)?;
                let pixels = Pixels {
                    width: CIFAR_SIDE,
                    height: CIFAR_SIDE,
                    channels: 3,
                    data,
                };
                (pixels, Rule::Arrays)
            }
            Files::Folders { folders, names } => {
                let path = folders[version].join(&names[place]);
                (decode(&path, &read_file(&path)?, false)?, Rule::Pillow)
            }
        };
        let pixels = pixels.with_channels(self.channels);
        Ok(resize::fit(
            &mut Resizer::default(),
            pixels,
            self.resize,
            self.side,
            rule,
        ))
    }
}
