//! The published networks and their relatives. How areas of a published network are connected is said here and nowhere
//! else.

use serde::{Deserialize, Serialize};

use super::description::side_after;
use super::{Area, ConvKind, Description, Graph, GraphError, Kernel, Origin, Projection, Source, Via};
use crate::device::Interpolation;
use crate::net::{CellKind, NetError};

/// The short form of a published network: `image -> inp_conv 7x7/2 -> average pool 3x3/2 -> area 0 -> area 1 -> ...`;
/// areas 2k and 2k+1 share width and side.
///
/// Area l reads itself and x_l: x_0 = inp; x_1 = r_0 + inp_skip(inp); even l: r_(l-1) + r_(l-2); odd l:
/// r_(l-1) + skip_area(r_(l-2)). The last pair of areas is read out, or an area that is alone in its pair.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Channels of the image.
    pub in_channels: usize,
    /// Height and width of the image in pixels.
    pub image_side: usize,
    /// Channels of the input layer, then of each area.
    pub channels: Vec<usize>,
    /// Stride of each area's feed-forward convolution.
    pub strides: Vec<usize>,
    /// Number of classes of the readout.
    pub classes: usize,
}

/// Areas that the rule goes up to.
pub(crate) const MOST_AREAS: usize = 12;

/// A network of the sizes of a published one.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// As published.
    #[default]
    Published,
    /// As published, and from every pair of areas but the first a projection to each area of the pair before: a
    /// convolution of the sum of the pair's activities, enlarged bilinearly where their maps are smaller.
    Feedback,
    /// As published, without recurrent convolutions.
    Feedforward,
    /// Bottom-up, lateral and top-down connections of neighbouring areas, no shortcuts (as the BLT networks of Spoerer
    /// et al. 2020); the last area is read out.
    Blt,
    /// Bottom-up and recurrent connections, no shortcuts (as CORnet-RT, Kubilius et al. 2018); the last area is read
    /// out.
    CornetRt,
}

impl Architecture {
    /// Published channels of the input layer and of each area, `width` being the first.
    pub fn published_channels(areas: usize, width: usize) -> Vec<usize> {
        (0..=areas)
            .map(|layer| width << (Self::pair(layer) - 1).min(3))
            .collect()
    }

    /// Published strides.
    pub fn published_strides(areas: usize) -> Vec<usize> {
        let begins_pair = |area: usize| Self::pair(area) != Self::pair(area + 1);
        let stride = |area: usize| if area < 8 && begins_pair(area) { 2 } else { 1 };
        (0..areas).map(stride).collect()
    }

    /// Which pair, from 1 on, a layer belongs to, the input layer being layer 0 and area l layer l + 1: layers of a
    /// pair have one width, as their activities are added.
    pub(crate) fn pair(layer: usize) -> usize {
        layer.max(1).div_ceil(2)
    }

    /// The network.
    ///
    /// # Errors
    /// [`NetError::Areas`] and [`NetError::Channels`] where their numbers are wrong, [`NetError::Graph`] where sizes do
    /// not fit together, or where feedback has one pair of areas alone.
    pub fn graph(&self) -> Result<Graph, NetError> {
        self.preset(Preset::Published)
    }

    /// A relative of the network.
    ///
    /// # Errors
    /// As [`graph`](Self::graph).
    pub fn preset(&self, preset: Preset) -> Result<Graph, NetError> {
        let areas = self.strides.len();
        if !(1..=MOST_AREAS).contains(&areas) {
            return Err(NetError::Areas { areas });
        }
        if self.channels.len() != areas + 1 {
            return Err(NetError::Channels {
                channels: self.channels.len(),
                strides: areas,
            });
        }
        if preset == Preset::Feedback && Self::pair(areas) == 1 {
            return Err(GraphError::OnePair { areas }.into());
        }
        Graph::new(self.description(preset))
    }

    /// What it is made of, as many sizes as areas given.
    pub(crate) fn description(&self, preset: Preset) -> Description {
        let areas = self.strides.len();
        let shortcuts = !matches!(preset, Preset::Blt | Preset::CornetRt);
        let mut description = Description {
            in_channels: self.in_channels,
            image_side: self.image_side,
            classes: self.classes,
            input_channels: self.channels[0],
            areas: Vec::new(),
            projections: Vec::new(),
            readout: Vec::new(),
        };
        let kernel = |name: String, kernel, stride| Kernel { name, kernel, stride };
        let direct = |area: usize| Source {
            from: Origin::Area(area),
            via: Via::Direct,
        };
        let shortcut = |from, kernel| Source {
            from,
            via: Via::Shortcut(kernel),
        };
        let mut recurrent = Vec::new();
        for (area, stride) in self.strides.iter().copied().enumerate() {
            let mut sources = match area {
                0 => vec![Source {
                    from: Origin::Image,
                    via: Via::Direct,
                }],
                _ => vec![direct(area - 1)],
            };
            if shortcuts && area == 1 {
                let skip = kernel("inp_skip".to_owned(), 3, self.strides[0]);
                sources.push(shortcut(Origin::Image, skip));
            } else if shortcuts && area > 1 && area.is_multiple_of(2) {
                sources.push(direct(area - 2));
            } else if shortcuts && area > 1 {
                // Onto the maps of the area between, which that area's own stride has made.
                let skip = kernel(format!("skip_area.{}", (area - 3) / 2), 1, self.strides[area - 1]);
                sources.push(shortcut(Origin::Area(area - 2), skip));
            }
            let forward = Projection {
                kernel: kernel(format!("area_area.{area}"), 3, stride),
                to: area,
                sources,
            };
            let from = match area {
                0 => Origin::Image,
                _ => Origin::Area(area - 1),
            };
            description.areas.push(Area {
                name: area.to_string(),
                channels: self.channels[area + 1],
                side: side_after(&forward.kernel, description.maps(from).side),
                tau_ms: None,
                trains_tau: false,
                tau_per_channel: false,
                cell: CellKind::Leaky,
            });
            recurrent.push(Projection {
                kernel: kernel(format!("area_conv.{area}"), 3, 1),
                to: area,
                sources: vec![direct(area)],
            });
            description.projections.push(forward);
        }
        if preset != Preset::Feedforward {
            description.projections.splice(0..0, recurrent);
        }
        for to in 0..areas {
            let feeds_back = |from: usize| match preset {
                Preset::Feedback => Self::pair(from + 1) == Self::pair(to + 1) + 1,
                Preset::Blt => from == to + 1,
                Preset::Published | Preset::Feedforward | Preset::CornetRt => false,
            };
            let source = |from: usize| Source {
                from: Origin::Area(from),
                via: if description.areas[from].side < description.areas[to].side {
                    Via::Upsampled(Interpolation::Bilinear)
                } else {
                    Via::Direct
                },
            };
            let sources: Vec<Source> = (0..areas).filter(|from| feeds_back(*from)).map(source).collect();
            if !sources.is_empty() {
                description.projections.push(Projection {
                    kernel: kernel(format!("feedback.{to}.0"), 3, 1),
                    to,
                    sources,
                });
            }
        }
        let pair = |area: usize| Self::pair(area + 1) == Self::pair(areas);
        description.readout = if shortcuts {
            (0..areas).filter(|area| pair(*area)).collect()
        } else {
            vec![areas - 1]
        };
        description
    }
}

impl Graph {
    /// The published CordsNet-R{2,4,6,8}, and others of 1 to 12 areas by the same rule: channels 64, 64, 128, 128, 256,
    /// 256, then 512; strides 1, 1, 2, 1, 2, 1, 2, then 1, as the published networks end at a side of 7.
    ///
    /// # Errors
    /// [`NetError::Areas`] for another number of areas; [`NetError::Graph`] where a size is 0.
    pub fn published(areas: usize, in_channels: usize, image_side: usize, classes: usize) -> Result<Self, NetError> {
        let architecture = Architecture {
            in_channels,
            image_side,
            channels: Architecture::published_channels(areas, 64),
            strides: Architecture::published_strides(areas),
            classes,
        };
        architecture.graph()
    }

    /// The short form of the network, where it is a published one's.
    pub fn architecture(&self) -> Option<Architecture> {
        let Description {
            in_channels,
            image_side,
            classes,
            input_channels,
            areas,
            ..
        } = &self.description;
        let strides = self.convs.iter().filter(|conv| conv.kind == ConvKind::Feedforward);
        let short = Architecture {
            in_channels: *in_channels,
            image_side: *image_side,
            channels: [*input_channels]
                .into_iter()
                .chain(areas.iter().map(|area| area.channels))
                .collect(),
            strides: strides.map(|conv| conv.shape.stride).collect(),
            classes: *classes,
        };
        // A longer one by the same rule has no short form that could be read.
        let fits = areas.len() <= MOST_AREAS
            && short.strides.len() == areas.len()
            && short.description(Preset::Published) == self.description;
        fits.then_some(short)
    }
}
