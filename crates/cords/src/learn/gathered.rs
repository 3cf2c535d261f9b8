//! The way back on a device that gathers: gradients of an area's activity that convolutions give are left apart, in the
//! form in which convolutions give them, until the step before takes them up, and dL/du of several steps wait for one
//! sum. Both save a reading and a writing of float32 maps.

use super::history::History;
use crate::Real;
use crate::device::{Adjoint, Device};
use crate::net::{Connections, Inlet, Way};

/// dL/du of an area: of the step being passed, and of those after it whose sum has not been taken.
pub(super) struct Deltas<B> {
    held: Vec<B>,
    /// The one of the step being passed.
    at: usize,
    /// How many are not in the sum, that one included once it is known.
    waiting: usize,
}

/// Gradients of an area's activity that convolutions have left; on a device that does not gather there are none.
pub(super) struct PendingGradients<B> {
    /// Those that nothing else reads.
    own: Vec<PendingGradient<B>>,
    /// How many of them there are.
    used: usize,
    /// Gradients of sums of sources, by area and inlet.
    sources: Vec<(usize, usize)>,
}

struct PendingGradient<B> {
    gradient: B,
    /// Whether it counts only where activity is positive.
    masked: bool,
}

impl<B> Deltas<B> {
    /// That of the step being passed.
    pub(super) fn now(&self) -> &B {
        &self.held[self.at]
    }

    /// The same, where none waits.
    pub(super) fn alone(&mut self) -> &mut B {
        self.at = 0;
        &mut self.held[0]
    }
}

impl<B> PendingGradients<B> {
    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.sources.clear();
    }

    /// The gradient of an inlet's sum of sources is one of them.
    pub(super) fn add_source(&mut self, area: usize, inlet: usize) {
        self.sources.push((area, inlet));
    }

    /// Room for one more gradient, where the area's are left apart.
    pub(super) fn room(&mut self, masked: bool) -> Option<&mut B> {
        let part = self.own.get_mut(self.used)?;
        part.masked = masked;
        self.used += 1;
        Some(&mut part.gradient)
    }
}

/// Bytes of what trajectories hold for gradients, apart from those of the parameters.
pub(crate) fn gradient_bytes<T: Real, D: Device<T>>(connections: &Connections<T, D>, batch: usize) -> u64 {
    let device = &connections.device;
    let of_area = |area: usize| {
        let maps = connections.maps(area, batch);
        // dL/dr, its sum of dL/du, and the spare one.
        let held = 3 * device.maps_bytes(maps);
        held + match connections.gathers(area, batch) {
            None => device.maps_bytes(maps),
            Some(deltas) => (deltas + connections.own_gradients(area)) as u64 * device.operand_bytes(maps),
        }
    };
    (0..connections.architecture.areas()).map(of_area).sum()
}

/// From dL/du to the gradient of the activity that a convolution reads, apart where that is left so.
pub(super) fn pass_back<T: Real, D: Device<T>>(
    connections: &Connections<T, D>,
    work: &mut D::Workspace,
    (conv, batch, delta): (usize, usize, &D::Buffer),
    apart: &mut PendingGradients<D::Buffer>,
    gradient: &mut D::Buffer,
) {
    let (device, filter) = (&connections.device, connections.filter(conv));
    match apart.room(false) {
        Some(part) => device.conv_transpose(work, filter, batch, delta, part, false),
        None => device.conv_transpose(work, filter, batch, delta, gradient, true),
    }
}

/// The adjoint of an area's step on a device that gathers, with what was left apart of its gradient; the sum of dL/du is
/// taken with the `last` step of a part, and whenever there is no room for one more.
pub(super) fn gathered_adjoint<T: Real, D: Device<T>>(
    connections: &Connections<T, D>,
    (history, step, area): (&History<T, D>, usize, usize),
    (apart, sources): (&mut PendingGradients<D::Buffer>, &[Vec<D::Buffer>]),
    (g, deltas, sum): (&mut D::Buffer, &mut Deltas<D::Buffer>, &mut D::Buffer),
    last: bool,
) {
    let own = apart.own[..apart.used].iter().map(|part| (&part.gradient, part.masked));
    let masked = !connections.non_negative();
    let sources = apart.sources.iter().map(|(of, inlet)| (&sources[*of][*inlet], masked));
    let parts: Vec<(&D::Buffer, bool)> = own.chain(sources).collect();
    deltas.at = deltas.waiting;
    let (earlier, now) = deltas.held.split_at_mut(deltas.at);
    let summed = last || deltas.at + 1 == earlier.len() + now.len();
    deltas.waiting = if summed { 0 } else { deltas.at + 1 };
    let adjoint = Adjoint {
        alpha: connections.leaks[area].alpha,
        phi: connections.phi,
        parts: &parts,
        g,
        delta: &mut now[0],
        earlier: &if summed { earlier.iter().collect() } else { Vec::new() },
        sum: summed.then_some(sum),
    };
    history.gathered_adjoint(connections, (step, area), adjoint);
}

impl<T: Real, D: Device<T>> Connections<T, D> {
    /// How many of an area's dL/du wait for one sum, where its gradients are gathered: nothing but an adjoint of its
    /// leaky step may read them.
    pub(super) fn gathers(&self, area: usize, batch: usize) -> Option<usize> {
        let plain = self.cells[area].is_none() && !self.architecture.area(area).trains_tau;
        let sources = self.architecture.all_inlets().map(|(_, inlet)| inlet);
        let reads = |inlet: &Inlet| inlet.areas.iter().any(|(from, _)| *from == area);
        let read_otherwise = sources
            .filter(|inlet| reads(inlet))
            .any(|inlet| !self.sums_operands(inlet));
        (plain && !read_otherwise)
            .then(|| self.device.gathers(self.maps(area, batch), self.readers(area)))
            .flatten()
    }

    /// How many gradients of an area's activity convolutions give in a step that nothing else reads.
    fn own_gradients(&self, area: usize) -> usize {
        let given = |inlet: &Inlet| {
            let own = |(from, way): &&(usize, Way)| {
                *from == area && (matches!(way, Way::Conv(_)) || self.reads_activity(inlet) == Some(area))
            };
            inlet.areas.iter().filter(own).count()
        };
        let inlets = self.architecture.all_inlets();
        inlets.map(|(_, inlet)| given(inlet)).sum::<usize>() + usize::from(self.architecture.recurrent(area).is_some())
    }

    /// Room for gradients of an area that are left apart.
    pub(super) fn apart(&self, area: usize, batch: usize) -> PendingGradients<D::Buffer> {
        let count = self.gathers(area, batch).map_or(0, |_| self.own_gradients(area));
        let part = |_| PendingGradient {
            gradient: self.device.zeros_operand(self.maps(area, batch)),
            masked: false,
        };
        PendingGradients {
            own: (0..count).map(part).collect(),
            used: 0,
            sources: Vec::new(),
        }
    }

    /// Room for dL/du of an area.
    pub(super) fn deltas(&self, area: usize, batch: usize) -> Deltas<D::Buffer> {
        let maps = self.maps(area, batch);
        let held = match self.gathers(area, batch) {
            None => vec![self.device.zeros_maps(maps)],
            Some(count) => (0..count).map(|_| self.device.zeros_operand(maps)).collect(),
        };
        Deltas {
            held,
            at: 0,
            waiting: 0,
        }
    }
}
