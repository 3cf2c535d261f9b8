//! 3x3 convolutions with stride 1 and padding 1 by Winograd's algorithm F(4x4, 3x3) (Lavin and Gray 2016).
//!
//! y = A^T [(G g G^T) . (B^T d B)] A on 6x6 input tiles d that overlap by two, with the interpolation points
//! 0, +-5/8, +-3/2 and infinity: four times fewer multiplications than the direct sum, at a quarter of the largest
//! rounding error that the usual points 0, +-1, +-2 have.
//!
//! Where a side is no multiple of four, its last tile has m < 4 outputs and needs only m + 2 of the six points. The
//! same transformed weights serve, as the factor by which the two algorithms' weights differ goes into the input's
//! transform: 14 x 14 maps take 16 % fewer multiplications, 7 x 7 maps too.
//!
//! Tiles are transformed and transformed back in `transform`, weights in `weights`; `correlate` is the convolution.
//! Weight gradients are summed in the transformed domain and transformed back at the end (`weight_sum`).

mod correlate;
mod transform;
mod weight_sum;
mod weights;

use std::ops::Range;

pub(super) use correlate::{Epilogue, Term, Workspace, correlate, scratch_len};
pub(super) use weight_sum::{TransformedSum, sum_len};
pub(super) use weights::{Transformed, transformed_len};

use super::tiles::BLOCK;

/// Values of a transformed tile.
const SPREAD: usize = 36;
/// Side of an output tile, and of the input tile that it depends on.
const TILE: usize = 4;
const SPAN: usize = 6;

/// The finite points are 0, +-P and +-Q.
const P: f64 = 0.625;
const Q: f64 = 1.5;
const POINTS: [f64; SPAN - 1] = [0.0, P, -P, Q, -Q];

/// Whether a tile of so many outputs in one direction needs a point: the first finite ones, and infinity.
const fn is_used(outputs: usize, point: usize) -> bool {
    point <= outputs || point == SPAN - 1
}

/// Tiles of the maps of a batch: image by image, row by row.
#[derive(Clone, Copy)]
struct Grid {
    side: usize,
    /// Tiles of a row.
    across: usize,
    /// Tiles of the whole batch.
    count: usize,
    /// Outputs of the last tile of a row.
    last: usize,
}

/// The 36 values of a tile fall into classes by the tiles that have them: all, those with four rows, those with four
/// columns, those with four of both.
const CLASSES: usize = 4;

impl Grid {
    fn new(side: usize, batch: usize) -> Self {
        let across = side.div_ceil(TILE);
        Self {
            side,
            across,
            count: batch * across * across,
            last: side - (across - 1) * TILE,
        }
    }

    /// Image, and the position of the tile's first output.
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (image, tile) = (tile / (self.across * self.across), tile % (self.across * self.across));
        (image, tile / self.across * TILE, tile % self.across * TILE)
    }

    /// Rows and columns of a tile's outputs.
    fn size(self, tile: usize) -> [usize; 2] {
        let (_, y, x) = self.place(tile);
        [y, x].map(|first| TILE.min(self.side - first))
    }

    /// Class of each of the 36 values.
    fn classes(self) -> [usize; SPREAD] {
        let skipped = |point: usize| usize::from(!is_used(self.last, point));
        std::array::from_fn(|xi| 2 * skipped(xi / SPAN) + skipped(xi % SPAN))
    }

    /// For each of some tiles, and for what would follow them: how many of those before it have the values of each
    /// class.
    fn slots(self, tiles: Range<usize>, first: [usize; CLASSES]) -> Vec<[usize; CLASSES]> {
        let mut next = first;
        let mut slots = Vec::with_capacity(tiles.len() + 1);
        for tile in tiles {
            slots.push(next);
            let [rows, columns] = self.size(tile).map(|outputs| outputs == TILE);
            for (next, has) in next.iter_mut().zip([true, columns, rows, rows && columns]) {
                *next += usize::from(has);
            }
        }
        slots.push(next);
        slots
    }
}

/// How transformed tiles lie: `[36][block of channels][slot][16]`, one line more between the 36, so that they do not
/// compete for the same cache sets. The slot of a tile depends on the value's class.
#[derive(Clone, Copy)]
struct Layout {
    tiles: usize,
    stride: usize,
}

impl Layout {
    fn new(tiles: usize, blocks: usize) -> Self {
        Self {
            tiles,
            stride: blocks * tiles * BLOCK + BLOCK,
        }
    }

    fn len(self) -> usize {
        SPREAD * self.stride
    }

    /// Where each of so many blocks of channels starts, for one of the 36.
    fn places(self, blocks: usize) -> Vec<usize> {
        (0..blocks).map(|block| block * self.tiles * BLOCK).collect()
    }
}

/// Where the 36 values of a tile lie, `stride` apart, in rows of `width` values of which it has those in `slots`.
fn offsets(classes: &[usize; SPREAD], stride: usize, width: usize, slots: [usize; CLASSES]) -> [usize; SPREAD] {
    std::array::from_fn(|xi| xi * stride + slots[classes[xi]] * width)
}
