//! Steady states, and the spectra of the Jacobian there. In float64.

use std::sync::Arc;

use cords::dynamics::{
    AreaJacobian, AreaSteadyState, Mode, SpectrumOptions, Stability, SteadyMethod, SteadyOptions, SteadyState as Found,
    area_spectrum, spontaneous_steady_state, steady_state,
};
use cords::net::CordsNet;
use numpy::{Complex64, IntoPyArray, PyArray1, PyArray2, PyArray3, PyArrayMethods, PyReadonlyArray4};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::call::compute;
use crate::network::Network;

/// Where activity settles for one image, or for none.
#[pyclass(frozen, module = "dynvis._engine")]
pub(crate) struct SteadyState {
    net: Arc<CordsNet<f64>>,
    found: Found,
    inp: Vec<f64>,
}

#[pymethods]
impl SteadyState {
    /// The steady states of normalised images, one each, or the one without input where none are given.
    #[staticmethod]
    #[pyo3(signature = (network, images, *, method, tolerance, max_products, joint_steps))]
    fn find<'py>(
        py: Python<'py>,
        network: &Network,
        images: Option<PyReadonlyArray4<'py, f32>>,
        method: &str,
        tolerance: f64,
        max_products: usize,
        joint_steps: usize,
    ) -> PyResult<Vec<Self>> {
        let method = match method {
            "simulation" => SteadyMethod::Simulation,
            "anderson" => SteadyMethod::Anderson,
            "newton_krylov" => SteadyMethod::NewtonKrylov,
            other => {
                let text = format!("method `{other}`: there are `simulation`, `anderson` and `newton_krylov`");
                return Err(PyValueError::new_err(text));
            }
        };
        let options = SteadyOptions {
            joint_steps,
            tolerance,
            max_steps: max_products,
            method,
        };
        let net = network.exact()?;
        let shown = images.as_ref().map(|images| network.values(images)).transpose()?;
        compute(py, || {
            let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
            let Some(shown) = shown else {
                let inp = net.blank(1);
                let net = net.clone();
                return vec![Self {
                    net,
                    found: spontaneous,
                    inp,
                }];
            };
            let images = shown.chunks(net.architecture().image_len());
            let each = images.map(|image| {
                let image: Vec<f64> = image.iter().map(|value| f64::from(*value)).collect();
                let inp = net.embed(&image, 1);
                Self {
                    found: steady_state(&net, &inp, &spontaneous, &options, &mut |_, _| {}),
                    net: net.clone(),
                    inp,
                }
            });
            each.collect()
        })
    }

    /// Activity of an area, `[channels, side, side]`.
    fn activity<'py>(&self, py: Python<'py>, area: usize) -> PyResult<Bound<'py, PyArray3<f64>>> {
        let values = self.found.state.areas[self.area(area)?].clone();
        values.into_pyarray(py).reshape(self.net.area_shape(area))
    }

    /// Logits, `[classes]`.
    fn logits<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        self.net.logits(&self.found.state).into_pyarray(py)
    }

    /// What is found of each area, by column.
    fn areas<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        self.found.areas.iter().map(|area| figures(py, area)).collect()
    }

    /// The leading modes of the area's Jacobian: of all areas that it drives and is driven by, where there are any.
    #[pyo3(signature = (area, *, modes, by_magnitude, vectors, tolerance, seed))]
    #[expect(clippy::too_many_arguments, reason = "options, by name")]
    fn spectrum<'py>(
        &self,
        py: Python<'py>,
        area: usize,
        modes: usize,
        by_magnitude: usize,
        vectors: bool,
        tolerance: f64,
        seed: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let area = self.area(area)?;
        let mut components = self.net.architecture().components().iter();
        let component = components.find(|component| component.contains(&area));
        let component = component.map_or(&[][..], Vec::as_slice);
        let options = SpectrumOptions {
            modes,
            by_magnitude,
            vectors,
            tolerance,
            seed,
            ..SpectrumOptions::default()
        };
        let dt_ms = self.net.euler().dt_ms;
        let found = compute(py, || {
            let jacobian = AreaJacobian::of_component(&self.net, component, &self.found.state, &self.inp);
            area_spectrum(&jacobian, dt_ms, &options, &mut |_, _| {})
        })?;
        let out = PyDict::new(py);
        out.set_item("areas", component)?;
        out.set_item("modes", table(py, &found.modes)?)?;
        out.set_item("by_magnitude", table(py, &found.by_magnitude)?)?;
        out.set_item("converged", found.converged)?;
        out.set_item("stable", found.stable)?;
        out.set_item("euler_stable", found.euler_stable)?;
        out.set_item("euler_radius", found.euler_radius)?;
        out.set_item("stability", found.stability().map(name))?;
        out.set_item("units", found.units)?;
        out.set_item("coupled_units", found.coupled_units)?;
        out.set_item("products", found.products)?;
        out.set_item(
            "ranks",
            found.vectors.iter().map(|vector| vector.rank).collect::<Vec<_>>(),
        )?;
        let count = found.vectors.len();
        let values = found.vectors.iter().flat_map(|vector| vector.re.iter().zip(&vector.im));
        let values: Vec<Complex64> = values
            .map(|(re, im)| Complex64::new(f64::from(*re), f64::from(*im)))
            .collect();
        let length = values.len().checked_div(count).unwrap_or(0);
        let vectors: Bound<'py, PyArray2<Complex64>> = values.into_pyarray(py).reshape([count, length])?;
        out.set_item("vectors", vectors)?;
        Ok(out)
    }
}

impl SteadyState {
    fn area(&self, area: usize) -> PyResult<usize> {
        let count = self.found.areas.len();
        if area < count {
            return Ok(area);
        }
        let text = format!("area {area}, but the network has areas 0 to {}", count - 1);
        Err(PyValueError::new_err(text))
    }
}

fn figures<'py>(py: Python<'py>, area: &AreaSteadyState) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    out.set_item("converged", area.converged)?;
    out.set_item("diverged", area.diverged)?;
    out.set_item("residual", area.residual)?;
    out.set_item("relative_residual", area.relative_residual)?;
    out.set_item("speed_per_ms", area.speed_per_ms)?;
    out.set_item("products", area.products)?;
    out.set_item("norm", area.norm)?;
    out.set_item("distance", area.distance)?;
    out.set_item("relative_distance", area.relative_distance)?;
    out.set_item("active_fraction", area.active_fraction)?;
    Ok(out)
}

/// Modes by column, one array each.
fn table<'py>(py: Python<'py>, modes: &[Mode]) -> PyResult<Bound<'py, PyDict>> {
    let out = PyDict::new(py);
    let column = |name: &str, of: &dyn Fn(&Mode) -> f64| {
        let values: Vec<f64> = modes.iter().map(of).collect();
        out.set_item(name, values.into_pyarray(py))
    };
    column("real_per_ms", &|mode| mode.real_per_ms)?;
    column("imaginary_per_ms", &|mode| mode.imaginary_per_ms)?;
    column("residual_per_ms", &|mode| mode.residual_per_ms)?;
    column("time_constant_ms", &|mode| mode.time_constant_ms.unwrap_or(f64::NAN))?;
    column("frequency_hz", &|mode| mode.frequency_hz)?;
    column("euler_factor", &|mode| mode.euler_factor)?;
    column("participation", &|mode| mode.participation.unwrap_or(f64::NAN))?;
    Ok(out)
}

fn name(stability: Stability) -> &'static str {
    match stability {
        Stability::StableNode => "stable_node",
        Stability::StableFocus => "stable_focus",
        Stability::Marginal => "marginal",
        Stability::Saddle => "saddle",
        Stability::SaddleOrUnstable => "saddle_or_unstable",
        Stability::Unstable => "unstable",
    }
}
