//! A network as data: areas, the projections between them, and the readout.
//!
//! The current of an area is its bias and, for every projection to it, one convolution of the SUM of the projection's
//! sources: what makes the published network fast, and what every other one here is made of. All areas update
//! synchronously from the previous step's activity, so a projection from a later area to an earlier one is a projection
//! like any other. Simulation, gradients and linearisations walk [`Inlet`]s, which a [`Graph`] works out once; only the
//! constructor of the published networks ([`rule`]) knows how their areas are connected.
//!
//! A `Graph` is valid: descriptions become one through [`Graph::new`] alone.

mod description;
mod error;
mod feedforward;
mod form;
pub(super) mod rule;
#[cfg(test)]
mod tests;

use petgraph::algo::tarjan_scc;
use petgraph::graph::DiGraph;

use super::{Euler, NetError};
use crate::device::{ConvShape, Interpolation, Maps};

pub(crate) use description::AreaParameter;
use description::convolution;
pub use description::{Area, Description, Kernel, Origin, Projection, Source, Via};
pub use error::GraphError;
pub(crate) use feedforward::TwinArea;
pub(super) use form::AnyForm;
pub use rule::{Architecture, Preset};

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
            tau_ms: (0..self.areas()).map(|area| self.area_tau_ms(euler, area)).collect(),
        };
        resolved.validate(self.areas())?;
        Ok(resolved)
    }

    /// Time constant of an area in ms.
    fn area_tau_ms(&self, euler: &Euler, area: usize) -> f64 {
        self.area(area).tau_ms.unwrap_or(euler.area_tau_ms(area))
    }

    /// alpha = dt / tau of an area.
    pub(crate) fn alpha(&self, euler: &Euler, area: usize) -> f64 {
        euler.dt_ms / self.area_tau_ms(euler, area)
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
}
