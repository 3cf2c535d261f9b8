//! Vectors of the processor's widths behind one small trait, so that each kernel is written once.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use crate::Real;

/// A vector of numbers. Every method may be called only where the vector's instructions exist, and is inlined into a function
/// compiled for them.
pub(super) trait Lanes {
    /// Element.
    type Element: Real;
    /// The vector.
    type Vector: Copy;
    /// Elements of a vector.
    const COUNT: usize;
    /// Whether there are registers for 24 sums (else for 12).
    const MANY: bool;
    /// All elements equal.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn splat(value: Self::Element) -> Self::Vector;
    /// `COUNT` elements from memory, at any alignment.
    ///
    /// # Safety
    /// The instructions exist; `COUNT` elements can be read.
    unsafe fn load(from: *const Self::Element) -> Self::Vector;
    /// `COUNT` elements to memory, at any alignment.
    ///
    /// # Safety
    /// The instructions exist; `COUNT` elements can be written.
    unsafe fn store(to: *mut Self::Element, vector: Self::Vector);
    /// a b + c per element.
    ///
    /// # Safety
    /// The instructions exist.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// Vectors of four elements in ordinary instructions, for any processor.
pub(super) struct Plain<T>(std::marker::PhantomData<T>);

impl<T: Real> Lanes for Plain<T> {
    type Element = T;
    type Vector = [T; 4];
    const COUNT: usize = 4;
    const MANY: bool = false;
    #[inline(always)]
    unsafe fn splat(value: T) -> [T; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const T) -> [T; 4] {
        // SAFETY: the caller promises four readable elements; an array is aligned as its element is.
        unsafe { *from.cast() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut T, vector: [T; 4]) {
        // SAFETY: the caller promises four writable elements.
        unsafe { *to.cast() = vector }
    }
    #[inline(always)]
    unsafe fn multiply_add(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($(#[$doc:meta])* $name:ident, $t:ty, $v:ty, $count:expr, $many:expr, $splat:ident, $load:ident, $store:ident, $fma:ident) => {
            $(#[$doc])*
            pub(in super::super) struct $name;
            impl Lanes for $name {
                type Element = $t;
                type Vector = $v;
                const COUNT: usize = $count;
                const MANY: bool = $many;
                #[inline(always)]
                unsafe fn splat(value: $t) -> $v {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $t) -> $v {
                    // SAFETY: the caller promises the instructions and the memory.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut $t, vector: $v) {
                    // SAFETY: the caller promises the instructions and the memory.
                    unsafe { $store(to, vector) }
                }
                #[inline(always)]
                unsafe fn multiply_add(a: $v, b: $v, c: $v) -> $v {
                    // SAFETY: the caller promises the instructions.
                    unsafe { $fma(a, b, c) }
                }
            }
        };
    }
    lanes!(
        /// AVX-512, single precision.
        Wide32, f32, __m512, 16, true, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps
    );
    lanes!(
        /// AVX-512, double precision.
        Wide64, f64, __m512d, 8, true, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_fmadd_pd
    );
    lanes!(
        /// AVX2 with FMA, single precision.
        Half32, f32, __m256, 8, false, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps
    );
    lanes!(
        /// AVX2 with FMA, double precision.
        Half64, f64, __m256d, 4, false, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_fmadd_pd
    );
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Half32, Half64, Wide32, Wide64};
