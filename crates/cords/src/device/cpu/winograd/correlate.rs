//! The convolution: transformed tiles times transformed weights, and back.

#![expect(unsafe_code, reason = "vector instructions and pointers into checked slices")]

use std::ops::Range;

use super::super::aligned::Aligned;
use super::super::lanes::Lanes;
use super::super::parallel::{Shared, share, threads};
use super::super::tiles::{BLOCK, PANEL, Rows, Sink, blocks, panel_width, panels, product};
use super::transform::Transform;
use super::weights::Transformed;
use super::{CLASSES, Grid, Layout, SPAN, SPREAD, offsets};
use crate::Real;

/// What becomes of a convolution's output, `COUNT` neighbouring channels at a time.
pub(in super::super) trait Epilogue<S: Lanes>: Copy + Sync {
    /// Takes the values that belong at index `at` of the output maps.
    ///
    /// # Safety
    /// The instructions of `S` exist; the index lies within the maps.
    unsafe fn put(self, at: usize, value: S::Vector);

    /// Asks for what [`put`](Self::put) will need for the block of channels at index `at`.
    fn expect(self, at: usize);
}

/// Scratch of one thread.
#[derive(Default)]
struct Scratch<T> {
    /// Transformed tiles of the input.
    spread: Aligned<T>,
    /// Products, before they are transformed back.
    products: Aligned<T>,
    /// Weights of some inputs, where each use transforms them.
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

/// Tiles of a block that one thread takes through all its steps: twice the rows of the largest register tile. Their
/// transform should stay in the second-level cache.
const BLOCK_TILES: usize = 28;

/// Tiles of so many blocks of channels whose transforms threads share.
fn shared_tiles(inputs: usize) -> usize {
    ((3 << 17) / (SPREAD * inputs * BLOCK)).max(BLOCK_TILES)
}

/// Values of all 36 weight matrices from which they do not stay in a thread's own cache, so that threads share them
/// out.
const LARGE: usize = 36 * 256 * 256;

/// Values of scratch, of all threads, for terms of so many inputs together.
pub(in super::super) fn scratch_len(inputs: usize) -> usize {
    let spread = Layout::new(BLOCK_TILES, blocks(inputs)).len();
    let products = SPREAD * (shared_tiles(blocks(inputs)) * PANEL + BLOCK);
    rayon::current_num_threads() * (spread + products) + Layout::new(shared_tiles(blocks(inputs)), blocks(inputs)).len()
}

/// A convolution with everything that its parts need to know.
struct Correlation<'a, S: Lanes, E> {
    terms: &'a [Term<'a, S::Element>],
    transform: Transform<S::Element>,
    classes: [usize; SPREAD],
    /// Blocks of channels of all terms together.
    inputs: usize,
    outputs: usize,
    epilogue: E,
}

/// A block of tiles and where their transforms lie.
struct Block {
    tiles: Range<usize>,
    layout: Layout,
    /// Where each block of channels starts.
    places: Vec<usize>,
    slots: Vec<[usize; CLASSES]>,
}

impl<S: Lanes, E: Epilogue<S>> Correlation<'_, S, E> {
    fn block(&self, tiles: Range<usize>) -> Block {
        let layout = Layout::new(tiles.len(), self.inputs);
        Block {
            slots: self.transform.grid.slots(tiles.clone(), [0; CLASSES]),
            tiles,
            layout,
            places: layout.places(self.inputs),
        }
    }

    /// Transforms the block's tile number `index` of all terms.
    ///
    /// # Safety
    /// The instructions of `S` exist; `spread` has room for the layout; no other thread writes the same tile.
    unsafe fn spread(&self, block: &Block, index: usize, spread: *mut S::Element) {
        let offsets = offsets(&self.classes, block.layout.stride, BLOCK, block.slots[index]);
        let mut before = 0;
        for term in self.terms {
            let to = (
                spread.wrapping_add(block.places[before]),
                block.layout.tiles * BLOCK,
                &offsets,
            );
            let inputs = term.weights.inputs;
            // SAFETY: the caller's promise.
            unsafe {
                self.transform
                    .spread_tile::<S>(inputs, term.x, block.tiles.start + index, to)
            };
            before += blocks(inputs);
        }
    }

    /// Some transformed tiles of a block times one panel of all weights, back to outputs and to the epilogue.
    ///
    /// # Safety
    /// The instructions of `S` exist; the tiles have been transformed; every output has one thread.
    unsafe fn panel(
        &self,
        panel: usize,
        (block, spread): (&Block, *const S::Element),
        tiles: Range<usize>,
        scratch: (&mut Aligned<S::Element>, &mut Aligned<S::Element>),
    ) {
        let width = panel_width(self.outputs, panel);
        // `[36][tile][columns of the panel]`, one line more between the 36.
        let stride = tiles.len() * width + BLOCK;
        let (products, held) = scratch;
        let products = products.at_least(SPREAD * stride).as_mut_ptr();
        let (first, end) = (block.slots[tiles.start], block.slots[tiles.end]);
        let mut before = 0;
        for term in self.terms {
            let inputs = blocks(term.weights.inputs);
            // Values of a block that are not always 0.
            let depth = BLOCK.min(term.weights.inputs);
            let together = term.weights.together();
            for first_block in (0..inputs).step_by(together) {
                let range = first_block..inputs.min(first_block + together);
                for row in 0..SPAN {
                    // SAFETY: the caller's promise.
                    let slabs = unsafe { term.weights.slabs::<S>((panel, row), range.clone(), held) };
                    for (x, class) in self.classes[row * SPAN..][..SPAN].iter().enumerate() {
                        let xi = row * SPAN + x;
                        let rows = Rows {
                            x: spread.wrapping_add(xi * block.layout.stride + first[*class] * BLOCK),
                            stride: BLOCK,
                            blocks: &block.places[before..before + range.len()],
                            depth,
                        };
                        let y = Sink {
                            y: products.wrapping_add(xi * stride),
                            stride: width,
                            block: BLOCK,
                            accumulate: before > 0,
                        };
                        let weights = slabs.first.wrapping_add(x * slabs.stride);
                        // SAFETY: the caller's promise; a slab holds the inputs' rows of `width` columns.
                        unsafe { product::<S>(end[*class] - first[*class], rows, weights, width, y) };
                    }
                }
                before += range.len();
            }
        }
        for index in tiles {
            let slots = std::array::from_fn(|class| block.slots[index][class] - first[class]);
            let from = (products.cast_const(), &offsets(&self.classes, stride, width, slots));
            let place = (block.tiles.start + index, panel);
            // SAFETY: the caller's promise; all products of the panel are there.
            unsafe {
                self.transform
                    .gather_tile::<S, E>(self.outputs, place, from, self.epilogue)
            };
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
        transform: Transform::new(grid),
        classes: grid.classes(),
        inputs,
        outputs,
        epilogue,
    };
    let workers = threads(SPREAD * grid.count * inputs * BLOCK * outputs);
    let few = grid.count < workers * BLOCK_TILES / 2;
    if workers > 1 && (few || SPREAD * inputs * BLOCK * outputs >= LARGE) {
        // SAFETY: the caller's promise.
        unsafe { by_panels(work, workers, &all) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { by_tiles(work, workers, &all) };
    }
}

/// Threads share the tiles: each takes a block of them from the input maps to the outputs.
///
/// # Safety
/// As [`correlate`].
unsafe fn by_tiles<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    workers: usize,
    all: &Correlation<'_, S, E>,
) {
    let tiles = all.transform.grid.count;
    let count = tiles.div_ceil(BLOCK_TILES).next_multiple_of(workers).min(tiles);
    share(work.threads(workers.min(count)), count, |scratch, range| {
        for block in range {
            let block = all.block(block * tiles / count..(block + 1) * tiles / count);
            let spread = scratch.spread.at_least(block.layout.len()).as_mut_ptr();
            for index in 0..block.tiles.len() {
                // SAFETY: the caller's promise; every tile has places of its own.
                unsafe { all.spread(&block, index, spread) };
            }
            for panel in 0..panels(all.outputs) {
                let tiles = 0..block.tiles.len();
                // SAFETY: the caller's promise; the block's tiles have been transformed.
                unsafe {
                    all.panel(
                        panel,
                        (&block, spread.cast_const()),
                        tiles,
                        (&mut scratch.products, &mut scratch.weights),
                    )
                };
            }
        }
    });
}

/// Threads share the panels of outputs: all tiles of a block are transformed, then each panel's weights pass by once.
///
/// # Safety
/// As [`correlate`].
unsafe fn by_panels<S: Lanes, E: Epilogue<S>>(
    work: &mut Workspace<S::Element>,
    workers: usize,
    all: &Correlation<'_, S, E>,
) {
    let tiles = all.transform.grid.count;
    let count = tiles.div_ceil(shared_tiles(all.inputs));
    let mut held = std::mem::take(&mut work.spread);
    for block in 0..count {
        let block = all.block(block * tiles / count..(block + 1) * tiles / count);
        let tiles = block.tiles.len();
        let spread = Shared::new(held.at_least(block.layout.len()));
        share(work.threads(workers.min(tiles)), tiles, |_, range| {
            for index in range {
                // SAFETY: the caller's promise; every tile has places of its own.
                unsafe { all.spread(&block, index, spread.get()) };
            }
        });
        // Where there are more threads than panels, they share a panel's tiles.
        let panels = panels(all.outputs);
        let parts = workers.div_ceil(panels).min(tiles);
        let tasks = panels * parts;
        share(work.threads(workers.min(tasks)), tasks, |scratch, range| {
            for (panel, part) in range.map(|task| (task / parts, task % parts)) {
                let tiles = part * tiles / parts..(part + 1) * tiles / parts;
                let spread = spread.get().cast_const();
                // SAFETY: the caller's promise; all tiles have been transformed, and every output has one thread.
                unsafe {
                    all.panel(
                        panel,
                        (&block, spread),
                        tiles,
                        (&mut scratch.products, &mut scratch.weights),
                    )
                };
            }
        });
    }
    work.spread = held;
}
