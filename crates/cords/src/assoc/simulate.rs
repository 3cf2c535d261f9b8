//! The areas' dynamics without a tape: what every measurement runs.

use faer::linalg::matmul::matmul;
use faer::traits::ComplexField;
use faer::{Accum, MatMut, MatRef, Par};

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
/// r <- r + alpha (max(r W + drive + noise, 0) - r). Target and mask are not looked at. Where rates leave the finite
/// numbers, they and the outputs stay outside them.
///
/// # Errors
/// [`AssocError::Shape`] where sizes do not fit.
pub fn simulate<T: Real + ComplexField>(
    layout: &Layout,
    acting: &Weights<T>,
    group: &Group<T>,
) -> Result<Activity<T>, AssocError> {
    simulate_driven(layout, acting, group, &drive(layout, acting, group)?)
}

/// The current of all steps that does not come from the areas, `[steps, trials, units]`: input, bias and noise. It is
/// the same for networks that differ in their recurrent weights alone.
pub(super) fn drive<T: Real + ComplexField>(
    layout: &Layout,
    acting: &Weights<T>,
    group: &Group<T>,
) -> Result<Vec<T>, AssocError> {
    acting.check(layout)?;
    group.check(layout)?;
    let units = layout.units();
    let shown = layout.features + layout.cues;
    let bias = &acting.input[shown * units..];
    let mut drive = match group.noise.is_empty() {
        true => vec![T::ZERO; group.steps * group.trials * units],
        false => group.noise.clone(),
    };
    for current in drive.chunks_exact_mut(units) {
        current
            .iter_mut()
            .zip(bias)
            .for_each(|(current, bias)| *current += *bias);
    }
    add_products(&group.input, &acting.input[..shown * units], shown, &mut drive);
    Ok(drive)
}

/// As [`simulate`], from the group's [`drive`].
pub(super) fn simulate_driven<T: Real + ComplexField>(
    layout: &Layout,
    acting: &Weights<T>,
    group: &Group<T>,
    drive: &[T],
) -> Result<Activity<T>, AssocError> {
    acting.check(layout)?;
    let units = layout.units();
    let alpha: Vec<T> = layout.alpha().into_iter().map(T::from_f64).collect();
    let mut rates: Vec<T> = Vec::with_capacity(drive.len());
    let mut now = vec![T::ZERO; group.trials * units];
    let mut current = now.clone();
    for drive in drive.chunks_exact(now.len()) {
        current.copy_from_slice(drive);
        add_products(&now, &acting.recurrent, units, &mut current);
        for (rate, current) in now.chunks_exact_mut(units).zip(current.chunks_exact(units)) {
            for ((rate, current), alpha) in rate.iter_mut().zip(current).zip(&alpha) {
                // Not a maximum: that would take what is no number for 0.
                let phi = if *current <= T::ZERO { T::ZERO } else { *current };
                *rate += *alpha * (phi - *rate);
            }
        }
        rates.extend_from_slice(&now);
    }
    let mut outputs: Vec<T> = Vec::with_capacity(rates.len() / units * layout.outputs);
    (0..rates.len() / units).for_each(|_| outputs.extend_from_slice(&acting.output_bias));
    add_products(&rates, &acting.output, units, &mut outputs);
    Ok(Activity { rates, outputs })
}

/// out += X A, with X `[rows, inner]` and A `[inner, columns]`, all by rows. The same bits for any number of threads.
fn add_products<T: Real + ComplexField>(x: &[T], a: &[T], inner: usize, out: &mut [T]) {
    if inner == 0 || x.is_empty() {
        return;
    }
    let (rows, columns) = (x.len() / inner, a.len() / inner);
    matmul(
        MatMut::from_row_major_slice_mut(out, rows, columns),
        Accum::Add,
        MatRef::from_row_major_slice(x, rows, inner),
        MatRef::from_row_major_slice(a, inner, columns),
        <T as Real>::ONE,
        Par::Seq,
    );
}

/// out += x A, with A by rows. Rates and features are often 0.
pub(super) fn add_product<T: Real>(x: &[T], a: &[T], out: &mut [T]) {
    for (x, row) in x.iter().zip(a.chunks_exact(out.len())) {
        if *x != T::ZERO {
            out.iter_mut().zip(row).for_each(|(out, a)| *out += *x * *a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::small;
    use super::*;
    use crate::rng::{Purpose, Stream};

    /// Step by step as it stands in the comment, unit by unit.
    #[test]
    fn products_of_all_trials_are_those_of_each() {
        let layout = small(Some(0.8));
        let acting = Weights::initial(&layout, 1.2, 2).cast::<f64>().effective(&layout);
        let (trials, steps, units) = (5, 6, layout.units());
        let mut stream = Stream::new(0, Purpose::Probe, 0, 0, 0, 0);
        let mut draws = |count: usize| -> Vec<f64> { (0..count).map(|_| stream.normal()).collect() };
        let shown = layout.features + layout.cues;
        let group = Group {
            trials,
            steps,
            input: draws(steps * trials * shown),
            noise: draws(steps * trials * units),
            target: vec![0.0; steps * trials * layout.outputs],
            mask: vec![1.0; steps * trials],
        };
        let found = simulate(&layout, &acting, &group).expect("sizes fit");
        let alpha = layout.alpha();
        for trial in 0..trials {
            let mut rates = vec![0.0; units];
            for step in 0..steps {
                let row = step * trials + trial;
                let mut current = acting.input[shown * units..].to_vec();
                add_product(&group.input[row * shown..][..shown], &acting.input, &mut current);
                add_product(&rates, &acting.recurrent, &mut current);
                for (unit, rate) in rates.iter_mut().enumerate() {
                    let u = current[unit] + group.noise[row * units + unit];
                    *rate += alpha[unit] * (u.max(0.0) - *rate);
                }
                let mut output = acting.output_bias.clone();
                add_product(&rates, &acting.output, &mut output);
                for (expected, found) in [(&rates, &found.rates), (&output, &found.outputs)] {
                    let found = &found[row * expected.len()..][..expected.len()];
                    // Sums of some ten values of order 1 in another order.
                    assert!(expected.iter().zip(found).all(|(a, b)| (a - b).abs() < 1e-13));
                }
            }
        }
    }

    #[test]
    fn what_diverges_does_not_come_back() {
        let layout = small(None);
        let mut acting = Weights::initial(&layout, 1e30, 2).effective(&layout);
        acting.input[(layout.inputs() - 1) * layout.units()..].fill(1.0);
        let steps = 40;
        let group = Group {
            trials: 1,
            steps,
            input: vec![1.0; steps * (layout.features + layout.cues)],
            noise: Vec::new(),
            target: vec![0.0; steps * layout.outputs],
            mask: vec![1.0; steps],
        };
        let found = simulate(&layout, &acting, &group).expect("sizes fit");
        let last = &found.outputs[(steps - 1) * layout.outputs..];
        assert!(last.iter().all(|z| !z.is_finite()), "{last:?}");
    }
}
