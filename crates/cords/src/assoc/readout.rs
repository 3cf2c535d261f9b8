//! What is read of a front-end's activity: means of maps over the cells of a grid.

use crate::Real;
use crate::net::{CordsNet, State};

/// What a front-end is read by.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    /// Areas whose activity becomes features, from 0.
    pub areas: Vec<usize>,
    /// Each map is averaged over `grid` x `grid` cells; 1 is the whole map, more keeps place.
    pub grid: usize,
}

impl Readout {
    /// Cell means of one image's state, areas one after the other, `[channels, grid, grid]` each.
    pub(super) fn pooled<T: Real>(&self, net: &CordsNet<T>, state: &State<T>, image: usize) -> Vec<T> {
        let mut features = Vec::new();
        for area in &self.areas {
            let [channels, side, _] = net.area_shape(*area);
            let units = channels * side * side;
            let maps = &state.areas[*area][image * units..][..units];
            let grid = self.grid;
            for map in maps.chunks_exact(side * side) {
                let mut cells = vec![(0.0f64, 0usize); grid * grid];
                for (pixel, value) in map.iter().enumerate() {
                    let cell = &mut cells[cell_of(pixel, side, grid)];
                    *cell = (cell.0 + value.to_f64(), cell.1 + 1);
                }
                features.extend(cells.iter().map(|(sum, count)| T::from_f64(sum / *count as f64)));
            }
        }
        features
    }

    /// From the gradient at one image's features to that at the activity of an area, which is read.
    pub(super) fn unpooled<T: Real>(&self, net: &CordsNet<T>, at: &[T], area: usize, out: &mut [T]) {
        let grid = self.grid;
        let mut first = 0;
        for read in &self.areas {
            let [channels, side, _] = net.area_shape(*read);
            let own = &at[first..][..channels * grid * grid];
            first += own.len();
            if *read != area {
                continue;
            }
            let mut counts = vec![0usize; grid * grid];
            (0..side * side).for_each(|pixel| counts[cell_of(pixel, side, grid)] += 1);
            for (map, cells) in out.chunks_exact_mut(side * side).zip(own.chunks_exact(grid * grid)) {
                for (pixel, value) in map.iter_mut().enumerate() {
                    let cell = cell_of(pixel, side, grid);
                    *value += T::from_f64(cells[cell].to_f64() / counts[cell] as f64);
                }
            }
        }
    }
}

/// Which cell of a map's grid a pixel lies in.
fn cell_of(pixel: usize, side: usize, grid: usize) -> usize {
    pixel / side * grid / side * grid + pixel % side * grid / side
}
