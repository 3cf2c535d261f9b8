//! Loss and gradient of a group of trials by dfdx's reverse mode: drive and readout of all steps at once, and the
//! recurrence as an operation of our own.
//!
//! Sizes are checked at the door: dfdx asserts them only while it computes.

use std::ops::DerefMut;

use dfdx::dtypes::Dtype;
use dfdx::shapes::{Axes2, Axis, HasShape};
use dfdx::tensor::{Cpu, OwnedTape, PutTape, SplitTape, Storage, Tape, Tensor as Autodiff, TensorFromVec};
use dfdx::tensor_ops::{Backward, BroadcastTo, Device, PermuteTo, SumTo, TryAdd, TryMatMul, TryMul, TrySub};

use super::{AssocError, Layout, Weights};
use crate::Real;
use serde::{Deserialize, Serialize};

/// What the answer is compared by: -sum target ln softmax(output), or sum (output - target)^2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// cross-entropy of the right answer
    #[default]
    CrossEntropy,
    /// squared distance of the outputs from 1 for the right answer and 0 for the others
    SquaredError,
}

/// The training objective: loss under the mask, and penalties.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// What is compared with the target.
    pub loss: LossKind,
    /// Factor of the mean square of all rates.
    pub rate: f64,
    /// Factor of the sum of squares of all effective weights, biases left out.
    pub weight: f64,
}

/// Trials that are computed together. Steps stand outermost, so that a step is a matrix over trials.
#[derive(Clone, Debug, Default)]
pub struct Group<T> {
    /// Number of trials of the group.
    pub trials: usize,
    /// Euler steps of the longest trial.
    pub steps: usize,
    /// Features and cues, `[steps, trials, features + cues]`; the constant 1 is added.
    pub input: Vec<T>,
    /// Noise current, `[steps, trials, units]`; empty for none.
    pub noise: Vec<T>,
    /// Target, `[steps, trials, outputs]`.
    pub target: Vec<T>,
    /// Weight of each step of each trial in the loss, `[steps, trials]`.
    pub mask: Vec<T>,
}

impl<T: Real> Group<T> {
    /// Checks sizes against a layout.
    ///
    /// # Errors
    /// [`AssocError::Shape`].
    pub fn check(&self, layout: &Layout) -> Result<(), AssocError> {
        let rows = self.steps * self.trials;
        let noise = if self.noise.is_empty() {
            0
        } else {
            rows * layout.units()
        };
        for (what, found, expected) in [
            ("input", self.input.len(), rows * (layout.features + layout.cues)),
            ("noise", self.noise.len(), noise),
            ("target", self.target.len(), rows * layout.outputs),
            ("mask", self.mask.len(), rows),
        ] {
            if found != expected {
                return Err(AssocError::Shape { what, found, expected });
            }
        }
        if rows == 0 {
            return Err(AssocError::setting("trials", "a group needs a trial and a step"));
        }
        Ok(())
    }
}

/// How a group counts within its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Sum of the mask over the whole batch.
    pub mask: f64,
    /// The group's share of the batch's trials; shares sum to 1.
    pub trials: f64,
}

/// Loss and gradient of a group. Groups of a batch sum to the batch's.
#[derive(Clone, Debug)]
pub struct GroupGradient<T> {
    /// Loss and penalties together: what is minimised.
    pub objective: f64,
    /// The loss under the mask alone.
    pub loss: f64,
    /// Gradient by the trained values.
    pub weights: Weights<T>,
    /// Gradient by the features, `[steps, trials, features]`: what a front-end that is trained through gets. Empty
    /// unless asked for.
    pub features: Vec<T>,
}

/// A matrix that the tape knows, `[rows, columns]`.
type Matrix<T> = Autodiff<(usize, usize), T, Cpu>;

/// Loss and gradient of one group of trials; the areas start from r = 0.
///
/// # Errors
/// [`AssocError::Shape`] where sizes do not fit, [`AssocError::Memory`].
pub fn group_gradient<T>(
    layout: &Layout,
    weights: &Weights<T>,
    group: &Group<T>,
    objective: &Objective,
    share: Share,
    features: bool,
) -> Result<GroupGradient<T>, AssocError>
where
    T: Real + Dtype,
    Cpu: Device<T> + Storage<T, Vec: DerefMut<Target = Vec<T>>>,
{
    layout.validate()?;
    weights.check(layout)?;
    group.check(layout)?;
    let (units, outputs, inputs) = (layout.units(), layout.outputs, layout.inputs());
    let (trials, steps) = (group.trials, group.steps);
    let rows = steps * trials;
    let device = Cpu::default();
    let matrix = |values: Vec<T>, shape: (usize, usize)| device.try_tensor_from_vec(values, shape);
    let masked = |mask: Vec<f64>| mask.into_iter().map(real).collect::<Vec<T>>();

    let recurrent = matrix(weights.recurrent.clone(), (units, units))?;
    let input = matrix(weights.input.clone(), (inputs, units))?;
    let output = matrix(weights.output.clone(), (units, outputs))?;
    let output_bias = device.try_tensor_from_vec(weights.output_bias.clone(), (outputs,))?;

    let taped = recurrent.clone().put_tape(OwnedTape::default());
    let taped = if layout.excitatory.is_some() {
        taped.try_abs()?
    } else {
        taped
    };
    let taped = taped.try_mul(matrix(masked(layout.recurrent_mask()), (units, units))?)?;
    let (acting_recurrent, tape) = taped.split_tape();
    let taped = input
        .clone()
        .put_tape(tape)
        .try_mul(matrix(masked(layout.input_mask()), (inputs, units))?)?;
    let (acting_input, tape) = taped.split_tape();
    let taped = output
        .clone()
        .put_tape(tape)
        .try_mul(matrix(masked(layout.output_mask()), (units, outputs))?)?;
    let (acting_output, tape) = taped.split_tape();

    // One product gives the drive of all steps.
    let shown = matrix(with_constant(&group.input, rows, inputs), (rows, inputs))?;
    let (drive, tape) = drive(&shown, &acting_input, features, tape)?;
    let (rates, tape) = rates(&device, layout, group, &acting_recurrent, &drive, tape)?;

    let logits = rates.clone().put_tape(tape).try_matmul(acting_output.clone())?;
    let (logits, tape) = logits.split_tape();
    let (bias, tape) = output_bias
        .clone()
        .put_tape(tape)
        .try_broadcast_like::<_, Axis<0>>(&(rows, outputs))?
        .split_tape();
    let logits = logits.put_tape(tape).try_add(bias)?;
    let scale = 1.0 / share.mask.max(f64::MIN_POSITIVE);
    let weight = |row: usize| group.mask[row] * real(scale);
    let loss = match objective.loss {
        LossKind::CrossEntropy => {
            let target = group.target.chunks_exact(outputs).enumerate();
            let target = target.flat_map(|(row, target)| target.iter().map(move |t| -*t * weight(row)));
            logits
                .try_log_softmax::<Axis<1>>()?
                .try_mul(matrix(target.collect(), (rows, outputs))?)?
        }
        LossKind::SquaredError => {
            let weights = (0..rows).flat_map(|row| std::iter::repeat_n(weight(row), outputs));
            let weights = matrix(weights.collect(), (rows, outputs))?;
            logits
                .try_sub(matrix(group.target.clone(), (rows, outputs))?)?
                .try_square()?
                .try_mul(weights)?
        }
    };
    let (loss, tape) = SumTo::try_sum::<(), _>(loss)?.split_tape();
    let loss_value = loss.as_vec().first().map_or(f64::NAN, |value| Real::to_f64(*value));

    let rate_factor = objective.rate * share.trials / (rows * units) as f64;
    let square = |tensor: Matrix<T>, tape, factor: f64| -> Result<_, AssocError> {
        let sum = SumTo::try_sum::<(), _>(tensor.put_tape(tape).try_square()?)?;
        Ok(sum.try_mul(real::<T>(factor))?.split_tape())
    };
    let (rate, tape) = square(rates, tape, rate_factor)?;
    let weight_factor = objective.weight * share.trials;
    let (first, tape) = square(acting_recurrent, tape, weight_factor)?;
    let (second, tape) = square(acting_input, tape, weight_factor)?;
    let (third, tape) = square(acting_output, tape, weight_factor)?;
    let total = loss
        .put_tape(tape)
        .try_add(rate)?
        .try_add(first)?
        .try_add(second)?
        .try_add(third)?;
    let value = total.as_vec().first().map_or(f64::NAN, |value| Real::to_f64(*value));
    let gradients = total.try_backward()?;
    let features = if features {
        let shown = gradients.get(&shown).as_vec();
        shown
            .chunks_exact(inputs)
            .flat_map(|row| row[..layout.features].to_vec())
            .collect()
    } else {
        Vec::new()
    };
    Ok(GroupGradient {
        objective: value,
        loss: loss_value,
        weights: Weights {
            recurrent: gradients.get(&recurrent).as_vec(),
            input: gradients.get(&input).as_vec(),
            output: gradients.get(&output).as_vec(),
            output_bias: gradients.get(&output_bias).as_vec(),
        },
        features,
    })
}

/// dfdx's number types have a conversion of the same name.
fn real<T: Real>(value: f64) -> T {
    <T as Real>::from_f64(value)
}

/// Rows of features and cues with a 1 behind each.
fn with_constant<T: Real>(input: &[T], rows: usize, inputs: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(rows * inputs);
    for row in 0..rows {
        out.extend_from_slice(&input[row * (inputs - 1)..][..inputs - 1]);
        out.push(<T as Real>::ONE);
    }
    out
}

/// Rates after every step, `[steps * trials, units]`, from r = 0:
/// r <- r + alpha (max(r W + drive + noise, 0) - r).
///
/// Products are dfdx's; the recurrence is one operation whose backward pass is written here. As separate operations of
/// every step it takes several times as long, and the gradient of W is one product over all steps in place of one a
/// step.
fn rates<T>(
    device: &Cpu,
    layout: &Layout,
    group: &Group<T>,
    recurrent: &Matrix<T>,
    drive: &Matrix<T>,
    mut tape: OwnedTape<T, Cpu>,
) -> Result<(Matrix<T>, OwnedTape<T, Cpu>), AssocError>
where
    T: Real + Dtype,
    Cpu: Device<T> + Storage<T, Vec: DerefMut<Target = Vec<T>>>,
{
    let (units, trials, steps) = (layout.units(), group.trials, group.steps);
    let len = trials * units;
    let alpha: Vec<T> = layout.alpha().into_iter().map(real).collect();
    let mut history = drive.as_vec();
    let mut active = vec![false; steps * len];
    let mut before = vec![T::ZERO; len];
    for (step, (now, active)) in history
        .chunks_exact_mut(len)
        .zip(active.chunks_exact_mut(len))
        .enumerate()
    {
        let rate = device.try_tensor_from_vec(before, (trials, units))?;
        let current = rate.clone().try_matmul(recurrent.clone())?.as_vec();
        before = rate.as_vec();
        let noise = group.noise.get(step * len..(step + 1) * len);
        for (index, value) in now.iter_mut().enumerate() {
            let mut u = current[index] + *value;
            if let Some(noise) = noise {
                u += noise[index];
            }
            active[index] = u > T::ZERO;
            let phi = if u > T::ZERO { u } else { T::ZERO };
            *value = before[index] + alpha[index % units] * (phi - before[index]);
        }
        before.copy_from_slice(now);
    }
    let all = device.try_tensor_from_vec(history.clone(), (steps * trials, units))?;
    let (after, weights, drive) = (all.ghost(), recurrent.clone(), drive.ghost());
    let device = device.clone();
    tape.add_backward_op(move |gradients| {
        // From dL/dr to dL/du, the last step first.
        let mut delta = gradients.get_or_alloc_mut(&after)?.to_vec();
        let transposed = weights.clone().try_permute::<_, Axes2<1, 0>>()?;
        let mut carried = vec![T::ZERO; len];
        for step in (0..steps).rev() {
            let (delta, active) = (&mut delta[step * len..][..len], &active[step * len..][..len]);
            for (index, (delta, carried)) in delta.iter_mut().zip(&mut carried).enumerate() {
                let (incoming, alpha) = (*delta + *carried, alpha[index % units]);
                *delta = if active[index] { alpha * incoming } else { T::ZERO };
                *carried = (<T as Real>::ONE - alpha) * incoming;
            }
            let through = device.try_tensor_from_vec(delta.to_vec(), (trials, units))?;
            let through = through.try_matmul(transposed.clone())?.as_vec();
            carried
                .iter_mut()
                .zip(through)
                .for_each(|(carried, through)| *carried += through);
        }
        let own = gradients.get_or_alloc_mut(&drive)?;
        own.iter_mut().zip(&delta).for_each(|(own, delta)| *own += *delta);
        // The first step begins with r = 0.
        let (rows, first) = ((steps - 1) * trials, len.min(delta.len()));
        history.truncate(rows * units);
        let sources = device.try_tensor_from_vec(history, (rows, units))?;
        let delta = device.try_tensor_from_vec(delta[first..].to_vec(), (rows, units))?;
        let found = sources.try_permute::<_, Axes2<1, 0>>()?.try_matmul(delta)?.as_vec();
        let own = gradients.get_or_alloc_mut(&weights)?;
        own.iter_mut().zip(found).for_each(|(own, found)| *own += found);
        Ok(())
    });
    Ok((all, tape))
}

/// The drive of all steps from what is shown, `[rows, inputs]` times the input weights. The gradient by what is shown,
/// which takes as long as the drive itself, is left out unless asked for.
fn drive<T>(
    shown: &Matrix<T>,
    weights: &Matrix<T>,
    features: bool,
    mut tape: OwnedTape<T, Cpu>,
) -> Result<(Matrix<T>, OwnedTape<T, Cpu>), AssocError>
where
    T: Real + Dtype,
    Cpu: Device<T> + Storage<T, Vec: DerefMut<Target = Vec<T>>>,
{
    let drive = shown.clone().try_matmul(weights.clone())?;
    let (after, shown, weights) = (drive.ghost(), shown.clone(), weights.clone());
    let shape = *drive.shape();
    let device = Cpu::default();
    tape.add_backward_op(move |gradients| {
        let delta = gradients.get_or_alloc_mut(&after)?.to_vec();
        let delta = device.try_tensor_from_vec(delta, shape)?;
        let sources = shown.clone().try_permute::<_, Axes2<1, 0>>()?;
        let found = sources.try_matmul(delta.clone())?.as_vec();
        let own = gradients.get_or_alloc_mut(&weights)?;
        own.iter_mut().zip(found).for_each(|(own, found)| *own += found);
        if features {
            let transposed = weights.clone().try_permute::<_, Axes2<1, 0>>()?;
            let found = delta.try_matmul(transposed)?.as_vec();
            gradients.get_or_alloc_mut(&shown)?.copy_from_slice(&found);
        }
        Ok(())
    });
    Ok((drive, tape))
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::small;
    use super::super::simulate::simulate;
    use super::*;
    use crate::rng::{Purpose, Stream};

    const TRIALS: usize = 4;
    const STEPS: usize = 7;

    fn draws(count: usize, purpose: u32) -> Vec<f64> {
        let mut stream = Stream::new(1, Purpose::Probe, 0, 0, purpose, 0);
        (0..count).map(|_| stream.normal()).collect()
    }

    fn group(layout: &Layout) -> Group<f64> {
        let rows = STEPS * TRIALS;
        let mut target = vec![0.0; rows * layout.outputs];
        for row in 0..rows {
            target[row * layout.outputs + row % layout.outputs] = 1.0;
        }
        Group {
            trials: TRIALS,
            steps: STEPS,
            input: draws(rows * (layout.features + layout.cues), 1),
            noise: draws(rows * layout.units(), 2).iter().map(|xi| 0.1 * xi).collect(),
            target,
            mask: (0..rows).map(|row| (row % 3) as f64).collect(),
        }
    }

    fn objective(loss: LossKind) -> Objective {
        Objective {
            loss,
            rate: 0.3,
            weight: 0.02,
        }
    }

    fn share(group: &Group<f64>) -> Share {
        Share {
            mask: group.mask.iter().sum(),
            trials: 1.0,
        }
    }

    /// The objective from a plain simulation, sum by sum.
    fn plain(layout: &Layout, weights: &Weights<f64>, group: &Group<f64>, objective: &Objective) -> f64 {
        let acting = weights.effective(layout);
        let activity = simulate(layout, &acting, group).expect("sizes fit");
        let mut loss = 0.0;
        for (row, output) in activity.outputs.chunks_exact(layout.outputs).enumerate() {
            let target = &group.target[row * layout.outputs..][..layout.outputs];
            let sum: f64 = output.iter().map(|z| z.exp()).sum();
            let one: f64 = match objective.loss {
                LossKind::CrossEntropy => output.iter().zip(target).map(|(z, t)| -t * (z - sum.ln())).sum(),
                LossKind::SquaredError => output.iter().zip(target).map(|(z, t)| (z - t).powi(2)).sum(),
            };
            loss += group.mask[row] * one / group.mask.iter().sum::<f64>();
        }
        let squares = |values: &[f64]| values.iter().map(|v| v * v).sum::<f64>();
        let weight = squares(&acting.recurrent) + squares(&acting.input) + squares(&acting.output);
        loss + objective.rate * squares(&activity.rates) / activity.rates.len() as f64 + objective.weight * weight
    }

    /// float64 and central differences of 1e-5: the error of the difference is 1e-10 times the third derivative,
    /// rounding 1e-16 / 1e-5; values are of order 1, so 1e-7 leaves a factor of hundreds. No unit is that close to its
    /// kink.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (excitatory, loss) in [
            (None, LossKind::CrossEntropy),
            (Some(0.8), LossKind::CrossEntropy),
            (None, LossKind::SquaredError),
        ] {
            let layout = small(excitatory);
            let mut weights = Weights::initial(&layout, 1.2, 5).cast::<f64>();
            weights.output_bias = vec![0.1, -0.2, 0.3];
            let mut group = group(&layout);
            let objective = objective(loss);
            let found = group_gradient(&layout, &weights, &group, &objective, share(&group), true).expect("sizes fit");
            let value = plain(&layout, &weights, &group, &objective);
            assert!(
                (found.objective - value).abs() < 1e-12,
                "{} against {value}",
                found.objective
            );
            let h = 1e-5;
            for block in 0..4 {
                let len = weights.blocks()[block].len();
                for index in (0..len).step_by(1 + len / 40) {
                    let mut shifted = |delta: f64| {
                        weights.blocks_mut()[block][index] += delta;
                        let value = plain(&layout, &weights, &group, &objective);
                        weights.blocks_mut()[block][index] -= delta;
                        value
                    };
                    let difference = (shifted(h) - shifted(-h)) / (2.0 * h);
                    let gradient = found.weights.blocks()[block][index];
                    assert!(
                        (gradient - difference).abs() < 1e-7,
                        "block {block}, {index}: {gradient}, {difference}"
                    );
                }
            }
            for index in 0..STEPS * TRIALS * 3 {
                let place = index / 3 * 5 + index % 3;
                let mut shifted = |delta: f64| {
                    group.input[place] += delta;
                    let value = plain(&layout, &weights, &group, &objective);
                    group.input[place] -= delta;
                    value
                };
                let difference = (shifted(h) - shifted(-h)) / (2.0 * h);
                assert!((found.features[index] - difference).abs() < 1e-7, "feature {index}");
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused_before_dfdx_sees_them() {
        let layout = small(None);
        let weights = Weights::initial(&layout, 1.0, 0).cast::<f64>();
        let good = group(&layout);
        let refused = |change: fn(&mut Group<f64>)| {
            let mut group = good.clone();
            change(&mut group);
            let objective = objective(LossKind::CrossEntropy);
            matches!(
                group_gradient(&layout, &weights, &group, &objective, share(&good), false),
                Err(AssocError::Shape { .. } | AssocError::Setting { .. })
            )
        };
        assert!(refused(|group| group.input.truncate(3)));
        assert!(refused(|group| group.noise.truncate(3)));
        assert!(refused(|group| group.target.truncate(3)));
        assert!(refused(|group| group.mask.truncate(3)));
        assert!(refused(|group| *group = Group::default()));
    }
}
