//! A network with its weights: what it is, its simulation, and gradients with respect to images.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cords::device::{Cpu, Device};
use cords::learn::{Memory, image_gradient};
use cords::net::{CordsNet, Input, Model, ModelInfo, State};
use numpy::{IntoPyArray, PyArray3, PyArray4, PyArray5, PyArrayMethods, PyReadonlyArray4, PyReadonlyArray5};
use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;

use crate::call::compute;
use crate::errors::{EngineError, of_net, of_training};

/// A CordsNet on the CPU. `dynvis.Network` is what to use.
#[pyclass(frozen, module = "dynvis._engine")]
pub(crate) struct Network {
    net: CordsNet<f32>,
    /// In float64, for the dynamics.
    exact: OnceLock<Arc<CordsNet<f64>>>,
    info: ModelInfo,
}

/// What a model file says of its network, but for the weights, as JSON: `kind` (`cordsnet` or `cnn`), `network` in full,
/// `dt_ms`, `tau_ms` of each area, `negative_slope` and `info`.
#[pyfunction]
pub(crate) fn describe(path: PathBuf) -> PyResult<String> {
    let model = Model::load(&path).map_err(of_net)?;
    let mut out = serde_json::json!({
        "kind": "cnn",
        "network": model.architecture().in_full(),
        "info": model.info(),
    });
    if let Model::CordsNet {
        euler,
        phi,
        architecture,
        ..
    } = &model
    {
        let euler = architecture.euler(euler).map_err(of_net)?;
        out["kind"] = "cordsnet".into();
        out["dt_ms"] = euler.dt_ms.into();
        let tau_ms = (0..architecture.areas()).map(|area| euler.dt_ms / euler.alpha(area));
        out["tau_ms"] = tau_ms.collect();
        out["negative_slope"] = phi.slope().into();
    }
    Ok(out.to_string())
}

/// Takes a step, the state after it and its logits.
type Keep<'a> = dyn FnMut(usize, &State<f32>, Vec<f32>) + 'a;

/// Activity at chosen steps, by area and then by time, and logits.
type Simulated<'py> = (Vec<Bound<'py, PyArray5<f32>>>, Bound<'py, PyArray3<f32>>);

#[pymethods]
impl Network {
    /// Reads a model file of dynvis.
    #[staticmethod]
    fn load(path: PathBuf) -> PyResult<Self> {
        let model = Model::load(&path).map_err(of_net)?;
        Ok(Self {
            net: model.cordsnet().map_err(of_net)?,
            exact: OnceLock::new(),
            info: model.info().clone(),
        })
    }

    /// The network without its weights, as JSON: areas, projections with the names of their parameters, readout.
    #[getter]
    fn description(&self) -> PyResult<String> {
        let text = serde_json::to_string(&self.net.architecture().in_full());
        text.map_err(|error| EngineError::new_err(error.to_string()))
    }

    /// Where the weights come from, and what inputs and outputs mean, as JSON.
    #[getter]
    fn info(&self) -> PyResult<String> {
        serde_json::to_string(&self.info).map_err(|error| EngineError::new_err(error.to_string()))
    }

    /// The Euler step in ms.
    #[getter]
    fn dt_ms(&self) -> f64 {
        self.net.euler().dt_ms
    }

    /// Time constants of each area in ms: one, or one for each channel.
    #[getter]
    fn tau_ms(&self) -> Vec<Vec<f64>> {
        (0..self.areas()).map(|area| self.net.area_taus_ms(area)).collect()
    }

    /// phi' below 0: 0 under ReLU.
    #[getter]
    fn negative_slope(&self) -> f64 {
        self.net.phi().slope()
    }

    /// Parameters by their published names, as `(shape, values)`.
    fn parameters<'py>(&self, py: Python<'py>) -> Vec<(String, Vec<usize>, Bound<'py, numpy::PyArray1<f32>>)> {
        let parameters = self.net.parameters().iter();
        parameters
            .map(|(name, tensor)| {
                (
                    name.to_owned(),
                    tensor.shape.clone(),
                    tensor.data.clone().into_pyarray(py),
                )
            })
            .collect()
    }

    /// Simulates normalised images, `[batch, in_channels, image_side, image_side]`, in a trial of so many steps without
    /// input, so many with an image, and others without: activity of some areas after some steps from image onset on,
    /// ascending, `[batch, steps, channels, side, side]` each, and logits `[batch, steps, classes]`.
    fn simulate<'py>(
        &self,
        py: Python<'py>,
        images: PyReadonlyArray4<'py, f32>,
        trial: (usize, usize),
        steps: Vec<usize>,
        areas: Vec<usize>,
    ) -> PyResult<Simulated<'py>> {
        let shown = self.values(&images)?;
        let (spontaneous, stimulus) = trial;
        let batch = shown.len() / self.image_len();
        let (times, classes) = (steps.len(), self.net.architecture().classes());
        let units: Vec<usize> = areas.iter().map(|area| self.units(*area)).collect();
        let values = units.iter().sum::<usize>().saturating_add(classes);
        let bytes = [batch, times, values]
            .iter()
            .fold(4, |bytes: u64, factor| bytes.saturating_mul(*factor as u64));
        dynvis_base::memory::check_room(bytes)
            .map_err(|error| PyMemoryError::new_err(format!("{batch} images at {times} times: {error}")))?;
        let (mut recorded, mut logits) = (Vec::new(), Vec::new());
        compute(py, || {
            let spontaneous = self.net.spontaneous(spontaneous);
            recorded = units.iter().map(|units| vec![0.0; batch * times * units]).collect();
            logits = vec![0.0; batch * times * classes];
            // Whole groups of the device, so that how many run side by side does not change which images run together.
            let group = Device::<f32>::group_images(&Cpu);
            let flight = Device::<f32>::groups_in_flight(&Cpu, self.net.architecture().units());
            let chunk = group * flight.max(1);
            for first in (0..batch).step_by(chunk) {
                let count = chunk.min(batch - first);
                let mut keep = |step: usize, state: &State<f32>, answers: Vec<f32>| {
                    let Ok(time) = steps.binary_search(&step) else { return };
                    for image in 0..count {
                        let place = (first + image) * times + time;
                        for ((area, units), out) in areas.iter().zip(&units).zip(&mut recorded) {
                            let from = &state.areas[*area][image * units..][..*units];
                            out[place * units..][..*units].copy_from_slice(from);
                        }
                        let from = &answers[image * classes..][..classes];
                        logits[place * classes..][..classes].copy_from_slice(from);
                    }
                };
                let images = &shown[first * self.image_len()..][..count * self.image_len()];
                self.trial(images, count, &spontaneous, (stimulus, steps.as_slice()), &mut keep);
            }
        })?;
        let arrays = areas.iter().zip(recorded).map(|(area, recorded): (&usize, Vec<f32>)| {
            let [channels, height, width] = self.net.area_shape(*area);
            let flat = recorded.into_pyarray(py);
            flat.reshape([batch, times, channels, height, width])
        });
        let arrays = arrays.collect::<PyResult<Vec<Bound<'py, PyArray5<f32>>>>>()?;
        let logits = logits.into_pyarray(py).reshape([batch, times, classes])?;
        Ok((arrays, logits))
    }

    /// The gradient with respect to normalised images of the sum of activity times `weights`: those of each area, by
    /// its number, `[batch, steps, channels, side, side]`, at steps while the image is shown.
    fn image_gradient<'py>(
        &self,
        py: Python<'py>,
        images: PyReadonlyArray4<'py, f32>,
        spontaneous_steps: usize,
        steps: Vec<usize>,
        weights: HashMap<usize, PyReadonlyArray5<'py, f32>>,
    ) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let shown = self.values(&images)?;
        let times = steps.len();
        let mut areas: Vec<usize> = weights.keys().copied().collect();
        areas.sort_unstable();
        let given = weights
            .iter()
            .map(|(area, weights)| Ok((*area, contiguous(weights.as_slice())?)));
        let given = given.collect::<PyResult<HashMap<usize, &[f32]>>>()?;
        let at = |image: usize, step: usize, area: usize, out: &mut [f32]| {
            let (Ok(time), Some(weights)) = (steps.binary_search(&step), given.get(&area)) else {
                return false;
            };
            let from = (image * times + time) * out.len();
            let is_there = weights.get(from..from + out.len());
            is_there.is_some_and(|weights| {
                out.copy_from_slice(weights);
                true
            })
        };
        // Half of what is free: activities are computed a second time where all of them would take more.
        let memory = dynvis_base::memory::available().map_or(Memory::Unlimited, |bytes| Memory::Budget(bytes / 2));
        let last = steps.last().copied().unwrap_or_default();
        let gradient = compute(py, || {
            image_gradient(&self.net, shown, (spontaneous_steps, last), memory, &areas, &at)
        })?;
        let gradient = gradient.map_err(of_training)?;
        let architecture = self.net.architecture();
        let (channels, side) = (architecture.in_channels(), architecture.image_side());
        let batch = shown.len() / self.image_len();
        gradient.into_pyarray(py).reshape([batch, channels, side, side])
    }
}

impl Network {
    /// The network in float64.
    ///
    /// # Errors
    /// The engine's where a cell has no linearisation.
    pub(crate) fn exact(&self) -> PyResult<Arc<CordsNet<f64>>> {
        self.net.check_linear().map_err(of_net)?;
        Ok(self.exact.get_or_init(|| Arc::new(self.net.cast())).clone())
    }

    pub(crate) fn areas(&self) -> usize {
        self.net.architecture().areas()
    }

    fn image_len(&self) -> usize {
        self.net.architecture().image_len()
    }

    fn units(&self, area: usize) -> usize {
        self.net.area_shape(area).iter().product()
    }

    /// Values of images that are this network's.
    pub(crate) fn values<'a>(&self, images: &'a PyReadonlyArray4<'_, f32>) -> PyResult<&'a [f32]> {
        let values = contiguous(images.as_slice())?;
        if values.len().is_multiple_of(self.image_len()) {
            return Ok(values);
        }
        let (found, expected) = (values.len(), self.image_len());
        let text = format!("images have {found} values, which is no multiple of one image's {expected}");
        Err(PyValueError::new_err(text))
    }

    /// One chunk of images through its trial; `keep(step, state, logits)` sees the steps that are recorded.
    fn trial(
        &self,
        images: &[f32],
        batch: usize,
        spontaneous: &State<f32>,
        (stimulus, steps): (usize, &[usize]),
        keep: &mut Keep<'_>,
    ) {
        let last = steps.last().copied().unwrap_or_default();
        let mut state = spontaneous.repeated(batch);
        if steps.first() == Some(&0) {
            let answers = self.net.logits(&state);
            keep(0, &state, answers);
        }
        let inp = self.net.embed(images, batch);
        let shown = stimulus.min(last);
        for (from, count, input) in [(0, shown, Input::Constant(&inp)), (shown, last - shown, Input::Blank)] {
            if count == 0 {
                continue;
            }
            self.net.run(&mut state, input, count, &mut |step, view| {
                let step = from + step + 1;
                if steps.binary_search(&step).is_ok() {
                    let answers = view.logits();
                    keep(step, &view.state(), answers);
                }
            });
        }
    }
}

/// Values of an array that lies in one piece, as Python hands it over.
fn contiguous<T, E>(values: Result<T, E>) -> PyResult<T> {
    values.map_err(|_| PyValueError::new_err("the array is not contiguous"))
}
