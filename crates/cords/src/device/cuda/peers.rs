//! Sums over the GPUs that train one network together.
//!
//! Every GPU has the parts of all and adds them in the order of ranks. A library's own sum would bring half of the bytes
//! at most, but its order depends on the library, on the number of values and on how GPUs are connected: here the same
//! number of GPUs gives the same bits everywhere.

#[cfg(test)]
pub(super) mod tests;

use std::sync::atomic::Ordering;

use super::gpu::{Argument, Gpu};
use super::{Buffer, Cuda};
use crate::device::DeviceError;

impl<G: Gpu> Cuda<G> {
    /// Takes part in a sum, of gradients and of numbers.
    pub(super) fn sum_of_all(&self, buffers: &mut [&mut Buffer<G::Memory>], numbers: &mut [f64]) {
        let world = self.gpu.peers().world;
        if world == 1 || self.told.load(Ordering::Relaxed) {
            return;
        }
        let len: usize = buffers.iter().map(|buffer| buffer.len).sum();
        let rooms = [len, world * len].map(|len| self.room_f32(len));
        // A peer that waits for one without memory would wait for ever.
        let wanted = match &*self.failure() {
            None => 0,
            Some(DeviceError::Memory { bytes }) => (*bytes).max(1),
            Some(_) => return,
        };
        let own: Vec<f64> = [wanted as f64].into_iter().chain(numbers.iter().copied()).collect();
        let all = match self.gpu.gather_numbers(&own) {
            Ok(all) => all,
            Err(error) => {
                self.failure().get_or_insert(error);
                return;
            }
        };
        let wanted = all
            .iter()
            .step_by(own.len())
            .fold(0.0, |most: f64, wanted| most.max(*wanted));
        if wanted > 0.0 {
            let bytes = wanted as u64;
            self.failure().get_or_insert(DeviceError::Memory { bytes });
            self.told.store(true, Ordering::Relaxed);
            return;
        }
        for (index, number) in numbers.iter_mut().enumerate() {
            *number = all.iter().skip(index + 1).step_by(own.len()).sum();
        }
        self.sum_buffers(buffers, len, rooms);
    }

    /// Sums of so many values in all, by way of room for the own ones and for those of all.
    fn sum_buffers(
        &self,
        buffers: &mut [&mut Buffer<G::Memory>],
        len: usize,
        [mut own, mut all]: [Buffer<G::Memory>; 2],
    ) {
        let mut first = 0;
        for buffer in buffers.iter() {
            if let (Some(from), Some(to)) = (buffer.memory(), own.overwritten()) {
                self.attempt(|gpu| gpu.copy(from, to, first * size_of::<f32>(), buffer.len * size_of::<f32>()));
            }
            first += buffer.len;
        }
        if let (Some(own), Some(all)) = (own.memory(), all.overwritten()) {
            self.attempt(|gpu| gpu.gather(own, len * size_of::<f32>(), all));
        }
        let (mut first, world) = (0, self.gpu.peers().world);
        for buffer in buffers {
            let items = buffer.len;
            self.launch(
                "sum_parts",
                items,
                arguments!(r all, long first, long len, long world, o buffer),
            );
            first += items;
        }
    }
}
