//! Parameter `network` of `train`: a network as data, by a preset with changes or by areas and projections in full.

use cords::device::Interpolation;
use cords::net::{
    Architecture, Area, CellKind, Description, Euler, Graph, GraphError, Kernel, NetError, Origin, Preset, Projection,
    Source, Via,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network that is not by the rule of the published ones, or changes what they are made of.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkParams {
    /// Name of the network in tables and pictures; that of preset and number of areas if not given.
    #[serde(default)]
    name: Option<String>,
    /// What the areas are connected by; `published`, or what `projections` say, if not given.
    #[serde(default)]
    preset: Option<Preset>,
    /// Number of areas of a preset, or with `projections` a list of all areas; 8 if not given.
    #[serde(default)]
    areas: Option<AreasParams>,
    /// Of a preset: channels of the input layer and of the first two areas; later pairs have 2, 4 and 8 times as many.
    /// The stage's `width` if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1024), extend("x-unit" = "channels"))]
    width: Option<usize>,
    /// Of a preset: time constant, one for all areas or one for each; the stage's `tau` if not given.
    #[serde(default)]
    #[schemars(extend("x-unit" = "ms"))]
    tau: Option<Vec<f64>>,
    /// Of a preset: whether time constants are trained, from `tau` on.
    #[serde(default)]
    trains_tau: bool,
    /// Of a preset: whether every channel has a time constant of its own. Needs `trains_tau`.
    #[serde(default)]
    tau_per_channel: bool,
    /// Of a preset: how the units of all areas follow their current; `leaky`, as published, if not given.
    #[serde(default)]
    cell: Option<CellKind>,
    /// Channels of the input layer of a network in full; the stage's `width` if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536), extend("x-unit" = "channels"))]
    input_channels: Option<usize>,
    /// All connections of a network in full, recurrent ones included; those of the preset if not given.
    #[serde(default)]
    projections: Option<Vec<ProjectionParams>>,
    /// Areas of a network in full whose activity is summed and read out; the last one if not given.
    #[serde(default)]
    readout: Option<Vec<String>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "`areas` is a number of areas, or a list of areas with `name` and `channels`"
)]
enum AreasParams {
    Count(#[schemars(range(min = 1, max = 12))] usize),
    Full(Vec<AreaParams>),
}

/// An area of a network in full.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AreaParams {
    /// Name of the area, by which projections refer to it.
    name: String,
    /// Maps of the area.
    #[schemars(range(min = 1, max = 65536), extend("x-unit" = "channels"))]
    channels: usize,
    /// Height and width of a map; what the projections from the image on make of it if not given.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536))]
    side: Option<usize>,
    /// Time constant of the area; the stage's `tau` if not given.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    tau_ms: Option<f64>,
    /// Whether the time constant is trained, from `tau_ms` on.
    #[serde(default)]
    trains_tau: bool,
    /// Whether every channel has a time constant of its own. Needs `trains_tau`.
    #[serde(default)]
    tau_per_channel: bool,
    /// How the units follow their current; `leaky`, as published, if not given.
    #[serde(default)]
    cell: Option<CellKind>,
}

/// A convolution of the sum of its sources, to one area of a network in full.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ProjectionParams {
    /// Name of the convolution, by which its weights are stored.
    name: String,
    /// Area that the projection drives.
    to: String,
    /// What is summed: names of areas, or `image`, or mappings with `from` and `shortcut` or `upsample`. An area alone
    /// and to itself is its recurrent convolution.
    #[schemars(length(min = 1))]
    from: Vec<SourceParams>,
    /// Side of the kernel, odd.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 65536))]
    kernel: usize,
    /// Stride of the convolution.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 65536))]
    stride: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "a source is the name of an area or `image`, or a mapping with `from` and `shortcut` or `upsample`"
)]
enum SourceParams {
    Direct(String),
    Changed(ChangedSource),
}

/// A source that something happens to before the sum.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ChangedSource {
    /// Name of an area, or `image`.
    from: String,
    /// A convolution of its own, to the channels of the other sources; none if not given.
    #[serde(default)]
    shortcut: Option<Kernel>,
    /// How it is enlarged to the side that the projection reads; not at all if not given.
    #[serde(default)]
    upsample: Option<Interpolation>,
}

fn three() -> usize {
    3
}

fn one() -> usize {
    1
}

/// What is wrong with the mapping, and where: a dotted path from the stage's parameters on.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) place: String,
    pub(super) message: String,
    /// The message where the sides that it names are not the user's but only tried.
    without_sides: Option<String>,
}

impl Flaw {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
            without_sides: None,
        }
    }

    fn without_sides(self) -> Self {
        Self {
            message: self.without_sides.unwrap_or(self.message),
            without_sides: None,
            place: self.place,
        }
    }
}

/// What the images say of a network.
#[derive(Clone, Copy)]
pub(super) struct ImageSizes {
    pub(super) channels: usize,
    pub(super) side: usize,
    pub(super) classes: usize,
}

/// The source that is no area.
const IMAGE: &str = "image";
/// As CordsNet-R8 has.
pub(super) const AREAS: usize = 8;
/// As all published networks have.
pub(super) const WIDTH: usize = 64;

impl NetworkParams {
    /// The network for images of some sizes; `width` is the stage's.
    pub(super) fn graph(&self, width: Option<usize>, images: ImageSizes) -> Result<Graph, Flaw> {
        if self.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(Flaw::new(
                "network.name",
                "the name is empty; leave it out for that of preset and number of areas",
            ));
        }
        match (&self.areas, &self.projections) {
            (Some(AreasParams::Full(areas)), Some(projections)) => self.full(areas, projections, width, images),
            (Some(AreasParams::Full(_)), None) => Err(Flaw::new(
                "network.areas",
                "a list of areas needs the `projections` between them; a preset takes the number of areas",
            )),
            (_, Some(_)) => Err(Flaw::new(
                "network.projections",
                "projections need `areas` as a list of the areas that they connect",
            )),
            (Some(AreasParams::Count(areas)), None) => self.of_preset(*areas, width, images),
            (None, None) => self.of_preset(AREAS, width, images),
        }
    }

    /// The same for images that are not known yet: of a side that the network fits, if there is one.
    pub(super) fn graph_of_some_images(&self, width: Option<usize>) -> Result<Graph, Flaw> {
        /// Sides of `inp`, which is a quarter of the image's, that are tried.
        const SIDES: usize = 256;
        let tried = |side| {
            let images = ImageSizes {
                channels: 3,
                side,
                classes: 10,
            };
            self.graph(width, images)
        };
        let flaw = match tried(self.likely_side()) {
            Ok(graph) => return Ok(graph),
            Err(flaw) => flaw,
        };
        // Maps of one unit fit each other whatever the strides.
        let (smallest, flaw) = if self.states_sides() {
            (1, flaw)
        } else {
            (2, flaw.without_sides())
        };
        (smallest..=SIDES).find_map(|side| tried(4 * side).ok()).ok_or(flaw)
    }

    fn states_sides(&self) -> bool {
        let Some(AreasParams::Full(areas)) = &self.areas else {
            return false;
        };
        areas.iter().any(|area| area.side.is_some())
    }

    /// The side of images that suits the first area that states a side and reads the image.
    fn likely_side(&self) -> usize {
        const USUAL: usize = 224;
        let (Some(AreasParams::Full(areas)), Some(projections)) = (&self.areas, &self.projections) else {
            return USUAL;
        };
        let reads_image = |source: &SourceParams| matches!(source, SourceParams::Direct(name) if name == IMAGE);
        let side = |projection: &ProjectionParams| {
            let area = areas.iter().find(|area| area.name == projection.to)?;
            Some(4 * area.side? * projection.stride)
        };
        let read = projections
            .iter()
            .filter(|projection| projection.from.iter().any(reads_image));
        read.filter_map(side).next().unwrap_or(USUAL)
    }

    fn of_preset(&self, areas: usize, width: Option<usize>, images: ImageSizes) -> Result<Graph, Flaw> {
        let misplaced = [
            ("input_channels", self.input_channels.is_some()),
            ("readout", self.readout.is_some()),
        ];
        if let Some((name, _)) = misplaced.iter().find(|(_, given)| *given) {
            return Err(Flaw::new(
                format!("network.{name}"),
                format!("`{name}` belongs to a network in full, by `areas` and `projections`; presets have their own"),
            ));
        }
        let architecture = Architecture {
            in_channels: images.channels,
            image_side: images.side,
            channels: Architecture::published_channels(areas, self.width.or(width).unwrap_or(WIDTH)),
            strides: Architecture::published_strides(areas),
            classes: images.classes,
        };
        let graph = architecture
            .preset(self.preset.unwrap_or_default())
            .map_err(|error| self.flaw(&error))?;
        let mut description = graph.description().clone();
        if let Some(tau) = &self.tau {
            let of = |area: usize| match tau.as_slice() {
                [tau] => Some(*tau),
                several => several.get(area).copied(),
            };
            if ![1, areas].contains(&tau.len()) {
                return Err(Flaw::new(
                    "network.tau",
                    format!(
                        "{} time constants for {areas} areas: give one, or one for each",
                        tau.len()
                    ),
                ));
            }
            for (number, area) in description.areas.iter_mut().enumerate() {
                area.tau_ms = of(number);
            }
        } else if self.trains_tau {
            return Err(Flaw::new(
                "network.trains_tau",
                "time constants are trained from those of `network` on: give its `tau`",
            ));
        }
        for area in &mut description.areas {
            (area.trains_tau, area.tau_per_channel) = (self.trains_tau, self.tau_per_channel);
            area.cell = self.cell.clone().unwrap_or_default();
        }
        Graph::new(description).map_err(|error| self.flaw(&error))
    }

    fn full(
        &self,
        areas: &[AreaParams],
        projections: &[ProjectionParams],
        width: Option<usize>,
        images: ImageSizes,
    ) -> Result<Graph, Flaw> {
        let misplaced = [
            (
                "preset",
                self.preset.is_some(),
                "its `projections` stand in place of those of a preset",
            ),
            (
                "width",
                self.width.is_some(),
                "areas have `channels`, the input layer `input_channels`",
            ),
            ("tau", self.tau.is_some(), "areas have `tau_ms`"),
            ("trains_tau", self.trains_tau, "areas have `trains_tau`"),
            ("tau_per_channel", self.tau_per_channel, "areas have `tau_per_channel`"),
            ("cell", self.cell.is_some(), "areas have `cell`"),
        ];
        if let Some((name, _, instead)) = misplaced.iter().find(|(_, given, _)| *given) {
            return Err(Flaw::new(
                format!("network.{name}"),
                format!("`{name}` belongs to a preset; this network is given in full: {instead}"),
            ));
        }
        if areas.is_empty() {
            return Err(Flaw::new("network.areas", GraphError::NoAreas.to_string()));
        }
        Area::check_names(areas.iter().map(|area| area.name.as_str())).map_err(|error| self.flaw(&error.into()))?;
        let names = Names(areas);
        let mut drawn = Vec::new();
        for (number, projection) in projections.iter().enumerate() {
            drawn.push(names.projection(projection, &format!("network.projections.{number}"))?);
        }
        let readout = match &self.readout {
            None => vec![areas.len() - 1],
            Some(read) => {
                let area = |(place, name): (usize, &String)| {
                    names.area("the readout", name, || format!("network.readout.{place}"))
                };
                read.iter().enumerate().map(area).collect::<Result<_, _>>()?
            }
        };
        let sides = sides(areas, &drawn, images.side)?;
        let area = |(area, side): (&AreaParams, usize)| Area {
            name: area.name.clone(),
            channels: area.channels,
            side,
            tau_ms: area.tau_ms,
            trains_tau: area.trains_tau,
            tau_per_channel: area.tau_per_channel,
            cell: area.cell.clone().unwrap_or_default(),
        };
        let description = Description {
            in_channels: images.channels,
            image_side: images.side,
            classes: images.classes,
            input_channels: self.input_channels.or(width).unwrap_or(WIDTH),
            areas: areas.iter().zip(sides).map(area).collect(),
            projections: drawn,
            readout,
        };
        Graph::new(description).map_err(|error| self.flaw(&error))
    }

    /// The place of what the engine finds wrong.
    fn flaw(&self, error: &NetError) -> Flaw {
        let place = match error {
            NetError::Areas { .. } | NetError::Graph(GraphError::OnePair { .. }) => "network.areas".to_owned(),
            NetError::Graph(error) => self.place(error).unwrap_or_else(|| "network".to_owned()),
            _ => "network".to_owned(),
        };
        let without_sides = match error {
            NetError::Graph(error) => message_without_sides(error),
            _ => None,
        };
        Flaw {
            without_sides,
            ..Flaw::new(place, error.to_string())
        }
    }

    fn place(&self, error: &GraphError) -> Option<String> {
        let area = |name: &String| {
            let Some(AreasParams::Full(areas)) = &self.areas else {
                return None;
            };
            let number = areas.iter().rposition(|area| area.name == *name)?;
            Some(format!("network.areas.{number}"))
        };
        let projection = |name: &String| {
            let has = |source: &SourceParams| {
                let SourceParams::Changed(changed) = source else {
                    return false;
                };
                changed.shortcut.as_ref().is_some_and(|shortcut| shortcut.name == *name)
            };
            let named = |projection: &ProjectionParams| projection.name == *name || projection.from.iter().any(has);
            let number = self.projections.as_ref()?.iter().rposition(named)?;
            Some(format!("network.projections.{number}"))
        };
        // Of a preset its own parameters.
        let within = |name: &String, field: &str, of_preset: &str| {
            let place = area(name).map(|place| format!("{place}.{field}"));
            Some(place.unwrap_or_else(|| format!("network.{of_preset}")))
        };
        match error {
            GraphError::AreaName { name, .. } => area(name).map(|place| format!("{place}.name")),
            GraphError::Twice { what: "area", name } => area(name),
            GraphError::Twice { name, .. } | GraphError::Name { name, .. } => projection(name),
            GraphError::EvenKernel { convolution, .. } => projection(convolution),
            GraphError::TwoRecurrent { second, .. } => projection(second),
            GraphError::SourceChannels { projection: name, .. }
            | GraphError::SourceSide { projection: name, .. }
            | GraphError::AreaSide { projection: name, .. } => projection(name),
            GraphError::SourceTwice { projection: name, .. } => projection(name).map(|place| format!("{place}.from")),
            GraphError::Unreached { area: name } => {
                let read = self
                    .readout
                    .as_ref()
                    .and_then(|read| read.iter().position(|read| read == name));
                read.map_or_else(|| area(name), |place| Some(format!("network.readout.{place}")))
            }
            GraphError::Readout { .. } => self.readout.is_some().then(|| "network.readout".to_owned()),
            GraphError::TimeConstant { area, .. } => within(area, "tau_ms", "tau"),
            GraphError::NoTimeConstant { area } => within(area, "trains_tau", "trains_tau"),
            GraphError::UntrainedChannels { area } => within(area, "tau_per_channel", "tau_per_channel"),
            GraphError::Adaptation { area, .. } => within(area, "cell", "cell"),
            _ => None,
        }
    }

    /// What of the network is too fast for the steps.
    pub(super) fn too_fast(&self, graph: &Graph, euler: &Euler) -> Option<Flaw> {
        let dt = euler.dt_ms;
        let flaw = |number: usize, of_area: &str, of_preset: &str, what: String| {
            let place = match &self.areas {
                Some(AreasParams::Full(_)) => format!("network.areas.{number}.{of_area}"),
                _ => format!("network.{of_preset}"),
            };
            let name = &graph.area(number).name;
            Flaw::new(
                place,
                format!("area {name} {what} ms: it must be at least the step of {dt} ms"),
            )
        };
        (0..graph.areas()).find_map(|number| {
            let area = graph.area(number);
            if let Some(tau) = area.tau_ms.filter(|tau| *tau < dt) {
                return Some(flaw(number, "tau_ms", "tau", format!("has a time constant of {tau}")));
            }
            let CellKind::Adapting(adaptation) = area.cell else {
                return None;
            };
            let tau = Some(adaptation.tau_a_ms).filter(|tau| *tau < dt)?;
            let place = "cell.adapting.tau_a_ms";
            Some(flaw(number, place, place, format!("adapts with tau_a = {tau}")))
        })
    }

    /// Whether time constants of areas or adaptation are trained.
    pub(super) fn trains_cells(&self) -> bool {
        let adapts =
            |cell: &Option<CellKind>| matches!(cell, Some(CellKind::Adapting(adaptation)) if adaptation.trained);
        let of_area = |area: &AreaParams| area.trains_tau || adapts(&area.cell);
        let areas = matches!(&self.areas, Some(AreasParams::Full(areas)) if areas.iter().any(of_area));
        self.trains_tau || adapts(&self.cell) || areas
    }

    /// How tables name the network; none where kind and number of areas say it all, as for published ones.
    pub(super) fn title(&self, graph: &Graph) -> Option<String> {
        if self.name.is_some() {
            return self.name.clone();
        }
        let areas = graph.areas();
        let adapts = self.cell.as_ref().is_some_and(|cell| *cell != CellKind::Leaky);
        let name = match self.preset.unwrap_or_default() {
            _ if self.projections.is_some() => format!("CordsNet-{areas}-areas"),
            Preset::Published if adapts => format!("CordsNet-R{areas}"),
            Preset::Published => return None,
            Preset::Feedback => format!("CordsNet-R{areas}-feedback"),
            Preset::Feedforward => format!("CordsNet-R{areas}-feedforward"),
            Preset::Blt => format!("BLT-{areas}"),
            Preset::CornetRt => format!("CORnet-RT-{areas}"),
        };
        Some(if adapts { format!("{name}-adapting") } else { name })
    }
}

/// What is wrong with sides, without naming those that were only tried.
fn message_without_sides(error: &GraphError) -> Option<String> {
    match error {
        GraphError::SourceSide {
            projection,
            source_name,
            ..
        } => Some(format!(
            "the sources of projection `{projection}` are summed, but {source_name} comes at another side than others, \
             whatever the side of the images; a shortcut with a stride brings it down, `upsample` brings it up"
        )),
        GraphError::AreaSide { projection, area, .. } => Some(format!(
            "projection `{projection}` gives maps of sides other than that of area {area}, whatever the side of the \
             images; its `stride` brings them down, `upsample` of its sources brings them up"
        )),
        _ => None,
    }
}

/// Areas by name.
struct Names<'a>(&'a [AreaParams]);

impl Names<'_> {
    fn area(&self, what: &str, name: &str, place: impl Fn() -> String) -> Result<usize, Flaw> {
        let found = self.0.iter().position(|area| area.name == name);
        found.ok_or_else(|| {
            let error = GraphError::UnknownArea {
                place: what.to_owned(),
                name: name.to_owned(),
                known: self.0.iter().map(|area| area.name.clone()).collect(),
            };
            Flaw::new(place(), error.to_string())
        })
    }

    fn projection(&self, params: &ProjectionParams, place: &str) -> Result<Projection, Flaw> {
        let what = format!("projection `{}`", params.name);
        let source = |(number, source): (usize, &SourceParams)| {
            let place = || format!("{place}.from.{number}");
            let (from, via) = match source {
                SourceParams::Direct(from) => (from, Via::Direct),
                SourceParams::Changed(changed) => {
                    let via = match (&changed.shortcut, changed.upsample) {
                        (Some(_), Some(_)) => {
                            let message = format!("{what}: a source has either `shortcut` or `upsample`");
                            return Err(Flaw::new(place(), message));
                        }
                        (Some(shortcut), None) => Via::Shortcut(shortcut.clone()),
                        (None, Some(upsample)) => Via::Upsampled(upsample),
                        (None, None) => Via::Direct,
                    };
                    (&changed.from, via)
                }
            };
            let from = match from.as_str() {
                IMAGE => Origin::Image,
                name => Origin::Area(self.area(&what, name, place)?),
            };
            Ok(Source { from, via })
        };
        Ok(Projection {
            kernel: Kernel {
                name: params.name.clone(),
                kernel: params.kernel,
                stride: params.stride,
            },
            to: self.area(&what, &params.to, || format!("{place}.to"))?,
            sources: params.from.iter().enumerate().map(source).collect::<Result<_, _>>()?,
        })
    }
}

/// Sides of all areas: those given, and of the others what their projections make of areas whose side is known, from
/// the image on.
fn sides(areas: &[AreaParams], projections: &[Projection], image_side: usize) -> Result<Vec<usize>, Flaw> {
    let mut sides: Vec<Option<usize>> = areas.iter().map(|area| area.side).collect();
    loop {
        let before = sides.clone();
        for projection in projections {
            if sides[projection.to].is_none() {
                sides[projection.to] = made(projection, &sides, image_side);
            }
        }
        if sides == before {
            break;
        }
    }
    let unknown = sides.iter().position(Option::is_none);
    match unknown {
        None => Ok(sides.into_iter().flatten().collect()),
        Some(area) => Err(Flaw::new(
            format!("network.areas.{area}"),
            format!(
                "the side of area {} does not follow from its projections: it reads neither the image nor areas whose \
                 side is known; give its `side`",
                areas[area].name
            ),
        )),
    }
}

/// The side of maps that a projection makes, where a source of known side is read as it is or through a shortcut.
/// Padding is such that a stride divides a side, rounded up.
fn made(projection: &Projection, sides: &[Option<usize>], image_side: usize) -> Option<usize> {
    let read = |source: &Source| {
        let side = match source.from {
            // The input layer halves it twice.
            Origin::Image => image_side.div_ceil(2).div_ceil(2),
            Origin::Area(area) if area == projection.to => return None,
            Origin::Area(area) => sides[area]?,
        };
        match &source.via {
            Via::Direct => Some(side),
            Via::Shortcut(kernel) => Some(side.div_ceil(kernel.stride.max(1))),
            Via::Upsampled(_) => None,
        }
    };
    let side = projection.sources.iter().find_map(read)?;
    Some(side.div_ceil(projection.kernel.stride.max(1)))
}
