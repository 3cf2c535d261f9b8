//! Vectors of the processor's widths behind one small trait, so that each kernel is written once.
//!
//! Every product-sum is fused (rounded once) on every path, and no kernel sums across a vector: AVX-512, AVX2 and plain
//! instructions give the same bits.

#![expect(unsafe_code, reason = "vector instructions")]

use crate::Real;

/// Which instructions a kernel is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    not(target_arch = "x86_64"),
    expect(dead_code, reason = "only one of them is built there")
)]
pub(super) enum Level {
    /// x86-64 with AVX-512 and FMA: vectors of 512 bits.
    Wide,
    /// x86-64 with AVX2 and FMA: vectors of 256 bits.
    Half,
    /// Instructions that every processor of the architecture has.
    Plain,
}

/// The widest level that this processor has.
pub(super) fn level() -> Level {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
        return if std::is_x86_feature_detected!("avx512f") {
            Level::Wide
        } else {
            Level::Half
        };
    }
    Level::Plain
}

/// The vectors of an element type at each level.
pub(super) trait Vectors: Sized {
    /// Vectors of 512 bits.
    type Wide: Lanes<Element = Self>;
    /// Vectors of 256 bits.
    type Half: Lanes<Element = Self>;
}

#[cfg(target_arch = "x86_64")]
impl Vectors for f32 {
    type Wide = Wide32;
    type Half = Half32;
}
#[cfg(target_arch = "x86_64")]
impl Vectors for f64 {
    type Wide = Wide64;
    type Half = Half64;
}
#[cfg(not(target_arch = "x86_64"))]
impl<T: Real> Vectors for T {
    type Wide = Plain<T>;
    type Half = Plain<T>;
}

/// Defines `unsafe fn $name`, which runs the inlined `$body` compiled for the instructions of `S`.
///
/// The defined function's safety: the instructions of `S` exist, and whatever `$body` asks for.
macro_rules! compiled {
    ($(#[$doc:meta])* fn $name:ident[$($declared:tt)*][$($used:tt)*] = $body:ident($($argument:ident: $type:ty),* $(,)?)) => {
        $(#[$doc])*
        unsafe fn $name<$($declared)*>($($argument: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            #[inline(never)]
            unsafe fn wide<$($declared)*>($($argument: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$($used)*>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[inline(never)]
            unsafe fn half<$($declared)*>($($argument: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$($used)*>($($argument),*) }
            }
            #[inline(never)]
            unsafe fn plain<$($declared)*>($($argument: $type),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$($used)*>($($argument),*) }
            }
            // Constant conditions: only one of the three is compiled for each `S`.
            #[cfg(target_arch = "x86_64")]
            if const { matches!(S::LEVEL, Level::Wide) } {
                // SAFETY: the caller's promise.
                return unsafe { wide::<$($used)*>($($argument),*) };
            }
            #[cfg(target_arch = "x86_64")]
            if const { matches!(S::LEVEL, Level::Half) } {
                // SAFETY: the caller's promise.
                return unsafe { half::<$($used)*>($($argument),*) };
            }
            if const { matches!(S::LEVEL, Level::Plain) } {
                // SAFETY: the caller's promise.
                unsafe { plain::<$($used)*>($($argument),*) }
            }
        }
    };
}
pub(super) use compiled;

/// Asks for the cache line of an address, which need not exist.
#[inline(always)]
pub(super) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it touches no memory that the program can observe.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// A vector of numbers.
///
/// # Safety of the methods
/// Each may be called only where the vector's instructions exist, inlined into a function compiled for them; `load` and
/// `store` need `COUNT` readable or writable elements, at any alignment.
pub(super) trait Lanes: Copy + Send + Sync + 'static {
    /// Type of one element.
    type Element: Real;
    /// The processor's register type.
    type Vector: Copy;
    /// Instructions that the methods are made of.
    const LEVEL: Level;
    /// Elements of a vector.
    const COUNT: usize;
    /// Rows of the largest register tile two vectors wide.
    const ROWS: usize;
    /// All elements equal.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn splat(value: Self::Element) -> Self::Vector;
    /// Elements from memory.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load(from: *const Self::Element) -> Self::Vector;
    /// Elements to memory.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn store(to: *mut Self::Element, vector: Self::Vector);
    /// a + b.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a - b.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a b.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a b + c, rounded once.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// max(x, 0); NaN where x is.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn positive(x: Self::Vector) -> Self::Vector;
}

/// Vectors of four elements in ordinary instructions, for any processor.
#[derive(Clone, Copy)]
pub(super) struct Plain<T>(std::marker::PhantomData<T>);

impl<T: Real> Lanes for Plain<T> {
    type Element = T;
    type Vector = [T; 4];
    const LEVEL: Level = Level::Plain;
    const COUNT: usize = 4;
    const ROWS: usize = 4;
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
    unsafe fn add(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [T; 4], b: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: [T; 4], b: [T; 4], c: [T; 4]) -> [T; 4] {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline(always)]
    unsafe fn positive(x: [T; 4]) -> [T; 4] {
        x.map(|x| if x <= T::ZERO { T::ZERO } else { x })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, Level};
    use std::arch::x86_64::*;

    macro_rules! lanes {
        ($(#[$doc:meta])* $name:ident, $level:ident, $t:ty, $v:ty, $count:expr, $rows:expr,
         $splat:ident, $load:ident, $store:ident, $add:ident, $sub:ident, $mul:ident, $fma:ident, $max:ident, $zero:ident) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub(in super::super) struct $name;
            // SAFETY (every block): the caller promises the instructions and the memory.
            impl Lanes for $name {
                type Element = $t;
                type Vector = $v;
                const LEVEL: Level = Level::$level;
                const COUNT: usize = $count;
                const ROWS: usize = $rows;
                #[inline(always)]
                unsafe fn splat(value: $t) -> $v {
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $t) -> $v {
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(to: *mut $t, vector: $v) {
                    unsafe { $store(to, vector) }
                }
                #[inline(always)]
                unsafe fn add(a: $v, b: $v) -> $v {
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                unsafe fn sub(a: $v, b: $v) -> $v {
                    unsafe { $sub(a, b) }
                }
                #[inline(always)]
                unsafe fn mul(a: $v, b: $v) -> $v {
                    unsafe { $mul(a, b) }
                }
                #[inline(always)]
                unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                unsafe fn positive(x: $v) -> $v {
                    // The instruction gives its second operand where either is NaN.
                    unsafe { $max($zero(), x) }
                }
            }
        };
    }
    lanes!(
        /// AVX-512 in single precision.
        Wide32, Wide, f32, __m512, 16, 14, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_add_ps,
        _mm512_sub_ps, _mm512_mul_ps, _mm512_fmadd_ps, _mm512_max_ps, _mm512_setzero_ps
    );
    lanes!(
        /// AVX-512 in double precision.
        Wide64, Wide, f64, __m512d, 8, 14, _mm512_set1_pd, _mm512_loadu_pd, _mm512_storeu_pd, _mm512_add_pd,
        _mm512_sub_pd, _mm512_mul_pd, _mm512_fmadd_pd, _mm512_max_pd, _mm512_setzero_pd
    );
    lanes!(
        /// AVX2 with FMA, single precision.
        Half32, Half, f32, __m256, 8, 6, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_add_ps,
        _mm256_sub_ps, _mm256_mul_ps, _mm256_fmadd_ps, _mm256_max_ps, _mm256_setzero_ps
    );
    lanes!(
        /// AVX2 with FMA, double precision.
        Half64, Half, f64, __m256d, 4, 6, _mm256_set1_pd, _mm256_loadu_pd, _mm256_storeu_pd, _mm256_add_pd,
        _mm256_sub_pd, _mm256_mul_pd, _mm256_fmadd_pd, _mm256_max_pd, _mm256_setzero_pd
    );
}

#[cfg(target_arch = "x86_64")]
use x86::{Half32, Half64, Wide32, Wide64};
