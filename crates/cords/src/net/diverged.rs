//! Images whose activity has diverged.

use crate::device::{Device, Maps};

/// Which images of a group have activity that is not finite, where any has. Activations hide it from the logits:
/// ReLU(NaN) is 0.
pub(crate) fn diverged<D: Device<f32>>(device: &D, activity: &[(Maps, &D::Buffer)], batch: usize) -> Vec<bool> {
    let mut reductions = D::Reductions::default();
    for (_, activity) in activity {
        device.max_abs(activity, &mut reductions);
    }
    let mut diverged = vec![false; batch];
    if device
        .read(&mut reductions)
        .concat()
        .iter()
        .all(|largest| largest.is_finite())
    {
        return diverged;
    }
    for (maps, activity) in activity {
        let mut host = vec![0.0f32; maps.len()];
        device.download_maps(*maps, activity, &mut host);
        for (diverged, image) in diverged.iter_mut().zip(host.chunks_exact(maps.len() / batch)) {
            *diverged |= image.iter().any(|r| !r.is_finite());
        }
    }
    diverged
}
