//! Devices that train one network together, each on its part of every batch.

use std::ops::Range;

use super::Device;
use crate::Real;

/// Which of the devices that train one network together one is, as in MPI and NCCL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// Its number, from 0.
    pub rank: usize,
    /// How many there are, from 1.
    pub world: usize,
}

impl Peers {
    /// One device without peers.
    pub const ALONE: Self = Self { rank: 0, world: 1 };

    /// Whether it is the one that keeps records and checkpoints.
    pub fn is_first(self) -> bool {
        self.rank == 0
    }

    /// Its part of so many things. Parts follow one another in the order of ranks, and differ by one at most; some are
    /// empty where there are fewer things than ranks.
    pub fn part(self, count: usize) -> Range<usize> {
        let end = |rank| count * rank / self.world;
        end(self.rank)..end(self.rank + 1)
    }
}

/// The numbers that every peer gives, as many each, in the order of ranks.
pub(crate) fn of_all_ranks<T: Real, D: Device<T>>(device: &D, own: &[f64]) -> Vec<f64> {
    let Peers { rank, world } = device.peers();
    let mut all = vec![0.0; world * own.len()];
    all[rank * own.len()..][..own.len()].copy_from_slice(own);
    // Each is added to zeros.
    device.sum_over_peers(&mut [], &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_everything_once_and_in_order() {
        for world in 1..6 {
            for count in 0..14 {
                let parts = (0..world).map(|rank| Peers { rank, world }.part(count));
                let (least, most) = (count / world, count.div_ceil(world));
                let each = parts.clone().all(|part| (least..=most).contains(&part.len()));
                assert!(each, "{count} in {world}");
                assert!(parts.flatten().eq(0..count), "{count} in {world}");
            }
        }
    }
}
