//! Named parameters in a fixed order, under the names that the published checkpoints use.

use super::graph::ConvKind;
use super::{CellParameter, Graph, NetError};
use crate::{Real, Tensor};

/// Ordered tensors under published names, e.g. `area_conv.1.parametrizations.weight.original0`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Parameters<T> {
    entries: Vec<(String, Tensor<T>)>,
}

impl<T: Real> Parameters<T> {
    /// An empty list of parameters.
    pub fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Adds a tensor at the end, or replaces the one of that name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor<T>) {
        let name = name.into();
        match self.get_mut(&name) {
            Some(held) => *held = tensor,
            None => self.entries.push((name, tensor)),
        }
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor<T>> {
        self.entries
            .iter()
            .find(|(held, _)| held == name)
            .map(|(_, tensor)| tensor)
    }

    /// The tensor of that name, to change.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Tensor<T>> {
        self.entries
            .iter_mut()
            .find(|(held, _)| held == name)
            .map(|(_, tensor)| tensor)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor<T>)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors in the list.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of values in all tensors.
    pub fn values(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.len()).sum()
    }

    /// The same parameters in another number type.
    pub fn cast<U: Real>(&self) -> Parameters<U> {
        Parameters {
            entries: self
                .entries
                .iter()
                .map(|(name, tensor)| (name.clone(), tensor.cast()))
                .collect(),
        }
    }

    /// The same tensors in the order of `shapes`, checked against them.
    ///
    /// # Errors
    /// [`NetError::Missing`], [`NetError::Unexpected`], [`NetError::Shape`] or [`NetError::NotFinite`] for the first
    /// name that does not fit; [`NetError::ZeroRow`] where a weight-norm direction is zero.
    pub fn arranged(&self, shapes: &[(String, Vec<usize>)]) -> Result<Self, NetError> {
        let mut entries = Vec::with_capacity(shapes.len());
        for (name, shape) in shapes {
            let tensor = self.get(name).ok_or_else(|| NetError::Missing { name: name.clone() })?;
            if tensor.shape != *shape || tensor.len() != shape.iter().product::<usize>() {
                return Err(NetError::Shape {
                    name: name.clone(),
                    found: tensor.shape.clone(),
                    expected: shape.clone(),
                });
            }
            if !tensor.data.iter().all(|value| value.is_finite()) {
                return Err(NetError::NotFinite { name: name.clone() });
            }
            if name.ends_with(".original1") {
                let patch = tensor.len() / shape[0];
                let zero = |row: &[T]| row.iter().all(|value| *value == T::ZERO);
                if let Some(row) = tensor.data.chunks_exact(patch).position(zero) {
                    return Err(NetError::ZeroRow {
                        name: name.clone(),
                        row,
                    });
                }
            }
            entries.push((name.clone(), tensor.clone()));
        }
        if let Some((name, _)) = self
            .entries
            .iter()
            .find(|(name, _)| !shapes.iter().any(|(known, _)| known == name))
        {
            return Err(NetError::Unexpected { name: name.clone() });
        }
        Ok(Self { entries })
    }
}

impl<T: Real> Parameters<T> {
    /// The parameters of a CordsNet in their order, checked against it and its steps.
    ///
    /// # Errors
    /// As [`arranged`](Self::arranged), and [`NetError::TooFast`] for the first time constant, trained or of hidden
    /// variables, that is below the Euler step.
    pub(crate) fn arranged_cordsnet(&self, architecture: &Graph, dt_ms: f64) -> Result<Self, NetError> {
        /// What rounding to single precision changes of a logarithm leaves a time constant that is the step.
        const ROUNDING: f64 = 1e-6;
        let arranged = self.arranged(&architecture.cordsnet_shapes())?;
        for number in 0..architecture.areas() {
            let area = architecture.area(number);
            let value =
                |parameter: &CellParameter| arranged.get(&parameter.name).map_or(0.0, |held| held.data[0].to_f64());
            let parameters = area.parameters(number);
            let values: Vec<f64> = parameters.iter().map(value).collect();
            let trained = parameters
                .iter()
                .zip(&values)
                .filter(|(parameter, _)| parameter.is_log_tau);
            let trained = trained.map(|(parameter, log_tau)| (format!("e^`{}`", parameter.name), log_tau.exp()));
            let own = &values[usize::from(area.trains_tau)..];
            let variables = area.cell.cell().and_then(|cell| cell.linearisation(own));
            let hidden = variables.into_iter().flatten();
            let hidden = hidden.map(|hidden| ("the time constant of its cells".to_owned(), hidden.tau_ms));
            if let Some((what, tau_ms)) = trained.chain(hidden).find(|(_, tau)| tau * (1.0 + ROUNDING) < dt_ms) {
                return Err(NetError::TooFast {
                    area: area.name.clone(),
                    what,
                    tau_ms,
                    dt_ms,
                });
            }
        }
        Ok(arranged)
    }
}

impl Graph {
    /// Names and shapes of a CordsNet's parameters, in the published order.
    pub fn cordsnet_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        let mut biases = self.bias_shapes(bias_name).into_iter();
        for conv in self.convs() {
            if conv.kind >= ConvKind::Feedforward {
                shapes.extend(biases.by_ref());
            }
            if conv.kind == ConvKind::Readout {
                shapes.push((READOUT_BIAS.to_owned(), vec![self.classes()]));
            }
            shapes.extend(conv.parameter_shapes());
        }
        shapes.extend(self.area_parameters().map(|parameter| (parameter.name, vec![1])));
        shapes
    }

    /// Time constants and parameters of cells that are trained, by their whole names.
    pub(crate) fn area_parameters(&self) -> impl Iterator<Item = CellParameter> {
        (0..self.areas()).flat_map(|area| self.area(area).parameters(area))
    }

    /// Names and shapes of biases per unit of all areas.
    pub(super) fn bias_shapes(&self, name: impl Fn(usize) -> String) -> Vec<(String, Vec<usize>)> {
        let shape = |area: usize| {
            let maps = self.maps(area, 1);
            (name(area), vec![maps.channels, maps.side, maps.side])
        };
        (0..self.areas()).map(shape).collect()
    }

    /// Names and shapes of the CNN twin's parameters and running statistics.
    pub fn cnn_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Vec::new();
        for conv in self.convs() {
            if conv.kind == ConvKind::Readout {
                shapes.push((READOUT_BIAS.to_owned(), vec![self.classes()]));
            }
            shapes.extend(conv.parameter_shapes());
            let norms = conv.norm_names().into_iter().flatten();
            shapes.extend(norms.map(|name| (name, vec![conv.shape.outputs])));
        }
        shapes
    }
}

/// Name of the readout's bias.
pub(crate) const READOUT_BIAS: &str = "out_fc.bias";

/// Name of an area's bias per unit.
pub(crate) fn bias_name(area: usize) -> String {
    format!("conv_bias.{area}")
}
