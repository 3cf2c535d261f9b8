//! The areas' dynamics without a tape: what every measurement runs.

use super::{AssocError, Group, Layout, Weights};
use crate::Real;

/// What a group of trials did.
#[derive(Clone, Debug)]
pub struct Activity<T> {
    /// Rates after every step, `[steps, trials, units]`.
    pub rates: Vec<T>,
    /// Outputs after every step, `[steps, trials, outputs]`.
    pub outputs: Vec<T>,
}

/// Runs a group from r = 0 with weights as they act ([`Weights::effective`], lesions applied):
/// r <- r + alpha (max(r W + drive + noise, 0) - r). Target and mask are not looked at.
///
/// # Errors
/// [`AssocError::Shape`] where sizes do not fit.
pub fn simulate<T: Real>(layout: &Layout, acting: &Weights<T>, group: &Group<T>) -> Result<Activity<T>, AssocError> {
    acting.check(layout)?;
    group.check(layout)?;
    let (units, trials) = (layout.units(), group.trials);
    let shown = layout.features + layout.cues;
    let alpha: Vec<T> = layout.alpha().into_iter().map(T::from_f64).collect();
    let bias = &acting.input[shown * units..];
    let mut rates = Vec::with_capacity(group.steps * trials * units);
    let mut outputs = Vec::with_capacity(group.steps * trials * layout.outputs);
    let mut now = vec![T::ZERO; trials * units];
    for step in 0..group.steps {
        for trial in 0..trials {
            let row = step * trials + trial;
            let rate = &mut now[trial * units..][..units];
            let mut current = bias.to_vec();
            add_product(&group.input[row * shown..][..shown], &acting.input, &mut current);
            add_product(rate, &acting.recurrent, &mut current);
            if let Some(noise) = group.noise.get(row * units..(row + 1) * units) {
                current
                    .iter_mut()
                    .zip(noise)
                    .for_each(|(current, noise)| *current += *noise);
            }
            for ((rate, current), alpha) in rate.iter_mut().zip(&current).zip(&alpha) {
                let phi = if *current > T::ZERO { *current } else { T::ZERO };
                *rate += *alpha * (phi - *rate);
            }
            let mut output = acting.output_bias.clone();
            add_product(rate, &acting.output, &mut output);
            outputs.extend_from_slice(&output);
        }
        rates.extend_from_slice(&now);
    }
    Ok(Activity { rates, outputs })
}

/// out += x A, with A by rows. Rates and features are often 0.
pub(super) fn add_product<T: Real>(x: &[T], a: &[T], out: &mut [T]) {
    for (x, row) in x.iter().zip(a.chunks_exact(out.len())) {
        if *x != T::ZERO {
            out.iter_mut().zip(row).for_each(|(out, a)| *out += *x * *a);
        }
    }
}
