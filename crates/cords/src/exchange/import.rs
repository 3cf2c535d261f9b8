//! A network from a file's entries: sizes from shapes, and one report of everything that does not fit them.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Entry, ExchangeError, Misshapen, Opened, Report, Values, unwrapped};
use crate::Tensor;
use crate::device::Phi;
use crate::net::{Architecture, Euler, Graph, MOST_AREAS, Model, ModelInfo, Parameters, Preset};

/// What a file of weights does not say.
#[derive(Clone, Debug, PartialEq)]
pub struct ImportOptions {
    /// Side of the images; four times the side of area 0 if not given. A CNN's weights do not tell it.
    pub image_side: Option<usize>,
    /// Step and time constants of a CordsNet.
    pub euler: Euler,
    /// Origin, normalisation, class names, presentation.
    pub info: ModelInfo,
    /// What stands before the names of the network where a file holds several, e.g. `model_ema`.
    pub prefix: Option<String>,
}

/// A network, and what was done with the file to get it.
#[derive(Clone, Debug, PartialEq)]
pub struct Imported {
    /// The network with the file's weights.
    pub model: Model,
    /// What was passed over, stripped or converted; nothing for the published `state_dict()` alone.
    pub notes: Vec<String>,
}

/// Modules of the network, folded or not, by the first part of their names.
const MODULES: [&str; 12] = [
    "inp_conv",
    "inp_skip",
    "area_conv",
    "area_area",
    "skip_area",
    "out_fc",
    "conv_bias",
    "area_bias",
    "inp_norm",
    "area_norm",
    "area_nrm2",
    "skip_norm",
];

/// Modules whose weights are normalised, w = g v/|v|.
const NORMALISED: [&str; 6] = ["inp_conv", "inp_skip", "area_conv", "area_area", "skip_area", "out_fc"];

/// Sizes from here on stand for an unknown: image channels, classes, then the channels of the input layer and of each
/// area.
const UNKNOWN: usize = 1 << 20;

/// Larger sides are damage, and no architecture.
const LARGEST_SIDE: usize = 1 << 12;

/// What PyTorch's batch norm counts and nothing reads.
const COUNTER: &str = "num_batches_tracked";

/// A CordsNet, or its CNN twin where there are running statistics or folded biases, from a `.pth` or `.safetensors`
/// file under the published names. Where shapes contradict each other, the network is the one that most of them agree
/// on.
///
/// # Errors
/// As [`import_with_notes`].
pub fn import(path: &Path, options: &ImportOptions) -> Result<Model, ExchangeError> {
    Ok(import_with_notes(path, options)?.model)
}

/// [`import`], and what was done with the file: a checkpoint may hold the network under other names (`state_dict`,
/// `model`, what wrappers put before and into names), with weight norm under its old names or without it, and other
/// things beside it.
///
/// # Errors
/// As [`read`](super::read); [`ExchangeError::Several`] where several networks are there and none is named;
/// [`ExchangeError::Entries`] with everything missing, unexpected, misshapen or unusable;
/// [`ExchangeError::Sizes`] where the sizes make no network; [`ExchangeError::Side`] for a CNN without a side.
pub fn import_with_notes(path: &Path, options: &ImportOptions) -> Result<Imported, ExchangeError> {
    let file = Opened::open(path)?;
    let (chosen, mut notes) = choose(&file, options.prefix.as_deref())?;
    let entries = with_weight_norm(file.load(chosen)?, &mut notes);
    drop(file);
    let model = network(path, &entries, options)?;
    Ok(Imported { model, notes })
}

/// New name, and name in the file.
type Renamed = (String, String);

/// The network's entries as (new name, name in the file), and what is said about the others.
fn choose(file: &Opened<'_>, wanted: Option<&str>) -> Result<(Vec<Renamed>, Vec<String>), ExchangeError> {
    let names: Vec<(String, String)> = (file.names().into_iter())
        .map(|stored| (unwrapped(&stored), stored))
        .collect();
    // What stands before the first module's name; optimisers may keep things under the names of parameters.
    let prefix = |name: &str| -> Option<String> {
        let parts: Vec<&str> = name.split('.').collect();
        let at = parts.iter().position(|part| MODULES.contains(part))?;
        let network = !parts[..at].iter().any(|part| part.contains("optim"));
        network.then(|| parts[..at].join("."))
    };
    let mut prefixes: Vec<String> = (names.iter())
        .filter(|(name, _)| name.split('.').any(|part| part == "area_conv"))
        .filter_map(|(name, _)| prefix(name))
        .collect();
    prefixes.sort();
    prefixes.dedup();
    let several = || ExchangeError::Several {
        path: file.path.to_owned(),
        prefixes: (prefixes.iter())
            .map(|prefix| match prefix.as_str() {
                "" => "`\"\"` (no name)".to_owned(),
                prefix => format!("`{prefix}`"),
            })
            .collect(),
    };
    let wanted = wanted.map(|wanted| unwrapped(wanted.trim_end_matches('.')));
    let prefix = match (&wanted, prefixes.as_slice()) {
        (Some(wanted), _) if prefixes.contains(wanted) => wanted.clone(),
        (Some(wanted), []) => {
            let what = format!("there is no network under `{wanted}`, nor under any other name");
            return Err(ExchangeError::file(file.path, what));
        }
        (Some(_), _) | (None, [_, _, ..]) => return Err(several()),
        (None, [one]) => one.clone(),
        (None, []) => String::new(),
    };
    let within = |name: &str| -> Option<String> {
        // Another network may stand within this one: a copy of it under a name of its own.
        let another = |other: &String| other.len() > prefix.len() && below(name, other).is_some();
        // What lies beside the weights of a plain `state_dict()`.
        let beside = |start: &&str| prefix.is_empty() && name.starts_with(*start);
        if prefixes.iter().any(another) || ["optim", "sched", "lr_", "scaler"].iter().any(beside) {
            return None;
        }
        Some(below(name, &prefix)?.to_owned())
    };
    let mut notes = Vec::new();
    if !prefix.is_empty() {
        notes.push(format!("the network is under `{prefix}`"));
    }
    let mut chosen = Vec::new();
    // Of what is beside the network: its first name, and how many tensors and other values it holds.
    let mut beside: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    for (name, stored) in names {
        match within(&name) {
            Some(name) => chosen.push((published(name), stored)),
            None => beside.entry(first(&stored)).or_default().0 += 1,
        }
    }
    for (name, _) in &file.others {
        beside.entry(first(name)).or_default().1 += 1;
    }
    if !beside.is_empty() {
        const SHOWN: usize = 12;
        let mut shown: Vec<String> = (beside.iter().take(SHOWN))
            .map(|(name, (tensors, values))| match (tensors, values) {
                (0, 1) => format!("`{name}`"),
                (tensors, 0) => format!("`{name}` ({tensors} tensors)"),
                (0, values) => format!("`{name}` ({values} values)"),
                (tensors, values) => format!("`{name}` ({tensors} tensors, {values} values)"),
            })
            .collect();
        if beside.len() > SHOWN {
            shown.push(format!("and {} more", beside.len() - SHOWN));
        }
        notes.push(format!("skipped {}", shown.join(", ")));
    }
    Ok((chosen, notes))
}

/// What follows a prefix and its dot in a name; all of it where the prefix is empty.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    if prefix.is_empty() {
        return Some(name);
    }
    name.strip_prefix(prefix)?.strip_prefix('.')
}

/// The name of today for one of `torch.nn.utils.weight_norm`.
fn published(name: String) -> String {
    for (old, new) in [(".weight_g", "original0"), (".weight_v", "original1")] {
        if let Some(module) = name.strip_suffix(old) {
            return format!("{module}.parametrizations.weight.{new}");
        }
    }
    name
}

/// Weights whose norm was removed, as length and direction again: g = |w| and v = w row by row.
fn with_weight_norm(entries: Vec<Entry>, notes: &mut Vec<String>) -> Vec<Entry> {
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let mut out = Vec::new();
    let mut converted = 0;
    for entry in entries {
        let module = entry.name.strip_suffix(".weight").filter(|module| {
            let known = module
                .split('.')
                .next()
                .is_some_and(|first| NORMALISED.contains(&first));
            let normalised = format!("{module}.parametrizations.weight.original1");
            known && !names.contains(&normalised)
        });
        let (Some(module), Values::Float(values), [rows, rest @ ..]) = (module, &entry.values, entry.shape.as_slice())
        else {
            out.push(entry);
            continue;
        };
        let row = rest.iter().product::<usize>();
        if rest.is_empty() || row == 0 {
            out.push(entry);
            continue;
        }
        let mut directions = values.clone();
        let mut lengths = Vec::with_capacity(*rows);
        for row in directions.chunks_exact_mut(row) {
            let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            lengths.push(length as f32);
            // A row of zeros has no direction: any does, at length 0.
            if length == 0.0 {
                row[0] = 1.0;
            }
        }
        let name = |part: usize| format!("{module}.parametrizations.weight.original{part}");
        let mut shape = vec![1; entry.shape.len()];
        shape[0] = *rows;
        out.push(Entry {
            name: name(0),
            shape,
            values: Values::Float(lengths),
        });
        out.push(Entry {
            name: name(1),
            shape: entry.shape.clone(),
            values: Values::Float(directions),
        });
        converted += 1;
    }
    if converted > 0 {
        notes.push(format!(
            "{converted} weights without weight norm: each row became a length and a direction, to the same weights"
        ));
    }
    out
}

/// The network that entries under published names make.
fn network(path: &Path, entries: &[Entry], options: &ImportOptions) -> Result<Model, ExchangeError> {
    let found: BTreeMap<&str, &Entry> = entries
        .iter()
        .filter(|entry| !entry.name.ends_with(COUNTER))
        .map(|entry| (entry.name.as_str(), entry))
        .collect();
    let layout = Layout::of(&found);
    let architecture = infer(path, &found, layout, options.image_side)?;
    let report = Report {
        network: format!("{}-R{}", layout.name(), architecture.strides.len()),
        ..Report::default()
    };
    let shapes = layout.shapes(&unchecked(&architecture));
    let parameters = collect(&found, &shapes, report).map_err(|report| ExchangeError::Entries {
        path: path.to_owned(),
        report: Box::new(report),
    })?;
    let sizes = |source| ExchangeError::Sizes {
        path: path.to_owned(),
        source,
    };
    let architecture = architecture.graph().map_err(sizes)?;
    let mut info = options.info.clone();
    if layout != Layout::CordsNet {
        // It sees an image at once.
        info.presentation = None;
        return Ok(Model::Cnn {
            architecture,
            parameters,
            info,
        });
    }
    architecture.euler(&options.euler).map_err(sizes)?;
    Ok(Model::CordsNet {
        architecture,
        euler: options.euler.clone(),
        phi: Phi::Relu,
        parameters,
        info,
    })
}

/// Which names a network has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    CordsNet,
    Cnn,
    FoldedCnn,
}

impl Layout {
    fn of(found: &BTreeMap<&str, &Entry>) -> Self {
        if found.keys().any(|name| name.ends_with(".running_mean")) {
            Self::Cnn
        } else if found.keys().any(|name| name.starts_with("area_bias.")) {
            Self::FoldedCnn
        } else {
            Self::CordsNet
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CordsNet => "CordsNet",
            Self::Cnn => "CNN",
            Self::FoldedCnn => "folded CNN",
        }
    }

    fn shapes(self, architecture: &Graph) -> Vec<(String, Vec<usize>)> {
        match self {
            Self::CordsNet => architecture.cordsnet_shapes(),
            Self::Cnn => architecture.cnn_shapes(),
            Self::FoldedCnn => architecture.folded_cnn_shapes(),
        }
    }
}

/// The network of given sizes, whether they fit together or not.
fn unchecked(architecture: &Architecture) -> Graph {
    Graph::derived(architecture.description(Preset::Published))
}

/// The architecture that most entries agree on. A size that nothing tells is 0.
fn infer(
    path: &Path,
    found: &BTreeMap<&str, &Entry>,
    layout: Layout,
    image_side: Option<usize>,
) -> Result<Architecture, ExchangeError> {
    let areas = count_areas(found).ok_or_else(|| {
        let some: Vec<String> = found.keys().take(3).map(|name| format!("`{name}`")).collect();
        ExchangeError::file(
            path,
            format!(
                "no weights of a CordsNet, which has areas `area_conv.0`, `area_conv.1`, ...; it has {} entries{}{}",
                found.len(),
                if some.is_empty() { "" } else { " such as " },
                some.join(", ")
            ),
        )
    })?;
    let unknowns = Architecture {
        in_channels: UNKNOWN,
        image_side: 4,
        channels: (0..=areas).map(|layer| UNKNOWN + 2 + layer).collect(),
        strides: vec![1; areas],
        classes: UNKNOWN + 1,
    };
    let mut votes: Vec<Vec<usize>> = vec![Vec::new(); areas + 3];
    for (name, shape) in layout.shapes(&unchecked(&unknowns)) {
        let Some(entry) = found.get(name.as_str()) else {
            continue;
        };
        if entry.shape.len() == shape.len() {
            for (size, unknown) in entry.shape.iter().zip(shape).filter(|(_, unknown)| *unknown >= UNKNOWN) {
                votes[unknown - UNKNOWN].push(*size);
            }
        }
    }
    // Layers of one width stand in for each other.
    let pair = Architecture::pair;
    let layers = 0..=areas;
    let width = |layer: usize| {
        let partners = layers.clone().filter(|other| pair(*other) == pair(layer));
        most_frequent(&votes[2 + layer])
            .or_else(|| partners.filter_map(|other| most_frequent(&votes[2 + other])).next())
    };
    let sizes = [&votes[0], &votes[1]].map(|votes| most_frequent(votes).unwrap_or(0));
    // An area's bias has its side, which strides have made of that of area 0.
    let strides = Architecture::published_strides(areas);
    let shrunk = |area: usize| strides[..=area].iter().product::<usize>();
    let side = |area: usize| match found.get(format!("conv_bias.{area}").as_str())?.shape.as_slice() {
        [_, height, width] if height == width && *height <= LARGEST_SIDE => Some(height * shrunk(area)),
        _ => None,
    };
    let first_side = most_frequent(&(0..areas.min(2)).filter_map(side).collect::<Vec<_>>());
    let image_side = match (image_side, first_side.or_else(|| (2..areas).find_map(side)), layout) {
        (Some(given), _, _) => given,
        (None, Some(side), _) => 4 * side,
        (None, None, Layout::Cnn) => return Err(ExchangeError::Side { path: path.to_owned() }),
        // Every bias is missing, and so reported.
        (None, None, _) => 4,
    };
    Ok(Architecture {
        in_channels: sizes[0],
        image_side,
        channels: layers.clone().map(|layer| width(layer).unwrap_or(0)).collect(),
        strides,
        classes: sizes[1],
    })
}

/// Number of areas: up to the last of which at least half of the numbered modules that there are have an entry.
fn count_areas(found: &BTreeMap<&str, &Entry>) -> Option<usize> {
    let numbers = |module: &str| -> Vec<usize> {
        let number = |name: &&str| name.strip_prefix(module)?.split('.').next()?.parse::<usize>().ok();
        found.keys().filter_map(number).collect()
    };
    let modules: Vec<Vec<usize>> = ["area_conv.", "area_area.", "conv_bias.", "area_norm.", "area_nrm2."]
        .into_iter()
        .map(numbers)
        .filter(|numbers| !numbers.is_empty())
        .collect();
    let is_there = |area: &usize| 2 * modules.iter().filter(|numbers| numbers.contains(area)).count() >= modules.len();
    (0..MOST_AREAS)
        .rev()
        .filter(|_| !modules.is_empty())
        .find(is_there)
        .map(|last| last + 1)
}

/// The first of the values that occur most often.
fn most_frequent(values: &[usize]) -> Option<usize> {
    let count = |value: &usize| values.iter().filter(|other| *other == value).count();
    let most = values.iter().map(count).max()?;
    values.iter().copied().find(|value| count(value) == most)
}

/// The parameters in the published order, or everything that does not fit.
fn collect(
    found: &BTreeMap<&str, &Entry>,
    shapes: &[(String, Vec<usize>)],
    mut report: Report,
) -> Result<Parameters<f32>, Report> {
    let mut parameters = Parameters::new();
    for (name, shape) in shapes {
        let Some(entry) = found.get(name.as_str()) else {
            report.missing.push(name.clone());
            continue;
        };
        if entry.shape != *shape {
            report.misshapen.push(Misshapen {
                name: name.clone(),
                found: entry.shape.clone(),
                expected: shape.clone(),
            });
            continue;
        }
        match &entry.values {
            Values::Other(number) => report
                .unusable
                .push((name.clone(), format!("holds {number} values, not floating-point ones"))),
            Values::Float(values) => match problem(name, shape, values) {
                Some(problem) => report.unusable.push((name.clone(), problem)),
                None => parameters.insert(
                    name.clone(),
                    Tensor {
                        shape: shape.clone(),
                        data: values.clone(),
                    },
                ),
            },
        }
    }
    let known = |name: &&&str| shapes.iter().any(|(known, _)| known == **name);
    let unexpected = found.keys().filter(|name| !known(name));
    report.unexpected = unexpected.map(|name| (*name).to_owned()).collect();
    if report.is_empty() { Ok(parameters) } else { Err(report) }
}

/// Why values of the right shape cannot be used.
fn problem(name: &str, shape: &[usize], values: &[f32]) -> Option<String> {
    if values.iter().any(|value| !value.is_finite()) {
        return Some("holds a value that is not finite in float32".to_owned());
    }
    // The direction of a weight-normalised row, w = g v/|v|.
    if name.ends_with(".original1") {
        let row = (values.len() / shape[0].max(1)).max(1);
        let zero = values
            .chunks_exact(row)
            .position(|row| row.iter().all(|value| *value == 0.0))?;
        return Some(format!(
            "has a row of zeros (row {zero}), whose weight g v/|v| is undefined"
        ));
    }
    None
}
