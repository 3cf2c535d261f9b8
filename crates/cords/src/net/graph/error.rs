//! What can be wrong with a network's description, by the names of its areas and projections.

use super::description::side_after;
use super::{Area, Description, IMAGE, Origin, Projection, Source, Via};
use crate::net::{Adaptation, CellKind, HiddenVariable};

/// A description that makes no network.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// There are no areas.
    #[error("the network has no areas")]
    NoAreas,
    /// Feedback between pairs of areas where there is one pair.
    #[error(
        "the preset `feedback` connects every pair of areas to the pair before, but {}: it needs 3 areas or more",
        pairs(*.areas)
    )]
    OnePair {
        /// Number of areas.
        areas: usize,
    },
    /// A size is 0 or too large to index.
    #[error("{what} is {value}: it must be at least 1 and small enough to index")]
    Size {
        /// Which size.
        what: String,
        /// Its value.
        value: usize,
    },
    /// Two areas or two convolutions of one name.
    #[error("{what} `{name}` is there twice")]
    Twice {
        /// An area or a convolution.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that is empty or that of the image.
    #[error("an area cannot be named `{name}`: {reason}")]
    AreaName {
        /// The name.
        name: String,
        /// What speaks against it.
        reason: &'static str,
    },
    /// A name that is empty or that parameters beside it have.
    #[error("a convolution cannot be named `{name}`: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What speaks against it.
        reason: &'static str,
    },
    /// An area that is not there.
    #[error("{place} names area `{name}`; there are {}", .known.join(", "))]
    UnknownArea {
        /// Where it is named.
        place: String,
        /// The name.
        name: String,
        /// The areas that there are.
        known: Vec<String>,
    },
    /// A kernel without a middle.
    #[error("convolution `{convolution}` has a kernel of side {kernel}: it must be odd")]
    EvenKernel {
        /// The convolution.
        convolution: String,
        /// Side of its kernel.
        kernel: usize,
    },
    /// A projection that reads nothing, or an area or a network to which nothing comes.
    #[error("{what}")]
    Nothing {
        /// What reads nothing.
        what: String,
    },
    /// A projection that reads the same source twice in the same way.
    #[error("projection `{projection}` reads {source_name} twice")]
    SourceTwice {
        /// The projection.
        projection: String,
        /// The source.
        source_name: String,
    },
    /// Two recurrent convolutions of one area.
    #[error("area {area} has two recurrent convolutions, `{first}` and `{second}`")]
    TwoRecurrent {
        /// The area.
        area: String,
        /// One projection from the area to itself.
        first: String,
        /// The other.
        second: String,
    },
    /// Sources that are summed differ in channels.
    #[error(
        "the sources of projection `{projection}` are summed, but {source_name} has {channels} channels and others \
         have {expected}; a shortcut brings a source to the channels of the others"
    )]
    SourceChannels {
        /// The projection.
        projection: String,
        /// The source.
        source_name: String,
        /// Its channels.
        channels: usize,
        /// Channels of the source that the others follow.
        expected: usize,
    },
    /// A source that does not come at the side that the convolution reads.
    #[error(
        "projection `{projection}` reads maps of side {expected}, but {source_name} comes at side {side}; {}",
        if .side > .expected { "a shortcut with a stride brings it down" } else { "`upsample` brings it up" }
    )]
    SourceSide {
        /// The projection.
        projection: String,
        /// The source.
        source_name: String,
        /// Its side, after its shortcut.
        side: usize,
        /// The side read.
        expected: usize,
    },
    /// A projection whose convolution does not give the side of its area.
    #[error(
        "projection `{projection}` gives maps of side {side}, but area {area} has side {expected}; {}",
        advice(*.reads, *.stride, [*.side, *.expected])
    )]
    AreaSide {
        /// The projection.
        projection: String,
        /// The area.
        area: String,
        /// Side that its convolution gives.
        side: usize,
        /// Side of the area.
        expected: usize,
        /// Side that it reads.
        reads: usize,
        /// Stride of its convolution.
        stride: usize,
    },
    /// An area that is read out and does not depend on the image.
    #[error("no path leads from the image to area `{area}`, which is read out")]
    Unreached {
        /// The area.
        area: String,
    },
    /// The readout's areas are missing, named twice, or of different channels.
    #[error("readout: {reason}")]
    Readout {
        /// What is wrong.
        reason: String,
    },
    /// A time constant that is not positive.
    #[error("area {area} has a time constant of {tau_ms} ms: it must be finite and greater than 0")]
    TimeConstant {
        /// The area.
        area: String,
        /// Its time constant in ms.
        tau_ms: f64,
    },
    /// A time constant to train that starts nowhere.
    #[error("area {area} trains its time constant: give the `tau_ms` that it starts from")]
    NoTimeConstant {
        /// The area.
        area: String,
    },
    /// Time constants of channels that are not trained.
    #[error("area {area} has time constants per channel, which are parameters: set `trains_tau`")]
    UntrainedChannels {
        /// The area.
        area: String,
    },
    /// Adaptation of which a value is not usable.
    #[error(
        "area {area} adapts with tau_a = {tau_a_ms} ms and beta = {beta}: tau_a must be greater than 0, both finite"
    )]
    Adaptation {
        /// The area.
        area: String,
        /// Time constant of its adaptation in ms.
        tau_a_ms: f64,
        /// Its strength.
        beta: f64,
    },
    /// A cell of one's own whose name, parameters or hidden variables are not usable.
    #[error("area {area} has cells `{cell}`: {reason}")]
    Cell {
        /// The area.
        area: String,
        /// Name of its cell.
        cell: String,
        /// What is wrong.
        reason: String,
    },
    /// A file that names a cell of one's own which was not given.
    #[error(
        "area {area} has cells `{cell}`, which are not part of cords but of the program that made the network: \
         `Model::load_with` takes them"
    )]
    UnknownCell {
        /// The area.
        area: String,
        /// Name of its cell.
        cell: String,
    },
    /// A network of which recurrent and feedback projections cannot be taken away so that the rest is feed-forward.
    #[error("without its recurrent and feedback projections this network would not be feed-forward: {reason}")]
    NoFeedforwardRest {
        /// Why not.
        reason: String,
    },
    /// A network that no feed-forward twin has.
    #[error("this network has no CNN twin: {reason}")]
    NoTwin {
        /// Why not.
        reason: String,
    },
}

/// Of one area or two.
fn pairs(areas: usize) -> &'static str {
    if areas == 1 {
        "1 area is no pair"
    } else {
        "2 areas are one pair"
    }
}

/// What brings a projection's maps to the side of its area, or the area to theirs.
fn advice(reads: usize, stride: usize, [side, expected]: [usize; 2]) -> String {
    // The stride that brings one side nearest to the other.
    let fitting = ((reads as f64 / expected.max(1) as f64).round() as usize).max(1);
    if fitting != stride {
        format!("a stride of {fitting} would fit best")
    } else if side < expected {
        format!("`upsample` brings its sources up, or the area should have side {side}")
    } else {
        format!("the area should have side {side}")
    }
}

/// Names of modules that are no projection's.
const TAKEN: [&str; 8] = [
    "inp_conv",
    "out_fc",
    "conv_bias",
    "area_bias",
    "inp_norm",
    "log_tau",
    "log_tau_a",
    "beta",
];

/// Checks that a description makes a network.
///
/// # Errors
/// The first thing found wrong.
pub(super) fn check(description: &Description) -> Result<(), GraphError> {
    let Description {
        in_channels,
        image_side,
        classes,
        input_channels,
        areas,
        projections,
        readout,
    } = description;
    if areas.is_empty() {
        return Err(GraphError::NoAreas);
    }
    Area::check_names(areas.iter().map(|area| area.name.as_str()))?;
    size("in_channels", *in_channels)?;
    size("image_side", *image_side)?;
    size("classes", *classes)?;
    size("the input layer's channel count", *input_channels)?;
    for area in areas {
        size(&format!("the channel count of area {}", area.name), area.channels)?;
        size(&format!("the side of area {}", area.name), area.side)?;
        if let Some(tau_ms) = area.tau_ms
            && !(tau_ms.is_finite() && tau_ms > 0.0)
        {
            return Err(GraphError::TimeConstant {
                area: area.name.clone(),
                tau_ms,
            });
        }
        if area.trains_tau && area.tau_ms.is_none() {
            return Err(GraphError::NoTimeConstant {
                area: area.name.clone(),
            });
        }
        if area.tau_per_channel && !area.trains_tau {
            return Err(GraphError::UntrainedChannels {
                area: area.name.clone(),
            });
        }
        if let CellKind::Adapting(Adaptation { tau_a_ms, beta, .. }) = area.cell
            && !(tau_a_ms.is_finite() && tau_a_ms > 0.0 && beta.is_finite())
        {
            return Err(GraphError::Adaptation {
                area: area.name.clone(),
                tau_a_ms,
                beta,
            });
        }
        check_cell(area)?;
    }
    let numbers = projections.iter().flat_map(|projection| {
        let sources = projection.sources.iter().filter_map(|source| match source.from {
            Origin::Area(area) => Some(area),
            Origin::Image => None,
        });
        sources.chain([projection.to])
    });
    if let Some(number) = numbers
        .chain(readout.iter().copied())
        .find(|number| *number >= areas.len())
    {
        return Err(GraphError::UnknownArea {
            place: "a projection or the readout".to_owned(),
            name: number.to_string(),
            known: areas.iter().map(|area| area.name.clone()).collect(),
        });
    }
    names(projections)?;
    for projection in projections {
        check_projection(description, projection)?;
    }
    for (number, area) in areas.iter().enumerate() {
        let to = |projection: &&Projection| projection.to == number;
        let recurrent = |projection: &&Projection| projection.kind() == super::ConvKind::Recurrent;
        let mut own = projections.iter().filter(to).filter(recurrent);
        if let (Some(first), Some(second)) = (own.next(), own.next()) {
            return Err(GraphError::TwoRecurrent {
                area: area.name.clone(),
                first: first.kernel.name.clone(),
                second: second.kernel.name.clone(),
            });
        }
        if projections.iter().filter(to).all(|projection| recurrent(&projection)) {
            let what = format!("no projection comes to area {} from elsewhere", area.name);
            return Err(GraphError::Nothing { what });
        }
    }
    let reads_image = |source: &Source| source.from == Origin::Image;
    if !projections
        .iter()
        .flat_map(|projection| &projection.sources)
        .any(reads_image)
    {
        let what = "no projection reads the image".to_owned();
        return Err(GraphError::Nothing { what });
    }
    check_readout(description)?;
    check_reach(description)
}

impl Area {
    /// Checks that names of areas tell them from each other and from the image.
    ///
    /// # Errors
    /// The first name that does not.
    pub fn check_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), GraphError> {
        let mut before: Vec<&str> = Vec::new();
        for name in names {
            let refused = |reason| {
                let name = name.to_owned();
                Err(GraphError::AreaName { name, reason })
            };
            if name.trim().is_empty() {
                return refused("names are not empty");
            }
            if name == IMAGE {
                return refused("projections read the image by this name");
            }
            if before.contains(&name) {
                return Err(GraphError::Twice {
                    what: "area",
                    name: name.to_owned(),
                });
            }
            before.push(name);
        }
        Ok(())
    }
}

/// Beginnings of parameters' names that are no cell's.
const NO_CELLS: [&str; 3] = ["log_tau", "conv_bias", "area_bias"];

/// Checks what a cell of one's own says of itself.
fn check_cell(area: &Area) -> Result<(), GraphError> {
    let CellKind::Own(own) = &area.cell else {
        return Ok(());
    };
    let fails = |reason: String| {
        Err(GraphError::Cell {
            area: area.name.clone(),
            cell: own.name().to_owned(),
            reason,
        })
    };
    let is_name = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if !is_name(own.name()) {
        return fails("names are not empty and have no spaces".to_owned());
    }
    let cell = own.cell();
    let parameters = cell.parameters();
    for (number, parameter) in parameters.iter().enumerate() {
        let name = &parameter.name;
        if !is_name(name) || name.contains('.') || NO_CELLS.contains(&name.as_str()) {
            return fails(format!("a parameter cannot be named `{name}`"));
        }
        if parameters[..number].iter().any(|other| other.name == *name) {
            return fails(format!("parameter `{name}` is there twice"));
        }
        if !parameter.first.is_finite() {
            return fails(format!("parameter `{name}` starts from {}", parameter.first));
        }
    }
    let first: Vec<f64> = parameters.iter().map(|parameter| parameter.first).collect();
    let Some(variables) = cell.linearisation(&first) else {
        return Ok(());
    };
    if variables.len() != cell.hidden() {
        return fails(format!(
            "there are {} hidden variables, but linearisations of {}",
            cell.hidden(),
            variables.len()
        ));
    }
    for HiddenVariable { tau_ms, gain } in variables {
        if !(tau_ms.is_finite() && tau_ms > 0.0 && gain.is_finite()) {
            return fails(format!(
                "a hidden variable has tau = {tau_ms} ms and gain = {gain}: tau must be greater than 0, both finite"
            ));
        }
    }
    Ok(())
}

/// Larger sizes are typing errors; products of a few of them still fit an index.
const LARGEST: usize = 1 << 16;

fn size(what: &str, value: usize) -> Result<(), GraphError> {
    if (1..=LARGEST).contains(&value) {
        return Ok(());
    }
    let what = what.to_owned();
    Err(GraphError::Size { what, value })
}

fn names(projections: &[Projection]) -> Result<(), GraphError> {
    let mut names: Vec<&str> = Vec::new();
    let kernels = projections.iter().flat_map(|projection| {
        let shortcuts = projection.sources.iter().filter_map(|source| match &source.via {
            Via::Shortcut(kernel) => Some(kernel),
            Via::Direct | Via::Upsampled(_) => None,
        });
        shortcuts.chain([&projection.kernel])
    });
    for kernel in kernels {
        let name = kernel.name.as_str();
        let refused = |reason| {
            let name = name.to_owned();
            Err(GraphError::Name { name, reason })
        };
        if name.is_empty() || name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refused("names are not empty and have no spaces");
        }
        if TAKEN.contains(&name.split('.').next().unwrap_or_default()) {
            return refused("other parameters have this name");
        }
        if names.contains(&name) {
            return Err(GraphError::Twice {
                what: "convolution",
                name: name.to_owned(),
            });
        }
        names.push(name);
        size(&format!("the kernel of `{name}`"), kernel.kernel)?;
        size(&format!("the stride of `{name}`"), kernel.stride)?;
        if kernel.kernel.is_multiple_of(2) {
            return Err(GraphError::EvenKernel {
                convolution: name.to_owned(),
                kernel: kernel.kernel,
            });
        }
    }
    Ok(())
}

fn check_projection(description: &Description, projection: &Projection) -> Result<(), GraphError> {
    let name = || projection.kernel.name.clone();
    if projection.sources.is_empty() {
        let what = format!("projection `{}` has no sources", name());
        return Err(GraphError::Nothing { what });
    }
    let shape = description.shape(projection);
    for (place, source) in projection.sources.iter().enumerate() {
        let maps = description.maps(source.from);
        let source_name = match source.from {
            Origin::Image => "the image's input layer".to_owned(),
            Origin::Area(area) => format!("area {}", description.areas[area].name),
        };
        if projection.sources[..place].contains(source) {
            return Err(GraphError::SourceTwice {
                projection: name(),
                source_name,
            });
        }
        let (channels, side) = match &source.via {
            Via::Direct => (maps.channels, maps.side),
            Via::Shortcut(kernel) => (shape.inputs, side_after(kernel, maps.side)),
            Via::Upsampled(_) => (maps.channels, maps.side.max(shape.in_side)),
        };
        if channels != shape.inputs {
            return Err(GraphError::SourceChannels {
                projection: name(),
                source_name,
                channels,
                expected: shape.inputs,
            });
        }
        if side != shape.in_side {
            return Err(GraphError::SourceSide {
                projection: name(),
                source_name,
                side,
                expected: shape.in_side,
            });
        }
    }
    let (area, side) = (
        &description.areas[projection.to],
        side_after(&projection.kernel, shape.in_side),
    );
    if side != area.side {
        return Err(GraphError::AreaSide {
            projection: name(),
            area: area.name.clone(),
            side,
            expected: area.side,
            reads: shape.in_side,
            stride: projection.kernel.stride,
        });
    }
    Ok(())
}

fn check_readout(Description { areas, readout, .. }: &Description) -> Result<(), GraphError> {
    let fails = |reason| Err(GraphError::Readout { reason });
    let Some(first) = readout.first() else {
        return fails("no area is read out".to_owned());
    };
    for (place, area) in readout.iter().enumerate() {
        let name = &areas[*area].name;
        if readout[..place].contains(area) {
            return fails(format!("area {name} is there twice"));
        }
        let (channels, expected) = (areas[*area].channels, areas[*first].channels);
        if channels != expected {
            return fails(format!(
                "areas are summed, but area {name} has {channels} channels and area {} has {expected}",
                areas[*first].name
            ));
        }
    }
    Ok(())
}

/// Checks that what is read out can depend on the image.
fn check_reach(description: &Description) -> Result<(), GraphError> {
    let Description {
        areas,
        projections,
        readout,
        ..
    } = description;
    let mut reached = vec![false; areas.len()];
    // Each round reaches another area, or is the last one.
    for _ in 0..areas.len() {
        for projection in projections {
            let reads = |source: &Source| match source.from {
                Origin::Image => true,
                Origin::Area(area) => reached[area],
            };
            if projection.sources.iter().any(reads) {
                reached[projection.to] = true;
            }
        }
    }
    match readout.iter().find(|area| !reached[**area]) {
        Some(area) => Err(GraphError::Unreached {
            area: areas[*area].name.clone(),
        }),
        None => Ok(()),
    }
}
