//! A network as data: areas, the projections between them, and the readout.
//!
//! The current of an area is its bias and, for every projection to it, one convolution of the SUM of the projection's
//! sources: what makes the published network fast, and what every other one here is made of. All areas update
//! synchronously from the previous step's activity, so a projection from a later area to an earlier one is a projection
//! like any other. Simulation, gradients and linearisations walk [`Inlet`]s, which a [`Graph`] works out once; only the
//! constructor of the published networks ([`rule`]) knows how their areas are connected.
//!
//! A `Graph` is valid: descriptions become one through [`Graph::new`] alone.

mod error;
mod form;
pub(super) mod rule;
#[cfg(test)]
mod tests;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;
use serde::{Deserialize, Serialize};

use super::{CellKind, CellParameter, Euler, NetError};
use crate::device::{ConvShape, Interpolation, Maps};

pub use error::GraphError;
pub(super) use form::AnyForm;
pub use rule::{Architecture, Preset};

/// One recurrent layer: `channels` maps of `side` x `side` units.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name, in messages and in full forms.
    pub name: String,
    /// Maps.
    pub channels: usize,
    /// Height and width of a map.
    pub side: usize,
    /// Time constant in ms, where it is not that of the network ([`Euler::tau_ms`]).
    pub tau_ms: Option<f64>,
    /// Whether it is a parameter, `log_tau.l` of area l, which starts from `tau_ms`.
    pub trains_tau: bool,
    /// Whether the one that is trained is one for each channel, a tensor `[channels]`.
    pub tau_per_channel: bool,
    /// How its units follow their current.
    pub cell: CellKind,
}

impl Area {
    /// The parameters that area number `area` has beside convolutions and bias, by their whole names.
    pub(crate) fn parameters(&self, area: usize) -> Vec<AreaParameter> {
        let tau_ms = self.tau_ms.filter(|_| self.trains_tau);
        let log_tau = tau_ms.map(|tau_ms| CellParameter::log_tau("log_tau", tau_ms));
        let taus = if self.tau_per_channel { self.channels } else { 1 };
        let log_tau = log_tau.map(|parameter| (parameter, taus));
        let of_cell = self.cell.cell().map_or_else(Vec::new, |cell| cell.parameters());
        let named = |(parameter, values): (CellParameter, usize)| AreaParameter {
            name: format!("{}.{area}", parameter.name),
            first: parameter.first,
            is_log_tau: parameter.is_log_tau,
            values,
        };
        let of_cell = of_cell.into_iter().map(|parameter| (parameter, 1));
        log_tau.into_iter().chain(of_cell).map(named).collect()
    }
}

/// A parameter of an area beside convolutions and bias, as [`CellParameter`].
pub(crate) struct AreaParameter {
    /// Its whole name.
    pub(crate) name: String,
    /// What all its values start from.
    pub(crate) first: f64,
    pub(crate) is_log_tau: bool,
    /// Number of values.
    pub(crate) values: usize,
}

/// A convolution without bias, weight-normalised, with (kernel - 1)/2 zeros of padding.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Name of its parameters, e.g. `area_area.1`.
    pub name: String,
    /// Side of the kernel, odd; 3 if not given.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65536)))]
    #[serde(default = "three", skip_serializing_if = "is_three")]
    pub kernel: usize,
    /// Stride in both directions; 1 if not given.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 65536)))]
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
}

fn three() -> usize {
    3
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_three(value: &usize) -> bool {
    *value == 3
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_one(value: &usize) -> bool {
    *value == 1
}

/// Connections into one area: a convolution of the sum of its sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Its convolution.
    pub kernel: Kernel,
    /// Number of the area that it drives.
    pub to: usize,
    /// What is summed. An area itself alone and direct makes the projection its recurrent convolution, which reads the
    /// activity as it is; all other sources are rectified.
    pub sources: Vec<Source>,
}

/// One term of the sum that a projection's convolution reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it comes from.
    pub from: Origin,
    /// What happens to it before the sum.
    pub via: Via,
}

/// Where a source comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The input layer.
    Image,
    /// An area, by number.
    Area(usize),
}

/// What happens to a source before it is summed with others.
#[derive(Clone, Debug, PartialEq)]
pub enum Via {
    /// Nothing.
    Direct,
    /// A convolution of its own, to as many channels as the other sources have.
    Shortcut(Kernel),
    /// It is enlarged to the side that the projection's convolution reads.
    Upsampled(Interpolation),
}

/// What a [`Graph`] is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Channels of the image.
    pub in_channels: usize,
    /// Height and width of the image in pixels.
    pub image_side: usize,
    /// Classes of the readout.
    pub classes: usize,
    /// Channels of the input layer: a 7x7 convolution of stride 2 and an average pool 3x3 of stride 2.
    pub input_channels: usize,
    /// Areas.
    pub areas: Vec<Area>,
    /// Projections.
    pub projections: Vec<Projection>,
    /// Numbers of the areas whose rectified activity, each averaged over its plane, is summed and read out.
    pub readout: Vec<usize>,
}

/// What a convolution is for, in the order that convolutions have in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConvKind {
    /// Image to input layer.
    Input,
    /// Input layer to the sum of sources of a projection.
    ImageShortcut,
    /// Within an area.
    Recurrent,
    /// From the image or an earlier area, perhaps beside others.
    Feedforward,
    /// An area's activity to the sum of sources of a feed-forward projection.
    Shortcut,
    /// Pooled activity to classes, 1x1.
    Readout,
    /// From later areas alone, or the area itself in another way than its recurrent convolution.
    Feedback,
    /// An area's activity to the sum of sources of a feedback projection.
    FeedbackShortcut,
}

/// One of a network's convolutions.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Conv {
    pub(crate) kind: ConvKind,
    /// Published name of the module.
    pub(crate) module: String,
    pub(crate) shape: ConvShape,
}

/// How a source reaches the sum of its projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    /// By a convolution, by number.
    Conv(usize),
    Upsampled(Interpolation),
}

/// A projection that is not a recurrent one, as it is computed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inlet {
    /// Number of its convolution.
    pub(crate) conv: usize,
    /// What the convolution reads of one image.
    pub(crate) reads: Maps,
    /// Ways of the image's sources, which are constant while an image is held; direct ones last.
    pub(crate) image: Vec<Way>,
    /// Sources from areas; direct ones last, so that they can be added to what is written already.
    pub(crate) areas: Vec<(usize, Way)>,
}

/// A valid network without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    description: Description,
    convs: Vec<Conv>,
    /// Convolution within each area.
    recurrent: Vec<Option<usize>>,
    /// Other projections to each area.
    inlets: Vec<Vec<Inlet>>,
    /// Areas that are read out, two by two where their maps are of one shape.
    readout_pairs: Vec<(usize, Option<usize>)>,
    /// Strongly connected components in topological order.
    components: Vec<Vec<usize>>,
}

/// The convolution of the input layer.
pub(crate) const INPUT: usize = 0;
/// Name of the source that is no area.
const IMAGE: &str = "image";

impl Graph {
    /// A network from its description.
    ///
    /// # Errors
    /// [`NetError::Graph`] with the first thing that does not fit, by the names of areas and projections.
    pub fn new(description: Description) -> Result<Self, NetError> {
        error::check(&description)?;
        Ok(Self::derived(description))
    }

    /// What follows from a description, valid or not, as long as its areas have numbers.
    pub(crate) fn derived(description: Description) -> Self {
        let areas = description.areas.len();
        // Convolutions as they come, with the places that ask for their numbers.
        enum Asks {
            Input,
            Projection(usize),
            Shortcut(usize, usize),
            Readout,
        }
        let pooled = ConvShape {
            inputs: description
                .readout
                .first()
                .map_or(0, |area| description.areas[*area].channels),
            outputs: description.classes,
            kernel: 1,
            stride: 1,
            padding: 0,
            in_side: 1,
        };
        let conv = |kind, module: &str, shape| Conv {
            kind,
            module: module.to_owned(),
            shape,
        };
        let mut convs = vec![
            (conv(ConvKind::Input, "inp_conv", description.input_conv()), Asks::Input),
            (conv(ConvKind::Readout, "out_fc", pooled), Asks::Readout),
        ];
        for (number, projection) in description.projections.iter().enumerate() {
            let kind = projection.kind();
            let shape = description.shape(projection);
            convs.push((conv(kind, &projection.kernel.name, shape), Asks::Projection(number)));
            for (place, source) in projection.sources.iter().enumerate() {
                let Via::Shortcut(kernel) = &source.via else { continue };
                let kind = match (source.from, kind) {
                    (Origin::Image, _) => ConvKind::ImageShortcut,
                    (Origin::Area(_), ConvKind::Feedback) => ConvKind::FeedbackShortcut,
                    (Origin::Area(_), _) => ConvKind::Shortcut,
                };
                let from = description.maps(source.from);
                let shape = convolution(from, kernel, shape.inputs);
                convs.push((conv(kind, &kernel.name, shape), Asks::Shortcut(number, place)));
            }
        }
        convs.sort_by_key(|(conv, _)| conv.kind);
        let number = |wanted: &dyn Fn(&Asks) -> bool| convs.iter().position(|(_, asks)| wanted(asks)).unwrap_or(INPUT);
        let mut recurrent = vec![None; areas];
        let mut inlets = vec![Vec::new(); areas];
        for (index, projection) in description.projections.iter().enumerate() {
            let own = number(&|asks| matches!(asks, Asks::Projection(i) if *i == index));
            if projection.kind() == ConvKind::Recurrent {
                recurrent[projection.to] = Some(own);
                continue;
            }
            let mut inlet = Inlet {
                conv: own,
                reads: convs[own].0.shape.in_maps(1),
                image: Vec::new(),
                areas: Vec::new(),
            };
            for (place, source) in projection.sources.iter().enumerate() {
                let way = match &source.via {
                    Via::Direct => Way::Direct,
                    Via::Shortcut(_) => Way::Conv(number(
                        &|asks| matches!(asks, Asks::Shortcut(i, j) if (*i, *j) == (index, place)),
                    )),
                    Via::Upsampled(interpolation) => Way::Upsampled(*interpolation),
                };
                match source.from {
                    Origin::Image => inlet.image.push(way),
                    Origin::Area(area) => inlet.areas.push((area, way)),
                }
            }
            inlet.image.sort_by_key(|way| *way == Way::Direct);
            inlet.areas.sort_by_key(|(_, way)| *way == Way::Direct);
            inlets[projection.to].push(inlet);
        }
        let mut readout_pairs: Vec<(usize, Option<usize>)> = Vec::new();
        let shape = |area: usize| description.maps(Origin::Area(area));
        for area in description.readout.iter().copied() {
            match readout_pairs.last_mut() {
                Some((first, second @ None)) if shape(*first) == shape(area) => *second = Some(area),
                _ => readout_pairs.push((area, None)),
            }
        }
        let mut arrows = DiGraph::<(), ()>::new();
        let nodes: Vec<_> = (0..areas).map(|_| arrows.add_node(())).collect();
        for (to, inlets) in inlets.iter().enumerate() {
            for (from, _) in inlets.iter().flat_map(|inlet: &Inlet| &inlet.areas) {
                arrows.update_edge(nodes[*from], nodes[to], ());
            }
        }
        let mut components: Vec<Vec<usize>> = tarjan_scc(&arrows)
            .into_iter()
            .rev()
            .map(|component| component.into_iter().map(|node| node.index()).collect())
            .collect();
        components.iter_mut().for_each(|component| component.sort_unstable());
        Self {
            convs: convs.into_iter().map(|(conv, _)| conv).collect(),
            recurrent,
            inlets,
            readout_pairs,
            components,
            description,
        }
    }

    /// What it is made of.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Channels of the image.
    pub fn in_channels(&self) -> usize {
        self.description.in_channels
    }

    /// Height and width of the image in pixels.
    pub fn image_side(&self) -> usize {
        self.description.image_side
    }

    /// Classes of the readout.
    pub fn classes(&self) -> usize {
        self.description.classes
    }

    /// Channels of the input layer.
    pub fn input_channels(&self) -> usize {
        self.description.input_channels
    }

    /// Number of areas.
    pub fn areas(&self) -> usize {
        self.description.areas.len()
    }

    /// An area.
    pub fn area(&self, area: usize) -> &Area {
        &self.description.areas[area]
    }

    /// Side of each area's maps.
    pub fn sides(&self) -> Vec<usize> {
        self.description.areas.iter().map(|area| area.side).collect()
    }

    /// Units of an area: channels x side x side.
    pub fn area_units(&self, area: usize) -> usize {
        self.maps(area, 1).len()
    }

    /// Units of all areas together.
    pub fn units(&self) -> usize {
        (0..self.areas()).map(|area| self.area_units(area)).sum()
    }

    /// Values of one image: channels x side^2.
    pub fn image_len(&self) -> usize {
        self.image_maps(1).len()
    }

    /// Areas that drive each other, directly or through others, as one component; components in an order in which every
    /// area comes after those that drive it from other components.
    pub fn components(&self) -> &[Vec<usize>] {
        &self.components
    }

    /// Step and time constants with those that areas have of their own.
    ///
    /// # Errors
    /// [`NetError::TimeConstants`] where they are not usable.
    pub fn euler(&self, euler: &Euler) -> Result<Euler, NetError> {
        let areas = &self.description.areas;
        // Not used where every area has a time constant of its own.
        if areas.iter().any(|area| area.tau_ms.is_none()) {
            euler.validate(self.areas())?;
        }
        if areas.iter().all(|area| area.tau_ms.is_none()) {
            return Ok(euler.clone());
        }
        let resolved = Euler {
            dt_ms: euler.dt_ms,
            tau_ms: (0..self.areas())
                .map(|area| euler.dt_ms / self.alpha(euler, area))
                .collect(),
        };
        resolved.validate(self.areas())?;
        Ok(resolved)
    }

    /// alpha = dt / tau of an area.
    pub(crate) fn alpha(&self, euler: &Euler, area: usize) -> f64 {
        self.area(area)
            .tau_ms
            .map_or(euler.alpha(area), |tau_ms| euler.dt_ms / tau_ms)
    }

    /// Maps of an area for `batch` images.
    pub(crate) fn maps(&self, area: usize, batch: usize) -> Maps {
        self.description.maps(Origin::Area(area)).with_batch(batch)
    }

    /// Maps of the images.
    pub(crate) fn image_maps(&self, batch: usize) -> Maps {
        self.convs[INPUT].shape.in_maps(batch)
    }

    /// Maps of `inp`.
    pub(crate) fn inp_maps(&self, batch: usize) -> Maps {
        self.description.maps(Origin::Image).with_batch(batch)
    }

    /// Maps of the pooled activity.
    pub(crate) fn pooled_maps(&self, batch: usize) -> Maps {
        self.convs[self.readout_conv()].shape.in_maps(batch)
    }

    /// Maps of the logits.
    pub(crate) fn logit_maps(&self, batch: usize) -> Maps {
        self.convs[self.readout_conv()].shape.out_maps(batch)
    }

    /// All convolutions in their order.
    pub(crate) fn convs(&self) -> &[Conv] {
        &self.convs
    }

    /// Shapes of all convolutions in their order.
    pub(crate) fn conv_shapes(&self) -> Vec<ConvShape> {
        self.convs.iter().map(|conv| conv.shape).collect()
    }

    /// Number of the readout among the convolutions.
    pub(crate) fn readout_conv(&self) -> usize {
        let readout = |conv: &Conv| conv.kind == ConvKind::Readout;
        self.convs.iter().position(readout).unwrap_or_default()
    }

    /// The convolution within an area, by number.
    pub(crate) fn recurrent(&self, area: usize) -> Option<usize> {
        self.recurrent[area]
    }

    /// Projections to an area, but for its recurrent convolution.
    pub(crate) fn inlets(&self, area: usize) -> &[Inlet] {
        &self.inlets[area]
    }

    /// All of them with the numbers of their areas.
    pub(crate) fn all_inlets(&self) -> impl Iterator<Item = (usize, &Inlet)> {
        let each = self.inlets.iter().enumerate();
        each.flat_map(|(area, inlets)| inlets.iter().map(move |inlet| (area, inlet)))
    }

    /// Areas that are read out, two by two where their maps are of one shape.
    pub(crate) fn readout_pairs(&self) -> &[(usize, Option<usize>)] {
        &self.readout_pairs
    }

    /// Areas that are read out.
    pub(crate) fn readout(&self) -> &[usize] {
        &self.description.readout
    }

    /// Whether a feed-forward network is left without the projections that close loops: recurrent ones, and those to an
    /// area from later areas alone which it drives.
    ///
    /// # Errors
    /// [`GraphError::NoFeedforwardRest`] with what speaks against it.
    pub fn check_feedforward_rest(&self) -> Result<(), NetError> {
        self.loop_convs().map(drop)
    }

    /// The convolutions of the projections that close loops, by number.
    ///
    /// # Errors
    /// [`GraphError::NoFeedforwardRest`] where a loop is left, as a projection sums what closes it with what does not,
    /// or where an area is left without any source.
    pub(crate) fn loop_convs(&self) -> Result<Vec<usize>, NetError> {
        // The area that a source comes from, if it is the projection's own or a later one which that drives.
        let closes = |components: &[Vec<usize>], to: usize, source: &Source| match source.from {
            Origin::Area(from) if from >= to => {
                let mut components = components.iter();
                let is_loop = components.any(|areas| areas.contains(&from) && areas.contains(&to));
                is_loop.then_some(from)
            }
            Origin::Area(_) | Origin::Image => None,
        };
        let is_cut = |projection: &Projection| match projection.kind() {
            ConvKind::Recurrent => true,
            ConvKind::Feedback => {
                let mut sources = projection.sources.iter();
                sources.any(|source| closes(&self.components, projection.to, source).is_some())
            }
            _ => false,
        };
        let mut rest = self.description.clone();
        rest.projections.retain(|projection| !is_cut(projection));
        let rest = Self::derived(rest);
        let name = |area: usize| &self.area(area).name;
        let fails = |reason: String| Err(NetError::Graph(GraphError::NoFeedforwardRest { reason }));
        for Projection { kernel, to, sources } in &rest.description.projections {
            let from = sources.iter().find_map(|source| closes(&rest.components, *to, source));
            if let Some(from) = from {
                return fails(format!(
                    "projection `{}` to area {} sums area {}, which closes a loop, with sources that do not",
                    kernel.name,
                    name(*to),
                    name(from)
                ));
            }
        }
        let is_lone = |area: &usize| rest.inlets[*area].is_empty() && !self.inlets[*area].is_empty();
        if let Some(area) = (0..self.areas()).find(is_lone) {
            return fails(format!("area {} would have no source", name(area)));
        }
        let cut = self
            .description
            .projections
            .iter()
            .filter(|projection| is_cut(projection));
        let number = |projection: &Projection| self.convs.iter().position(|conv| conv.module == projection.kernel.name);
        Ok(cut.filter_map(number).collect())
    }

    /// Whether there is a feed-forward twin of it, with which training in the published phases begins.
    ///
    /// # Errors
    /// [`GraphError::NoTwin`] with what speaks against it.
    pub fn check_twin(&self) -> Result<(), NetError> {
        self.twin().map(drop)
    }

    /// What each area of a feed-forward twin reads, in the order in which areas are computed: number of the area, its
    /// one inlet, and its recurrent convolution, which is a feed-forward one there.
    ///
    /// # Errors
    /// [`GraphError::NoTwin`] where areas drive each other, or one has other units than the published ones or not
    /// one projection and a recurrent one.
    pub(crate) fn twin(&self) -> Result<Vec<TwinArea<'_>>, NetError> {
        let name = |area: usize| self.area(area).name.clone();
        let fails = |reason: String| Err(NetError::Graph(GraphError::NoTwin { reason }));
        let mut areas = Vec::new();
        for component in &self.components {
            let [area] = component[..] else {
                let names: Vec<String> = component.iter().map(|area| name(*area)).collect();
                return fails(format!("areas {} drive each other", names.join(", ")));
            };
            if !self.area(area).parameters(area).is_empty() || self.area(area).cell != CellKind::Leaky {
                return fails(format!(
                    "area {} has units with adaptation or a trained time constant",
                    name(area)
                ));
            }
            let inlets = self.inlets(area);
            if inlets
                .iter()
                .any(|inlet| inlet.areas.iter().any(|(from, _)| *from == area))
            {
                return fails(format!(
                    "area {} is among the sources of one of its projections",
                    name(area)
                ));
            }
            let ([inlet], Some(recurrent)) = (inlets, self.recurrent(area)) else {
                return fails(format!(
                    "area {} has {} projections from elsewhere and {} recurrent ones, not one of each",
                    name(area),
                    inlets.len(),
                    usize::from(self.recurrent(area).is_some())
                ));
            };
            areas.push(TwinArea { area, inlet, recurrent });
        }
        Ok(areas)
    }
}

/// An area of a feed-forward twin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TwinArea<'a> {
    pub(crate) area: usize,
    pub(crate) inlet: &'a Inlet,
    pub(crate) recurrent: usize,
}

/// Side of a convolution's or pool's output.
fn out_side(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding).saturating_sub(kernel) / stride.max(1) + usize::from(side + 2 * padding >= kernel)
}

/// The shape of a convolution of maps to so many channels.
fn convolution(from: Maps, kernel: &Kernel, outputs: usize) -> ConvShape {
    ConvShape {
        inputs: from.channels,
        outputs,
        kernel: kernel.kernel,
        stride: kernel.stride,
        padding: kernel.kernel.saturating_sub(1) / 2,
        in_side: from.side,
    }
}

/// Side that a kernel makes of another.
fn side_after(kernel: &Kernel, side: usize) -> usize {
    out_side(side, kernel.kernel, kernel.stride, kernel.kernel.saturating_sub(1) / 2)
}

impl Projection {
    /// What its convolution is for.
    fn kind(&self) -> ConvKind {
        let own = Source {
            from: Origin::Area(self.to),
            via: Via::Direct,
        };
        let later = |source: &Source| matches!(source.from, Origin::Area(area) if area >= self.to);
        if self.sources == [own] {
            ConvKind::Recurrent
        } else if self.sources.iter().all(later) {
            ConvKind::Feedback
        } else {
            ConvKind::Feedforward
        }
    }
}

impl Description {
    /// The convolution of the input layer.
    fn input_conv(&self) -> ConvShape {
        ConvShape {
            inputs: self.in_channels,
            outputs: self.input_channels,
            kernel: 7,
            stride: 2,
            padding: 3,
            in_side: self.image_side,
        }
    }

    /// Maps of a source of one image.
    fn maps(&self, from: Origin) -> Maps {
        let (channels, side) = match from {
            Origin::Image => {
                let conv = self.input_conv();
                let convolved = out_side(conv.in_side, conv.kernel, conv.stride, conv.padding);
                (conv.outputs, out_side(convolved, 3, 2, 1))
            }
            Origin::Area(area) => (self.areas[area].channels, self.areas[area].side),
        };
        Maps {
            batch: 1,
            channels,
            side,
        }
    }

    /// The projection's convolution: it reads the channels and the side of its first direct source. Without one, the
    /// channels are those of the first source that is enlarged or, where all have shortcuts, of the first; the side is
    /// what the first shortcut gives or, where all are enlarged, the one that suits the area.
    fn shape(&self, projection: &Projection) -> ConvShape {
        let area = &self.areas[projection.to];
        let direct = projection.sources.iter().find(|source| source.via == Via::Direct);
        let enlarged = |source: &&Source| matches!(source.via, Via::Upsampled(_));
        let widest = direct.or(projection.sources.iter().find(enlarged));
        let channels = widest
            .or(projection.sources.first())
            .map_or(0, |source| self.maps(source.from).channels);
        let side = direct.map(|source| self.maps(source.from).side).or_else(|| {
            projection.sources.iter().find_map(|source| match &source.via {
                Via::Shortcut(kernel) => Some(side_after(kernel, self.maps(source.from).side)),
                Via::Direct | Via::Upsampled(_) => None,
            })
        });
        let reads = Maps {
            batch: 1,
            channels,
            side: side.unwrap_or(area.side * projection.kernel.stride),
        };
        convolution(reads, &projection.kernel, area.channels)
    }
}
