//! Dimensionality of activity: the participation ratio of its covariance over images.

use std::ops::Range;

use rayon::prelude::*;

/// Values of one block in memory: 32 MiB as f64.
const BLOCK: usize = 1 << 22;

/// PR = (sum lambda)^2 / sum lambda^2 = (tr C)^2 / tr(C^2) over the eigenvalues lambda of the covariance C over images
/// of `[images, features]` values: 1 where all variance lies along one direction, n where it is equal along n.
///
/// `read(image, features, out)` gives part of an image's values. C and the Gram matrix of the centred values have the
/// same non-zero eigenvalues, so the smaller of the two is formed, block by block; it is all that is held (8 bytes x
/// min(images, features)^2). `None` where nothing varies or a value is not finite.
///
/// # Errors
/// What `read` fails with.
pub fn participation_ratio<E>(
    images: usize,
    features: usize,
    read: &mut impl FnMut(usize, Range<usize>, &mut [f32]) -> Result<(), E>,
) -> Result<Option<f64>, E> {
    if images < 2 || features == 0 {
        return Ok(None);
    }
    let gram = if images <= features {
        gram_over_images(images, features, read)?
    } else {
        gram_over_features(images, features, read)?
    };
    let side = images.min(features);
    let rows = || gram.chunks_exact(side).enumerate();
    let trace: f64 = rows().map(|(i, row)| row[i]).sum();
    // Only the lower half is formed.
    let square = |(i, row): (usize, &[f64])| row[i] * row[i] + 2.0 * row[..i].iter().map(|v| v * v).sum::<f64>();
    let squares: f64 = rows().map(square).sum();
    let ratio = trace * trace / squares;
    Ok((squares > 0.0 && ratio.is_finite()).then_some(ratio))
}

/// X X^T of the centred values: a block has some features of all images, so it knows their means.
fn gram_over_images<E>(
    images: usize,
    features: usize,
    read: &mut impl FnMut(usize, Range<usize>, &mut [f32]) -> Result<(), E>,
) -> Result<Vec<f64>, E> {
    let width = (BLOCK / images).clamp(16, features.max(16));
    let mut gram = vec![0.0; images * images];
    let mut part = vec![0.0f32; width];
    let mut block = vec![0.0; images * width];
    for first in (0..features).step_by(width) {
        let range = first..features.min(first + width);
        let width = range.len();
        for (image, row) in block.chunks_exact_mut(width).take(images).enumerate() {
            read(image, range.clone(), &mut part[..width])?;
            for (value, part) in row.iter_mut().zip(&part) {
                *value = f64::from(*part);
            }
        }
        let block = &mut block[..images * width];
        for feature in 0..width {
            let column = (0..images).map(|image| block[image * width + feature]);
            let mean = column.sum::<f64>() / images as f64;
            (0..images).for_each(|image| block[image * width + feature] -= mean);
        }
        add_products(block, width, &mut gram, images);
    }
    Ok(gram)
}

/// X^T X of the centred values: the means take a pass of their own.
fn gram_over_features<E>(
    images: usize,
    features: usize,
    read: &mut impl FnMut(usize, Range<usize>, &mut [f32]) -> Result<(), E>,
) -> Result<Vec<f64>, E> {
    let mut row = vec![0.0f32; features];
    let mut means = vec![0.0; features];
    for image in 0..images {
        read(image, 0..features, &mut row)?;
        for (mean, value) in means.iter_mut().zip(&row) {
            *mean += f64::from(*value) / images as f64;
        }
    }
    let width = (BLOCK / features).clamp(16, images.max(16));
    let mut gram = vec![0.0; features * features];
    let mut block = vec![0.0; features * width];
    for first in (0..images).step_by(width) {
        let width = width.min(images - first);
        for image in 0..width {
            read(first + image, 0..features, &mut row)?;
            for (feature, (value, mean)) in row.iter().zip(&means).enumerate() {
                block[feature * width + image] = f64::from(*value) - mean;
            }
        }
        add_products(&block[..features * width], width, &mut gram, features);
    }
    Ok(gram)
}

/// Adds B B^T of a block of `side` rows to the lower half of `gram`. Every entry is one sum in one order, on any number
/// of threads.
fn add_products(block: &[f64], width: usize, gram: &mut [f64], side: usize) {
    let row = |i: usize| &block[i * width..][..width];
    gram.par_chunks_exact_mut(side).enumerate().for_each(|(i, out)| {
        for (j, out) in out[..=i].iter_mut().enumerate() {
            *out += dot(row(i), row(j));
        }
    });
}

/// A sum of products in eight parts, which the compiler keeps in vector registers.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}
