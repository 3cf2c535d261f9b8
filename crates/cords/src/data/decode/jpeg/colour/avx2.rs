//! Colours with vectors of eight pixels: the same bits as the plain ones.

#![expect(unsafe_code, reason = "loads eight samples at once")]

use std::arch::x86_64::*;

/// As [`super::red_green_blue`] of as many pixels as vectors take, eight at a time; returns how many those are.
#[target_feature(enable = "avx2")]
pub(super) fn red_green_blue(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) -> usize {
    let by = |a: __m256i, value: i32| _mm256_mullo_epi32(a, _mm256_set1_epi32(value));
    let add = _mm256_add_epi32;
    let middle = _mm256_set1_epi32(128);
    let half = _mm256_set1_epi32(1 << 15);
    let clamped = |a| _mm256_max_epi32(_mm256_min_epi32(a, _mm256_set1_epi32(255)), _mm256_setzero_si256());
    // Four pixels of four bytes to twelve bytes, in each half.
    let close_up = _mm256_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, //
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    );
    let eights = y
        .as_chunks::<8>()
        .0
        .iter()
        .zip(cb.as_chunks::<8>().0)
        .zip(cr.as_chunks::<8>().0);
    let (rows, _) = out.as_chunks_mut::<24>();
    let mut done = 0;
    for (((y, cb), cr), out) in eights.zip(rows) {
        // SAFETY: eight bytes each.
        let load = |eight: &[u8; 8]| _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(eight.as_ptr().cast()) });
        let (y, cb, cr) = (
            load(y),
            _mm256_sub_epi32(load(cb), middle),
            _mm256_sub_epi32(load(cr), middle),
        );
        let rounded = |a| add(y, _mm256_srai_epi32::<16>(add(a, half)));
        let red = clamped(rounded(by(cr, 91_881)));
        let green = clamped(rounded(add(by(cb, -22_554), by(cr, -46_802))));
        let blue = clamped(rounded(by(cb, 116_130)));
        let pixels = _mm256_or_si256(red, _mm256_slli_epi32::<8>(green));
        let pixels = _mm256_shuffle_epi8(_mm256_or_si256(pixels, _mm256_slli_epi32::<16>(blue)), close_up);
        let mut bytes = [0u8; 32];
        // SAFETY: 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), pixels) };
        out[..12].copy_from_slice(&bytes[..12]);
        out[12..].copy_from_slice(&bytes[16..28]);
        done += 8;
    }
    done
}
