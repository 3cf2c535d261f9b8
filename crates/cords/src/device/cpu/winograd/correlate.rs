//! The convolution: transformed tiles times transformed weights, and back.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use super::super::aligned::Aligned;
use super::super::lanes::Lanes;
use super::super::parallel::{Shared, share, threads};
use super::super::tiles::{BLOCK, Repeat, Rows, Sink, blocks, panel_width, panels, product};
use super::transform::{gather_tile, spread_tile};
use super::weights::Transformed;
use super::{Grid, Layout, SPAN, SPREAD};
use crate::Real;

/// What becomes of a convolution's output, `COUNT` neighbouring channels at a time.
pub(in super::super) trait Epilogue<S: Lanes>: Copy + Sync {
    /// Takes the values that belong at index `at` of the output maps.
    ///
    /// # Safety
    /// The instructions of `S` exist; the index lies within the maps.
    unsafe fn put(self, at: usize, value: S::Vector);
}

/// Scratch of one thread.
#[derive(Default)]
struct Scratch<T> {
    /// Transformed tiles.
    spread: Aligned<T>,
    /// Products, before they are transformed back.
    products: Aligned<T>,
    /// A tile that reaches beyond its maps.
    border: Aligned<T>,
    /// Large weights, transformed.
    weights: Aligned<T>,
}

/// Scratch of all threads.
#[derive(Default)]
pub struct Workspace<T> {
    threads: Vec<Scratch<T>>,
    /// Transformed tiles that threads share.
    spread: Aligned<T>,
}

impl<T: Real> Workspace<T> {
    fn threads(&mut self, count: usize) -> &mut [Scratch<T>] {
        if self.threads.len() < count {
            self.threads.resize_with(count, Scratch::default);
        }
        &mut self.threads[..count]
    }
}

/// One term of a sum of convolutions: its weights and the maps that they are applied to.
#[derive(Clone, Copy)]
pub struct Term<'a, T> {
    pub(in super::super) weights: &'a Transformed<T>,
    pub(in super::super) x: &'a [T],
}

/// Tiles of a block that one thread takes through all its steps: their transform should stay in the second-level cache.
const BLOCK_TILES: usize = 28;

/// Values of the transformed tiles that threads share.
const SHARED_TILES: usize = 3 << 17;

/// A convolution with everything that its parts need to know.
struct Correlation<'a, S: Lanes, E> {
    terms: &'a [Term<'a, S::Element>],
    grid: Grid,
    /// Blocks of channels of all terms together.
    inputs: usize,
    outputs: usize,
    epilogue: E,
}

impl<S: Lanes, E: Epilogue<S>> Correlation<'_, S, E> {
    /// Transforms tile `tile` of all terms into the place `slot` of the layout.
    ///
    /// # Safety
    /// The instructions of `S` exist; `spread` has room for the layout; no other thread writes the same tile.
    unsafe fn spread(
        &self,
        (layout, slot): (Layout, usize),
        tile: usize,
        border: &mut Aligned<S::Element>,
        spread: *mut S::Element,
    ) {
        let mut block = 0;
        for term in self.terms {
            let place = (layout, block, slot);
            // SAFETY: the caller's promise.
            unsafe { spread_tile::<S>(self.grid, term.weights.inputs, term.x, place, tile, border, spread) };
            block += blocks(term.weights.inputs);
        }
    }

    /// The 36 products of transformed tiles `slots` and one panel of all weights, `[tile][columns of the panel]` each,
    /// back to outputs and to the epilogue. `first` is the tile in place 0 of the layout.
    ///
    /// # Safety
    /// The instructions of `S` exist; `spread` holds the transformed tiles; every output has one thread.
    unsafe fn panel(
        &self,
        panel: usize,
        (spread, layout): (*const S::Element, Layout),
        (first, slots): (usize, Range<usize>),
        (products, weights): (&mut Aligned<S::Element>, &mut Aligned<S::Element>),
    ) {
        let tiles = slots.len();
        let width = panel_width(self.outputs, panel);
        let stride = tiles * width + BLOCK;
        let products = products.at_least(SPREAD * stride).as_mut_ptr();
        let mut before = 0;
        for term in self.terms {
            let blocks = blocks(term.weights.inputs);
            // Large weights: row by row of their transform, block by block of inputs, so that what is transformed and
            // what it is multiplied with stay in the first-level cache. Others: all at once.
            let (rows, each) = if term.weights.is_large() {
                (SPAN, 1)
            } else {
                (1, blocks)
            };
            let places: Vec<usize> = (0..each).map(|block| block * layout.tiles * BLOCK).collect();
            for row in 0..rows {
                let xi = row * SPAN;
                for block in (0..blocks).step_by(each) {
                    let inputs = block * BLOCK..(block + each) * BLOCK;
                    // SAFETY: the caller's promise.
                    let slab = unsafe { term.weights.slab::<S>((panel, row), inputs, weights) };
                    let at = ((before + block) * layout.tiles + slots.start) * BLOCK;
                    let x = Rows {
                        x: spread.wrapping_add(xi * layout.stride + at),
                        stride: BLOCK,
                        blocks: &places,
                        // Values of a block that are not always 0.
                        depth: BLOCK.min(term.weights.inputs),
                    };
                    let y = Sink {
                        y: products.wrapping_add(xi * stride),
                        stride: width,
                        block: BLOCK,
                        accumulate: before + block > 0,
                    };
                    let repeat = Repeat {
                        count: SPREAD / rows,
                        x: layout.stride,
                        w: slab.stride,
                        y: stride,
                    };
                    // SAFETY: the caller's promise; the slab holds the inputs' rows of `width` columns.
                    unsafe { product::<S>(tiles, x, slab.first, width, y, repeat) };
                }
            }
            before += blocks;
        }
        for (index, slot) in slots.enumerate() {
            let from = (products.wrapping_add(index * width).cast_const(), stride);
            // SAFETY: the caller's promise; all products of the panel are there.
            unsafe { gather_tile::<S, E>(self.grid, self.outputs, (first + slot, panel), from, self.epilogue) };
        }
    }
}

/// Sum of convolutions of maps of one side, handed to the epilogue. All terms have the same outputs.
///
/// # Safety
/// The instructions of `S` exist; the epilogue's maps are `[batch][blocks of outputs][side][side][16]`.
pub(in super::super) unsafe fn correlate<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    terms: &[Term<'_, S::Element>],
    side: usize,
    batch: usize,
    epilogue: E,
) {
    let grid = Grid::new(side, batch);
    let outputs = terms[0].weights.outputs;
    for term in terms {
        let len = batch * blocks(term.weights.inputs) * side * side * BLOCK;
        assert_eq!(
            (term.x.len(), term.weights.outputs),
            (len, outputs),
            "maps of a convolution"
        );
    }
    let inputs = terms.iter().map(|term| blocks(term.weights.inputs)).sum();
    let all = Correlation::<S, E> {
        terms,
        grid,
        inputs,
        outputs,
        epilogue,
    };
    let workers = threads(SPREAD * grid.count * inputs * BLOCK * outputs);
    let few = workers > 1 && grid.count < workers * BLOCK_TILES / 2;
    if few || terms.iter().any(|term| term.weights.is_large()) {
        // SAFETY: the caller's promise.
        unsafe { by_panels(work, workers, &all) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { by_tiles(work, workers, &all) };
    }
}

/// Threads share the tiles: each takes a block of them from the input maps to the outputs, while the weights stay in
/// its cache.
///
/// # Safety
/// As [`correlate`].
unsafe fn by_tiles<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    workers: usize,
    all: &Correlation<'_, S, E>,
) {
    let tiles = all.grid.count;
    let count = tiles.div_ceil(BLOCK_TILES).next_multiple_of(workers).min(tiles);
    share(work.threads(workers.min(count)), count, |scratch, range| {
        for block in range {
            let tiles = block * tiles / count..(block + 1) * tiles / count;
            let layout = Layout::new(tiles.len(), all.inputs);
            let spread = scratch.spread.at_least(layout.len()).as_mut_ptr();
            for (slot, tile) in tiles.clone().enumerate() {
                // SAFETY: the caller's promise; every tile has a slot of its own.
                unsafe { all.spread((layout, slot), tile, &mut scratch.border, spread) };
            }
            for panel in 0..panels(all.outputs) {
                let slots = (tiles.start, 0..tiles.len());
                let scratch = (&mut scratch.products, &mut scratch.weights);
                // SAFETY: the caller's promise; the block's tiles have been transformed.
                unsafe { all.panel(panel, (spread, layout), slots, scratch) };
            }
        }
    });
}

/// Threads share the panels of outputs: all tiles of a large block are transformed, then each panel's weights pass by
/// once.
///
/// # Safety
/// As [`correlate`].
unsafe fn by_panels<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    workers: usize,
    all: &Correlation<'_, S, E>,
) {
    let tiles = all.grid.count;
    let capacity = (SHARED_TILES / (SPREAD * all.inputs * BLOCK)).max(BLOCK);
    let count = tiles.div_ceil(capacity);
    let mut held = std::mem::take(&mut work.spread);
    for block in 0..count {
        let (first, end) = (block * tiles / count, (block + 1) * tiles / count);
        let (tiles, layout) = (end - first, Layout::new(end - first, all.inputs));
        let spread = Shared::new(held.at_least(layout.len()));
        share(work.threads(workers.min(tiles)), tiles, |scratch, range| {
            for slot in range {
                // SAFETY: the caller's promise; every tile has a slot of its own.
                unsafe { all.spread((layout, slot), first + slot, &mut scratch.border, spread.get()) };
            }
        });
        let panels = panels(all.outputs);
        // Where there are more threads than panels, they share a panel's tiles.
        let parts = workers.div_ceil(panels).min(tiles);
        let tasks = panels * parts;
        share(work.threads(workers.min(tasks)), tasks, |scratch, range| {
            for (panel, part) in range.map(|task| (task / parts, task % parts)) {
                let slots = (first, part * tiles / parts..(part + 1) * tiles / parts);
                let scratch = (&mut scratch.products, &mut scratch.weights);
                // SAFETY: the caller's promise; all tiles have been transformed, and every output has one thread.
                unsafe { all.panel(panel, (spread.get(), layout), slots, scratch) };
            }
        });
    }
    work.spread = held;
}
