//! Buffers that start on a cache line, so that a vector of 64 bytes never straddles two.

#![expect(unsafe_code, reason = "a line of bytes is plain data")]

use std::ops::{Deref, DerefMut};

use crate::Real;

/// 64 bytes: one cache line, one AVX-512 vector.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

// SAFETY: an array of bytes: all zeros and every other pattern are valid, and there is no padding.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Values on the CPU, aligned to 64 bytes.
#[derive(Clone, Default)]
pub struct Aligned<T> {
    lines: Vec<Line>,
    len: usize,
    element: std::marker::PhantomData<T>,
}

impl<T: Real> Aligned<T> {
    pub(super) fn zeros(len: usize) -> Self {
        Self {
            lines: vec![Line([0; 64]); (len * size_of::<T>()).div_ceil(64)],
            len,
            element: std::marker::PhantomData,
        }
    }

    pub(super) fn from_slice(values: &[T]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// At least `len` values of any content.
    pub(super) fn at_least(&mut self, len: usize) -> &mut [T] {
        if self.len < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }
}

impl<T: Real> Deref for Aligned<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &bytemuck::cast_slice(&self.lines)[..self.len]
    }
}

impl<T: Real> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut bytemuck::cast_slice_mut(&mut self.lines)[..self.len]
    }
}
