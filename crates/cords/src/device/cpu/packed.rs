//! Activity in half the memory.

use half::bf16;
use rayon::prelude::*;

use super::aligned::Aligned;
use super::elementwise::{carried, vectorised};
use super::tiles::BLOCK;
use crate::Real;

/// Activity as bfloat16, and for each value a bit that says whether the current it came from was positive: rounded
/// activity does not tell.
pub struct Packed {
    /// bfloat16 bits of each value, in the order of maps: blocks of 16 channels.
    values: Aligned<u16>,
    /// A bit for each value, one number a block.
    signs: Aligned<u16>,
}

/// Blocks that one thread takes at a time.
const PART: usize = 1 << 12;

/// Bytes of so many values.
pub(super) fn bytes(values: usize) -> usize {
    values.div_ceil(BLOCK) * (BLOCK + 1) * size_of::<u16>()
}

impl Packed {
    pub(super) fn new(len: usize) -> Self {
        let blocks = len / BLOCK;
        assert_eq!(len, blocks * BLOCK, "maps are blocks of channels");
        Self {
            values: Aligned::zeros(len),
            signs: Aligned::zeros(blocks),
        }
    }

    /// Takes `next`, which a step has made of `r`.
    pub(super) fn pack<T: Real>(&mut self, alpha: f64, r: &[T], next: &[T]) {
        #[inline(always)]
        fn kernel<T: Real>(
            keep: T,
            r: &[[T; BLOCK]],
            next: &[[T; BLOCK]],
            values: &mut [[u16; BLOCK]],
            signs: &mut [u16],
        ) {
            for (((r, next), values), signs) in r.iter().zip(next).zip(values).zip(signs) {
                let mut positive = 0;
                for (lane, ((r, next), value)) in r.iter().zip(next).zip(values).enumerate() {
                    *value = bf16::from_f32(next.to_f64() as f32).to_bits();
                    positive |= u16::from(*next > carried(keep, *r)) << lane;
                }
                *signs = positive;
            }
        }
        let keep = T::from_f64(1.0 - alpha);
        let values = in_blocks_mut(&mut self.values)
            .par_chunks_mut(PART)
            .zip(self.signs.par_chunks_mut(PART));
        values
            .zip(in_blocks(r).par_chunks(PART))
            .zip(in_blocks(next).par_chunks(PART))
            .for_each(|(((values, signs), r), next)| vectorised(|| kernel(keep, r, next, values, signs)));
    }

    /// Writes the activity, rounded to bfloat16, into `x`.
    pub(super) fn unpack<T: Real>(&self, x: &mut [T]) {
        #[inline(always)]
        fn kernel<T: Real>(values: &[u16], x: &mut [T]) {
            for (value, x) in values.iter().zip(x) {
                *x = T::from_f64(f64::from(bf16::from_bits(*value).to_f32()));
            }
        }
        let parts = in_blocks(&self.values)
            .par_chunks(PART)
            .zip(in_blocks_mut(x).par_chunks_mut(PART));
        parts.for_each(|(values, x)| vectorised(|| kernel(values.as_flattened(), x.as_flattened_mut())));
    }

    /// delta = alpha phi'(u) g, sum += delta and g *= 1 - alpha; `outputs` are g, delta and sum.
    pub(super) fn leaky_adjoint<T: Real>(&self, (alpha, slope): (f64, f64), outputs: [&mut [T]; 3]) {
        #[inline(always)]
        fn kernel<T: Real>(
            [keep, positive, negative]: [T; 3],
            signs: &[u16],
            g: &mut [[T; BLOCK]],
            delta: &mut [[T; BLOCK]],
            sum: &mut [[T; BLOCK]],
        ) {
            for (((signs, g), delta), sum) in signs.iter().zip(g).zip(delta).zip(sum) {
                for (lane, ((g, delta), sum)) in g.iter_mut().zip(delta).zip(sum).enumerate() {
                    let derivative = if signs >> lane & 1 == 1 { positive } else { negative };
                    *delta = derivative * *g;
                    *sum += *delta;
                    *g *= keep;
                }
            }
        }
        let factors = [1.0 - alpha, alpha, alpha * slope].map(T::from_f64);
        let [g, delta, sum] = outputs.map(|slice| in_blocks_mut(slice).par_chunks_mut(PART));
        let parts = self.signs.par_chunks(PART).zip(g).zip(delta).zip(sum);
        parts.for_each(|(((signs, g), delta), sum)| vectorised(|| kernel(factors, signs, g, delta, sum)));
    }
}

fn in_blocks<T>(x: &[T]) -> &[[T; BLOCK]] {
    x.as_chunks().0
}

fn in_blocks_mut<T>(x: &mut [T]) -> &mut [[T; BLOCK]] {
    x.as_chunks_mut().0
}

#[cfg(test)]
mod tests {
    use super::super::elementwise;
    use super::*;

    /// The signs come from exact activity: the adjoint has the bits that it has without packing, and activity is
    /// rounded to the nearest of eight significant bits.
    #[test]
    fn packing_rounds_activity_and_keeps_signs() {
        let len = 6 * PART * BLOCK / 4;
        let values = |seed: f32| -> Vec<f32> { (0..len).map(|i| (i as f32 * 0.37 + seed).sin()).collect() };
        let (r, u) = (values(0.1), values(0.7));
        let mut next = vec![0.0; len];
        for slope in [0.0, 0.3] {
            elementwise::leaky_update(0.2, slope, &r, &u, &mut next);
            let mut packed = Packed::new(len);
            packed.pack(0.2, &r, &next);
            let mut rounded = vec![0.0f32; len];
            packed.unpack(&mut rounded);
            for (rounded, next) in rounded.iter().zip(&next) {
                assert!((rounded - next).abs() <= next.abs() / 256.0, "{next} became {rounded}");
            }
            assert!(rounded != next);
            let run = |adjoint: &dyn Fn([&mut [f32]; 3])| {
                let mut outputs = [values(0.3), values(0.4), values(0.5)];
                let [g, delta, sum] = &mut outputs;
                adjoint([g, delta, sum]);
                outputs
            };
            let exact = run(&|outputs| elementwise::leaky_adjoint((0.2, slope), &r, &next, outputs));
            let found = run(&|outputs| packed.leaky_adjoint((0.2, slope), outputs));
            assert!(exact == found);
        }
    }
}
