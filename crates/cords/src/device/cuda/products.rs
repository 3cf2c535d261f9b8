//! Convolutions as networks ask for them: of float32 maps, computed by the GPU from float32 or from bfloat16.
//!
//! Where a GPU computes from bfloat16, its inputs are rounded before and its results widened after; every sum over
//! convolutions and over steps is float32. Gradients of weights are gathered over steps: one long sum is worth more to
//! it than many short ones.

use std::collections::BTreeSet;

use super::gpu::{Argument, Gpu, Pass};
use super::{Buffer, Cuda, same};
use crate::device::{ConvShape, Device, Relaxation};

/// A convolution's weights `[outputs, kernel, kernel, inputs]`, as the GPU computes from them.
pub struct Filter<M> {
    pub(super) shape: ConvShape,
    weight: Buffer<M>,
}

/// A convolution and what it is applied to.
type Term<'a, M> = (&'a Filter<M>, &'a Buffer<M>);

/// A sum of gradients of weights `[outputs, kernel, kernel, inputs]`.
pub struct WeightSum<M> {
    shape: ConvShape,
    sum: Buffer<M>,
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
    /// Gradient of one addition where it is bfloat16, before it is added to the float32 sum.
    narrow: Buffer<M>,
}

/// Positions that a gradient of weights is summed over in one go.
const POSITIONS: usize = 1 << 14;

/// Additions that are gathered.
fn additions(shape: ConvShape, batch: usize) -> usize {
    (POSITIONS / shape.out_maps(batch).with_channels(1).len().max(1)).max(1)
}

/// Memory of convolutions, by use and number of values.
pub struct Workspace<M> {
    rooms: Vec<(Use, Buffer<M>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A sum of convolutions, float32.
    Sum,
    /// Inputs of a convolution, rounded to bfloat16.
    Inputs,
    /// Results of the first and of the second term, bfloat16.
    Results(usize),
    /// Parts of a sum, in double precision.
    Parts,
}

impl<M> Workspace<M> {
    /// Memory that was taken out.
    pub(super) fn put_back(&mut self, of: Use, room: Buffer<M>) {
        self.rooms.push((of, room));
    }
}

impl<M> Default for Workspace<M> {
    fn default() -> Self {
        Self { rooms: Vec::new() }
    }
}

const NARROW: usize = size_of::<u16>();
const WIDE: usize = size_of::<f32>();

impl<G: Gpu> Cuda<G> {
    /// Whether a convolution is computed from bfloat16. GPUs do that where channels come in eights.
    fn is_narrow(&self, shape: ConvShape) -> bool {
        self.gpu.computes_from_bfloat16() && shape.inputs.is_multiple_of(8) && shape.outputs.is_multiple_of(8)
    }

    /// Bytes of a value that a convolution is computed from.
    fn width(&self, shape: ConvShape) -> usize {
        if self.is_narrow(shape) { NARROW } else { WIDE }
    }

    /// Takes memory out of a workspace; it is to be put back.
    pub(super) fn take_room(&self, work: &mut Workspace<G::Memory>, of: Use, len: usize) -> Buffer<G::Memory> {
        let held = work.rooms.iter().position(|(to, room)| *to == of && room.len == len);
        match held {
            Some(index) => work.rooms.swap_remove(index).1,
            None => {
                let size = match of {
                    Use::Sum => WIDE,
                    Use::Inputs | Use::Results(_) => NARROW,
                    Use::Parts => size_of::<f64>(),
                };
                self.room(len, size)
            }
        }
    }

    /// One pass of a convolution, of values as the GPU takes them.
    fn convolve(
        &self,
        pass: Pass,
        shape: ConvShape,
        batch: usize,
        from: [&Buffer<G::Memory>; 2],
        to: &mut Buffer<G::Memory>,
        accumulate: bool,
    ) {
        let (inputs, outputs) = (shape.in_maps(batch).len(), shape.out_maps(batch).len());
        let weights = shape.outputs * shape.patch();
        let needed = match pass {
            Pass::Forward => [inputs, weights, outputs],
            Pass::Inputs => [outputs, weights, inputs],
            Pass::Weights => [inputs, outputs, weights],
        };
        let held = [from[0].len, from[1].len, to.len];
        let enough = held.iter().zip(needed).all(|(held, needed)| *held >= needed);
        assert!(enough, "{pass:?} of {shape:?}: {held:?} values, {needed:?} needed");
        let narrow = self.is_narrow(shape);
        if let [Some(a), Some(b)] = from.map(|buffer| buffer.memory.as_ref())
            && let Some(to) = &mut to.memory
        {
            self.attempt(|gpu| gpu.convolve(pass, shape, batch, narrow, [a, b], to, accumulate));
        }
    }

    /// y = x, rounded to bfloat16, from the value `first` of y on.
    fn narrow(&self, x: &Buffer<G::Memory>, first: usize, y: &mut Buffer<G::Memory>) {
        assert!(first + x.len <= y.len);
        self.launch("narrow", arguments!(r x, long first, w y), x.len);
    }

    /// y += x of bfloat16 values.
    fn add_narrow(&self, x: &Buffer<G::Memory>, y: &mut Buffer<G::Memory>) {
        self.launch("add_narrow", arguments!(r x, w y), same([x.len, y.len]));
    }

    pub(super) fn new_filter(&self, shape: ConvShape) -> Filter<G::Memory> {
        Filter {
            shape,
            weight: self.room(shape.outputs * shape.patch(), self.width(shape)),
        }
    }

    pub(super) fn fill(&self, filter: &mut Filter<G::Memory>, weight: &Buffer<G::Memory>) {
        let shape = filter.shape;
        let (channels, plane) = (shape.inputs, shape.kernel * shape.kernel);
        let to = &mut filter.weight;
        let items = same([weight.len, to.len]);
        let kernel = if self.is_narrow(shape) {
            "exchange_narrow"
        } else {
            "exchange"
        };
        self.launch(kernel, arguments!(r weight, long channels, long plane, w to), items);
    }

    /// Bytes of a filter, and of a sum of gradients without what it gathers.
    pub(super) fn bytes_of_weights(&self, shape: ConvShape) -> [u64; 2] {
        let weights = shape.outputs * shape.patch();
        let narrow = if self.is_narrow(shape) { weights * NARROW } else { 0 };
        [weights * self.width(shape), weights * WIDE + narrow].map(|bytes| bytes as u64)
    }

    /// Bytes of a workspace for all these convolutions, and of what their sums gather.
    pub(super) fn bytes_of_work(&self, shapes: &[ConvShape], batch: usize) -> u64 {
        let (mut sizes, mut gathered) = (BTreeSet::new(), 0);
        for shape in shapes {
            let (inputs, outputs) = (shape.in_maps(batch).len(), shape.out_maps(batch).len());
            if self.is_narrow(*shape) {
                // Inputs and outputs change their roles on the way back; outputs may be those of two terms.
                sizes.extend([inputs, outputs].map(|len| (0, 2 * NARROW * len)));
                sizes.insert((1, NARROW * outputs));
            } else {
                sizes.insert((2, WIDE * outputs));
            }
            // Smaller batches gather more additions: as many positions as one addition has, or as are worth gathering.
            let positions = shape.out_maps(batch).with_channels(1).len().max(1);
            if self.is_narrow(*shape) || positions < 2 * POSITIONS {
                let share = (inputs + outputs) as f64 / positions as f64;
                gathered += (positions.max(POSITIONS) as f64 * share).ceil() as usize * self.width(*shape);
            }
        }
        (sizes.iter().map(|(_, bytes)| bytes).sum::<usize>() + gathered) as u64
    }

    /// y = convolution of x, or y += where `accumulate`, in one direction or the other.
    pub(super) fn apply(
        &self,
        work: &mut Workspace<G::Memory>,
        pass: Pass,
        filter: &Filter<G::Memory>,
        batch: usize,
        (x, y): (&Buffer<G::Memory>, &mut Buffer<G::Memory>),
        accumulate: bool,
    ) {
        let shape = filter.shape;
        if !self.is_narrow(shape) {
            return self.convolve(pass, shape, batch, [x, &filter.weight], y, accumulate);
        }
        let mut result = self.take_room(work, Use::Results(0), y.len);
        self.apply_narrow(work, pass, filter, batch, x, &mut result);
        if accumulate {
            self.add_narrow(&result, y);
        } else {
            let (result, y) = (&result, y);
            self.launch("unpack", arguments!(r result, w y), y.len);
        }
        work.rooms.push((Use::Results(0), result));
    }

    /// The same with a result of bfloat16 values.
    fn apply_narrow(
        &self,
        work: &mut Workspace<G::Memory>,
        pass: Pass,
        filter: &Filter<G::Memory>,
        batch: usize,
        x: &Buffer<G::Memory>,
        result: &mut Buffer<G::Memory>,
    ) {
        let mut inputs = self.take_room(work, Use::Inputs, x.len);
        self.narrow(x, 0, &mut inputs);
        self.convolve(pass, filter.shape, batch, [&inputs, &filter.weight], result, false);
        work.rooms.push((Use::Inputs, inputs));
    }

    /// y = (1 - alpha) x + alpha phi(offset + sum of convolutions).
    pub(super) fn relax_from(
        &self,
        work: &mut Workspace<G::Memory>,
        terms: &[Term<'_, G::Memory>],
        batch: usize,
        Relaxation {
            alpha,
            phi,
            offset,
            x,
            y,
        }: Relaxation<'_, Buffer<G::Memory>>,
    ) {
        let items = same([offset.len, x.len, y.len]);
        let slope = phi.slope();
        if let [(filter, _), rest @ ..] = terms
            && rest.len() < 2
            && terms.iter().all(|(filter, _)| self.is_narrow(filter.shape))
        {
            assert_eq!(filter.shape.out_maps(batch).len(), items);
            let mut results = [0, 1].map(|term| {
                // The second stands for the first where it is not read.
                let needed = term < terms.len();
                if needed {
                    self.take_room(work, Use::Results(term), items)
                } else {
                    Buffer::default()
                }
            });
            for ((filter, z), result) in terms.iter().zip(&mut results) {
                self.apply_narrow(work, Pass::Forward, filter, batch, z, result);
            }
            let [u, v] = &results;
            let v = if rest.is_empty() { u } else { v };
            self.launch(
                "relax_narrow",
                arguments!(
                    float 1.0 - alpha, float alpha, float slope, int !rest.is_empty(), r offset, r u, r v, r x, w y
                ),
                items,
            );
            let held = results.into_iter().enumerate().take(terms.len());
            return work
                .rooms
                .extend(held.map(|(term, result)| (Use::Results(term), result)));
        }
        let mut u = self.take_room(work, Use::Sum, items);
        if terms.is_empty() {
            self.clear(&mut u);
        }
        for (index, (filter, z)) in terms.iter().enumerate() {
            self.apply(work, Pass::Forward, filter, batch, (z, &mut u), index > 0);
        }
        let from = &u;
        self.launch(
            "relax",
            arguments!(float 1.0 - alpha, float alpha, float slope, r offset, r from, r x, w y),
            items,
        );
        work.rooms.push((Use::Sum, u));
    }

    pub(super) fn new_sum(&self, shape: ConvShape) -> WeightSum<G::Memory> {
        WeightSum {
            shape,
            sum: self.room_f32(shape.outputs * shape.patch()),
            gathered: None,
        }
    }

    pub(super) fn clear_sum(&self, sum: &mut WeightSum<G::Memory>) {
        self.clear(&mut sum.sum);
        if let Some(gathered) = &mut sum.gathered {
            gathered.held = 0;
        }
    }

    pub(super) fn add_to_sum(
        &self,
        sum: &mut WeightSum<G::Memory>,
        batch: usize,
        x: &Buffer<G::Memory>,
        dy: &Buffer<G::Memory>,
    ) {
        let (shape, narrow) = (sum.shape, self.is_narrow(sum.shape));
        let room = additions(shape, batch);
        if room == 1 && !narrow {
            return self.convolve(Pass::Weights, shape, batch, [x, dy], &mut sum.sum, true);
        }
        if sum.gathered.as_ref().is_none_or(|gathered| gathered.batch != batch) {
            self.flush(sum);
            let width = self.width(shape);
            sum.gathered = Some(Gathered {
                batch,
                room,
                held: 0,
                x: self.room(room * x.len, width),
                dy: self.room(room * dy.len, width),
                narrow: self.room(if narrow { sum.sum.len } else { 0 }, NARROW),
            });
        }
        let Some(gathered) = &mut sum.gathered else { return };
        for (from, to) in [(x, &mut gathered.x), (dy, &mut gathered.dy)] {
            let first = gathered.held * from.len;
            if narrow {
                self.narrow(from, first, to);
            } else if let (Some(from_memory), Some(to)) = (&from.memory, &mut to.memory) {
                self.attempt(|gpu| gpu.copy(from_memory, to, first * WIDE, from.len * WIDE));
            }
        }
        gathered.held += 1;
        if gathered.held == gathered.room {
            self.flush(sum);
        }
    }

    /// Adds what was gathered.
    fn flush(&self, WeightSum { shape, sum, gathered }: &mut WeightSum<G::Memory>) {
        let Some(gathered) = gathered else { return };
        let images = gathered.batch * std::mem::take(&mut gathered.held);
        if images == 0 {
            return;
        }
        let from = [&gathered.x, &gathered.dy];
        if self.is_narrow(*shape) {
            self.convolve(Pass::Weights, *shape, images, from, &mut gathered.narrow, false);
            self.add_narrow(&gathered.narrow, sum);
        } else {
            self.convolve(Pass::Weights, *shape, images, from, sum, true);
        }
    }

    pub(super) fn finish_sum(&self, sum: &mut WeightSum<G::Memory>, dw: &mut Buffer<G::Memory>) {
        self.flush(sum);
        let (channels, plane) = (sum.shape.inputs, sum.shape.kernel * sum.shape.kernel);
        let from = &sum.sum;
        let items = same([from.len, dw.len]);
        self.launch(
            "add_exchanged",
            arguments!(r from, long channels, long plane, w dw),
            items,
        );
    }
}
