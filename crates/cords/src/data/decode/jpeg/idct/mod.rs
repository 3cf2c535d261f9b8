//! From coefficients to samples: the inverse cosine transform of libjpeg ("islow"), with the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;

use std::num::Wrapping;

/// Coefficients of a block, row by row.
pub(super) type Block = [i16; 64];
/// Those of a damaged file may overflow, which is nobody's error: it shows in the picture.
type Number = Wrapping<i32>;

/// A constant of the transform.
const fn by(value: i32) -> Number {
    Wrapping(value)
}

const BITS: usize = 13;
/// Bits that the first pass keeps beyond whole levels.
const KEPT: usize = 2;

/// The transform of eight values, of eight columns at once. `shift` bits are rounded off.
#[inline(always)]
fn pass(rows: [[Number; 8]; 8], shift: usize) -> [[Number; 8]; 8] {
    let mut out = [[Wrapping(0); 8]; 8];
    for i in 0..8 {
        let row = |at: usize| rows[at][i];
        let z1 = (row(2) + row(6)) * by(4433);
        let (even2, even3) = (z1 - row(6) * by(15137), z1 + row(2) * by(6270));
        let (even0, even1) = ((row(0) + row(4)) << BITS, (row(0) - row(4)) << BITS);
        let even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3];

        let z5 = (row(7) + row(3) + row(5) + row(1)) * by(9633);
        let z1 = (row(7) + row(1)) * by(-7373);
        let z2 = (row(5) + row(3)) * by(-20995);
        let z3 = (row(7) + row(3)) * by(-16069) + z5;
        let z4 = (row(5) + row(1)) * by(-3196) + z5;
        let odd = [
            row(1) * by(12299) + z1 + z4,
            row(3) * by(25172) + z2 + z3,
            row(5) * by(16819) + z2 + z4,
            row(7) * by(2446) + z1 + z3,
        ];
        let half = by(1 << (shift - 1));
        for k in 0..4 {
            out[k][i] = (even[k] + odd[k] + half) >> shift;
            out[7 - k][i] = (even[k] - odd[k] + half) >> shift;
        }
    }
    out
}

#[inline(always)]
fn transposed(rows: [[Number; 8]; 8]) -> [[Number; 8]; 8] {
    let mut out = [[Wrapping(0); 8]; 8];
    for i in 0..8 {
        for j in 0..8 {
            out[i][j] = rows[j][i];
        }
    }
    out
}

#[inline(always)]
fn level(value: Number) -> u8 {
    (value + by(128)).0.clamp(0, 255) as u8
}

#[inline(always)]
fn dequantised(block: &Block, quantisation: &[u16; 64], at: usize) -> Number {
    by(i32::from(block[at])) * by(i32::from(quantisation[at]))
}

/// Writes 8 x 8 samples to `out`, whose rows are `stride` apart. `last` is the last place of the zigzag order whose
/// coefficient may be other than zero.
#[inline(always)]
pub(super) fn full(block: &Block, last: usize, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "calls a function compiled for AVX2")]
        // SAFETY: the processor has just been found to have AVX2.
        return unsafe {
            match last < 10 {
                true => avx2::full::<true>(block, quantisation, out, stride),
                false => avx2::full::<false>(block, quantisation, out, stride),
            }
        };
    }
    // All coefficients cost the same here.
    let _ = last;
    plain(block, quantisation, out, stride);
}

fn plain(block: &Block, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    let row = |y: usize| std::array::from_fn(|x| dequantised(block, quantisation, 8 * y + x));
    let rows = std::array::from_fn(row);
    let columns = pass(rows, BITS - KEPT);
    let samples = transposed(pass(transposed(columns), BITS + KEPT + 3));
    for (y, row) in samples.iter().enumerate() {
        for (out, sample) in out[y * stride..][..8].iter_mut().zip(row) {
            *out = level(*sample);
        }
    }
}

/// Writes 8 x 8 samples of a block whose coefficients are all zero but the first.
#[inline(always)]
pub(super) fn flat(dc: i16, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    let value = by(i32::from(dc)) * by(i32::from(quantisation[0]));
    // Eighths of the first coefficient, rounded as both passes do.
    let sample = level((value + by(4)) >> 3);
    for y in 0..8 {
        out[y * stride..][..8].fill(sample);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine_sum(block: &Block, y: usize, x: usize) -> f64 {
        let basis = |u: usize, at: usize| {
            let scale = if u == 0 { 0.5f64.sqrt() } else { 1.0 };
            scale * ((2 * at + 1) as f64 * u as f64 * std::f64::consts::PI / 16.0).cos()
        };
        let mut sum = 0.0;
        for v in 0..8 {
            for u in 0..8 {
                sum += f64::from(block[8 * v + u]) * basis(v, y) * basis(u, x);
            }
        }
        sum / 4.0 + 128.0
    }

    /// The definition, in floats: within the rounding of two passes.
    #[test]
    fn samples_are_the_inverse_cosine_transform() {
        let mut block = [0; 64];
        for (i, value) in block.iter_mut().enumerate() {
            *value = ((i * 37 + 11) % 41) as i16 - 20;
        }
        let mut out = [0; 64];
        full(&block, 63, &[1; 64], &mut out, 8);
        for y in 0..8 {
            for x in 0..8 {
                let expected = cosine_sum(&block, y, x).clamp(0.0, 255.0);
                assert!((f64::from(out[8 * y + x]) - expected).abs() < 0.6, "{y}, {x}");
            }
        }
    }

    /// Whatever the processor has, also where sums overflow.
    #[test]
    fn vectors_give_the_same_bits() {
        let mut state = 1u32;
        let mut next = |bound: i32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as i32 % (2 * bound) - bound) as i16
        };
        for round in 0..400 {
            let (mut block, mut quantisation) = ([0; 64], [1; 64]);
            let (count, bound) = ([64, 10, 3][round % 3], [32_767, 2_000, 60, 8][round % 4]);
            for &at in &crate::data::decode::jpeg::headers::ZIGZAG[..count] {
                block[usize::from(at)] = next(bound);
                quantisation[usize::from(at)] = next(if round % 8 == 0 { 32_767 } else { 40 }) as u16;
            }
            let (mut out, mut expected) = ([0; 64], [0; 64]);
            full(&block, count - 1, &quantisation, &mut out, 8);
            plain(&block, &quantisation, &mut expected, 8);
            assert_eq!(out, expected, "{round}");
        }
    }

    /// A block of one level has that level, whichever way it is computed.
    #[test]
    fn flat_blocks_are_flat_either_way() {
        for dc in [-1100, -77, -4, -3, 0, 3, 4, 5, 500, 1100] {
            let mut block = [0; 64];
            block[0] = dc;
            let mut expected = [0; 64];
            flat(dc, &[1; 64], &mut expected, 8);
            let mut out = [0; 64];
            full(&block, 63, &[1; 64], &mut out, 8);
            assert_eq!(out, expected, "{dc}");
        }
    }
}
