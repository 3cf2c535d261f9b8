//! `fixed_points`: steady states with and without an image, and the leading modes of each area there.

use cords::data::ImageSet;
use cords::dynamics::{AreaFixedPoint, FixedPoint, FixedPointOptions, SpectrumOptions, SteadyOptions, fixed_points};
use cords::net::{CordsNet, Model};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::noise::model_name;
use super::{Artifact, Context, DatasetRef, Kind, ModelRef, Output, SplitName, StageError, Update};
use crate::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(super) struct FixedPoints;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// CordsNets to analyse.
    #[schemars(length(min = 1))]
    models: Vec<ModelRef>,
    /// Images whose steady states are searched.
    data: DatasetRef,
    /// Part of the dataset.
    #[serde(default)]
    split: SplitName,
    /// Use the first this many images of the part.
    #[serde(default = "ten")]
    #[schemars(range(min = 0), extend("x-unit" = "images"))]
    images: usize,
    /// Time that the whole network is simulated before areas are settled one by one.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    joint: f64,
    /// Largest max|phi(u) - r| of a steady state.
    #[serde(default = "one_millionth")]
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    tolerance: f64,
    /// Steps for each area after which it is reported as not converged.
    #[serde(default = "many")]
    #[schemars(range(min = 1), extend("x-unit" = "steps"))]
    max_steps: usize,
    /// Eigenvalues of each area's Jacobian, largest real part first; 0 for none.
    #[serde(default = "six")]
    #[schemars(range(min = 0, max = 200))]
    eigenvalues: usize,
    /// Seed of the eigenvalue iteration's start; the pipeline's if not given.
    #[serde(default)]
    seed: u64,
}

fn ten() -> usize {
    10
}

fn two_hundred() -> f64 {
    200.0
}

fn one_millionth() -> f64 {
    1e-6
}

fn many() -> usize {
    20_000
}

fn six() -> usize {
    6
}

/// A fixed point with what it belongs to.
struct Found {
    slot: usize,
    network: String,
    seed: u64,
    /// Index in the dataset; -1 without input.
    image: i64,
    label: Option<String>,
    point: FixedPoint,
}

impl Kind for FixedPoints {
    type Params = Params;
    const NAME: &'static str = "fixed_points";
    const SUMMARY: &'static str =
        "steady states with and without an image, and the leading eigenvalues of each area there";
    const CODE_VERSION: u32 = 3;

    fn outputs(_: &Params) -> Vec<Output> {
        vec![
            Output::new("states", Artifact::Table),
            Output::new("eigenvalues", Artifact::Table),
        ]
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let set = ImageSet::open(context.input(&params.data.0)?)?;
        let indices = set.split(params.split.into());
        let indices = &indices[..params.images.min(indices.len())];
        let mut found = Vec::new();
        for (slot, reference) in params.models.iter().enumerate() {
            let model = Model::load(&context.input(&reference.0)?.join("model.safetensors"))?;
            let net = cordsnet(&model, slot, &set)?;
            let options = FixedPointOptions {
                steady: SteadyOptions {
                    joint_steps: net.euler().steps(params.joint),
                    tolerance: params.tolerance,
                    max_steps: params.max_steps,
                },
                spectrum: (params.eigenvalues > 0).then(|| SpectrumOptions {
                    modes: params.eigenvalues,
                    seed: params.seed,
                    ..SpectrumOptions::default()
                }),
            };
            let image = |i: usize, out: &mut [f32]| {
                set.fill_unit(indices[i] as usize, out);
                set.normalise(out);
            };
            let models = params.models.len();
            let (spontaneous, points) = fixed_points(&net, indices.len(), &image, &options, &mut |done, total| {
                context.report(Update {
                    done: (slot * total + done) as u64,
                    total: (models * total) as u64,
                    unit: "steady states".into(),
                    phase: format!("model {}/{models}", slot + 1),
                    figures: Vec::new(),
                    milestone: done == total,
                });
            });
            let name = model_name(&model);
            let seed = model.info().seed;
            let of = |image, label, point| Found {
                slot,
                network: name.clone(),
                seed,
                image,
                label,
                point,
            };
            found.push(of(-1, None, spontaneous));
            found.extend(indices.iter().zip(points).map(|(&index, point)| {
                let label = set.classes().get(set.label(index as usize) as usize).cloned();
                of(i64::from(index), label, point)
            }));
        }
        context.write_table("states", &states_table(&found)?)?;
        context.write_table("eigenvalues", &eigenvalues_table(&found)?)
    }
}

/// The network in float64: residuals of 1e-6 and eigenvalues leave float32 little room.
fn cordsnet(model: &Model, slot: usize, set: &ImageSet) -> Result<CordsNet<f64>, StageError> {
    let net = model.cordsnet().ok_or_else(|| {
        StageError::new(format!("model {slot} is a CNN, which has no dynamics"))
            .hint("give `models` stages that train a CordsNet")
    })??;
    let architecture = net.architecture();
    if (architecture.in_channels, architecture.image_side) != (set.channels(), set.side()) {
        return Err(StageError::new(format!(
            "model {slot} takes images of {} x {}^2, the dataset has {} x {}^2",
            architecture.in_channels,
            architecture.image_side,
            set.channels(),
            set.side()
        )));
    }
    Ok(net.cast())
}

fn keys(schema: TableSchema) -> TableSchema {
    schema
        .key("models", DType::Int, "The stage that gave the model")
        .slot("models")
        .key("network", DType::Text, "Kind and number of areas")
        .key("seed", DType::Int, "Seed of the model's training")
        .key("image", DType::Int, "Index in the dataset; -1 without input")
        .key("area", DType::Int, "Area, from 0")
}

fn key_values(found: &Found, area: usize) -> Vec<Value> {
    vec![
        Value::Int(found.slot as i64),
        Value::Text(found.network.clone()),
        Value::Int(found.seed as i64),
        Value::Int(found.image),
        Value::Int(area as i64),
    ]
}

fn optional(value: Option<f64>) -> Value {
    value.map_or(Value::Null, Value::Float)
}

fn states_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "states",
            "Steady states of each area, with and without an image",
        ))
        .value("label", DType::Text, "Class of the image")
        .allow_missing()
        .value("converged", DType::Bool, "Whether the residual reached the tolerance")
        .value("residual", DType::Float, "max|phi(u) - r|")
        .tolerance(1e-6, 0.0)
        .value(
            "steps",
            DType::Int,
            "Euler steps of this area alone, after the joint ones",
        )
        .value("norm", DType::Float, "Euclidean norm of the activity")
        .tolerance(1e-6, 1e-6)
        .value("distance", DType::Float, "Distance from the spontaneous state")
        .tolerance(1e-6, 1e-6)
        .value(
            "relative_distance",
            DType::Float,
            "The same over the norm of the spontaneous state",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("active", DType::Float, "Fraction of units that are active")
        .value(
            "stable",
            DType::Bool,
            "Whether the slowest mode decays, in continuous time",
        )
        .allow_missing()
        .value("euler_stable", DType::Bool, "Whether it decays under Euler steps too")
        .allow_missing()
        .value("time_constant", DType::Float, "Slowest time constant")
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    let flag = |v: Option<bool>| v.map_or(Value::Null, Value::Bool);
    for f in found {
        for (area, AreaFixedPoint { steady, spectrum }) in f.point.areas.iter().enumerate() {
            let spectrum = spectrum.as_ref();
            let slowest = spectrum.filter(|s| s.converged).and_then(|s| s.modes.first());
            let mut row = key_values(f, area);
            row.extend([
                f.label.clone().map_or(Value::Null, Value::Text),
                Value::Bool(steady.converged),
                Value::Float(steady.residual),
                Value::Int(steady.steps as i64),
                Value::Float(steady.norm),
                Value::Float(steady.distance),
                optional(steady.relative_distance),
                Value::Float(steady.active_fraction),
                flag(spectrum.and_then(|s| s.stable)),
                flag(spectrum.and_then(|s| s.euler_stable)),
                optional(slowest.and_then(|m| m.time_constant_ms)),
            ]);
            table.push_row(row)?;
        }
    }
    table.finish()
}

fn eigenvalues_table(found: &[Found]) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "eigenvalues",
            "Leading eigenvalues of each area's Jacobian J = (-I + D W) / tau at its steady state",
        ))
        .key("mode", DType::Int, "Rank by real part, from 0")
        .value("real", DType::Float, "Real part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("imaginary", DType::Float, "Imaginary part")
        .unit("1/ms")
        .tolerance(1e-9, 1e-6)
        .value("residual", DType::Float, "|J v - lambda v| for the unit eigenvector v")
        .unit("1/ms")
        .tolerance(1e-6, 0.0)
        .value(
            "time_constant",
            DType::Float,
            "-1 / real part; none if the mode does not decay",
        )
        .unit("ms")
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value("frequency", DType::Float, "|imaginary part| / 2 pi")
        .unit("Hz")
        .tolerance(1e-6, 1e-6)
        .value(
            "euler_factor",
            DType::Float,
            "|1 + dt lambda|: the mode's factor in each Euler step",
        )
        .tolerance(1e-9, 1e-6)
        .value(
            "converged",
            DType::Bool,
            "Whether all eigenvalues of this area reached the tolerance",
        ),
    )?;
    for f in found {
        for (area, AreaFixedPoint { spectrum, .. }) in f.point.areas.iter().enumerate() {
            let Some(spectrum) = spectrum else { continue };
            for (mode, m) in spectrum.modes.iter().enumerate() {
                let mut row = key_values(f, area);
                row.extend([
                    Value::Int(mode as i64),
                    Value::Float(m.real_per_ms),
                    Value::Float(m.imaginary_per_ms),
                    Value::Float(m.residual_per_ms),
                    optional(m.time_constant_ms),
                    Value::Float(m.frequency_hz),
                    Value::Float(m.euler_factor),
                    Value::Bool(spectrum.converged),
                ]);
                table.push_row(row)?;
            }
        }
    }
    table.finish()
}
