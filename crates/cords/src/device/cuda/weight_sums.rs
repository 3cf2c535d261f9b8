//! Sums of gradients of weights. They are gathered over steps: one long sum is worth more to a GPU than many short ones.

use super::gpu::{Argument, Gpu, Pass};
use super::products::{EIGHT, TERMS, Workspace, filled, read_by_convolutions};
use super::{Buffer, Cuda, same};
use crate::device::{ConvShape, Device};

/// A sum of gradients of weights `[outputs, kernel, kernel, inputs]`.
pub struct WeightSum<M> {
    shape: ConvShape,
    sum: Buffer<M>,
    /// What is to be added to it in one go, where it comes as bfloat16, and how many of them there are.
    results: Vec<Buffer<M>>,
    waiting: usize,
    gathered: Option<Gathered<M>>,
}

/// What is to be added to a sum in one go.
struct Gathered<M> {
    /// Images of one addition.
    batch: usize,
    /// Additions that there is room for, and those that are there.
    room: usize,
    held: usize,
    x: Buffer<M>,
    dy: Buffer<M>,
}

/// Positions that a gradient of weights is summed over in one go.
pub(super) const POSITIONS: usize = 1 << 12;

/// Additions that are gathered.
fn additions(shape: ConvShape, batch: usize) -> usize {
    (POSITIONS / shape.out_maps(batch).with_channels(1).len().max(1)).max(1)
}

impl<G: Gpu> Cuda<G> {
    pub(super) fn new_sum(&self, shape: ConvShape) -> WeightSum<G::Memory> {
        WeightSum {
            shape,
            sum: self.room_f32(shape.outputs * shape.patch()),
            results: match self.is_narrow(shape) {
                true => (0..TERMS)
                    .map(|_| self.operand_room(shape.outputs * shape.patch()))
                    .collect(),
                false => Vec::new(),
            },
            waiting: 0,
            gathered: None,
        }
    }

    pub(super) fn clear_sum(&self, sum: &mut WeightSum<G::Memory>) {
        self.clear(&mut sum.sum);
        sum.waiting = 0;
        if let Some(gathered) = &mut sum.gathered {
            gathered.held = 0;
        }
    }

    pub(super) fn add_to_sum(
        &self,
        work: &mut Workspace<G::Memory>,
        sum: &mut WeightSum<G::Memory>,
        batch: usize,
        x: &Buffer<G::Memory>,
        dy: &Buffer<G::Memory>,
    ) {
        let (shape, narrow) = (sum.shape, self.is_narrow(sum.shape));
        let room = additions(shape, batch);
        let held = [x, dy].into_iter().enumerate();
        let held: Vec<_> = held
            .map(|(number, from)| self.prepared(work, narrow, number, from))
            .collect();
        let read = |number: usize, from| {
            let from: &Buffer<G::Memory> = held[number].as_ref().map_or(from, |(_, room)| room);
            (read_by_convolutions(from, narrow), from.len)
        };
        let from = [read(0, x), read(1, dy)];
        if room == 1 {
            self.add_weights(batch, from, sum);
        } else {
            if sum.gathered.as_ref().is_none_or(|gathered| gathered.batch != batch) {
                self.flush(sum);
                let width = self.width(shape);
                sum.gathered = Some(Gathered {
                    batch,
                    room,
                    held: 0,
                    x: self.room(room * x.len, width),
                    dy: self.room(room * dy.len, width),
                });
            }
            if let Some(gathered) = &mut sum.gathered {
                let bytes = self.width(shape);
                for ((from, len), to) in from.into_iter().zip([&mut gathered.x, &mut gathered.dy]) {
                    if let (Some(from), Some(to)) = (from, to.memory_mut()) {
                        let first = gathered.held * len * bytes;
                        self.attempt(|gpu| gpu.copy(from, to, first, len * bytes));
                    }
                }
                gathered.held += 1;
                if gathered.held == gathered.room {
                    self.flush(sum);
                }
            }
        }
        work.put_all_back(held.into_iter().flatten());
    }

    /// sum += what waits for it.
    fn add_waiting(
        &self,
        WeightSum {
            sum, results, waiting, ..
        }: &mut WeightSum<G::Memory>,
    ) {
        let terms = std::mem::take(waiting);
        let read: Vec<_> = results[..terms]
            .iter()
            .map(|result| read_by_convolutions(result, true))
            .collect();
        if let Some(first) = read.first().copied() {
            let [u, v, w] = filled(&read, first);
            self.launch(
                "add_narrow",
                sum.len / EIGHT,
                arguments!(int terms, int 0, read u, read v, read w, read first, w sum),
            );
        }
    }

    /// sum += gradient of weights, from inputs and the gradient of outputs.
    fn add_weights(&self, images: usize, from: [(Option<&G::Memory>, usize); 2], sums: &mut WeightSum<G::Memory>) {
        let (len, what) = (sums.sum.len, (sums.shape, images));
        if !self.is_narrow(sums.shape) {
            return self.convolve(Pass::Weights, what, from, (sums.sum.memory_mut(), len), true);
        }
        let result = sums.results[sums.waiting].operand_mut();
        self.convolve(Pass::Weights, what, from, (result, len), false);
        sums.waiting += 1;
        if sums.waiting == TERMS {
            self.add_waiting(sums);
        }
    }

    /// Adds what was gathered.
    fn flush(&self, sum: &mut WeightSum<G::Memory>) {
        let Some(mut gathered) = sum.gathered.take() else {
            return;
        };
        let images = gathered.batch * std::mem::take(&mut gathered.held);
        if images > 0 {
            let from = [&gathered.x, &gathered.dy].map(|from| (from.memory(), from.len));
            self.add_weights(images, from, sum);
        }
        sum.gathered = Some(gathered);
    }

    pub(super) fn finish_sum(&self, sum: &mut WeightSum<G::Memory>, dw: &mut Buffer<G::Memory>) {
        self.flush(sum);
        self.add_waiting(sum);
        let (channels, plane) = (sum.shape.inputs, sum.shape.kernel * sum.shape.kernel);
        let from = &sum.sum;
        let items = same([from.len, dw.len]);
        self.launch(
            "add_exchanged",
            items,
            arguments!(r from, long channels, long plane, w dw),
        );
    }
}
