//! The gradient of anything that is made of activity, with respect to the images that are shown.

use super::TrainError;
use super::activity::{GradientAt, there_and_back};
use super::history::HistoryPrecision;
use super::memory::{Memory, Plan};
use super::trajectory::{Period, Trajectory};
use crate::Real;
use crate::device::Device;
use crate::interrupt;
use crate::net::{CordsNet, NetError};

/// dL/dx of normalised images x, `[batch, in_channels, image_side, image_side]`, which are held for `steps` steps from
/// the spontaneous state after `spontaneous_steps` on, where L reads the activity of `areas`. `at(image, step, area,
/// out)` writes dL/dr of one image after `step` steps, `[channels, side, side]`, and says whether there is any; `out`
/// comes as zeros. The spontaneous state depends on no image.
///
/// Activities are kept, or computed a second time, as `memory` allows; the gradient is the same bits.
///
/// # Errors
/// [`NetError::Length`] where the images are not a number of whole ones, [`TrainError::Setting`] where there is no step
/// or an area is none of the network, [`TrainError::Memory`] where a group of images does not fit,
/// [`TrainError::Device`].
pub fn image_gradient<T: Real, D: Device<T>>(
    net: &CordsNet<T, D>,
    images: &[T],
    (spontaneous_steps, steps): (usize, usize),
    memory: Memory,
    areas: &[usize],
    at: &GradientAt<'_, T>,
) -> Result<Vec<T>, TrainError> {
    let connections = net.connections();
    let (device, architecture) = (&connections.device, &connections.architecture);
    let image_len = architecture.image_len();
    let batch = images.len() / image_len;
    check(images.len(), batch * image_len, steps)?;
    if let Some(area) = areas.iter().find(|area| **area >= architecture.areas()) {
        let last = architecture.areas() - 1;
        return Err(TrainError::Setting {
            field: "areas",
            problem: format!("area {area}, but the network has areas 0 to {last}"),
        });
    }
    let plan = Plan::new(connections, (steps, 0), batch.max(1), memory, HistoryPrecision::Float32)?;
    let spontaneous = connections.spontaneous(spontaneous_steps);
    let shown = [Period { steps, shows: true }];
    let (size, stop) = (device.group_images(), interrupt::current());
    let mut gradient = vec![T::ZERO; images.len()];
    let parts = images
        .chunks(size * image_len)
        .zip(gradient.chunks_mut(size * image_len));
    let mut groups: Vec<(&[T], &mut [T])> = parts.collect();
    for (wave, groups) in groups.chunks_mut(plan.groups).enumerate() {
        let before = wave * plan.groups * size;
        device.for_each(groups, |number, (images, out)| {
            let mut trial = Trajectory::new(connections, &shown, images.len() / image_len, plan);
            trial.show(connections, 0, images);
            trial.start_from(device, &spontaneous);
            there_and_back(connections, &mut trial, before + number * size, (areas, at), &stop);
            trial.take_image_gradient(connections, out);
        });
    }
    device.check()?;
    Ok(gradient)
}

fn check(found: usize, expected: usize, steps: usize) -> Result<(), TrainError> {
    if found != expected {
        let what = "the batch of images".to_owned();
        return Err(NetError::Length { what, found, expected }.into());
    }
    if steps == 0 {
        return Err(TrainError::Setting {
            field: "steps",
            problem: "images are shown for one step at least".to_owned(),
        });
    }
    Ok(())
}
