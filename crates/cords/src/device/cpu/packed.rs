//! Values in half the memory.

use half::bf16;
use rayon::prelude::*;

use super::Cpu;
use super::aligned::Aligned;
use super::elementwise::{carried, vectorised};
use super::maps::stored;
use super::tiles::BLOCK;
use crate::Real;
use crate::device::{Maps, PackedMaps, Phi};

/// Values as bfloat16, and for each a bit that says whether the argument of phi that it came from was positive: rounded
/// values do not tell.
pub struct Packed {
    /// bfloat16 bits of each value, in the order of maps: blocks of 16 channels.
    values: Aligned<u16>,
    /// A bit for each value, one number a block.
    signs: Aligned<u16>,
}

/// Blocks that one thread takes at a time.
const PART: usize = 1 << 12;

impl<T: Real> PackedMaps<T, Cpu> for Packed {
    fn room(_device: &Cpu, maps: Maps) -> Self {
        let (len, blocks) = (stored(maps), stored(maps) / BLOCK);
        assert_eq!(len, blocks * BLOCK, "maps are blocks of channels");
        Self {
            values: Aligned::zeros(len),
            signs: Aligned::zeros(blocks),
        }
    }

    fn bytes(_device: &Cpu, maps: Maps) -> u64 {
        (stored(maps).div_ceil(BLOCK) * (BLOCK + 1) * size_of::<u16>()) as u64
    }

    fn pack(&mut self, _device: &Cpu, alpha: f64, x: &Aligned<T>, y: &Aligned<T>) {
        #[inline(always)]
        fn kernel<T: Real>(
            keep: T,
            x: &[[T; BLOCK]],
            y: &[[T; BLOCK]],
            values: &mut [[u16; BLOCK]],
            signs: &mut [u16],
        ) {
            for (((x, y), values), signs) in x.iter().zip(y).zip(values).zip(signs) {
                let mut positive = 0;
                for (lane, ((x, y), value)) in x.iter().zip(y).zip(values).enumerate() {
                    *value = bf16::from_f32(y.to_f64() as f32).to_bits();
                    positive |= u16::from(*y > carried(keep, *x)) << lane;
                }
                *signs = positive;
            }
        }
        let keep = T::from_f64(1.0 - alpha);
        let values = in_blocks_mut(&mut self.values)
            .par_chunks_mut(PART)
            .zip(self.signs.par_chunks_mut(PART));
        values
            .zip(in_blocks(x).par_chunks(PART))
            .zip(in_blocks(y).par_chunks(PART))
            .for_each(|(((values, signs), x), y)| vectorised(|| kernel(keep, x, y, values, signs)));
    }

    fn unpack(&self, _device: &Cpu, y: &mut Aligned<T>) {
        #[inline(always)]
        fn kernel<T: Real>(values: &[u16], y: &mut [T]) {
            for (value, y) in values.iter().zip(y) {
                *y = T::from_f64(f64::from(bf16::from_bits(*value).to_f32()));
            }
        }
        let parts = in_blocks(&self.values)
            .par_chunks(PART)
            .zip(in_blocks_mut(y).par_chunks_mut(PART));
        parts.for_each(|(values, y)| vectorised(|| kernel(values.as_flattened(), y.as_flattened_mut())));
    }

    fn relax_adjoint(
        &self,
        _device: &Cpu,
        (alpha, phi): (f64, Phi),
        g: &mut Aligned<T>,
        delta: &mut Aligned<T>,
        sum: &mut Aligned<T>,
    ) {
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
        let factors = [1.0 - alpha, alpha, alpha * phi.slope()].map(T::from_f64);
        let [g, delta, sum] = [g, delta, sum].map(|values| in_blocks_mut(values).par_chunks_mut(PART));
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

    /// The signs come from exact values: the adjoint has the bits that it has without packing, and values are rounded
    /// to the nearest of eight significant bits.
    #[test]
    fn packing_rounds_values_and_keeps_signs() {
        let maps = Maps {
            batch: 6,
            channels: BLOCK,
            side: 32,
        };
        let len = stored(maps);
        assert_eq!(len, 6 * PART * BLOCK / 4, "more than one part");
        let values = |seed: f32| {
            let values: Vec<f32> = (0..len).map(|i| (i as f32 * 0.37 + seed).sin()).collect();
            Aligned::from_slice(&values)
        };
        let (x, u) = (values(0.1), values(0.7));
        let mut y = Aligned::<f32>::zeros(len);
        for phi in [Phi::Relu, Phi::LeakyRelu(0.3)] {
            elementwise::relax(0.2, phi.slope(), &x, &u, &mut y);
            let mut packed: Packed = PackedMaps::<f32, Cpu>::room(&Cpu, maps);
            packed.pack(&Cpu, 0.2, &x, &y);
            let mut rounded = Aligned::<f32>::zeros(len);
            packed.unpack(&Cpu, &mut rounded);
            for (rounded, y) in rounded.iter().zip(y.iter()) {
                assert!((rounded - y).abs() <= y.abs() / 256.0, "{y} became {rounded}");
            }
            assert!(rounded.to_vec() != y.to_vec());
            let run = |adjoint: &dyn Fn([&mut Aligned<f32>; 3])| {
                let mut outputs = [values(0.3), values(0.4), values(0.5)];
                let [g, delta, sum] = &mut outputs;
                adjoint([g, delta, sum]);
                outputs.map(|output| output.to_vec())
            };
            let exact = run(&|[g, delta, sum]| {
                elementwise::relax_adjoint((0.2, phi.slope()), &x, &y, [g, delta, sum]);
            });
            let found = run(&|[g, delta, sum]| packed.relax_adjoint(&Cpu, (0.2, phi), g, delta, sum));
            assert!(exact == found);
        }
    }
}
