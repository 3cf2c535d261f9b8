//! Both passes with vectors of 256 bits: the same bytes as the plain ones.

#![expect(unsafe_code, reason = "loads and stores vectors")]

use super::{BITS, HALF, Weights};
use std::arch::x86_64::*;

/// Bits of the lower part of a weight, which is multiplied on its own: both parts have 16 bits with their sign.
const LOW: i32 = 15;
/// Pixels whose weights stand side by side.
const TAPS: usize = 4;
/// Bytes that are read beyond the last pixel.
pub(super) const BEYOND: usize = 16;

/// Weights of rows of colour pixels, in groups of four pixels: for each channel of each pair of pixels the upper parts
/// of two weights, then the lower.
#[derive(Default)]
pub(super) struct Groups {
    /// First byte of each group's pixels in a row, and whether it is the last of its mean.
    places: Vec<(usize, bool)>,
    weights: Vec<[i16; 32]>,
}

impl Groups {
    /// False where a pixel is the mean of too many for sums in 32 bits.
    pub(super) fn set(&mut self, weights: &Weights) -> bool {
        self.places.clear();
        self.weights.clear();
        for (first, weights) in weights.iter() {
            if !(1..=250).contains(&weights.len()) {
                return false;
            }
            let groups = weights.len().div_ceil(TAPS);
            for (group, chunk) in weights.chunks(TAPS).enumerate() {
                let mut parts = [0; 32];
                for (tap, weight) in chunk.iter().enumerate() {
                    for channel in 0..3 {
                        let at = tap / 2 * 8 + channel * 2 + tap % 2;
                        parts[at] = (weight >> LOW) as i16;
                        parts[16 + at] = (weight & ((1 << LOW) - 1)) as i16;
                    }
                }
                self.places.push((3 * (first + group * TAPS), group + 1 == groups));
                self.weights.push(parts);
            }
        }
        true
    }
}

/// Resizes rows of `length` bytes of colour pixels to `to` bytes. [`BEYOND`] bytes follow the last row.
#[target_feature(enable = "avx2")]
pub(super) fn across(groups: &Groups, source: &[u8], length: usize, out: &mut [u8], to: usize) {
    // Bytes of a pixel's channel beside that of the next pixel, as numbers of 16 bits; two pairs of pixels.
    let pairs = _mm256_setr_epi8(
        0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, //
        6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1,
    );
    for (row, out) in out.chunks_exact_mut(to).enumerate() {
        let source = &source[row * length..];
        let mut pixels = out.as_chunks_mut::<3>().0.iter_mut();
        let (mut high, mut low) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for ((place, last), weights) in groups.places.iter().zip(&groups.weights) {
            let levels: &[u8] = &source[*place..place + 16];
            // SAFETY: 16 bytes of levels, 64 of weights.
            let (levels, upper, lower) = unsafe {
                let weights = weights.as_ptr().cast::<__m256i>();
                (
                    _mm_loadu_si128(levels.as_ptr().cast()),
                    _mm256_loadu_si256(weights),
                    _mm256_loadu_si256(weights.add(1)),
                )
            };
            let levels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(levels), pairs);
            high = _mm256_add_epi32(high, _mm256_madd_epi16(levels, upper));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(levels, lower));
            if *last {
                let sums = _mm256_add_epi32(_mm256_slli_epi32::<LOW>(high), low);
                let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
                let sums = _mm_srai_epi32::<{ BITS as i32 }>(_mm_add_epi32(sums, _mm_set1_epi32(HALF)));
                let words = _mm_packs_epi32(sums, sums);
                let levels = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
                if let Some(pixel) = pixels.next() {
                    *pixel = [levels[0], levels[1], levels[2]];
                }
                (high, low) = (_mm256_setzero_si256(), _mm256_setzero_si256());
            }
        }
    }
}

/// Bytes whose sums stand in registers.
pub(super) const TILE: usize = 32;

/// The weighted means of a column of [`TILE`] bytes, each `length` behind the last.
#[target_feature(enable = "avx2")]
pub(super) fn tile_down(weights: &[i32], source: &[u8], length: usize, out: &mut [u8; TILE]) {
    let mut sums = [_mm256_set1_epi32(HALF); 4];
    for (weight, row) in weights.iter().zip(source.chunks(length)) {
        let weight = _mm256_set1_epi32(*weight);
        let levels: &[u8] = &row[..TILE];
        for (part, sum) in sums.iter_mut().enumerate() {
            // SAFETY: 8 of the 32 bytes.
            let eight = unsafe { _mm_loadl_epi64(levels.as_ptr().add(8 * part).cast()) };
            *sum = _mm256_add_epi32(*sum, _mm256_mullo_epi32(_mm256_cvtepu8_epi32(eight), weight));
        }
    }
    for sum in &mut sums {
        *sum = _mm256_srai_epi32::<{ BITS as i32 }>(*sum);
    }
    let [a, b, c, d] = sums;
    let levels = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let levels = _mm256_permutevar8x32_epi32(levels, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), levels) };
}
