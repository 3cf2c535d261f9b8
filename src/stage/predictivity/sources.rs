//! Feature sets that are compared: the network's activity, that of other networks, and controls made of the first.

use std::collections::BTreeMap;
use std::path::Path;

use cords::data::ImageSet;
use cords::neural::{
    ActivityFile, AreaFeatures, FeatureMatrix, Features, NeuralError, PixelFeatures, Recordings, Reordered, When,
};
use cords::rng::{Purpose, Stream};

use super::params::{ControlName, Params, ReductionName};
use crate::stage::StageError;
use crate::table::{Table, Value};

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
pub(super) struct Source<'a> {
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

/// The image of each stimulus, by its index in the dataset.
pub(super) fn images(recordings: &Recordings, table: Option<&Path>) -> Result<Vec<u32>, StageError> {
    let missing = |id: &String, problem: &str| {
        StageError::from(NeuralError::Stimulus {
            stimulus: id.clone(),
            problem: problem.to_owned(),
        })
    };
    let Some(path) = table else {
        let parse = |id: &String| {
            id.parse().map_err(|_| {
                missing(id, "its id is not the index of an image")
                    .hint("give a table of `stimulus_id` and `image` as `stimuli`")
            })
        };
        return recordings.stimuli.iter().map(parse).collect();
    };
    let table = Table::read(path)?;
    let ids = table.column("stimulus_id")?.iter().map(Value::to_string);
    let of: BTreeMap<String, Option<f64>> = ids.zip(table.column("image")?.iter().map(Value::number)).collect();
    let image = |id: &String| match of.get(id) {
        Some(Some(image)) if *image >= 0.0 && image.fract() == 0.0 => Ok(*image as u32),
        Some(_) => Err(missing(id, "its image is no index in the table of stimuli")),
        None => Err(missing(id, "it is not in the table of stimuli")),
    };
    recordings.stimuli.iter().map(image).collect()
}

/// All feature sets: each network's areas, then the controls of the first network.
pub(super) fn sources<'a>(
    params: &Params,
    activities: &'a [Activity],
    pixels: Option<&'a ImageSet>,
) -> Result<Vec<Source<'a>>, StageError> {
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
) -> Result<Source<'a>, StageError> {
    let recorded = activity.file.times_ms();
    let mut places: Vec<usize> = match &params.times {
        Some(times) => times.iter().flat_map(|time| nearest(recorded, *time)).collect(),
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
    Ok(Source {
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

/// The recorded time that is nearest, if any is recorded.
fn nearest(recorded: &[f64], time: f64) -> Option<usize> {
    let distance = |i: &usize| (recorded[*i] - time).abs();
    (0..recorded.len()).min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

impl Source<'_> {
    /// Whether it is the same at all times.
    pub(super) fn is_static(&self) -> bool {
        self.times_ms.len() == 1
    }

    /// Hands over the features: the mean over the times at `which` (places in `times_ms`), reduced as the parameters say.
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

    /// For each image the activity at another of its times: the first of those asked for, since a mean over many would be
    /// the same in any order.
    fn time_shuffled(&self, which: &[usize]) -> Result<AreaFeatures<'_>, NeuralError> {
        let place = which.first().copied().unwrap_or(0);
        let times = self.shuffled.iter().map(|order| self.places[order[place]]).collect();
        let area = self.area.unwrap_or(0);
        self.activity
            .file
            .features(area, self.activity.rows.clone(), When::Each(times))
    }
}
