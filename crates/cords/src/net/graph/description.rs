//! What a network is made of: areas, the projections between them, and the sizes that follow.

use serde::{Deserialize, Serialize};

use super::ConvKind;
use crate::device::{ConvShape, Interpolation, Maps};
use crate::net::{CellKind, CellParameter};

/// One recurrent layer: `channels` maps of `side` x `side` units.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name, in messages and in full forms.
    pub name: String,
    /// Maps.
    pub channels: usize,
    /// Height and width of a map.
    pub side: usize,
    /// Time constant in ms, where it is not that of the network ([`Euler::tau_ms`](crate::net::Euler::tau_ms)).
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

pub(super) fn three() -> usize {
    3
}

pub(super) fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_three(value: &usize) -> bool {
    *value == 3
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
pub(super) fn is_one(value: &usize) -> bool {
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

/// What a [`Graph`](super::Graph) is made of.
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

/// Side of a convolution's or pool's output.
fn out_side(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding).saturating_sub(kernel) / stride.max(1) + usize::from(side + 2 * padding >= kernel)
}

/// The shape of a convolution of maps to so many channels.
pub(super) fn convolution(from: Maps, kernel: &Kernel, outputs: usize) -> ConvShape {
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
pub(super) fn side_after(kernel: &Kernel, side: usize) -> usize {
    out_side(side, kernel.kernel, kernel.stride, kernel.kernel.saturating_sub(1) / 2)
}

impl Projection {
    /// What its convolution is for.
    pub(super) fn kind(&self) -> ConvKind {
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
    pub(super) fn input_conv(&self) -> ConvShape {
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
    pub(super) fn maps(&self, from: Origin) -> Maps {
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
    pub(super) fn shape(&self, projection: &Projection) -> ConvShape {
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
