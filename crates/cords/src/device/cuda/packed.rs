//! Maps in half the memory.

use super::gpu::{Argument, Gpu};
use super::{Buffer, Cuda, same};
use crate::device::{Maps, PackedMaps, Phi};

/// Values as bfloat16, with the signs of the arguments of phi that they came from, 32 a word.
pub struct Packed<M> {
    values: Buffer<M>,
    signs: Buffer<M>,
}

impl<G: Gpu> PackedMaps<f32, Cuda<G>> for Packed<G::Memory> {
    fn room(device: &Cuda<G>, maps: Maps) -> Self {
        Self {
            values: device.room(maps.len(), size_of::<u16>()),
            signs: device.room(maps.len().div_ceil(32), size_of::<u32>()),
        }
    }

    fn bytes(_device: &Cuda<G>, maps: Maps) -> u64 {
        (maps.len() * size_of::<u16>() + maps.len().div_ceil(32) * size_of::<u32>()) as u64
    }

    fn pack(&mut self, device: &Cuda<G>, alpha: f64, x: &Buffer<G::Memory>, y: &Buffer<G::Memory>) {
        let values = same([x.len, y.len, self.values.len]);
        let words = self.signs.len;
        device.launch(
            "pack",
            arguments!(float 1.0 - alpha, long values, r x, r y, w self.values, w self.signs),
            words,
        );
    }

    fn unpack(&self, device: &Cuda<G>, y: &mut Buffer<G::Memory>) {
        let items = same([self.values.len, y.len]);
        device.launch("unpack", arguments!(r self.values, w y), items);
    }

    fn relax_adjoint(
        &self,
        device: &Cuda<G>,
        (alpha, phi): (f64, Phi),
        g: &mut Buffer<G::Memory>,
        delta: &mut Buffer<G::Memory>,
        sum: &mut Buffer<G::Memory>,
    ) {
        let items = same([self.values.len, g.len, delta.len, sum.len]);
        device.launch(
            "packed_adjoint",
            arguments!(float 1.0 - alpha, float alpha, float alpha * phi.slope(), r self.signs, w g, w delta, w sum),
            items,
        );
    }
}
