//! Sums over the positions of each channel, and over rows.

use super::gpu::{Argument, Gpu};
use super::products::{Use, Workspace};
use super::reductions::{FOLDED, PARTS};
use super::{Buffer, Cuda, ROW_PARTS};
use crate::device::Maps;

/// Parts that a sum over each channel's positions is taken in, whatever the GPU.
fn parts_of(channels: usize, positions: usize) -> usize {
    positions.min((PARTS / channels).max(FOLDED))
}

impl<G: Gpu> Cuda<G> {
    /// Of each row <v, v> and <v, w>, in parts.
    pub(super) fn row_products(&self, rows: usize, v: &Buffer<G::Memory>, w: &Buffer<G::Memory>) -> Buffer<G::Memory> {
        let mut parts = self.room(2 * rows * ROW_PARTS, size_of::<f64>());
        let arguments = arguments!(r v, r w, long v.len / rows, long ROW_PARTS, w parts);
        self.launch("row_products", rows * ROW_PARTS, arguments);
        parts
    }

    /// Per channel, sums as `channel_sums` takes them, of `a` and `b` or of one of them.
    pub(super) fn channel_sums(
        &self,
        maps: Maps,
        a: Option<&Buffer<G::Memory>>,
        b: Option<(&Buffer<G::Memory>, &[f64])>,
    ) -> Vec<f64> {
        let positions = maps.batch * maps.plane();
        let parts = parts_of(maps.channels, positions);
        let centre = self.uploaded(b.map_or(&[0.0][..], |(_, centre)| centre));
        // Where one of the two is not read, the other stands in its place.
        let (Some(first), Some(second)) = (a.or(b.map(|b| b.0)), b.map(|b| b.0).or(a)) else {
            return vec![0.0; maps.channels];
        };
        assert!(first.len == maps.len() && second.len == maps.len());
        let mut sums = self.room(parts * maps.channels, size_of::<f64>());
        self.launch("channel_sums", parts * maps.channels, arguments!(
                r first, r second, int a.is_some(), int b.is_some(), r centre, long maps.channels, long positions, long parts,
                w sums
            ));
        let (sums, parts) = match self.folded(&sums, parts, maps.channels) {
            Some(folded) => (folded, parts.min(FOLDED)),
            None => (sums, parts),
        };
        let mut totals = self.room(maps.channels, size_of::<f64>());
        self.launch(
            "fold",
            maps.channels,
            arguments!(r sums, long parts, long maps.channels, long 0, w totals),
        );
        self.fetched(&totals)
    }

    /// Sums of parts `[count, width]`, fewer of them, where there are many.
    fn folded(&self, parts: &Buffer<G::Memory>, count: usize, width: usize) -> Option<Buffer<G::Memory>> {
        (count > FOLDED).then(|| {
            let mut sums = self.room(FOLDED * width, size_of::<f64>());
            let arguments = arguments!(r parts, long count, long width, long 0, w sums);
            self.launch("fold", FOLDED * width, arguments);
            sums
        })
    }

    /// out += factor times the sums of parts `[count, out]`.
    fn add_sums(
        &self,
        work: &mut Workspace<G::Memory>,
        factor: f64,
        parts: &Buffer<G::Memory>,
        count: usize,
        out: &mut Buffer<G::Memory>,
    ) {
        let width = out.len;
        let few = count.min(FOLDED);
        let mut folded = self.take_room(work, Use::Folded, few * width);
        self.launch(
            "fold",
            few * width,
            arguments!(r parts, long count, long width, long 0, w folded),
        );
        let read = &folded;
        self.launch("add_totals", width, arguments!(double factor, r read, long few, w out));
        work.put_back(Use::Folded, folded);
    }

    /// sum += factor <x, y>.
    pub(super) fn add_product_sum(
        &self,
        work: &mut Workspace<G::Memory>,
        factor: f64,
        [x, y]: [&Buffer<G::Memory>; 2],
        sum: &mut Buffer<G::Memory>,
    ) {
        let count = x.len.min(PARTS);
        let mut parts = self.take_room(work, Use::Parts, count);
        self.launch("products", count, arguments!(r x, r y, long x.len, w parts));
        self.add_sums(work, factor, &parts, count, sum);
        work.put_back(Use::Parts, parts);
    }

    /// sums += factor <x, y> of each channel.
    pub(super) fn add_channel_product_sums(
        &self,
        work: &mut Workspace<G::Memory>,
        maps: Maps,
        factor: f64,
        [x, y]: [&Buffer<G::Memory>; 2],
        sums: &mut Buffer<G::Memory>,
    ) {
        let positions = maps.batch * maps.plane();
        let count = parts_of(maps.channels, positions);
        let mut parts = self.take_room(work, Use::Parts, count * maps.channels);
        self.launch(
            "channel_products",
            count * maps.channels,
            arguments!(r x, r y, long maps.channels, long positions, long count, w parts),
        );
        self.add_sums(work, factor, &parts, count, sums);
        work.put_back(Use::Parts, parts);
    }
}
