//! `recordings`: responses of neurons from the files that labs have, in the form that later stages read.

use std::path::{Path, PathBuf};

use cords::neural::{Neuron, NwbOptions, Recordings, SplitOptions, mean_and_deviation};
use dynvis_runner::table::{Row, Table, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyed_defaults;
use super::recordings_table::from_table;
use super::{Context, Declared, External, Kind, MissingData, RECORDINGS, StageError, Violation, located};

pub(super) struct RecordingsKind;

/// Name of the file within the artifact.
pub(super) const FILE: &str = "recordings.safetensors";

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The file, relative to the project's folder: a Brain-Score assembly (.nc, netCDF4), NWB (.nwb), a NumPy archive
    /// (.npz), or a table with a row for each presentation, neuron and time bin (.parquet, .csv). Names of coordinates
    /// are those of Brain-Score: `stimulus_id`, `repetition`, `object_name`, `neuroid_id`, `region`, `animal`,
    /// `session`, `time_bin_start`, `time_bin_end`. Repetitions that number all trials of an experiment count each
    /// stimulus's presentations in their order.
    #[schemars(extend("x-path" = true))]
    path: String,
    /// Name of the responses in an assembly or NumPy archive, needed where several variables could be them; the only
    /// one that could if not given.
    #[serde(default)]
    variable: Option<String>,
    /// The animal that was recorded, of neurons for which the file does not say; left open if not given.
    #[serde(default)]
    animal: Option<String>,
    /// The session, of neurons for which the file does not say; left open if not given.
    #[serde(default)]
    session: Option<String>,
    /// Time bins after stimulus onset that spikes of an NWB file are counted in.
    #[serde(default = "published_window")]
    #[schemars(length(min = 1), extend("x-unit" = "ms"))]
    bins: Vec<[f64; 2]>,
    /// Table of stimuli of an NWB file, below `intervals`.
    #[serde(default = "trials")]
    table: String,
    /// Column of `table` with the stimulus's id.
    #[serde(default = "stimulus_id")]
    stimulus: String,
    /// Column of `table` with the stimulus's class, if there is one.
    #[serde(default = "object_name")]
    object: String,
}

fn published_window() -> Vec<[f64; 2]> {
    vec![[70.0, 170.0]]
}

fn trials() -> String {
    "trials".to_owned()
}

fn stimulus_id() -> String {
    "stimulus_id".to_owned()
}

fn object_name() -> String {
    "object_name".to_owned()
}

impl Params {
    fn file(&self, root: &Path) -> PathBuf {
        located(root, &self.path)
    }

    fn extension(&self) -> String {
        let extension = Path::new(&self.path).extension().and_then(|e| e.to_str());
        extension.unwrap_or_default().to_lowercase()
    }

    fn read(&self, root: &Path) -> Result<Recordings, StageError> {
        let path = self.file(root);
        let mut recordings = match self.extension().as_str() {
            "npz" => Recordings::from_npz(&path, self.variable.as_deref())?,
            "nwb" => {
                let options = NwbOptions {
                    bins_ms: self.bins.clone(),
                    table: self.table.clone(),
                    stimulus: self.stimulus.clone(),
                    object: self.object.clone(),
                };
                Recordings::from_nwb(&path, &options)?
            }
            "parquet" | "csv" => from_table(&Table::read(&path)?, &path)?,
            _ => Recordings::from_netcdf(&path, self.variable.as_deref())?,
        };
        for neuron in &mut recordings.neurons {
            for (own, given) in [(&mut neuron.animal, &self.animal), (&mut neuron.session, &self.session)] {
                if let Some(given) = given.as_ref().filter(|_| own.is_empty()) {
                    own.clone_from(given);
                }
            }
        }
        Ok(recordings)
    }
}

const EXTENSIONS: [&str; 8] = ["nc", "nc4", "h5", "hdf5", "nwb", "npz", "parquet", "csv"];

impl Kind for RecordingsKind {
    type Params = Params;
    const NAME: &'static str = "recordings";
    const SUMMARY: &'static str = "responses of neurons from netCDF4 (Brain-Score), NWB, npz, Parquet or CSV";
    const CODE_VERSION: u32 = 2;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::RECORDINGS;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("recordings", RECORDINGS, "responses of neurons"),
        Declared::table::<Reliability>("neurons in each time bin, and how reliable their responses are"),
    ];

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        let extension = params.extension();
        if !EXTENSIONS.contains(&extension.as_str()) {
            let message = format!("`.{extension}` is not read; one of .{} is", EXTENSIONS.join(", ."));
            found.push(Violation::new("path", message));
        }
        if let Some([start, end]) = params.bins.iter().find(|[start, end]| end <= start) {
            found.push(Violation::new("bins", format!("a time bin from {start} to {end} ms")));
        }
        if params.variable.is_some() && ["nwb", "parquet", "csv"].contains(&extension.as_str()) {
            let message = format!("`.{extension}` has no variables of responses to choose from");
            found.push(Violation::new("variable", message));
        }
        found
    }

    fn external(params: &Params, root: &Path) -> External {
        let mut external = External::default();
        let missing = MissingData {
            what: "the recordings".to_owned(),
            place: params.path.clone(),
            hint: "Brain-Score ships assemblies as netCDF4; DANDI has NWB; `numpy.savez` and tables do as well"
                .to_owned(),
            ..MissingData::default()
        };
        let slot = format!("recordings.{}", params.extension());
        external.require(&slot, params.file(root), missing);
        external
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let recordings = params.read(&context.root)?;
        recordings.save(&context.output("recordings")?.join(FILE))?;
        context.write_rows(Reliability::NAME, reliabilities(&recordings)?)
    }
}

/// The published way to estimate reliability: ten halvings of the repetitions.
pub(super) fn published_halves(splits: usize) -> SplitOptions {
    SplitOptions {
        splits,
        train: 0.5,
        seed: 1,
    }
}

/// Descriptions of columns.
pub(super) const ANIMAL: &str = "Animal that the neuron was recorded in; none where it is not known";
pub(super) const SESSION: &str = "Session that it was recorded in; none where it is not known";

/// The name of an animal or a session, where it is known.
pub(super) fn known(name: &str) -> Option<&str> {
    (!name.is_empty()).then_some(name)
}

/// A neuron in a time bin.
#[derive(Row)]
pub(super) struct NeuronBin {
    /// Id of the neuron
    #[column(key)]
    neuron: String,
    /// Start of the time bin after stimulus onset
    #[column(key, unit = "ms")]
    bin_start: f64,
    /// End of the time bin
    #[column(key, unit = "ms")]
    bin_end: f64,
}

impl NeuronBin {
    pub(super) fn of(neuron: &Neuron, [bin_start, bin_end]: [f64; 2]) -> Self {
        Self {
            neuron: neuron.id.clone(),
            bin_start,
            bin_end,
        }
    }
}

/// Neurons in each time bin, and how reliable their responses are
#[derive(Row)]
#[table(name = "neurons")]
struct Reliability {
    #[column(flatten)]
    of: NeuronBin,
    #[column(key, description = ANIMAL)]
    animal: Option<String>,
    #[column(key, description = SESSION)]
    session: Option<String>,
    /// Brain region
    region: String,
    /// Mean over stimuli and repetitions
    mean_response: Option<f64>,
    /// Split-half over repetitions, corrected by Spearman and Brown, mean over 10 halvings
    reliability: Option<f64>,
    /// Share of stimuli x repetitions without a response
    missing: f64,
}

/// What was read, and how reliable it is.
fn reliabilities(recordings: &Recordings) -> Result<Vec<Reliability>, StageError> {
    let mut rows = Vec::new();
    for (bin, edges) in recordings.bins_ms.iter().enumerate() {
        let reliability = recordings.reliability(bin, &published_halves(10))?;
        for (n, neuron) in recordings.neurons.iter().enumerate() {
            let presentations = || {
                (0..recordings.stimuli.len())
                    .flat_map(|s| (0..recordings.repetitions).map(move |r| (s, r)))
                    .map(|(s, r)| recordings.response(s, r, n, bin))
            };
            let all = presentations().count();
            let missing = presentations().filter(|v| v.is_nan()).count();
            let own = reliability
                .as_ref()
                .and_then(|all| mean_and_deviation(all[n].iter().flatten().copied()));
            rows.push(Reliability {
                of: NeuronBin::of(neuron, *edges),
                animal: known(&neuron.animal).map(str::to_owned),
                session: known(&neuron.session).map(str::to_owned),
                region: neuron.region.clone(),
                mean_response: mean_and_deviation(presentations()).map(|(mean, _)| mean),
                reliability: own.map(|(mean, _)| mean),
                missing: missing as f64 / all as f64,
            });
        }
    }
    Ok(rows)
}
