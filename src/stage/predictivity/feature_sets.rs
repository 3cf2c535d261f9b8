//! Feature sets that are compared: the network's activity, that of other networks, and controls made of the first.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use cords::data::ImageSet;
use cords::neural::{
    ActivityFile, AreaFeatures, FeatureMatrix, Features, NeuralError, PixelFeatures, Recordings, Reordered, When,
};
use cords::rng::{Purpose, Stream};

use super::params::{ControlName, Params, ReductionName};
use crate::stage::StageError;
use crate::stage::recordings_table::id;
use dynvis_runner::table::{Table, Value};

/// What a feature set is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A recorded network as it is.
    Network,
    Control(ControlName),
}

impl Role {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Control(ControlName::Pixels) => "pixels",
            Self::Control(ControlName::TimeShuffled) => "time_shuffled",
            Self::Control(ControlName::Frozen) => "frozen",
            Self::Control(ControlName::ImageShuffled) => "image_shuffled",
        }
    }
}

/// A feature set at one or several times.
pub(super) struct FeatureSet<'a> {
    /// Which of the activities.
    pub(super) slot: usize,
    pub(super) role: Role,
    /// `None` for pixels.
    pub(super) area: Option<usize>,
    /// Model times in ms; one for what does not change.
    pub(super) times_ms: Vec<f64>,
    activity: &'a Activity,
    pixels: Option<&'a ImageSet>,
    /// Place of each of `times_ms` in the file.
    places: Vec<usize>,
    /// For each stimulus, the order of its times or the stimulus in its place.
    shuffled: Vec<Vec<usize>>,
}

/// A file of activity, and where the recordings' stimuli stand in it.
pub(super) struct Activity {
    pub(super) file: ActivityFile,
    rows: Vec<usize>,
    images: Vec<u32>,
}

impl Activity {
    /// Opens a file, and finds the stimuli.
    pub(super) fn open(path: &Path, recordings: &Recordings, images: &[u32]) -> Result<Self, StageError> {
        let file = ActivityFile::open(path)?;
        let place: BTreeMap<u32, usize> = file
            .images()
            .iter()
            .enumerate()
            .map(|(row, image)| (*image, row))
            .collect();
        let row = |(image, id): (&u32, &String)| {
            place.get(image).copied().ok_or_else(|| {
                let error = NeuralError::Stimulus {
                    stimulus: id.clone(),
                    problem: format!("image {image} is not among those whose activity was recorded"),
                };
                StageError::from_error(&error).hint("record all of the stimuli's images: `indices` of `record`")
            })
        };
        let rows = images
            .iter()
            .zip(&recordings.stimuli)
            .map(row)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            file,
            rows,
            images: images.to_vec(),
        })
    }
}

/// The image of each stimulus, by its index in the dataset: from a table of stimuli, from the names of the dataset's
/// files, or from ids that are indices.
pub(super) fn images(
    recordings: &Recordings,
    stimuli: Option<&Path>,
    files: Option<&ImageFiles>,
) -> Result<Vec<u32>, StageError> {
    const WAYS: &str = "name the dataset's table of images as `files: DATASET/files`, or give a table of `stimulus_id` and \
                        `image` (an index) or `file` as `stimuli`";
    let missing = |id: &String, problem: String| {
        StageError::from(NeuralError::Stimulus {
            stimulus: id.clone(),
            problem,
        })
    };
    let by_name = |id: &String, name: &str| match files {
        Some(files) => files.find(name).map_err(|problem| missing(id, problem)),
        None => Err(missing(id, format!("`{name}` is not the index of an image")).hint(WAYS)),
    };
    let index = |value: &Value| {
        let number = value
            .number()
            .filter(|n| *n >= 0.0 && n.fract() == 0.0 && *n <= f64::from(u32::MAX));
        number.map(|n| n as u32)
    };
    let Some(path) = stimuli else {
        // Names win where names are given: a file may be called `7`.
        let image = |id: &String| match (files, id.parse()) {
            (None, Ok(image)) => Ok(image),
            _ => by_name(id, id),
        };
        return recordings.stimuli.iter().map(image).collect();
    };
    let table = Table::read(path)?;
    let column = ["image", "file", "filename"]
        .into_iter()
        .find(|name| table.schema().position(name).is_some());
    let column = column.ok_or_else(|| {
        StageError::new(format!(
            "{}: has neither a column `image` nor a column `file`",
            path.display()
        ))
        .hint(WAYS)
    })?;
    let mut of: BTreeMap<String, &Value> = BTreeMap::new();
    let (stimuli, found) = (table.column("stimulus_id")?, table.column(column)?);
    for (row, (stimulus, value)) in stimuli.iter().zip(found).enumerate() {
        let stimulus = id(stimulus);
        if of.get(&stimulus).is_some_and(|before| *before != value) {
            let problem = format!("{} of the table of stimuli gives it a second image", table.place(row));
            return Err(missing(&stimulus, problem));
        }
        of.insert(stimulus, value);
    }
    let image = |id: &String| match of.get(id) {
        None => Err(missing(id, "it is not in the table of stimuli".to_owned())),
        Some(Value::Null) => Err(missing(id, "it has no image in the table of stimuli".to_owned())),
        Some(Value::Text(name)) => by_name(id, name),
        Some(value) => index(value)
            .filter(|_| column == "image")
            .map_or_else(|| by_name(id, &value.to_string()), Ok),
    };
    recordings.stimuli.iter().map(image).collect()
}

/// The files of a dataset's images, to be found by their names.
pub(super) struct ImageFiles {
    files: Vec<(String, u32)>,
    /// Places of files by the last part of their name, with and without its ending.
    by_last: HashMap<String, Vec<usize>>,
}

impl ImageFiles {
    /// Of the table `files` of a dataset.
    pub(super) fn new(table: &Table) -> Result<Self, StageError> {
        let hint = "the table `files` of a `dataset` has the columns `index` and `file`";
        let column = |name| table.column(name).map_err(|error| StageError::from(error).hint(hint));
        let files = column("index")?.iter().zip(column("file")?);
        let file = |(index, file): (&Value, &Value)| match index {
            Value::Int(index) => Ok((file.to_string(), *index as u32)),
            _ => Err(StageError::new("a table of images has an index that is not a whole number").hint(hint)),
        };
        Ok(Self::of(files.map(file).collect::<Result<_, _>>()?))
    }

    fn of(files: Vec<(String, u32)>) -> Self {
        let mut by_last: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, (file, _)) in files.iter().enumerate() {
            let last = &file[last_part(file)..];
            let stem = &file[last_part(file)..stem_end(file)];
            by_last.entry(last.to_owned()).or_default().push(place);
            if stem != last {
                by_last.entry(stem.to_owned()).or_default().push(place);
            }
        }
        Self { files, by_last }
    }

    /// The image whose file has that name: in full, in its last parts, or without its ending.
    fn find(&self, name: &str) -> Result<u32, String> {
        let name = name.replace('\\', "/");
        let name = name.trim_start_matches("./");
        let ends = |long: &str, short: &str| {
            long.strip_suffix(short)
                .is_some_and(|folder| folder.is_empty() || folder.ends_with('/'))
        };
        let fits: [&dyn Fn(&str) -> bool; 3] = [
            &|file| file == name,
            &|file| ends(file, name) || ends(name, file),
            &|file| ends(&file[..stem_end(file)], name),
        ];
        let places = self
            .by_last
            .get(&name[last_part(name)..])
            .map(Vec::as_slice)
            .unwrap_or_default();
        for fit in fits {
            let candidates = places.iter().map(|place| &self.files[*place]);
            let found: Vec<&(String, u32)> = candidates.filter(|(file, _)| fit(file)).collect();
            match found.as_slice() {
                [] => {}
                [(_, index)] => return Ok(*index),
                [(first, _), (second, _), ..] => {
                    return Err(format!(
                        "{} images are called `{name}`, among them `{first}` and `{second}`; name more of their folders",
                        found.len()
                    ));
                }
            }
        }
        let example = self.files.first().map_or("", |(file, _)| file.as_str());
        Err(format!(
            "no image of the dataset comes from a file `{name}`; they are called `{example}` and so on"
        ))
    }
}

/// Where the last part of a path begins.
fn last_part(path: &str) -> usize {
    path.rfind('/').map_or(0, |place| place + 1)
}

/// Where a path ends without the ending of its last part.
fn stem_end(path: &str) -> usize {
    let last = last_part(path);
    let dot = path[last..].rfind('.').filter(|dot| *dot > 0);
    dot.map_or(path.len(), |dot| last + dot)
}

/// All feature sets: each network's areas, then the controls of the first network.
pub(super) fn sources<'a>(
    params: &Params,
    activities: &'a [Activity],
    pixels: Option<&'a ImageSet>,
) -> Result<Vec<FeatureSet<'a>>, StageError> {
    let mut found = Vec::new();
    for (slot, activity) in activities.iter().enumerate() {
        let areas = match &params.areas {
            Some(areas) => areas.clone(),
            None => activity.file.areas(),
        };
        let roles: Vec<Role> = std::iter::once(Role::Network)
            .chain(
                params
                    .controls
                    .iter()
                    .filter(|_| slot == 0)
                    .map(|control| Role::Control(*control)),
            )
            .collect();
        for role in roles {
            let is_pixels = role == Role::Control(ControlName::Pixels);
            let areas: Vec<Option<usize>> = match is_pixels {
                true => vec![None],
                false => areas.iter().copied().map(Some).collect(),
            };
            for area in areas {
                found.push(source(
                    params,
                    slot,
                    activity,
                    pixels.filter(|_| is_pixels),
                    role,
                    area,
                )?);
            }
        }
    }
    Ok(found)
}

fn source<'a>(
    params: &Params,
    slot: usize,
    activity: &'a Activity,
    pixels: Option<&'a ImageSet>,
    role: Role,
    area: Option<usize>,
) -> Result<FeatureSet<'a>, StageError> {
    let recorded = activity.file.times_ms();
    let mut places: Vec<usize> = match &params.times {
        Some(times) => times
            .iter()
            .map(|time| nearest(recorded, *time))
            .collect::<Result<_, _>>()?,
        None => (0..recorded.len()).collect(),
    };
    places.sort_unstable();
    places.dedup();
    match role {
        Role::Control(ControlName::Frozen) => places = places.last().copied().into_iter().collect(),
        Role::Control(ControlName::Pixels) => places.truncate(1),
        _ => {}
    }
    let stimuli = activity.rows.len();
    let stream = |stimulus: usize, what: u32| Stream::new(params.seed, Purpose::Control, stimulus as u64, what, 0, 0);
    let order = |stream: &mut Stream, n: usize| -> Vec<usize> {
        stream.permutation(n).into_iter().map(|i| i as usize).collect()
    };
    let shuffled = match role {
        Role::Control(ControlName::TimeShuffled) => {
            (0..stimuli).map(|s| order(&mut stream(s, 0), places.len())).collect()
        }
        Role::Control(ControlName::ImageShuffled) => vec![order(&mut stream(0, 1), stimuli)],
        _ => Vec::new(),
    };
    Ok(FeatureSet {
        slot,
        role,
        area,
        times_ms: match role {
            Role::Control(ControlName::Pixels) => vec![0.0],
            _ => places.iter().map(|place| recorded[*place]).collect(),
        },
        activity,
        pixels,
        places,
        shuffled,
    })
}

/// The recorded time that is nearest; that of an activity without a course of time is good for all.
fn nearest(recorded: &[f64], time: f64) -> Result<usize, StageError> {
    let distance = |i: &usize| (recorded[*i] - time).abs();
    let place = (0..recorded.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)));
    let place = place.ok_or_else(|| StageError::new("the activity has no times"))?;
    let spacing = recorded
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).abs())
        .fold(0.0, f64::max);
    if recorded.len() > 1 && distance(&place) > 0.5 * spacing + 1e-6 {
        let [first, last] = [recorded[0], recorded[recorded.len() - 1]];
        return Err(StageError::new(format!(
            "`times`: {time} ms was not recorded, only {first} to {last} ms"
        ))
        .hint("record it (`times` of `record`), or choose others"));
    }
    Ok(place)
}

impl FeatureSet<'_> {
    /// Whether it is the same at all times.
    pub(super) fn is_static(&self) -> bool {
        self.times_ms.len() == 1
    }

    /// Hands over the features: the mean over the times at `which` (places in `times_ms`), reduced as the parameters
    /// say.
    pub(super) fn with_features<T>(
        &self,
        params: &Params,
        which: &[usize],
        then: impl FnOnce(&dyn Features) -> Result<T, NeuralError>,
    ) -> Result<T, NeuralError> {
        let reduced = |features: &dyn Features| match params.reduction {
            ReductionName::RandomProjection if params.dimensions < features.len() => {
                FeatureMatrix::projected(features, params.dimensions, params.seed).map(Some)
            }
            _ => Ok(None),
        };
        let then = |features: &dyn Features| match reduced(features)? {
            Some(projected) => then(&projected),
            None => then(features),
        };
        if let Some(set) = self.pixels {
            return then(&PixelFeatures::new(set, self.activity.images.clone())?);
        }
        match self.role {
            Role::Control(ControlName::TimeShuffled) => then(&self.time_shuffled(which)?),
            Role::Control(ControlName::ImageShuffled) => {
                let order = self.shuffled.first().cloned().unwrap_or_default();
                let features = self.features(which)?;
                then(&Reordered {
                    features: &features,
                    order,
                })
            }
            _ => then(&self.features(which)?),
        }
    }

    fn features(&self, which: &[usize]) -> Result<AreaFeatures<'_>, NeuralError> {
        let times = which.iter().map(|i| self.places[*i]).collect();
        let area = self.area.unwrap_or(0);
        self.activity
            .file
            .features(area, self.activity.rows.clone(), When::Mean(times))
    }

    /// For each image the activity at another of its times: the first of those asked for, since a mean over many would
    /// be the same in any order.
    fn time_shuffled(&self, which: &[usize]) -> Result<AreaFeatures<'_>, NeuralError> {
        let place = which.first().copied().unwrap_or(0);
        let times = self.shuffled.iter().map(|order| self.places[order[place]]).collect();
        let area = self.area.unwrap_or(0);
        self.activity
            .file
            .features(area, self.activity.rows.clone(), When::Each(times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A column of numbers with points, as of a frame with missing values, names the stimuli that recordings call 1 and
    /// 2.
    #[test]
    fn numbers_with_points_are_ids_without() {
        let recordings = Recordings {
            stimuli: vec!["1".into(), "2".into()],
            objects: Vec::new(),
            neurons: vec![cords::neural::Neuron::default()],
            bins_ms: vec![[0.0, 10.0]],
            repetitions: 1,
            responses: vec![0.0, 1.0],
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("stimuli.csv");
        std::fs::write(&path, "stimulus_id,image\n1.0,7\n2.0,5\n").expect("written");
        let found = images(&recordings, Some(&path), None).expect("both have an image");
        assert_eq!(found, [7, 5]);
    }

    #[test]
    fn images_are_found_by_the_names_of_their_files() {
        let names = ["all/im1.png", "all/im10.png", "all/im2.png", "b/im2.png", "b/x.y.jpg"];
        let files = ImageFiles::of(
            names
                .iter()
                .zip(0..)
                .map(|(name, index)| ((*name).to_owned(), index))
                .collect(),
        );
        for (name, index) in [
            ("im1.png", 0),
            ("im10", 1),
            ("all/im2.png", 2),
            ("./b/im2", 3),
            ("/data/stimuli/b/im2.png", 3),
            ("b\\x.y.jpg", 4),
            ("x.y", 4),
        ] {
            assert_eq!(files.find(name), Ok(index), "{name}");
        }
        let problem = files.find("im2.png").expect_err("two of them");
        assert!(problem.contains("`all/im2.png` and `b/im2.png`"), "{problem}");
        assert!(files.find("m1.png").expect_err("another").contains("`all/im1.png`"));
    }
}
