//! Gram matrices of features over stimuli, and their centring on a training set.
//!
//! Every linear regression with an intercept needs of n stimuli's features X only K = (X - m)(X - m)^T. It is n x n
//! however many features there are, is computed once for a feature set, and serves all splits, time bins and
//! regressions.

use std::ops::Range;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;

use super::NeuralError;

/// Features of stimuli, read in parts: `[stimuli, features]`.
pub trait Features: Sync {
    /// Number of stimuli, which are rows.
    fn stimuli(&self) -> usize;
    /// Number of features of each.
    fn len(&self) -> usize;
    /// Whether there are no features.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The features `range` of one stimulus, into `out`, which is as long.
    ///
    /// # Errors
    /// What reading the features fails with, such as [`NeuralError::Io`].
    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError>;
}

/// Values of a block of features of all stimuli: 32 MiB.
const BLOCK: usize = 1 << 22;

/// Side of the tiles that a Gram matrix is computed in.
const TILE: usize = 256;

/// What is subtracted from each feature, and what it is divided by.
#[derive(Clone, Copy)]
enum Standard<'a> {
    /// The mean over all stimuli is subtracted: what a later centring subtracts anyway, here for the sake of rounding.
    Mean,
    /// The mean over these stimuli is subtracted, and what is left divided by their standard deviation (of n - 1), or
    /// by 1 where that is 0.
    Scaled(&'a [usize]),
}

/// Inner products of the features of stimuli, `[stimuli, stimuli]`, up to the same translation of all of them.
pub struct Gram(Mat<f64>);

/// Inner products centred on the training stimuli of a split.
pub struct Centred {
    /// K = Xc Xc^T, `[train, train]`, with Xc = X - mean over the training stimuli.
    pub train: Mat<f64>,
    /// (X* - mean over the training stimuli) Xc^T, `[test, train]`.
    pub test: Mat<f64>,
}

impl Gram {
    /// The Gram matrix of a feature set. Memory: 8 bytes x stimuli^2 x 1.5, and 64 MiB.
    ///
    /// # Errors
    /// What reading the features fails with, [`NeuralError::Option`] where there are none or a value is not finite.
    pub fn new(features: &dyn Features) -> Result<Self, NeuralError> {
        Self::standardised(features, Standard::Mean)
    }

    /// The same of features divided by their standard deviation over `train`, as scikit-learn's `scale=True` does.
    ///
    /// # Errors
    /// As [`Gram::new`].
    pub fn scaled(features: &dyn Features, train: &[usize]) -> Result<Self, NeuralError> {
        Self::standardised(features, Standard::Scaled(train))
    }

    fn standardised(features: &dyn Features, standard: Standard<'_>) -> Result<Self, NeuralError> {
        let n = features.stimuli();
        let strips = n.div_ceil(TILE);
        let strip = |i: usize| i * TILE..n.min((i + 1) * TILE);
        let mut tiles: Vec<((usize, usize), Mat<f64>)> = (0..strips)
            .flat_map(|i| (0..=i).map(move |j| (i, j)))
            .map(|(i, j)| ((i, j), Mat::zeros(strip(i).len(), strip(j).len())))
            .collect();
        for_blocks(&[features], |block, width| {
            standardise(&mut [block], n, width, standard);
            let block = MatRef::from_row_major_slice(block, n, width);
            tiles.par_iter_mut().for_each(|((i, j), tile)| {
                let rows = |strip: Range<usize>| block.subrows(strip.start, strip.len());
                let (a, b) = (rows(strip(*i)), rows(strip(*j)));
                matmul(tile.as_mut(), Accum::Add, a, b.transpose(), 1.0, Par::Seq);
            });
        })?;
        let mut gram = Mat::zeros(n, n);
        for ((i, j), tile) in tiles {
            let (rows, columns) = (strip(i), strip(j));
            for (row, a) in rows.enumerate() {
                for (column, b) in columns.clone().enumerate() {
                    // Both halves are the same numbers, on the diagonal tiles too.
                    if b <= a {
                        gram[(a, b)] = tile[(row, column)];
                        gram[(b, a)] = tile[(row, column)];
                    }
                }
            }
        }
        finite(&gram)?;
        Ok(Self(gram))
    }

    /// Number of stimuli, which is that of rows and of columns.
    pub fn stimuli(&self) -> usize {
        self.0.nrows()
    }

    /// The part of a split, centred on its training stimuli.
    pub fn centred(&self, train: &[usize], test: &[usize]) -> Centred {
        let (means, grand) = self.means(train);
        Centred {
            train: Mat::from_fn(train.len(), train.len(), |i, j| {
                // Columns are contiguous, and the matrix is symmetric.
                self.0[(train[i], train[j])] - means[i] - means[j] + grand
            }),
            test: self.centred_rows(self, test, train, &means, grand),
        }
    }

    /// Rows of `other`, whose inner products are with this matrix's stimuli, centred on the training stimuli.
    pub fn centred_cross(&self, other: &Self, test: &[usize], train: &[usize]) -> Mat<f64> {
        let (means, grand) = self.means(train);
        self.centred_rows(other, test, train, &means, grand)
    }

    fn centred_rows(&self, other: &Self, test: &[usize], train: &[usize], means: &[f64], grand: f64) -> Mat<f64> {
        let scale = 1.0 / train.len() as f64;
        let own: Vec<f64> = test
            .iter()
            .map(|i| train.iter().map(|j| other.0[(*i, *j)]).sum::<f64>() * scale)
            .collect();
        Mat::from_fn(test.len(), train.len(), |i, j| {
            other.0[(test[i], train[j])] - own[i] - means[j] + grand
        })
    }

    /// Mean of each training stimulus's products with the training stimuli, and the mean of those.
    fn means(&self, train: &[usize]) -> (Vec<f64>, f64) {
        let scale = 1.0 / train.len() as f64;
        let mean = |j: &usize| train.iter().map(|i| self.0[(*i, *j)]).sum::<f64>() * scale;
        let means: Vec<f64> = train.par_iter().map(mean).collect();
        let grand = means.iter().sum::<f64>() * scale;
        (means, grand)
    }

    /// Inner products of one feature set's stimuli (rows) with another's (columns), both less the means of the second:
    /// what [`Gram::centred_cross`] of the second's Gram matrix takes.
    ///
    /// # Errors
    /// As [`Gram::new`]; feature sets of different sizes.
    pub fn cross(features: &dyn Features, reference: &dyn Features) -> Result<Self, NeuralError> {
        let n = features.stimuli();
        if (n, features.len()) != (reference.stimuli(), reference.len()) {
            return Err(NeuralError::Option {
                option: "features",
                problem: format!(
                    "weights of {} stimuli x {} features are asked to predict from {n} x {}",
                    reference.stimuli(),
                    reference.len(),
                    features.len()
                ),
            });
        }
        let strips = n.div_ceil(TILE);
        let strip = |i: usize| i * TILE..n.min((i + 1) * TILE);
        let mut rows: Vec<Mat<f64>> = (0..strips).map(|i| Mat::zeros(strip(i).len(), n)).collect();
        for_blocks(&[features, reference], |block, width| {
            let (own, reference) = block.split_at_mut(n * width);
            standardise(&mut [reference, own], n, width, Standard::Mean);
            let own = MatRef::from_row_major_slice(own, n, width);
            let reference = MatRef::from_row_major_slice(reference, n, width);
            rows.par_iter_mut().enumerate().for_each(|(i, out)| {
                let a = own.subrows(strip(i).start, strip(i).len());
                matmul(out.as_mut(), Accum::Add, a, reference.transpose(), 1.0, Par::Seq);
            });
        })?;
        let mut cross = Mat::zeros(n, n);
        for (i, tile) in rows.iter().enumerate() {
            cross
                .as_mut()
                .subrows_mut(strip(i).start, strip(i).len())
                .copy_from(tile);
        }
        finite(&cross)?;
        Ok(Self(cross))
    }
}

fn finite(gram: &Mat<f64>) -> Result<(), NeuralError> {
    match (0..gram.nrows()).find(|i| gram.row(*i).iter().any(|v| !v.is_finite())) {
        None => Ok(()),
        Some(row) => Err(NeuralError::Option {
            option: "features",
            problem: format!("those of stimulus number {row} are not finite: did the network's activity diverge?"),
        }),
    }
}

/// Hands over the feature sets, which are of one size, block by block: `[set, stimulus, width]` and the width.
pub(super) fn for_blocks(sets: &[&dyn Features], mut each: impl FnMut(&mut [f64], usize)) -> Result<(), NeuralError> {
    let (n, p) = sets.first().map_or((0, 0), |set| (set.stimuli(), set.len()));
    if n == 0 || p == 0 {
        return Err(NeuralError::Option {
            option: "features",
            problem: format!("there are {p} of {n} stimuli"),
        });
    }
    let width = (BLOCK / (n * sets.len())).clamp(16, p.max(16));
    let mut block = vec![0.0; sets.len() * n * width.min(p)];
    for first in (0..p).step_by(width) {
        let range = first..p.min(first + width);
        let width = range.len();
        let block = &mut block[..sets.len() * n * width];
        block
            .par_chunks_exact_mut(width)
            .enumerate()
            .try_for_each(|(row, out)| sets[row / n].read(row % n, range.clone(), out))?;
        each(block, width);
    }
    Ok(())
}

/// Standardises blocks `[stimuli, width]` of one set or several by the values of the first.
fn standardise(blocks: &mut [&mut [f64]], n: usize, width: usize, standard: Standard<'_>) {
    let Some(first) = blocks.first() else { return };
    let all: Vec<usize>;
    let over = match standard {
        Standard::Mean => {
            all = (0..n).collect();
            &all
        }
        Standard::Scaled(train) => train,
    };
    let row = |i: usize| &first[i * width..][..width];
    let mut means = vec![0.0; width];
    for i in over {
        means.iter_mut().zip(row(*i)).for_each(|(mean, value)| *mean += value);
    }
    means.iter_mut().for_each(|mean| *mean /= over.len() as f64);
    let mut scales = vec![1.0; width];
    if let Standard::Scaled(train) = standard {
        let mut squares = vec![0.0; width];
        for i in train {
            for ((square, value), mean) in squares.iter_mut().zip(row(*i)).zip(&means) {
                *square += (value - mean) * (value - mean);
            }
        }
        for (scale, square) in scales.iter_mut().zip(&squares) {
            let std = (square / (train.len() as f64 - 1.0)).sqrt();
            *scale = if std == 0.0 { 1.0 } else { std };
        }
    }
    for block in blocks {
        block.par_chunks_exact_mut(width).for_each(|row| {
            for ((value, mean), scale) in row.iter_mut().zip(&means).zip(&scales) {
                *value = (*value - mean) / scale;
            }
        });
    }
}
