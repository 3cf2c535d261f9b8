//! Step and time constants of a simulation.

use serde::{Deserialize, Serialize};

use super::NetError;

/// Step and time constants of the Euler scheme, alpha = dt / tau.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Euler {
    /// Euler step dt in ms.
    pub dt_ms: f64,
    /// Time constant in ms: one for all areas, or one for each.
    pub tau_ms: Vec<f64>,
}

impl Euler {
    /// One time constant for all areas.
    pub fn new(dt_ms: f64, tau_ms: f64) -> Self {
        Self {
            dt_ms,
            tau_ms: vec![tau_ms],
        }
    }

    /// The published setting: dt = 2 ms, tau = 10 ms, alpha = 0.2.
    pub fn published() -> Self {
        Self::new(2.0, 10.0)
    }

    /// Checks 0 < dt <= tau and that there is one time constant or one per area.
    ///
    /// # Errors
    /// [`NetError::TimeConstants`].
    pub fn validate(&self, areas: usize) -> Result<(), NetError> {
        let count = self.tau_ms.len() == 1 || self.tau_ms.len() == areas;
        // Not above tau: with alpha <= 1 activity under ReLU stays non-negative, which the sources rely on.
        let steps = self.dt_ms > 0.0 && self.tau_ms.iter().all(|tau| tau.is_finite() && self.dt_ms <= *tau);
        if count && steps {
            Ok(())
        } else {
            Err(NetError::TimeConstants {
                dt_ms: self.dt_ms,
                tau_ms: self.tau_ms.clone(),
                areas,
            })
        }
    }

    /// alpha = dt / tau of an area.
    pub fn alpha(&self, area: usize) -> f64 {
        self.dt_ms / self.area_tau_ms(area)
    }

    /// Time constant of an area in ms.
    pub(super) fn area_tau_ms(&self, area: usize) -> f64 {
        let tau = self.tau_ms.get(area).or(self.tau_ms.first());
        tau.copied().unwrap_or(self.dt_ms)
    }

    /// The number of steps nearest to a duration in ms; [`unfit`](Self::unfit) tells where that is another duration.
    pub fn steps(&self, ms: f64) -> usize {
        (ms / self.dt_ms).round().max(0.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_constants() {
        assert!(Euler::new(2.0, 10.0).validate(4).is_ok());
        for bad in [Euler::new(0.0, 10.0), Euler::new(11.0, 10.0), Euler::new(2.0, f64::NAN)] {
            assert!(bad.validate(4).is_err(), "{bad:?}");
        }
        let each = Euler {
            dt_ms: 2.0,
            tau_ms: vec![10.0, 20.0],
        };
        assert!(each.validate(4).is_err());
        assert!(each.validate(2).is_ok());
        assert_eq!((each.alpha(0), each.alpha(1)), (0.2, 0.1));
        assert_eq!(each.steps(200.0), 100);
    }
}
