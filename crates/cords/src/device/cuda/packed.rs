//! Maps in half the memory, and the adjoint of relaxations whose convolutions read them so.

use std::sync::Arc;

use super::gpu::{Argument, Gpu};
use super::memory::{Operand, Room};
use super::products::{EIGHT, TERMS, filled, read_by_convolutions};
use super::{Buffer, Cuda, same};
use crate::device::relaxation::gathered_from_packed;
use crate::device::{Adjoint, Maps, PackedMaps, Phi};

/// Values as bfloat16, with the signs of the arguments of phi that they came from, eight a byte.
pub struct Packed<M> {
    /// None where the device has failed.
    held: Option<[Arc<Room<M>>; 2]>,
    len: usize,
    /// Whether convolutions read them so.
    operand: bool,
}

impl<M> Packed<M> {
    fn values(&self) -> Option<&M> {
        self.held.as_ref().map(|[values, _]| &values.memory)
    }

    fn signs(&self) -> Option<&M> {
        self.held.as_ref().map(|[_, signs]| &signs.memory)
    }

    /// Whether these are what convolutions read of y.
    fn are_of<'y>(&self, y: &'y Buffer<M>) -> Option<&'y Operand<M>> {
        let [values, _] = self.held.as_ref()?;
        y.operand().filter(|operand| Arc::ptr_eq(&operand.values, values))
    }
}

/// How many steps' deltas wait for one sum: more cost more memory and save less and less of what is moved.
pub(super) const DELTAS: usize = TERMS + 1;

/// What is known of a relaxation from x to y.
pub(super) enum Relaxed<'a, M> {
    /// x and y.
    Exact(&'a Buffer<M>, &'a Buffer<M>),
    /// y rounded, and the signs of the arguments of phi.
    Packed(Option<&'a M>, Option<&'a M>),
}

impl<G: Gpu> PackedMaps<f32, Cuda<G>> for Packed<G::Memory> {
    fn room(device: &Cuda<G>, maps: Maps) -> Self {
        let values = device.take_memory(maps.len() * size_of::<u16>());
        let signs = device.take_memory(maps.len().div_ceil(EIGHT));
        Self {
            held: values.zip(signs).map(|(values, signs)| [values, signs].map(Arc::new)),
            len: maps.len(),
            operand: device.keeps_operands(maps),
        }
    }

    fn bytes(_device: &Cuda<G>, maps: Maps) -> u64 {
        (maps.len() * size_of::<u16>() + maps.len().div_ceil(EIGHT)) as u64
    }

    fn lend(&self, _device: &Cuda<G>, y: &mut Buffer<G::Memory>) {
        if let Some([values, signs]) = &self.held
            && self.operand
        {
            y.lend(Operand::new(Arc::clone(values), Some(Arc::clone(signs))));
        }
    }

    fn pack(&mut self, device: &Cuda<G>, alpha: f64, x: &Buffer<G::Memory>, y: &Buffer<G::Memory>) {
        let values = same([x.len, y.len, self.len]);
        let operand = self.are_of(y);
        if operand.is_some_and(Operand::is_signed) {
            return;
        }
        device.launch(
            "pack",
            values.div_ceil(EIGHT),
            arguments!(float 1.0 - alpha, long values, r x, r y, write self.values(), write self.signs()),
        );
        if let Some(operand) = operand {
            operand.now_holds(true);
        }
    }

    fn unpack(&self, device: &Cuda<G>, y: &mut Buffer<G::Memory>) {
        let items = same([self.len, y.len]);
        device.launch("unpack", items, arguments!(read self.values(), o y));
        self.lend_as_is(device, y);
    }

    fn recall(&self, device: &Cuda<G>, y: &mut Buffer<G::Memory>) {
        if self.operand {
            self.lend_as_is(device, y);
            y.set_stale();
        } else {
            self.unpack(device, y);
        }
    }

    fn relax_adjoint(
        &self,
        device: &Cuda<G>,
        (alpha, phi): (f64, Phi),
        g: &mut Buffer<G::Memory>,
        delta: &mut Buffer<G::Memory>,
        sum: &mut Buffer<G::Memory>,
    ) {
        let items = same([self.len, g.len, delta.len, sum.len]);
        device.launch(
            "packed_adjoint",
            items,
            arguments!(
                float 1.0 - alpha, float alpha, float alpha * phi.slope(), read self.signs(), w g, o delta, w sum
            ),
        );
    }

    fn gathered_adjoint(&self, device: &Cuda<G>, adjoint: Adjoint<'_, Buffer<G::Memory>>) {
        match adjoint.delta.is_operand() {
            true => device.adjoint_of_operands(Relaxed::Packed(self.values(), self.signs()), adjoint),
            false => gathered_from_packed(device, self, adjoint),
        }
    }
}

impl<M: Send + Sync> Packed<M> {
    /// Convolutions that read y read what is kept.
    fn lend_as_is<G: Gpu<Memory = M>>(&self, device: &Cuda<G>, y: &mut Buffer<M>) {
        self.lend(device, y);
        if let Some(operand) = self.are_of(y) {
            operand.now_holds(true);
        }
    }
}

impl<G: Gpu> Cuda<G> {
    /// The adjoint of a relaxation whose `delta` convolutions read.
    pub(super) fn adjoint_of_operands(
        &self,
        relaxed: Relaxed<'_, G::Memory>,
        Adjoint {
            alpha,
            phi,
            parts,
            g,
            delta,
            earlier,
            sum,
        }: Adjoint<'_, Buffer<G::Memory>>,
    ) {
        let items = same([g.len, delta.len, sum.as_ref().map_or(g.len, |sum| sum.len)]) / EIGHT;
        assert!(parts.len() <= TERMS && earlier.len() < DELTAS && delta.is_operand());
        let memory = |buffer: &'_ Buffer<G::Memory>| buffer.len == g.len;
        assert!(
            parts
                .iter()
                .map(|part| part.0)
                .chain(earlier.iter().copied())
                .all(memory)
        );
        // What is not read has any memory.
        let g = &*g;
        let all = g.memory();
        let (exact, [x, y], [rounded, signs]) = match relaxed {
            Relaxed::Exact(x, y) => (true, [x.memory(), y.memory()], [all; 2]),
            Relaxed::Packed(values, signs) => (false, [all; 2], [values, signs]),
        };
        let masked = parts
            .iter()
            .enumerate()
            .map(|(part, (_, masked))| i32::from(*masked) << part);
        let masked: i32 = masked.sum();
        let gradients: Vec<_> = parts.iter().map(|(part, _)| read_by_convolutions(part, true)).collect();
        let deltas: Vec<_> = earlier.iter().map(|delta| read_by_convolutions(delta, true)).collect();
        let ([p, q, r], [d1, d2, d3]) = (filled(&gradients, all), filled(&deltas, all));
        let summed = sum.is_some();
        let sum = sum.map_or(all, |sum| sum.memory_mut().map(|sum| &*sum));
        let delta = delta.operand_mut().map(|delta| &*delta);
        self.launch("narrow_adjoint", items, arguments!(
                float 1.0 - alpha, float alpha, float alpha * phi.slope(), int exact, int parts.len(), int masked,
                int earlier.len(), int summed, read x, read y, read rounded, read signs, read p, read q, read r, read d1,
                read d2, read d3, write all, write delta, write sum
            ));
    }
}
