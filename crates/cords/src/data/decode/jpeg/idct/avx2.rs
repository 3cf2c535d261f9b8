//! The transform with vectors of eight numbers: the same bits as the plain one.

#![expect(unsafe_code, reason = "loads eight coefficients at once")]

use super::{BITS, Block, KEPT};
use std::arch::x86_64::*;

/// Eight rows of eight numbers.
type Rows = [__m256i; 8];

/// As [`super::full`]. Where `FEW`, only the first ten places of the zigzag order may be other than zero.
#[target_feature(enable = "avx2")]
pub(super) fn full<const FEW: bool>(block: &Block, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    let zero = _mm256_setzero_si256();
    let mut rows = [zero; 8];
    for (y, row) in rows.iter_mut().enumerate().take(if FEW { 4 } else { 8 }) {
        // SAFETY: both have eight numbers of 16 bits from place 8 y on.
        let (coefficients, steps) = unsafe {
            (
                _mm_loadu_si128(block[8 * y..8 * y + 8].as_ptr().cast()),
                _mm_loadu_si128(quantisation[8 * y..8 * y + 8].as_ptr().cast()),
            )
        };
        *row = _mm256_mullo_epi32(_mm256_cvtepi16_epi32(coefficients), _mm256_cvtepu16_epi32(steps));
    }
    let mut columns = transposed(pass::<{ (BITS - KEPT) as i32 }>(rows));
    if FEW {
        // What the compiler cannot know, and can do without then.
        columns[4..].fill(zero);
    }
    let samples = transposed(pass::<{ (BITS + KEPT + 3) as i32 }>(columns));
    let middle = _mm256_set1_epi32(128);
    // Each half of a vector takes up four numbers of each of four rows.
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (four, y) in samples.as_chunks::<4>().0.iter().zip([0, 4]) {
        let [a, b, c, d] = *four;
        let (a, b) = (_mm256_add_epi32(a, middle), _mm256_add_epi32(b, middle));
        let (c, d) = (_mm256_add_epi32(c, middle), _mm256_add_epi32(d, middle));
        let levels = _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let levels = _mm256_permutevar8x32_epi32(levels, order);
        let mut lines = [0u8; 32];
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(lines.as_mut_ptr().cast(), levels) };
        for (line, y) in lines.as_chunks::<8>().0.iter().zip(y..) {
            out[y * stride..][..8].copy_from_slice(line);
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(rows: Rows) -> Rows {
    let by = |a: __m256i, value: i32| _mm256_mullo_epi32(a, _mm256_set1_epi32(value));
    let (add, sub) = (_mm256_add_epi32, _mm256_sub_epi32);
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;

    let z1 = by(add(r2, r6), 4433);
    let (even2, even3) = (sub(z1, by(r6, 15137)), add(z1, by(r2, 6270)));
    let even0 = _mm256_slli_epi32::<{ BITS as i32 }>(add(r0, r4));
    let even1 = _mm256_slli_epi32::<{ BITS as i32 }>(sub(r0, r4));
    let half = _mm256_set1_epi32(1 << (SHIFT - 1));
    let (even0, even1) = (add(even0, half), add(even1, half));
    let even = [
        add(even0, even3),
        add(even1, even2),
        sub(even1, even2),
        sub(even0, even3),
    ];

    let z5 = by(add(add(r7, r3), add(r5, r1)), 9633);
    let z1 = by(add(r7, r1), -7373);
    let z2 = by(add(r5, r3), -20995);
    let z3 = add(by(add(r7, r3), -16069), z5);
    let z4 = add(by(add(r5, r1), -3196), z5);
    let odd = [
        add(by(r1, 12299), add(z1, z4)),
        add(by(r3, 25172), add(z2, z3)),
        add(by(r5, 16819), add(z2, z4)),
        add(by(r7, 2446), add(z1, z3)),
    ];
    let mut out = rows;
    for k in 0..4 {
        out[k] = _mm256_srai_epi32::<SHIFT>(add(even[k], odd[k]));
        out[7 - k] = _mm256_srai_epi32::<SHIFT>(sub(even[k], odd[k]));
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: Rows) -> Rows {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |a, b| (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let fours = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((p0, p1), (p2, p3)) = (fours(ab0, cd0), fours(ab1, cd1));
    let ((q0, q1), (q2, q3)) = (fours(ef0, gh0), fours(ef1, gh1));
    let halves = |a, b| {
        (
            _mm256_permute2x128_si256::<0x20>(a, b),
            _mm256_permute2x128_si256::<0x31>(a, b),
        )
    };
    let ((o0, o4), (o1, o5), (o2, o6), (o3, o7)) = (halves(p0, q0), halves(p1, q1), halves(p2, q2), halves(p3, q3));
    [o0, o1, o2, o3, o4, o5, o6, o7]
}
