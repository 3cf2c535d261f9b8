//! Sums over the positions of each channel.

use super::gpu::{Argument, Gpu};
use super::{Buffer, Cuda};
use crate::device::Maps;

/// Parts that a sum over a channel's positions is taken in.
pub(super) const CHANNEL_PARTS: usize = 64;

impl<G: Gpu> Cuda<G> {
    /// Per channel, sums as `channel_sums` takes them, of `a` and `b` or of one of them.
    pub(super) fn channel_sums(
        &self,
        maps: Maps,
        a: Option<&Buffer<G::Memory>>,
        b: Option<(&Buffer<G::Memory>, &[f64])>,
    ) -> Vec<f64> {
        let positions = maps.batch * maps.plane();
        let parts = positions.min(CHANNEL_PARTS);
        let centre = self.uploaded(b.map_or(&[0.0][..], |(_, centre)| centre));
        // Where one of the two is not read, the other stands in its place.
        let (Some(first), Some(second)) = (a.or(b.map(|b| b.0)), b.map(|b| b.0).or(a)) else {
            return vec![0.0; maps.channels];
        };
        assert!(first.len == maps.len() && second.len == maps.len());
        let mut sums = self.room(parts * maps.channels, size_of::<f64>());
        self.launch(
            "channel_sums",
            arguments!(
                r first, r second, int a.is_some(), int b.is_some(), r centre, long maps.channels, long positions, long parts,
                w sums
            ),
            parts * maps.channels,
        );
        let mut totals = self.room(maps.channels, size_of::<f64>());
        self.launch(
            "channel_totals",
            arguments!(r sums, long parts, w totals),
            maps.channels,
        );
        self.fetched(&totals)
    }
}
