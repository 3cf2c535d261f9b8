//! `import`: a network whose weights PyTorch saved, as a model that every other stage takes.

use std::path::{Path, PathBuf};

use cords::exchange::{ExchangeError, ImportOptions, Imported, import_with_notes};
use cords::net::{Euler, Model, ModelInfo, Presentation};
use dynvis_runner::table::{Row, TableRow};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keyed_defaults;
use super::times::{asked, unfit};
use super::{Context, Declared, External, Kind, MODEL, MissingData, StageError, Violation, located};

pub(super) struct Import;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// The file, relative to the project's folder: a `state_dict()` under the published names as `torch.save` writes it
    /// (.pth), or .safetensors; a checkpoint that holds one beside other things will do. Number of areas, channels and
    /// classes come from its shapes.
    #[schemars(extend("x-path" = true))]
    path: String,
    /// Prefix of the network's parameter names where the file holds several networks, such as `model_ema`; the only
    /// network of the file if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prefix: Option<String>,
    /// Side of the images; four times that of the first area's `conv_bias` if not given. Needed for a CNN.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65536), extend("x-unit" = "px"))]
    side: Option<usize>,
    /// Euler step of the imported network.
    #[serde(default = "dt")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    dt: f64,
    /// Time constant: one for all areas, or one for each.
    #[serde(default = "tau")]
    #[schemars(extend("x-unit" = "ms"))]
    tau: Vec<f64>,
    /// Time without input before the image, where a later stage does not say.
    #[serde(default = "spontaneous")]
    #[schemars(range(min = 0.0), extend("x-unit" = "ms"))]
    spontaneous: f64,
    /// Time that the image is shown, where a later stage does not say.
    #[serde(default = "stimulus")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms"))]
    stimulus: f64,
    /// Mean of each image channel that the network was trained with; the later stage's dataset's if not given.
    #[serde(default)]
    #[schemars(extend("x-unit" = "pixel range"))]
    mean: Option<Vec<f64>>,
    /// Standard deviation of each image channel that the network was trained with; the later stage's dataset's if not
    /// given.
    #[serde(default)]
    #[schemars(inner(range(min = 0.0)), extend("x-unit" = "pixel range"))]
    std: Option<Vec<f64>>,
    /// Class names in order of the readout, which later stages compare with their dataset's; not compared if not
    /// given.
    #[serde(default)]
    classes: Option<Vec<String>>,
}

fn dt() -> f64 {
    Euler::published().dt_ms
}

fn tau() -> Vec<f64> {
    Euler::published().tau_ms
}

fn spontaneous() -> f64 {
    Presentation::published().spontaneous_ms
}

fn stimulus() -> f64 {
    Presentation::published().stimulus_ms
}

impl Params {
    fn file(&self, root: &Path) -> PathBuf {
        located(root, &self.path)
    }

    fn options(&self) -> ImportOptions {
        let single = |values: &Option<Vec<f64>>| values.iter().flatten().map(|v| *v as f32).collect();
        ImportOptions {
            image_side: self.side,
            prefix: self.prefix.clone(),
            euler: Euler {
                dt_ms: self.dt,
                tau_ms: self.tau.clone(),
            },
            info: ModelInfo {
                mean: single(&self.mean),
                std: single(&self.std),
                classes: self.classes.clone().unwrap_or_default(),
                presentation: Some(Presentation {
                    spontaneous_ms: self.spontaneous,
                    stimulus_ms: self.stimulus,
                }),
                ..ModelInfo::default()
            },
        }
    }
}

impl Kind for Import {
    type Params = Params;
    const NAME: &'static str = "import";
    const SUMMARY: &'static str = "a network from PyTorch weights (.pth or .safetensors) under the published names";
    const CODE_VERSION: u32 = 1;
    const KEYED_DEFAULTS: &'static [&'static str] = keyed_defaults::IMPORT;
    const OUTPUTS: &'static [Declared<Params>] = &[
        Declared::always("model", MODEL, "the network"),
        Declared::table::<Parameter>("what was imported: names, shapes and sizes of weights"),
    ];

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        if let Err(error) = params.options().euler.validate(params.tau.len()) {
            found.push(Violation::new("tau", error.to_string()));
        }
        let options = params.options();
        if let (true, Some(shown)) = (found.is_empty(), options.info.presentation) {
            let unfit = unfit(&options.euler, &asked(shown)).into_iter();
            found.extend(unfit.map(|(name, problem)| Violation::new(name, problem)));
        }
        let lengths = [&params.mean, &params.std].map(|values| values.as_ref().map(Vec::len));
        if lengths[0] != lengths[1] {
            found.push(Violation::new(
                "mean",
                "give `mean` and `std` for the same channels, or neither",
            ));
        }
        found
    }

    fn external(params: &Params, root: &Path) -> External {
        let mut external = External::default();
        let missing = MissingData {
            what: "the weights to import".to_owned(),
            place: params.path.clone(),
            hint: "save them in PyTorch with `torch.save(model.state_dict(), path)`".to_owned(),
            ..MissingData::default()
        };
        external.require("weights", params.file(root), missing);
        external
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let Imported { model, notes } =
            import_with_notes(&params.file(&context.root), &params.options()).map_err(refused)?;
        for note in notes {
            context.note(note);
        }
        let (channels, classes) = (model.architecture().in_channels(), model.architecture().classes());
        let named = [
            ("mean", model.info().mean.len(), "channels", channels),
            ("classes", model.info().classes.len(), "classes", classes),
        ];
        for (parameter, given, what, needed) in named {
            if given != 0 && given != needed {
                return Err(StageError::new(format!(
                    "`{parameter}` has {given} values, but the network has {needed} {what}"
                )));
            }
        }
        model.save(&context.output("model")?.join("model.safetensors"))?;
        context.write_rows(Parameter::NAME, parameters(&model))
    }
}

/// What was imported
#[derive(Row)]
#[table(name = "parameters")]
struct Parameter {
    /// Published name
    #[column(key)]
    name: String,
    /// Extent of every axis
    shape: String,
    /// Number of values
    values: usize,
    /// Mean of the values
    mean: f64,
    /// Largest absolute value
    largest: f64,
}

fn parameters(model: &Model) -> impl Iterator<Item = Parameter> {
    model.parameters().iter().map(|(name, tensor)| {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let values = || tensor.data.iter().map(|v| f64::from(*v));
        Parameter {
            name: name.to_owned(),
            shape: shape.join(" x "),
            values: tensor.len(),
            mean: values().sum::<f64>() / tensor.len().max(1) as f64,
            largest: values().fold(0.0, |largest, v| v.abs().max(largest)),
        }
    })
}

/// Entries that do not fit, one by one, and what to give where the file leaves it open.
fn refused(error: ExchangeError) -> StageError {
    match &error {
        ExchangeError::Entries { path, report } => StageError {
            message: format!("{}: {}", path.display(), report.summary()),
            causes: report.lines(),
            hint: Some(
                "names and shapes must be those of the published class's `state_dict()`, for any widths".to_owned(),
            ),
            class: None,
        },
        ExchangeError::Several { .. } => StageError::from(error).hint("give one of them as `prefix`"),
        ExchangeError::Side { .. } => StageError::from(error).hint("give `side` to the import stage"),
        _ => StageError::from(error),
    }
}
