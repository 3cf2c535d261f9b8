//! A plain dense tensor in row-major order.

use crate::Real;

/// A dense tensor in row-major order. Images and activity are `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    /// Extent of every axis, slowest first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values in row-major order, as many as the product of the shape.
    pub data: Vec<T>,
}

impl<T: Real> Tensor<T> {
    /// A tensor of zeros.
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            shape: shape.to_vec(),
            data: vec![T::ZERO; shape.iter().product()],
        }
    }

    /// A tensor over given values; `None` where their number is not the shape's.
    pub fn new(shape: &[usize], data: Vec<T>) -> Option<Self> {
        (data.len() == shape.iter().product::<usize>()).then(|| Self {
            shape: shape.to_vec(),
            data,
        })
    }

    /// Number of values, the product of the shape.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether there are no values at all.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// The same values in another number type.
    pub fn cast<U: Real>(&self) -> Tensor<U> {
        Tensor {
            shape: self.shape.clone(),
            data: self.data.iter().map(|v| U::from_f64(v.to_f64())).collect(),
        }
    }
}
