//! What images are to be answered with.

use super::Real;

/// What an image is to be answered with: its class, or where it is mixed of two images, both of theirs. The
/// distribution over classes is `weight` one-hot(`label`) + (1 - `weight`) one-hot(`partner`).
///
/// ```
/// use cords::device::Target;
///
/// assert_eq!(Target::from(3).share(3), 1.0);
/// // Each image of a batch is mixed with the one before it, the first with the last.
/// let mixed = Target::of_mixed(&[3, 5, 5], 0.75);
/// assert_eq!((mixed[1].share(5), mixed[1].share(3), mixed[1].share(0)), (0.75, 0.25, 0.0));
/// assert_eq!(mixed[2].share(5), 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// Class of the image.
    pub label: u32,
    /// Class of the image that is mixed into it; that of the image itself where none is.
    pub partner: u32,
    /// Weight of `label`, from 0 to 1.
    pub weight: f32,
}

impl From<u32> for Target {
    /// Of an image of a class, as it is.
    fn from(label: u32) -> Self {
        Self {
            label,
            partner: label,
            weight: 1.0,
        }
    }
}

impl Target {
    /// Of images of these classes, as they are.
    pub fn of(labels: &[u32]) -> Vec<Self> {
        labels.iter().map(|label| Self::from(*label)).collect()
    }

    /// Of a batch of images of these classes, each of which is mixed with the one before it and the first with the
    /// last. `weight` is that of each image itself.
    pub fn of_mixed(labels: &[u32], weight: f32) -> Vec<Self> {
        let before = labels.last().into_iter().chain(labels);
        let pairs = labels.iter().zip(before);
        pairs
            .map(|(label, partner)| Self {
                label: *label,
                partner: *partner,
                weight,
            })
            .collect()
    }

    /// The share of a class: how far it is right as the answer.
    pub fn share(&self, class: usize) -> f64 {
        let weight = f64::from(self.weight);
        let share = |is: bool, weight| if is { weight } else { 0.0 };
        share(class == self.label as usize, weight) + share(class == self.partner as usize, 1.0 - weight)
    }

    /// Three numbers for each target, as kernels read them.
    pub(super) fn numbers<T: Real>(targets: &[Self]) -> Vec<T> {
        let numbers = |target: &Self| {
            [
                f64::from(target.label),
                f64::from(target.partner),
                f64::from(target.weight),
            ]
        };
        targets.iter().flat_map(numbers).map(T::from_f64).collect()
    }

    /// The target of which these are the numbers.
    pub(super) fn of_numbers<T: Real>([label, partner, weight]: [T; 3]) -> Self {
        Self {
            label: label.to_f64() as u32,
            partner: partner.to_f64() as u32,
            weight: weight.to_f64() as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::plain::Plain;
    use super::super::{Cpu, Device, Maps};
    use super::*;

    const CLASSES: usize = 5;
    const SCALE: f64 = 0.3;

    /// Losses, and gradients `[images, classes]`.
    fn cross_entropy<D: Device<f64>>(device: &D, logits: &[f64], targets: &[Target]) -> (Vec<f64>, Vec<f64>) {
        let maps = Maps {
            batch: targets.len(),
            channels: CLASSES,
            side: 1,
        };
        let (mut uploaded, mut dlogits) = (device.zeros_maps(maps), device.zeros_maps(maps));
        device.upload_maps(maps, logits, &mut uploaded);
        let (mut wanted, mut reductions) = (device.zeros(0), D::Reductions::default());
        device.upload_targets(targets, &mut wanted);
        device.cross_entropy(CLASSES, &uploaded, &wanted, SCALE, &mut dlogits, &mut reductions);
        let mut gradient = vec![0.0; logits.len()];
        device.download_maps(maps, &dlogits, &mut gradient);
        (device.read(&mut reductions).concat(), gradient)
    }

    /// Neighbours of one class and of two, and weights at both ends.
    fn batch() -> (Vec<f64>, Vec<Target>) {
        let mut targets = Target::of_mixed(&[2, 4, 4, 0], 0.7);
        targets.extend(Target::of_mixed(&[1, 3], 0.0));
        targets.extend(Target::of_mixed(&[1, 3], 1.0));
        targets.extend(Target::of(&[3, 0]));
        let logits = (0..targets.len() * CLASSES).map(|i| 3.0 * (1.7 * i as f64).sin());
        (logits.collect(), targets)
    }

    fn follows_the_formula<D: Device<f64>>(device: &D) {
        let (logits, targets) = batch();
        let (losses, gradient) = cross_entropy(device, &logits, &targets);
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found} for {expected}");
        for (image, target) in targets.iter().enumerate() {
            let logits = &logits[image * CLASSES..][..CLASSES];
            let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let weight = f64::from(target.weight);
            let mut wanted = [0.0; CLASSES];
            wanted[target.label as usize] += weight;
            wanted[target.partner as usize] += 1.0 - weight;
            let entropy = logits
                .iter()
                .zip(wanted)
                .map(|(logit, t)| -t * (logit.exp() / total).ln());
            near(losses[image], entropy.sum());
            for (class, (logit, t)) in logits.iter().zip(wanted).enumerate() {
                near(gradient[image * CLASSES + class], SCALE * (logit.exp() / total - t));
            }
        }
        // The gradient is that of the losses.
        for at in 0..logits.len() {
            let sum = |change: f64| -> f64 {
                let mut logits = logits.clone();
                logits[at] += change;
                cross_entropy(device, &logits, &targets).0.iter().sum()
            };
            let difference = SCALE * (sum(1e-5) - sum(-1e-5)) / 2e-5;
            assert!((gradient[at] - difference).abs() < 1e-8, "{at}: {difference}");
        }
    }

    #[test]
    fn the_loss_of_two_classes_and_its_gradient_follow_their_formula() {
        follows_the_formula(&Plain);
        follows_the_formula(&Cpu);
    }

    /// Whatever the partner of an image that is all its own, down to the last bit.
    #[test]
    fn a_class_of_weight_0_leaves_no_trace() {
        let (logits, targets) = batch();
        let labels: Vec<u32> = targets.iter().map(|target| target.label).collect();
        let with = |targets: Vec<Target>| {
            let (losses, gradient) = cross_entropy(&Cpu, &logits, &targets);
            let bits = losses.iter().chain(&gradient).map(|value| value.to_bits());
            bits.collect::<Vec<_>>()
        };
        assert_eq!(with(Target::of(&labels)), with(Target::of_mixed(&labels, 1.0)));
    }
}
