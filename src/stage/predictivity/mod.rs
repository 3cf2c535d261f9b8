//! `predictivity`: how well networks' activity predicts recorded neurons, by area, model time, neural time and region,
//! beside controls.

mod feature_sets;
mod params;
mod picture;
mod scoring;
mod tables;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cords::data::ImageSet;
use cords::neural::{Merged, Recordings, Split, SplitOptions, merge, shuffle_splits, stratified_splits};

use feature_sets::{Activity, ImageFiles, images, sources};
use params::{ControlName, Params};
use scoring::{Study, check_size, score};
use tables::{BestScore, Latency, OfNeuron, Onset, PairedScore, Score};

use super::keyed_defaults;
use super::recordings::FILE;
use super::recordings_table::id as id_of;
use super::{Artifact, Context, Declared, External, Kind, Members, MissingData, StageError, Violation, located};
use dynvis_runner::table::{Table, TableRow, Value};

pub(super) struct Predictivity;

/// The output that is no table; those are named by their rows.
const PICTURES: &str = "pictures";

impl Kind for Predictivity {
    type Params = Params;
    const NAME: &'static str = "predictivity";
    const SUMMARY: &'static str = "how well activity predicts recorded neurons, over areas and times, beside controls";
    const CODE_VERSION: u32 = 3;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::PREDICTIVITY;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::table::<BestScore>("each feature set at the model time and time bin where it predicts a region best"),
        Declared::table::<Score>("scores by area, model time, neural time and region"),
        Declared::table::<Latency>("scores by latency of the neurons after the model"),
        Declared::table::<Onset>("onset of each region, and its latency with an interval"),
        Declared::table::<PairedScore>("the network against controls and other networks, paired by neuron"),
        Declared::table::<OfNeuron>("scores of single neurons"),
        Declared::always(
            PICTURES,
            Artifact::FILES,
            "scores over times and latencies; SVG and PNG",
        ),
    ];
    const SEES_GROUPS: bool = true;

    fn check(params: &Params) -> Vec<Violation> {
        params.check()
    }

    fn external(params: &Params, root: &Path) -> External {
        let mut external = External::default();
        let tables = [
            (
                "stimuli",
                &params.stimuli,
                "the table of stimuli",
                "columns `stimulus_id` and `image` or `file`",
            ),
            (
                "splits",
                &params.split_file,
                "the table of splits",
                "columns `split`, `stimulus_id` and `part`",
            ),
        ];
        for (slot, given, what, hint) in tables {
            let Some(given) = given else { continue };
            let missing = MissingData {
                what: what.to_owned(),
                place: given.clone(),
                hint: format!("a .csv or .parquet file with {hint}"),
                ..MissingData::default()
            };
            external.require(slot, located(root, given), missing);
        }
        external
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let (recordings, origin) = chosen(params, context)?;
        let stimuli: Option<PathBuf> = params.stimuli.as_ref().map(|path| located(&context.root, path));
        let files = match &params.files {
            Some(files) => Some(ImageFiles::new(&context.table_input(&files.0)?)?),
            None => None,
        };
        let images = images(&recordings, stimuli.as_deref(), files.as_ref())?;
        let activities = params
            .activity
            .iter()
            .map(|activity| {
                let path = context.input(&activity.0)?.join("activity.safetensors");
                Activity::open(&path, &recordings, &images)
            })
            .collect::<Result<Vec<_>, StageError>>()?;
        let pixels = match &params.data {
            Some(data) if params.controls.contains(&ControlName::Pixels) => {
                Some(ImageSet::open(context.input(&data.0)?)?)
            }
            _ => None,
        };
        let sources = sources(params, &activities, pixels.as_ref())?;
        check_size(params, &recordings, &sources)?;
        let study = Study {
            splits: splits(params, &recordings, &context.root)?,
            origin,
            recordings,
        };
        let scored = score(params, &study, &sources, context)?;
        context.write_rows(BestScore::NAME, BestScore::rows(&scored))?;
        context.write_rows(Score::NAME, Score::rows(&scored))?;
        let by_latency = tables::by_latency(&scored, params.seed);
        context.write_rows(Latency::NAME, Latency::rows(&scored, &by_latency))?;
        context.write_rows(Onset::NAME, Onset::rows(&scored, &by_latency))?;
        context.write_rows(PairedScore::NAME, PairedScore::rows(&scored))?;
        context.write_rows(OfNeuron::NAME, OfNeuron::rows(params, &scored))?;
        let members = Members::of(context, params.activity.iter().map(|activity| activity.0.as_str()));
        let folder = context.output(PICTURES)?;
        for (name, matrix) in tables::matrices(&scored, &members) {
            matrix.write(&folder, &name)?;
        }
        Ok(())
    }
}

/// The recordings in the chosen regions and time bins, of neurons that have them all, and which recording each is from.
fn chosen(params: &Params, context: &mut Context) -> Result<(Recordings, Vec<usize>), StageError> {
    let mut all = Vec::new();
    let mut regions = BTreeSet::new();
    // Of each, which one of the given recordings it is: those without a neuron of the regions are left out.
    let mut numbers = Vec::new();
    for (number, reference) in params.recordings.iter().enumerate() {
        let own = Recordings::open(&context.input(&reference.0)?.join(FILE))?;
        regions.extend(own.neurons.iter().map(|neuron| neuron.region.clone()));
        let wanted = |region: &String| params.regions.as_ref().is_none_or(|regions| regions.contains(region));
        let in_region: Vec<usize> = (0..own.neurons.len())
            .filter(|n| wanted(&own.neurons[*n].region))
            .collect();
        if in_region.is_empty() {
            continue;
        }
        let mut own = own.select(&in_region);
        if let Some(bins) = &params.bins {
            own = own.windows(bins)?;
        }
        all.push(own);
        numbers.push(number);
    }
    if all.is_empty() {
        let regions: Vec<String> = regions.into_iter().collect();
        return Err(StageError::new("no neuron lies in the chosen regions")
            .hint(format!("the recordings have the regions {}", regions.join(", "))));
    }
    let Merged {
        recordings,
        origin,
        left_out,
    } = merge(all).map_err(|error| {
        StageError::from(error)
            .hint("several recordings go into one fit over the stimuli and time bins that they share")
    })?;
    if !left_out.is_empty() {
        context.note(format!(
            "{} stimuli that not all recordings have are left out: {}; {} are left",
            left_out.len(),
            some(&left_out),
            recordings.stimuli.len()
        ));
    }
    let (complete, others) = recordings.complete();
    if complete.is_empty() {
        return Err(
            StageError::new("no neuron has a response to every stimulus in every time bin").hint(
                "choose `bins` and `regions` with complete recordings, or leave incomplete stimuli out of the file",
            ),
        );
    }
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|n| recordings.neurons[*n].id.clone()).collect();
        context.note(format!(
            "{} of {} neurons are left out, since they lack responses to some stimuli: {}",
            others.len(),
            recordings.neurons.len(),
            some(&names)
        ));
    }
    let origin = complete.iter().map(|n| numbers[origin[*n]]).collect();
    Ok((recordings.select(&complete), origin))
}

/// The first few of a list.
fn some(names: &[String]) -> String {
    let more = if names.len() > 5 { ", ..." } else { "" };
    names[..names.len().min(5)].join(", ") + more
}

/// The divisions into training and test stimuli.
fn splits(params: &Params, recordings: &Recordings, root: &Path) -> Result<Vec<Split>, StageError> {
    if let Some(path) = &params.split_file {
        return given_splits(&Table::read(&located(root, path))?, recordings);
    }
    let options = SplitOptions {
        splits: params.splits,
        train: params.train,
        seed: params.split_seed,
    };
    let classes = !recordings.objects.is_empty();
    if params.stratify.unwrap_or(classes) {
        if !classes {
            return Err(StageError::new("the recordings name no classes to stratify by").hint("leave out `stratify`"));
        }
        let hinted = |error| StageError::from(error).hint("`stratify: false` divides without regard to classes");
        return stratified_splits(&recordings.objects, &options).map_err(hinted);
    }
    Ok(shuffle_splits(recordings.stimuli.len(), &options)?)
}

/// Splits from a table, in the order of their names.
fn given_splits(table: &Table, recordings: &Recordings) -> Result<Vec<Split>, StageError> {
    let columns = ["split", "stimulus_id", "part"].map(|name| table.column(name));
    let [split, stimulus, part] = columns;
    let (split, stimulus, part) = (split?, stimulus?, part?);
    let mut names: Vec<String> = split.iter().map(Value::to_string).collect();
    names.sort_by_key(|name| (name.parse::<i64>().unwrap_or(i64::MAX), name.clone()));
    names.dedup();
    let mut found = vec![
        Split {
            train: Vec::new(),
            test: Vec::new()
        };
        names.len()
    ];
    for (row, id) in stimulus.iter().enumerate() {
        let wrong = |what: String| {
            Err(StageError::new(format!(
                "table of splits, {}: {what}",
                table.place(row)
            )))
        };
        let id = id_of(id);
        let Some(place) = recordings.stimuli.iter().position(|s| *s == id) else {
            return wrong(format!("stimulus `{id}` is not in the recordings"));
        };
        let own = names
            .iter()
            .position(|name| *name == split[row].to_string())
            .unwrap_or(0);
        match part[row].to_string().as_str() {
            "train" => found[own].train.push(place),
            "test" => found[own].test.push(place),
            other => return wrong(format!("part `{other}`, not `train` or `test`")),
        }
    }
    Ok(found)
}
