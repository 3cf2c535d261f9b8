//! A network's description in files: short where it is a published network's ([`Architecture`]), in full otherwise.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Architecture, Area, Description, Graph, GraphError, IMAGE, Kernel, Origin, Projection, Source, Via};
use crate::device::Interpolation;
use crate::net::{Adaptation, CellKind, NetError, OwnCell};

/// All that a description may say; which of the optional ones there are tells the two forms apart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::net) struct AnyForm {
    in_channels: usize,
    image_side: usize,
    classes: usize,
    channels: Option<Vec<usize>>,
    strides: Option<Vec<usize>>,
    input_channels: Option<usize>,
    areas: Option<Vec<AreaForm>>,
    projections: Option<Vec<ProjectionForm>>,
    readout: Option<Vec<String>>,
}

/// The full form.
#[derive(Serialize)]
struct FullForm {
    in_channels: usize,
    image_side: usize,
    classes: usize,
    input_channels: usize,
    areas: Vec<AreaForm>,
    projections: Vec<ProjectionForm>,
    readout: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AreaForm {
    name: String,
    channels: usize,
    side: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tau_ms: Option<f64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    trains_tau: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tau_per_channel: bool,
    #[serde(default, skip_serializing_if = "is_leaky")]
    cell: CellForm,
}

fn is_leaky(cell: &CellForm) -> bool {
    *cell == CellForm::Leaky
}

/// A cell, one's own by its name.
#[derive(Serialize, Deserialize, PartialEq, Default)]
#[serde(rename_all = "snake_case")]
enum CellForm {
    #[default]
    Leaky,
    Adapting(Adaptation),
    Own(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectionForm {
    name: String,
    to: String,
    from: Vec<SourceForm>,
    #[serde(
        default = "super::description::three",
        skip_serializing_if = "super::description::is_three"
    )]
    kernel: usize,
    #[serde(
        default = "super::description::one",
        skip_serializing_if = "super::description::is_one"
    )]
    stride: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a source is the name of an area or `image`, or a mapping with `from` and `shortcut` or `upsample`"
)]
enum SourceForm {
    Direct(String),
    Shortcut { from: String, shortcut: Kernel },
    Upsampled { from: String, upsample: Interpolation },
}

impl AnyForm {
    /// The network; `cells` are those that it may name.
    pub(in crate::net) fn graph(self, cells: &[OwnCell]) -> Result<Graph, NetError> {
        let Self {
            in_channels,
            image_side,
            classes,
            ..
        } = self;
        match (
            self.channels,
            self.strides,
            self.input_channels,
            self.areas,
            self.projections,
            self.readout,
        ) {
            (Some(channels), Some(strides), None, None, None, None) => Architecture {
                in_channels,
                image_side,
                channels,
                strides,
                classes,
            }
            .graph(),
            (None, None, Some(input_channels), Some(areas), Some(projections), Some(readout)) => {
                let areas = areas.into_iter().map(|area| area.area(cells));
                let areas = areas.collect::<Result<Vec<Area>, GraphError>>()?;
                Area::check_names(areas.iter().map(|area| area.name.as_str()))?;
                let numbered = Names(&areas);
                let projections = projections
                    .into_iter()
                    .map(|projection| numbered.projection(projection));
                let read = |name: &String| numbered.area("the readout", name);
                let description = Description {
                    in_channels,
                    image_side,
                    classes,
                    input_channels,
                    projections: projections.collect::<Result<_, GraphError>>()?,
                    readout: readout.iter().map(read).collect::<Result<_, GraphError>>()?,
                    areas,
                };
                Graph::new(description)
            }
            _ => Err(NetError::Graph(GraphError::Nothing {
                what:
                    "a network has either `channels` and `strides`, or all of `input_channels`, `areas`, `projections` \
                       and `readout`"
                        .to_owned(),
            })),
        }
    }
}

impl AreaForm {
    fn area(self, cells: &[OwnCell]) -> Result<Area, GraphError> {
        let cell = match self.cell {
            CellForm::Leaky => CellKind::Leaky,
            CellForm::Adapting(adaptation) => CellKind::Adapting(adaptation),
            CellForm::Own(cell) => match cells.iter().find(|own| own.name() == cell) {
                Some(own) => CellKind::Own(own.clone()),
                None => return Err(GraphError::UnknownCell { area: self.name, cell }),
            },
        };
        Ok(Area {
            name: self.name,
            channels: self.channels,
            side: self.side,
            tau_ms: self.tau_ms,
            trains_tau: self.trains_tau,
            tau_per_channel: self.tau_per_channel,
            cell,
        })
    }
}

/// Areas by name.
struct Names<'a>(&'a [Area]);

impl Names<'_> {
    fn area(&self, place: &str, name: &str) -> Result<usize, GraphError> {
        let found = self.0.iter().position(|area| area.name == name);
        found.ok_or_else(|| GraphError::UnknownArea {
            place: place.to_owned(),
            name: name.to_owned(),
            known: self.0.iter().map(|area| area.name.clone()).collect(),
        })
    }

    fn projection(&self, form: ProjectionForm) -> Result<Projection, GraphError> {
        let place = format!("projection `{}`", form.name);
        let source = |source: SourceForm| {
            let (from, via) = match source {
                SourceForm::Direct(from) => (from, Via::Direct),
                SourceForm::Shortcut { from, shortcut } => (from, Via::Shortcut(shortcut)),
                SourceForm::Upsampled { from, upsample } => (from, Via::Upsampled(upsample)),
            };
            let from = match from.as_str() {
                IMAGE => Origin::Image,
                name => Origin::Area(self.area(&place, name)?),
            };
            Ok(Source { from, via })
        };
        Ok(Projection {
            to: self.area(&place, &form.to)?,
            sources: form.from.into_iter().map(source).collect::<Result<_, GraphError>>()?,
            kernel: Kernel {
                name: form.name,
                kernel: form.kernel,
                stride: form.stride,
            },
        })
    }
}

impl FullForm {
    fn of(description: &Description) -> Self {
        let name = |area: usize| description.areas[area].name.clone();
        let source = |source: &Source| {
            let from = match source.from {
                Origin::Image => IMAGE.to_owned(),
                Origin::Area(area) => name(area),
            };
            match &source.via {
                Via::Direct => SourceForm::Direct(from),
                Via::Shortcut(kernel) => SourceForm::Shortcut {
                    from,
                    shortcut: kernel.clone(),
                },
                Via::Upsampled(upsample) => SourceForm::Upsampled {
                    from,
                    upsample: *upsample,
                },
            }
        };
        let area = |area: &Area| AreaForm {
            name: area.name.clone(),
            channels: area.channels,
            side: area.side,
            tau_ms: area.tau_ms,
            trains_tau: area.trains_tau,
            tau_per_channel: area.tau_per_channel,
            cell: match &area.cell {
                CellKind::Leaky => CellForm::Leaky,
                CellKind::Adapting(adaptation) => CellForm::Adapting(*adaptation),
                CellKind::Own(own) => CellForm::Own(own.name().to_owned()),
            },
        };
        let projection = |projection: &Projection| ProjectionForm {
            name: projection.kernel.name.clone(),
            to: name(projection.to),
            from: projection.sources.iter().map(source).collect(),
            kernel: projection.kernel.kernel,
            stride: projection.kernel.stride,
        };
        Self {
            in_channels: description.in_channels,
            image_side: description.image_side,
            classes: description.classes,
            input_channels: description.input_channels,
            areas: description.areas.iter().map(area).collect(),
            projections: description.projections.iter().map(projection).collect(),
            readout: description.readout.iter().map(|area| name(*area)).collect(),
        }
    }
}

impl Graph {
    /// The full form, of published networks too, in which all projections and the names of their parameters stand.
    pub fn in_full(&self) -> impl Serialize + use<> {
        FullForm::of(&self.description)
    }
}

impl Serialize for Graph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.architecture() {
            Some(short) => short.serialize(serializer),
            None => FullForm::of(&self.description).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AnyForm::deserialize(deserializer)?
            .graph(&[])
            .map_err(serde::de::Error::custom)
    }
}
