//! A relaxed step towards the value of a function, y = (1 - alpha) x + alpha phi(u), and its adjoint, in terms of a
//! device's primitive operations.
//!
//! The adjoint needs the sign of u, which nobody keeps: y > (1 - alpha) x tells it, where the product is rounded as it
//! was in the step. So the product is formed by `scale`, and added afterwards. Where u is not positive, that is exact; a
//! positive u of which nothing is left in y, as alpha u is below the rounding of y, counts as not positive.

use super::{Device, Maps, Phi, Real};

/// What y = (1 - alpha) x + alpha phi(u) reads and writes, apart from what is summed to u.
#[derive(Debug)]
pub struct Relaxation<'a, B> {
    /// How much of the way is taken, above 0 and at most 1.
    pub alpha: f64,
    /// The function of u.
    pub phi: Phi,
    /// What u is without the convolutions.
    pub offset: &'a B,
    /// Values before.
    pub x: &'a B,
    /// Values after.
    pub y: &'a mut B,
}

/// What the adjoint of a relaxation reads and writes on a device that [gathers](Device::gathers).
#[derive(Debug)]
pub struct Adjoint<'a, B> {
    /// As in the relaxation.
    pub alpha: f64,
    /// As in the relaxation.
    pub phi: Phi,
    /// Gradients of y that convolutions have left, to be added to `g` before; those with `true` only where y > 0.
    pub parts: &'a [(&'a B, bool)],
    /// The rest of the gradient of y; becomes (1 - alpha) of the whole.
    pub g: &'a mut B,
    /// Receives alpha phi'(u) of the whole gradient.
    pub delta: &'a mut B,
    /// `delta` of steps that have not been summed.
    pub earlier: &'a [&'a B],
    /// What `delta` and the earlier ones are added to; none where they wait.
    pub sum: Option<&'a mut B>,
}

/// Maps y that a relaxation has made, as they are kept for its adjoint: perhaps rounded to save memory, but with the
/// signs of u that y had before.
pub trait PackedMaps<T: Real, D: Device<T>>: Sized + Send + Sync {
    /// Room for such maps.
    fn room(device: &D, maps: Maps) -> Self;
    /// Bytes of it.
    fn bytes(device: &D, maps: Maps) -> u64;
    /// Lets y have the memory of what is kept, where convolutions read that: the next relaxation then writes y to both.
    fn lend(&self, _device: &D, _y: &mut D::Buffer) {}
    /// Keeps y, which a relaxation with `alpha` has made of x.
    fn pack(&mut self, device: &D, alpha: f64, x: &D::Buffer, y: &D::Buffer);
    /// y = what is kept, at most rounded to bfloat16.
    fn unpack(&self, device: &D, y: &mut D::Buffer);
    /// The same for convolutions alone where these read what is kept; nothing else may read y then.
    fn recall(&self, device: &D, y: &mut D::Buffer) {
        self.unpack(device, y);
    }
    /// As [`relax_adjoint`](Device::relax_adjoint), to the same bits; `step` is alpha and phi.
    fn relax_adjoint(
        &self,
        device: &D,
        step: (f64, Phi),
        g: &mut D::Buffer,
        delta: &mut D::Buffer,
        sum: &mut D::Buffer,
    );
    /// The same on a device that gathers.
    fn gathered_adjoint(&self, device: &D, adjoint: Adjoint<'_, D::Buffer>) {
        gathered_from_packed(device, self, adjoint);
    }
}

/// The packed maps of a device that saves no memory with them.
#[derive(Debug)]
pub struct Kept<B> {
    y: B,
    added: B,
}

impl<T: Real, D: Device<T>> PackedMaps<T, D> for Kept<D::Buffer> {
    fn room(device: &D, maps: Maps) -> Self {
        Self {
            y: device.zeros_maps(maps),
            added: device.zeros_maps(maps),
        }
    }

    fn bytes(device: &D, maps: Maps) -> u64 {
        2 * device.maps_bytes(maps)
    }

    fn pack(&mut self, device: &D, alpha: f64, x: &D::Buffer, y: &D::Buffer) {
        device.copy(y, &mut self.y);
        self.added = added(device, alpha, x, y);
    }

    fn unpack(&self, device: &D, y: &mut D::Buffer) {
        device.copy(&self.y, y);
    }

    fn relax_adjoint(
        &self,
        device: &D,
        step: (f64, Phi),
        g: &mut D::Buffer,
        delta: &mut D::Buffer,
        sum: &mut D::Buffer,
    ) {
        adjoint(device, step, &self.added, [g, delta, sum]);
    }
}

/// y - (1 - alpha) x, which is positive where phi(u) is and shows in y.
pub(super) fn added<T: Real, D: Device<T>>(device: &D, alpha: f64, x: &D::Buffer, y: &D::Buffer) -> D::Buffer {
    let mut added = device.duplicate(x);
    device.scale(-(1.0 - alpha), &mut added);
    device.add(y, &mut added);
    added
}

pub(super) fn relax<T: Real, D: Device<T>>(
    device: &D,
    work: &mut D::Workspace,
    terms: &[(&D::Filter, &D::Buffer)],
    batch: usize,
    step: Relaxation<'_, D::Buffer>,
) {
    let mut u = device.duplicate(step.offset);
    for (filter, z) in terms {
        device.conv(work, filter, batch, z, &mut u, true);
    }
    // phi(u) = slope u + (1 - slope) max(u, 0).
    let slope = step.phi.slope();
    let mut positive = device.duplicate(&u);
    device.rectify(&u, &mut positive);
    device.scale(slope, &mut u);
    device.add_scaled(1.0 - slope, &positive, &mut u);
    device.copy(step.x, step.y);
    device.scale(1.0 - step.alpha, step.y);
    device.add_scaled(step.alpha, &u, step.y);
}

/// delta = alpha phi'(u) g, sum += delta and g *= 1 - alpha; `added` is positive where u is.
pub(super) fn adjoint<T: Real, D: Device<T>>(
    device: &D,
    (alpha, phi): (f64, Phi),
    added: &D::Buffer,
    [g, delta, sum]: [&mut D::Buffer; 3],
) {
    let slope = phi.slope();
    let mut positive = device.duplicate(g);
    device.clear_where_not_positive(added, &mut positive);
    device.copy(g, delta);
    device.scale(alpha * slope, delta);
    device.add_scaled(alpha * (1.0 - slope), &positive, delta);
    device.add(delta, sum);
    device.scale(1.0 - alpha, g);
}

/// An adjoint that gathers in terms of one that does not; `relax_adjoint` has g, delta and sum.
pub(super) fn gathered<T: Real, D: Device<T>>(
    device: &D,
    y: &D::Buffer,
    Adjoint {
        alpha,
        phi,
        parts,
        g,
        delta,
        earlier,
        sum,
    }: Adjoint<'_, D::Buffer>,
    relax_adjoint: impl FnOnce((f64, Phi), [&mut D::Buffer; 3]),
) {
    for (part, masked) in parts {
        match masked {
            true => device.add_where_positive(y, part, g),
            false => device.add(part, g),
        }
    }
    let mut unread = sum.is_none().then(|| device.duplicate(g));
    let Some(sum) = sum.or(unread.as_mut()) else { return };
    for delta in earlier {
        device.add(delta, sum);
    }
    relax_adjoint((alpha, phi), [g, delta, sum]);
}

/// The same from packed maps.
pub(super) fn gathered_from_packed<T: Real, D: Device<T>, P: PackedMaps<T, D>>(
    device: &D,
    packed: &P,
    adjoint: Adjoint<'_, D::Buffer>,
) {
    let mut y = device.duplicate(adjoint.g);
    packed.unpack(device, &mut y);
    gathered(device, &y, adjoint, |step, [g, delta, sum]| {
        packed.relax_adjoint(device, step, g, delta, sum);
    });
}
