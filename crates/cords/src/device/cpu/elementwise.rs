//! Kernels that treat every value alike, compiled for the best vector instructions that the processor has.
//!
//! No sum is reordered by the choice of instructions: reductions keep a fixed number of partial sums.

use crate::Real;
use crate::device::AdamStep;

/// Runs `kernel` compiled for AVX2 where the processor has it. Multiplications and additions are never fused,
/// so the result has the same bits either way.
#[inline(always)]
pub(crate) fn vectorised<R>(kernel: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn avx2<R>(kernel: impl FnOnce() -> R) -> R {
            kernel()
        }
        if std::is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
            // SAFETY: the processor has just been found to have AVX2.
            return unsafe { avx2(kernel) };
        }
    }
    kernel()
}

/// Values below which a kernel stays on its thread.
const WORTH_SHARING: usize = 1 << 16;

/// Runs `kernel` on the same places of all slices, in parts on several threads where there are many values.
fn over<T: Real, const I: usize, const O: usize>(
    inputs: [&[T]; I],
    outputs: [&mut [T]; O],
    kernel: &(impl Fn([&[T]; I], [&mut [T]; O]) + Sync),
) {
    let len = outputs[0].len();
    assert!(inputs.iter().all(|slice| slice.len() == len) && outputs.iter().all(|slice| slice.len() == len));
    if len < WORTH_SHARING || rayon::current_num_threads() == 1 {
        return vectorised(|| kernel(inputs, outputs));
    }
    // Whole cache lines, so that no two threads write to one.
    let middle = (len / 2).next_multiple_of(64);
    let left = inputs.map(|slice| &slice[..middle]);
    let right = inputs.map(|slice| &slice[middle..]);
    let mut halves = outputs.map(|slice| {
        let (left, right) = slice.split_at_mut(middle);
        [left, right]
    });
    let mut take = |half: usize| halves.each_mut().map(|pair| std::mem::take(&mut pair[half]));
    let (left_out, right_out) = (take(0), take(1));
    rayon::join(|| over(left, left_out, kernel), || over(right, right_out, kernel));
}

// The loops below are functions of their slices, because the compiler proves that a function's arguments do not
// overlap, but not that a closure's do not, and then does not use vectors.

#[inline(always)]
fn two<T: Real>(x: &[T], y: &mut [T], f: impl Fn(T, &mut T)) {
    for (x, y) in x.iter().zip(y) {
        f(*x, y);
    }
}

#[inline(always)]
fn three<T: Real>(a: &[T], b: &[T], y: &mut [T], f: impl Fn(T, T, &mut T)) {
    for ((a, b), y) in a.iter().zip(b).zip(y) {
        f(*a, *b, y);
    }
}

fn zip<T: Real>(x: &[T], y: &mut [T], f: impl Fn(T, &mut T) + Sync) {
    over([x], [y], &|[x], [y]| two(x, y, &f));
}

#[inline(always)]
pub(super) fn positive<T: Real>(x: T) -> T {
    if x > T::ZERO { x } else { T::ZERO }
}

pub(super) fn copy<T: Real>(x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y = x);
}

pub(super) fn add<T: Real>(x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y += x);
}

pub(super) fn add_rectified<T: Real>(x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y += positive(x));
}

pub(super) fn rectify<T: Real>(x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y = positive(x));
}

pub(super) fn add_where_positive<T: Real>(x: &[T], q: &[T], y: &mut [T]) {
    over([x, q], [y], &|[x, q], [y]| {
        three(x, q, y, |x, q, y| *y += if x > T::ZERO { q } else { T::ZERO });
    });
}

/// g += factor (x - centre).
pub(super) fn add_difference<T: Real>(factor: T, x: &[T], centre: &[T], g: &mut [T]) {
    over([x, centre], [g], &|[x, centre], [g]| {
        three(x, centre, g, |x, centre, g| *g += factor * (x - centre))
    });
}

pub(super) fn clear_where_not_positive<T: Real>(x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y = if x > T::ZERO { *y } else { T::ZERO });
}

pub(super) fn add_scaled<T: Real>(factor: T, x: &[T], y: &mut [T]) {
    zip(x, y, |x, y| *y += factor * x);
}

pub(super) fn add_product<T: Real>(factor: T, x: &[T], y: &[T], z: &mut [T]) {
    over([x, y], [z], &|[x, y], [z]| {
        three(x, y, z, |x, y, z| *z += factor * x * y)
    });
}

pub(super) fn scale<T: Real>(factor: T, x: &mut [T]) {
    over([], [x], &|[], [x]| {
        for x in x {
            *x *= factor;
        }
    });
}

pub(super) fn clamp_unit<T: Real>(x: &mut [T]) {
    let one = T::from_f64(1.0);
    over([], [x], &|[], [x]| {
        for x in x {
            *x = positive(*x);
            *x = if *x < one { *x } else { one };
        }
    });
}

/// Sum of `f(value)` in double precision with eight partial sums.
fn reduce<T: Real>(x: &[T], f: impl Fn(f64) -> f64) -> f64 {
    vectorised(|| {
        let mut sums = [0.0f64; 8];
        let chunks = x.chunks_exact(8);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += f(x.to_f64());
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += f(x.to_f64());
        }
        sums.iter().sum()
    })
}

pub(super) fn sum_squares<T: Real>(x: &[T]) -> f64 {
    reduce(x, |x| x * x)
}

/// Sum of (x - y)^2 in double precision with eight partial sums.
pub(super) fn sum_squared_differences<T: Real>(x: &[T], y: &[T]) -> f64 {
    assert_eq!(x.len(), y.len());
    vectorised(|| {
        let mut sums = [0.0f64; 8];
        for (x, y) in x.chunks(8).zip(y.chunks(8)) {
            for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
                let difference = (*x - *y).to_f64();
                *sum += difference * difference;
            }
        }
        sums.iter().sum()
    })
}

/// Sum of a (b - centre) in double precision with eight partial sums.
pub(super) fn centred_dot<T: Real>(a: &[T], b: &[T], centre: f64) -> f64 {
    assert_eq!(a.len(), b.len());
    vectorised(|| {
        let mut sums = [0.0f64; 8];
        for (a, b) in a.chunks(8).zip(b.chunks(8)) {
            for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
                *sum += a.to_f64() * (b.to_f64() - centre);
            }
        }
        sums.iter().sum()
    })
}

pub(super) fn max_abs<T: Real>(x: &[T]) -> f64 {
    let mut largest = 0.0f64;
    for x in x {
        let x = x.to_f64().abs();
        if x.is_nan() {
            return f64::NAN;
        }
        largest = largest.max(x);
    }
    largest
}

/// The part of x that a relaxation carries over. One expression, used forward and backward: where phi(u) = 0, y equals
/// it bit by bit, so that the adjoint never takes such a u for a positive one.
#[inline(always)]
pub(super) fn carried<T: Real>(keep: T, x: T) -> T {
    keep * x
}

/// y = (1 - alpha) x + alpha phi(u).
pub(super) fn relax<T: Real>(alpha: f64, slope: f64, x: &[T], u: &[T], y: &mut [T]) {
    let [keep, alpha, slope] = [1.0 - alpha, alpha, slope].map(T::from_f64);
    over([x, u], [y], &|[x, u], [y]| {
        three(x, u, y, |x, u, y| {
            let phi = if u > T::ZERO { u } else { slope * u };
            *y = carried(keep, x) + alpha * phi;
        });
    });
}

/// `outputs` are g, delta and the sum of deltas.
pub(super) fn relax_adjoint<T: Real>((alpha, slope): (f64, f64), x: &[T], y: &[T], outputs: [&mut [T]; 3]) {
    #[inline(always)]
    fn kernel<T: Real>(
        [keep, positive, negative]: [T; 3],
        (x, y): (&[T], &[T]),
        g: &mut [T],
        delta: &mut [T],
        sum: &mut [T],
    ) {
        for ((((x, y), g), delta), sum) in x.iter().zip(y).zip(g).zip(delta).zip(sum) {
            let derivative = if *y > carried(keep, *x) { positive } else { negative };
            *delta = derivative * *g;
            *sum += *delta;
            *g *= keep;
        }
    }
    let factors = [1.0 - alpha, alpha, alpha * slope].map(T::from_f64);
    over([x, y], outputs, &|[x, y], [g, delta, sum]| {
        kernel(factors, (x, y), g, delta, sum)
    });
}

pub(super) fn sgd_step<T: Real>(
    rate: f64,
    momentum: f64,
    decay: f64,
    gradient: &[T],
    velocity: &mut [T],
    parameter: &mut [T],
) {
    let (rate, momentum, decay) = (T::from_f64(rate), T::from_f64(momentum), T::from_f64(decay));
    over(
        [gradient],
        [velocity, parameter],
        &|[gradient], [velocity, parameter]| {
            for ((gradient, velocity), parameter) in gradient.iter().zip(velocity).zip(parameter) {
                *velocity = momentum * *velocity + *gradient + decay * *parameter;
                *parameter -= rate * *velocity;
            }
        },
    );
}

pub(super) fn adam_step<T: Real>(step: AdamStep, gradient: &[T], [first, second]: [&mut [T]; 2], parameter: &mut [T]) {
    let factors = step.factors();
    let [rate, root, shrink, added] = [factors.rate, factors.root, factors.shrink, factors.added].map(T::from_f64);
    let [beta1, beta2] = step.betas;
    let epsilon = T::from_f64(step.epsilon);
    let (new1, new2) = (T::from_f64(1.0 - beta1), T::from_f64(1.0 - beta2));
    let (beta1, beta2) = (T::from_f64(beta1), T::from_f64(beta2));
    #[inline(always)]
    fn kernel<T: Real>(
        gradient: &[T],
        first: &mut [T],
        second: &mut [T],
        parameter: &mut [T],
        f: impl Fn(T, &mut T, &mut T, &mut T),
    ) {
        for (((gradient, first), second), parameter) in gradient.iter().zip(first).zip(second).zip(parameter) {
            f(*gradient, first, second, parameter);
        }
    }
    over(
        [gradient],
        [first, second, parameter],
        &|[gradient], [first, second, parameter]| {
            kernel(
                gradient,
                first,
                second,
                parameter,
                |gradient, first, second, parameter| {
                    let gradient = gradient + added * *parameter;
                    *first = beta1 * *first + new1 * gradient;
                    *second = beta2 * *second + new2 * gradient * gradient;
                    *parameter = shrink * *parameter - rate * *first / (second.sqrt() / root + epsilon);
                },
            );
        },
    );
}
