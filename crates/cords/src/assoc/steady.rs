//! Steady states of the areas under held inputs, as in a delay, and the spectrum of their linearisation there.
//!
//! Areas feed back to one another, so the Jacobian is that of all areas together: J = T^-1 (-I + D W), with T the time
//! constants and D the derivative of the rectification.

use super::simulate::add_product;
use super::{AssocError, Layout, Weights};
use crate::dynamics::{
    Eigenpair, KrylovOptions, LinearOperator, Mode, Relaxation, SteadyMethod, SteadyOptions, Which, leading_eigenvalues,
};

/// The state in which noise-free Euler steps of association areas ended.
#[derive(Clone, Debug, PartialEq)]
pub struct AssocSteadyState {
    /// Rates of all units.
    pub rates: Vec<f64>,
    /// max |phi(u) - r| at the end.
    pub residual: f64,
    /// Whether that reached the tolerance.
    pub converged: bool,
    /// Number of Euler steps made.
    pub steps: usize,
}

/// Runs noise-free Euler steps under a held input (features and cues) until max |phi(u) - r| is at most `tolerance`.
///
/// # Errors
/// [`AssocError::Shape`] where sizes do not fit.
pub fn settle(
    layout: &Layout,
    acting: &Weights<f64>,
    input: &[f64],
    start: &[f64],
    tolerance: f64,
    max_steps: usize,
) -> Result<AssocSteadyState, AssocError> {
    let held = Held::new(layout, acting, input, start)?;
    let options = SteadyOptions {
        tolerance,
        max_steps,
        method: SteadyMethod::Simulation,
        ..SteadyOptions::default()
    };
    let mut rates = start.to_vec();
    let settled = held.settle(&mut rates, &options);
    Ok(AssocSteadyState {
        rates,
        residual: settled.residual,
        converged: settled.residual <= tolerance,
        steps: settled.products - 1,
    })
}

/// The modes of largest real part at a state; false where they did not reach the solver's tolerance.
///
/// # Errors
/// [`AssocError::Shape`] where sizes do not fit.
pub fn modes(
    layout: &Layout,
    acting: &Weights<f64>,
    input: &[f64],
    rates: &[f64],
    options: &KrylovOptions,
) -> Result<(Vec<Mode>, bool), AssocError> {
    let jacobian = AssocJacobian::at(layout, acting, input, rates)?;
    let found = leading_eigenvalues(
        &jacobian,
        &KrylovOptions {
            which: Which::LargestReal,
            ..*options
        },
        &mut |_, _| {},
    );
    let mode = |pair: &Eigenpair| {
        Mode::new(pair.value.re, pair.value.im, pair.residual, layout.dt_ms)
            .with_participation(&pair.vector_re, &pair.vector_im)
    };
    Ok((found.pairs.iter().map(mode).collect(), found.converged))
}

/// Currents under a held input.
struct Held<'a> {
    acting: &'a Weights<f64>,
    constant: Vec<f64>,
    alpha: Vec<f64>,
}

impl<'a> Held<'a> {
    fn new(layout: &Layout, acting: &'a Weights<f64>, input: &[f64], rates: &[f64]) -> Result<Self, AssocError> {
        acting.check(layout)?;
        let shown = layout.features + layout.cues;
        for (what, found, expected) in [("input", input.len(), shown), ("rates", rates.len(), layout.units())] {
            if found != expected {
                return Err(AssocError::Shape { what, found, expected });
            }
        }
        let mut constant = acting.input[shown * layout.units()..].to_vec();
        add_product(input, &acting.input, &mut constant);
        Ok(Self {
            acting,
            constant,
            alpha: layout.alpha(),
        })
    }

    fn at(&self, rates: &[f64]) -> Vec<f64> {
        let mut current = self.constant.clone();
        add_product(rates, &self.acting.recurrent, &mut current);
        current
    }
}

impl Relaxation for Held<'_> {
    fn coupled(&self, x: &[f64]) -> Vec<f64> {
        let mut coupled = vec![0.0; x.len()];
        add_product(x, &self.acting.recurrent, &mut coupled);
        coupled
    }

    fn constant(&self) -> &[f64] {
        &self.constant
    }

    fn slope(&self) -> f64 {
        0.0
    }

    fn alpha(&self, unit: usize) -> f64 {
        self.alpha[unit]
    }
}

/// Jacobian of all areas at a state, in 1/ms.
pub struct AssocJacobian<'a> {
    recurrent: &'a [f64],
    derivative: Vec<f64>,
    tau_ms: Vec<f64>,
}

impl<'a> AssocJacobian<'a> {
    /// At rates under a held input; the derivative at u = 0 is 0.
    ///
    /// # Errors
    /// [`AssocError::Shape`] where sizes do not fit.
    pub fn at(layout: &Layout, acting: &'a Weights<f64>, input: &[f64], rates: &[f64]) -> Result<Self, AssocError> {
        let current = Held::new(layout, acting, input, rates)?.at(rates);
        Ok(Self {
            recurrent: &acting.recurrent,
            derivative: current.iter().map(|u| f64::from(u8::from(*u > 0.0))).collect(),
            tau_ms: layout.alpha().into_iter().map(|alpha| layout.dt_ms / alpha).collect(),
        })
    }
}

impl LinearOperator for AssocJacobian<'_> {
    fn dim(&self) -> usize {
        self.derivative.len()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        out.fill(0.0);
        add_product(x, self.recurrent, out);
        for (((out, x), derivative), tau) in out.iter_mut().zip(x).zip(&self.derivative).zip(&self.tau_ms) {
            *out = (derivative * *out - x) / tau;
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let scaled: Vec<f64> = x
            .iter()
            .zip(&self.derivative)
            .zip(&self.tau_ms)
            .map(|((x, d), tau)| x * d / tau)
            .collect();
        for (index, (out, row)) in out.iter_mut().zip(self.recurrent.chunks_exact(x.len())).enumerate() {
            *out = row.iter().zip(&scaled).map(|(w, x)| w * x).sum::<f64>() - x[index] / self.tau_ms[index];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::tests::small;
    use super::*;

    #[test]
    fn the_jacobian_is_the_derivative_of_the_dynamics() {
        let layout = small(None);
        let acting = Weights::initial(&layout, 0.9, 2).cast::<f64>().effective(&layout);
        let input = [0.3, -0.2, 0.5, 1.0, 0.0];
        let rates: Vec<f64> = (0..15).map(|unit| 0.1 * f64::from(unit % 4)).collect();
        let held = Held::new(&layout, &acting, &input, &rates).expect("sizes fit");
        let velocity = |rates: &[f64]| -> Vec<f64> {
            let parts = held.at(rates).into_iter().zip(rates).zip(layout.alpha());
            parts
                .map(|((u, r), alpha)| (u.max(0.0) - r) * alpha / layout.dt_ms)
                .collect()
        };
        let jacobian = AssocJacobian::at(&layout, &acting, &input, &rates).expect("sizes fit");
        let mut columns = vec![vec![0.0; 15]; 15];
        for (unit, column) in columns.iter_mut().enumerate() {
            let mut x = vec![0.0; 15];
            x[unit] = 1.0;
            jacobian.apply(&x, column);
            // Piecewise linear: the difference is exact but for rounding, as long as no unit crosses its kink.
            let h = 1e-6;
            let shifted = |delta: f64| {
                let mut rates = rates.clone();
                rates[unit] += delta;
                velocity(&rates)
            };
            for ((plus, minus), exact) in shifted(h).iter().zip(shifted(-h)).zip(column.iter()) {
                assert!(((plus - minus) / (2.0 * h) - exact).abs() < 1e-8);
            }
        }
        for unit in 0..15 {
            let mut x = vec![0.0; 15];
            x[unit] = 1.0;
            let mut row = vec![0.0; 15];
            jacobian.apply_transpose(&x, &mut row);
            (0..15).for_each(|column| assert!((row[column] - columns[column][unit]).abs() < 1e-15));
        }
    }

    #[test]
    fn a_steady_state_stays_and_its_modes_decay() {
        let layout = small(Some(0.8));
        let acting = Weights::initial(&layout, 0.5, 2).cast::<f64>().effective(&layout);
        let input = [0.3, 0.2, 0.5, 1.0, 0.0];
        let found = settle(&layout, &acting, &input, &[0.0; 15], 1e-12, 10_000).expect("sizes fit");
        assert!(found.converged && found.steps > 0, "{found:?}");
        let again = settle(&layout, &acting, &input, &found.rates, 1e-12, 10_000).expect("sizes fit");
        assert_eq!(again.steps, 0);
        let (modes, converged) =
            modes(&layout, &acting, &input, &found.rates, &KrylovOptions::default()).expect("fits");
        assert!(
            converged
                && modes
                    .iter()
                    .all(|mode| mode.real_per_ms < 0.0 && mode.residual_per_ms < 1e-10)
        );
    }
}
