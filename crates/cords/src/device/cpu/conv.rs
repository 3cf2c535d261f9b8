//! Which algorithm computes a convolution, and the instruction set that it runs in.

#![expect(
    unsafe_code,
    reason = "calls kernels for instructions that the processor has been found to have"
)]

use std::sync::OnceLock;

use super::aligned::Aligned;
use super::direct::{self, Taps, TapsSum};
use super::elementwise;
use super::lanes::{Lanes, Level, Plain, Vectors, level, prefetch};
use super::parallel::Shared;
use super::winograd::{self, Epilogue, Term, Transformed, TransformedSum};
use crate::Real;
use crate::device::ConvShape;

/// Smallest side for which Winograd's tiles of 4 x 4 save multiplications over the direct sum.
const WINOGRAD_SIDE: usize = 3;

fn is_winograd(shape: ConvShape) -> bool {
    shape.kernel == 3 && shape.stride == 1 && shape.padding == 1 && shape.in_side >= WINOGRAD_SIDE
}

/// The kernels of an element type, for the instructions that the processor has. Not generic, so that they are
/// compiled once, with this crate.
pub trait Kernels: Sized {
    /// Sum of convolutions into maps.
    fn write(work: &mut winograd::Workspace<Self>, term: Term<'_, Self>, side: usize, batch: usize, write: Write<Self>);
    /// Sum of convolutions into a relaxation.
    fn relax(
        work: &mut winograd::Workspace<Self>,
        terms: &[Term<'_, Self>],
        side: usize,
        batch: usize,
        relax: Relax<Self>,
    );
    /// A sum over taps.
    fn taps(
        taps: &Taps<Self>,
        work: &mut direct::Workspace<Self>,
        batch: usize,
        x: &[Self],
        y: &mut [Self],
        accumulate: bool,
    );
    /// Weight gradient of a convolution by Winograd's algorithm.
    fn add_transformed(sum: &mut TransformedSum<Self>, side: usize, batch: usize, x: &[Self], dy: &[Self]);
    /// The same, transformed back.
    fn finish_transformed(sum: &mut TransformedSum<Self>, dw: &mut [Self]);
    /// Weight gradient of a sum over taps.
    fn add_taps(sum: &mut TapsSum<Self>, work: &mut direct::Workspace<Self>, batch: usize, x: &[Self], dy: &[Self]);
}

/// Runs `$run` with `$s` = the vectors of `$t` at the processor's level.
macro_rules! with_vectors {
    ($t:ty, $s:ident => $run:expr) => {
        match level() {
            Level::Wide => {
                type $s = <$t as Vectors>::Wide;
                // SAFETY: the processor has these instructions; `write` and `relax` are given maps of the right sizes.
                unsafe { $run }
            }
            Level::Half => {
                type $s = <$t as Vectors>::Half;
                // SAFETY: as above.
                unsafe { $run }
            }
            Level::Plain => {
                type $s = Plain<$t>;
                // SAFETY: as above; ordinary instructions.
                unsafe { $run }
            }
        }
    };
}

macro_rules! kernels {
    ($t:ty) => {
        impl Kernels for $t {
            fn write(work: &mut winograd::Workspace<$t>, term: Term<'_, $t>, side: usize, batch: usize, write: Write<$t>) {
                with_vectors!($t, S => winograd::correlate::<S, _>(work, &[term], side, batch, write));
            }
            fn relax(work: &mut winograd::Workspace<$t>, terms: &[Term<'_, $t>], side: usize, batch: usize, relax: Relax<$t>) {
                with_vectors!($t, S => winograd::correlate::<S, _>(work, terms, side, batch, relax));
            }
            fn taps(taps: &Taps<$t>, work: &mut direct::Workspace<$t>, batch: usize, x: &[$t], y: &mut [$t], accumulate: bool) {
                with_vectors!($t, S => taps.apply::<S>(work, batch, x, y, accumulate));
            }
            fn add_transformed(sum: &mut TransformedSum<$t>, side: usize, batch: usize, x: &[$t], dy: &[$t]) {
                with_vectors!($t, S => sum.add::<S>(side, batch, x, dy));
            }
            fn finish_transformed(sum: &mut TransformedSum<$t>, dw: &mut [$t]) {
                with_vectors!($t, S => sum.finish::<S>(dw));
            }
            fn add_taps(sum: &mut TapsSum<$t>, work: &mut direct::Workspace<$t>, batch: usize, x: &[$t], dy: &[$t]) {
                with_vectors!($t, S => sum.add::<S>(work, batch, x, dy));
            }
        }
    };
}
kernels!(f32);
kernels!(f64);

/// Weights in the form that an algorithm wants.
enum Prepared<T> {
    Winograd(Transformed<T>),
    Direct(Taps<T>),
}

/// A convolution's weights, prepared; those of its transpose when they are first needed.
pub struct Filter<T> {
    shape: ConvShape,
    weight: Vec<T>,
    forward: Prepared<T>,
    backward: OnceLock<Prepared<T>>,
}

impl<T: Real> Prepared<T> {
    fn forward(shape: ConvShape, weight: &[T]) -> Self {
        if !is_winograd(shape) {
            return Self::Direct(Taps::forward(shape, weight));
        }
        let mut prepared = Self::Winograd(Transformed::zeros(shape.inputs, shape.outputs));
        prepared.fill_forward(shape, weight);
        prepared
    }

    fn backward(shape: ConvShape, weight: &[T]) -> Self {
        if !is_winograd(shape) {
            return Self::Direct(Taps::backward(shape, weight));
        }
        let mut prepared = Self::Winograd(Transformed::zeros(shape.outputs, shape.inputs));
        prepared.fill_backward(shape, weight);
        prepared
    }

    fn fill_forward(&mut self, shape: ConvShape, weight: &[T]) {
        match self {
            Self::Winograd(held) => held.fill(|output, input| kernel(weight, shape, output, input)),
            Self::Direct(held) => *held = Taps::forward(shape, weight),
        }
    }

    fn fill_backward(&mut self, shape: ConvShape, weight: &[T]) {
        match self {
            Self::Winograd(held) => held.fill(|input, output| {
                let mut turned = kernel(weight, shape, output, input);
                turned.reverse();
                turned
            }),
            Self::Direct(held) => *held = Taps::backward(shape, weight),
        }
    }
}

impl<T: Real> Filter<T> {
    pub(super) fn new(shape: ConvShape, weight: &[T]) -> Self {
        assert_eq!(weight.len(), shape.outputs * shape.patch(), "weights of {shape:?}");
        Self {
            shape,
            weight: weight.to_vec(),
            forward: Prepared::forward(shape, weight),
            backward: OnceLock::new(),
        }
    }

    /// Takes over other weights; those transformed in the same memory.
    pub(super) fn fill(&mut self, weight: &[T]) {
        self.weight.copy_from_slice(weight);
        self.forward.fill_forward(self.shape, weight);
        if let Some(held) = self.backward.get_mut() {
            held.fill_backward(self.shape, weight);
        }
    }

    fn backward(&self) -> &Prepared<T> {
        // Not to be shared between threads: one that waits for its share may take up another group's task, which would
        // then wait for this for ever.
        self.backward
            .get_or_init(|| Prepared::backward(self.shape, &self.weight))
    }
}

/// Values of a filter with both its forms, and of a weight sum.
pub(super) fn weight_values(shape: ConvShape) -> [usize; 2] {
    let weights = shape.outputs * shape.patch();
    if is_winograd(shape) {
        let both = 2 * winograd::transformed_len(shape.inputs, shape.outputs);
        [weights + both, winograd::sum_len(shape.inputs, shape.outputs)]
    } else {
        [3 * weights, weights]
    }
}

/// Scratch values that convolutions of so many images share, both ways.
pub(super) fn scratch_values(shapes: &[ConvShape], batch: usize) -> usize {
    let most = |winograd: bool, len: &dyn Fn(ConvShape) -> usize| {
        let chosen = shapes.iter().filter(|shape| is_winograd(**shape) == winograd);
        chosen.map(|shape| len(*shape)).max().unwrap_or_default()
    };
    // A step has two terms.
    let winograd = most(true, &|shape| {
        winograd::scratch_len(2 * shape.inputs.max(shape.outputs))
    });
    winograd + most(false, &|shape| direct::scratch_len(shape, batch))
}

fn kernel<T: Real>(weight: &[T], shape: ConvShape, output: usize, input: usize) -> [T; 9] {
    let at = (output * shape.inputs + input) * 9;
    *weight[at..].first_chunk().expect("weights have been counted")
}

/// Scratch memory of the convolutions of one group of images.
#[derive(Default)]
pub struct Workspace<T> {
    winograd: winograd::Workspace<T>,
    direct: direct::Workspace<T>,
    sum: Aligned<T>,
}

/// y = value, or y += value.
#[derive(Clone, Copy)]
pub struct Write<T> {
    y: Shared<T>,
    accumulate: bool,
}

impl<S: Lanes> Epilogue<S> for Write<S::Element> {
    #[inline(always)]
    unsafe fn put(self, at: usize, value: S::Vector) {
        // SAFETY: the index lies within the maps, which the convolution has checked.
        unsafe {
            let y = self.y.get().add(at);
            S::store(
                y,
                if self.accumulate {
                    S::add(S::load(y), value)
                } else {
                    value
                },
            );
        }
    }

    fn expect(self, at: usize) {
        prefetch(self.y.get().wrapping_add(at));
    }
}

/// y = (1 - alpha) x + alpha phi(offset + value); the same expressions, unfused, as [`elementwise::relax`].
#[derive(Clone, Copy)]
pub struct Relax<T> {
    keep: T,
    alpha: T,
    slope: T,
    offset: *const T,
    x: *const T,
    y: Shared<T>,
}

// SAFETY: the pointers are to maps that nobody writes during the call.
unsafe impl<T: Send> Send for Relax<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Relax<T> {}

impl<S: Lanes> Epilogue<S> for Relax<S::Element> {
    #[inline(always)]
    unsafe fn put(self, at: usize, value: S::Vector) {
        // SAFETY: the index lies within the maps, which the caller has checked.
        unsafe {
            let u = S::add(S::load(self.offset.add(at)), value);
            let phi = if self.slope == <S::Element as Real>::ZERO {
                S::positive(u)
            } else {
                let negative = S::sub(u, S::positive(u));
                S::add(S::positive(u), S::mul(S::splat(self.slope), negative))
            };
            let kept = S::mul(S::splat(self.keep), S::load(self.x.add(at)));
            S::store(self.y.get().add(at), S::add(kept, S::mul(S::splat(self.alpha), phi)));
        }
    }

    fn expect(self, at: usize) {
        prefetch(self.offset.wrapping_add(at));
        prefetch(self.x.wrapping_add(at));
        prefetch(self.y.get().wrapping_add(at));
    }
}

fn apply<T: Real>(
    work: &mut Workspace<T>,
    prepared: &Prepared<T>,
    side: usize,
    batch: usize,
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    match prepared {
        Prepared::Winograd(weights) => {
            assert_eq!(y.len(), weights.output_len(side, batch), "output maps");
            let write = Write {
                y: Shared::new(y),
                accumulate,
            };
            T::write(&mut work.winograd, Term { weights, x }, side, batch, write);
        }
        Prepared::Direct(taps) => {
            T::taps(taps, &mut work.direct, batch, x, y, accumulate);
        }
    }
}

pub(super) fn conv<T: Real>(
    work: &mut Workspace<T>,
    filter: &Filter<T>,
    batch: usize,
    x: &[T],
    y: &mut [T],
    accumulate: bool,
) {
    apply(work, &filter.forward, filter.shape.in_side, batch, x, y, accumulate);
}

pub(super) fn conv_transpose<T: Real>(
    work: &mut Workspace<T>,
    filter: &Filter<T>,
    batch: usize,
    dy: &[T],
    dx: &mut [T],
    accumulate: bool,
) {
    apply(work, filter.backward(), filter.shape.in_side, batch, dy, dx, accumulate);
}

/// y = (1 - alpha) x + alpha phi(offset + sum of conv(z)) over the terms (conv, z).
pub(super) fn relax<T: Real>(
    work: &mut Workspace<T>,
    terms: &[(&Filter<T>, &[T])],
    batch: usize,
    offset: &[T],
    (alpha, slope): (f64, f64),
    x: &[T],
    y: &mut [T],
) {
    assert_eq!((offset.len(), x.len()), (y.len(), y.len()), "maps of a relaxation");
    let direct = terms
        .iter()
        .any(|(filter, _)| matches!(filter.forward, Prepared::Direct(_)));
    // What the fused kernel cannot sum is summed before it.
    let mut sum = std::mem::take(&mut work.sum);
    let offset = if direct {
        let sum = sum.at_least(offset.len());
        elementwise::copy(offset, sum);
        for (filter, z) in terms {
            if let Prepared::Direct(_) = filter.forward {
                conv(work, filter, batch, z, sum, true);
            }
        }
        &*sum
    } else {
        offset
    };
    let mut side = 0;
    let mut fused = Vec::with_capacity(terms.len());
    for (filter, z) in terms {
        if let Prepared::Winograd(weights) = &filter.forward {
            side = filter.shape.in_side;
            assert_eq!(y.len(), weights.output_len(side, batch), "output maps");
            fused.push(Term { weights, x: z });
        }
    }
    if fused.is_empty() {
        elementwise::relax(alpha, slope, x, offset, y);
    } else {
        let epilogue = Relax {
            keep: T::from_f64(1.0 - alpha),
            alpha: T::from_f64(alpha),
            slope: T::from_f64(slope),
            offset: offset.as_ptr(),
            x: x.as_ptr(),
            y: Shared::new(y),
        };
        T::relax(&mut work.winograd, &fused, side, batch, epilogue);
    }
    work.sum = sum;
}

/// Gradient of a convolution's weights, summed over steps in the form that its algorithm wants.
pub struct WeightSum<T> {
    shape: ConvShape,
    sum: Sum<T>,
}

enum Sum<T> {
    Winograd(Box<TransformedSum<T>>),
    Direct(TapsSum<T>),
}

impl<T: Real> WeightSum<T> {
    pub(super) fn new(shape: ConvShape) -> Self {
        let sum = if is_winograd(shape) {
            Sum::Winograd(Box::new(TransformedSum::new(shape.inputs, shape.outputs)))
        } else {
            Sum::Direct(TapsSum::new(shape))
        };
        Self { shape, sum }
    }

    pub(super) fn clear(&mut self) {
        match &mut self.sum {
            Sum::Winograd(sum) => sum.clear(),
            Sum::Direct(sum) => sum.clear(),
        }
    }

    pub(super) fn add(&mut self, work: &mut Workspace<T>, batch: usize, x: &[T], dy: &[T]) {
        let side = self.shape.in_side;
        match &mut self.sum {
            Sum::Winograd(sum) => T::add_transformed(sum, side, batch, x, dy),
            Sum::Direct(sum) => T::add_taps(sum, &mut work.direct, batch, x, dy),
        }
    }

    pub(super) fn finish(&mut self, dw: &mut [T]) {
        match &mut self.sum {
            Sum::Winograd(sum) => T::finish_transformed(sum, dw),
            Sum::Direct(sum) => sum.finish(dw),
        }
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::super::tiles::{BLOCK, blocks};
    use super::*;

    fn values(n: usize, seed: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.61 + seed).sin()).collect()
    }

    fn maps(shape: ConvShape, batch: usize, output: bool) -> Aligned<f32> {
        let (channels, side) = if output {
            (shape.outputs, shape.out_side())
        } else {
            (shape.inputs, shape.in_side)
        };
        let mut maps = Aligned::from_slice(&values(batch * blocks(channels) * side * side * BLOCK, 0.1));
        // Channels that fill up the last block are zero.
        let plane = side * side;
        for (index, value) in maps.iter_mut().enumerate() {
            let channel = index / (plane * BLOCK) % blocks(channels) * BLOCK + index % BLOCK;
            if channel >= channels {
                *value = 0.0;
            }
        }
        maps
    }

    /// Output, input gradient and weight gradient with the vectors `S`.
    ///
    /// # Safety
    /// The instructions of `S` exist.
    unsafe fn run<S: Lanes<Element = f32>>(shape: ConvShape, batch: usize) -> [Vec<f32>; 3] {
        let weight = values(shape.outputs * shape.patch(), 0.7);
        let filter = Filter::new(shape, &weight);
        let (x, dy) = (maps(shape, batch, false), maps(shape, batch, true));
        let mut results = [dy.to_vec(), x.to_vec(), vec![0.0; weight.len()]];
        let [y, dx, dw] = &mut results;
        let mut work = Workspace::default();
        let cases = [(&filter.forward, &x, y), (filter.backward(), &dy, dx)];
        for (prepared, from, to) in cases {
            // SAFETY: the caller's promise; the maps are the convolution's.
            unsafe {
                match prepared {
                    Prepared::Winograd(weights) => {
                        let write = Write {
                            y: Shared::new(to),
                            accumulate: true,
                        };
                        let term = Term { weights, x: from };
                        winograd::correlate::<S, _>(&mut work.winograd, &[term], shape.in_side, batch, write);
                    }
                    Prepared::Direct(taps) => taps.apply::<S>(&mut work.direct, batch, from, to, true),
                }
            }
        }
        // SAFETY: the caller's promise.
        unsafe {
            match WeightSum::new(shape).sum {
                Sum::Winograd(mut sum) => {
                    sum.add::<S>(shape.in_side, batch, &x, &dy);
                    sum.finish::<S>(dw);
                }
                Sum::Direct(mut sum) => {
                    sum.add::<S>(&mut work.direct, batch, &x, &dy);
                    sum.finish(dw);
                }
            }
        }
        results
    }

    /// Hangs where the group that prepares the transpose's weights shares that work between threads.
    #[test]
    fn groups_that_need_the_transpose_at_once_do_not_wait_for_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build();
        let pool = pool.expect("threads can be started");
        let shape = ConvShape {
            inputs: 320,
            outputs: 64,
            kernel: 3,
            stride: 1,
            padding: 1,
            in_side: 3,
        };
        let weight = values(shape.outputs * shape.patch(), 0.7);
        let dy = maps(shape, 1, true);
        let transposed = |filter: &Filter<f32>| {
            let mut dx = maps(shape, 1, false);
            conv_transpose(&mut Workspace::default(), filter, 1, &dy, &mut dx, false);
            dx.to_vec()
        };
        let expected = transposed(&Filter::new(shape, &weight));
        for round in 0..400 {
            let filter = Filter::new(shape, &weight);
            let found: Vec<_> = pool.install(|| {
                (0..2 + round % 7)
                    .into_par_iter()
                    .map(|_| transposed(&filter))
                    .collect()
            });
            assert!(found.iter().all(|found| *found == expected));
        }
    }

    /// Weights in the memory of others, in all forms that are kept.
    #[test]
    fn other_weights_leave_no_trace_of_earlier_ones() {
        for [inputs, outputs, kernel, stride, padding, in_side] in [
            [5, 19, 3, 1, 1, 7],
            [513, 520, 3, 1, 1, 3],
            [20, 7, 3, 2, 1, 9],
            [3, 16, 7, 2, 3, 15],
        ] {
            let shape = ConvShape {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                in_side,
            };
            let both = |filter: &Filter<f32>| {
                let mut work = Workspace::default();
                let (mut y, mut dx) = (maps(shape, 2, true), maps(shape, 2, false));
                conv(&mut work, filter, 2, &maps(shape, 2, false), &mut y, false);
                conv_transpose(&mut work, filter, 2, &maps(shape, 2, true), &mut dx, false);
                [y.to_vec(), dx.to_vec()]
            };
            let [first, second] = [0.7, 0.2].map(|seed| values(shape.outputs * shape.patch(), seed));
            let mut filter = Filter::new(shape, &first);
            let earlier = both(&filter);
            filter.fill(&second);
            let found = both(&filter);
            assert!(found == both(&Filter::new(shape, &second)), "{shape:?}");
            assert!(found != earlier);
        }
    }

    /// Plain instructions on one thread serve as the check of every other path, bit by bit.
    #[test]
    fn instruction_sets_and_threads_give_the_same_bits() {
        let pool = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.expect("threads can be started")
        };
        let (one, three) = (pool(1), pool(3));
        // (inputs, outputs, kernel, stride, padding, side, batch); the last ones are worth sharing between threads.
        for [inputs, outputs, kernel, stride, padding, in_side, batch] in [
            [5, 19, 3, 1, 1, 7, 3],
            [20, 7, 3, 2, 1, 9, 2],
            [3, 16, 7, 2, 3, 15, 2],
            [33, 40, 1, 2, 0, 6, 9],
            [96, 80, 3, 1, 1, 13, 3],
            [64, 64, 3, 1, 1, 30, 4],
            [96, 80, 3, 2, 1, 26, 4],
            [250, 270, 3, 1, 1, 10, 7],
            // Transformed at each use.
            [513, 520, 3, 1, 1, 5, 2],
        ] {
            let shape = ConvShape {
                inputs,
                outputs,
                kernel,
                stride,
                padding,
                in_side,
            };
            // SAFETY: ordinary instructions exist; the others only run where `level` finds them.
            let (check, others) = unsafe {
                let check = one.install(|| run::<Plain<f32>>(shape, batch));
                let mut others = vec![three.install(|| run::<Plain<f32>>(shape, batch))];
                if level() != Level::Plain {
                    others.push(one.install(|| run::<<f32 as Vectors>::Half>(shape, batch)));
                }
                if level() == Level::Wide {
                    others.push(one.install(|| run::<<f32 as Vectors>::Wide>(shape, batch)));
                    others.push(three.install(|| run::<<f32 as Vectors>::Wide>(shape, batch)));
                }
                (check, others)
            };
            assert!(check.iter().all(|values| values.iter().any(|value| *value != 0.0)));
            for other in others {
                assert!(check == other, "{shape:?}, batch {batch}");
            }
        }
    }
}
