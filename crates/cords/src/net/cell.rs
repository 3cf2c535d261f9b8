//! How the units of an area follow their current.
//!
//! A cell is written over a device's primitive operations, with its adjoint beside its step; it never sees where its
//! current comes from. Its state is the activity r, which other areas read, and hidden variables of its own. The
//! published cell has none, and its whole step is one fused kernel.

use serde::{Deserialize, Serialize};

use crate::Real;
use crate::device::{Device, Phi, Relaxation};

/// The cell of an area's units.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// tau dr/dt = -r + phi(u): the published one.
    #[default]
    Leaky,
    /// The same with adaptation.
    Adapting(Adaptation),
}

/// Adaptation (as in Vinken et al. 2020): tau_a da/dt = -a + beta r, and u - a in place of the current u.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// Time constant of the adaptation.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms")))]
    pub tau_a_ms: f64,
    /// Strength of the adaptation.
    pub beta: f64,
    /// Whether strength and time constant are parameters: `beta.l` and `log_tau_a.l` of area l.
    #[serde(default)]
    pub trained: bool,
}

impl CellKind {
    /// Names and first values of an area's parameters, none where nothing is trained.
    pub(crate) fn parameters(&self, area: usize) -> Vec<(String, f64)> {
        match self {
            Self::Adapting(adaptation) if adaptation.trained => vec![
                (format!("log_tau_a.{area}"), adaptation.tau_a_ms.ln()),
                (format!("beta.{area}"), adaptation.beta),
            ],
            Self::Adapting(_) | Self::Leaky => Vec::new(),
        }
    }

    /// The cell for steps of `dt_ms`.
    pub(crate) fn cell<T: Real, D: Device<T>>(&self, dt_ms: f64) -> Box<dyn Cell<T, D>> {
        match self {
            Self::Leaky => Box::new(Leaky),
            Self::Adapting(adaptation) => Box::new(Adapting {
                dt_ms,
                adaptation: *adaptation,
            }),
        }
    }
}

/// A hidden variable h: tau dh/dt = -h + gain r, and u - h in place of the current u.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HiddenVariable {
    pub(crate) tau_ms: f64,
    pub(crate) gain: f64,
}

/// What a step reads and writes, apart from its convolutions.
pub(crate) struct CellStep<'a, B> {
    /// dt/tau and phi.
    pub(crate) leak: (f64, Phi),
    /// The part of the current that no convolution gives.
    pub(crate) current: &'a B,
    /// State before the step.
    pub(crate) r: &'a B,
    pub(crate) hidden: &'a [B],
    /// State after it.
    pub(crate) next: &'a mut B,
    pub(crate) next_hidden: &'a mut [B],
    /// Maps of the area for the cell's own use; empty where it has no hidden variables.
    pub(crate) spare: &'a mut B,
}

/// Gradients by a step's results, which become those by what it has read, but for what convolutions read.
pub(crate) struct CellGradient<'a, B> {
    /// State before the step.
    pub(crate) r: &'a B,
    pub(crate) hidden: &'a [B],
    /// dL/dr and dL/dhidden.
    pub(crate) g: &'a mut B,
    pub(crate) g_hidden: &'a mut [B],
    /// dL/du of this step (overwritten), and the sum of it over steps.
    pub(crate) delta: &'a mut B,
    pub(crate) sum: &'a mut B,
    /// Gradients of the cell's parameters, which are added to.
    pub(crate) parameters: &'a mut [B],
}

/// The units of one area.
pub(crate) trait Cell<T: Real, D: Device<T>>: Send + Sync {
    /// Hidden variables, whose number is that of the buffers of hidden state; what linearisations need of them.
    fn hidden(&self) -> Vec<HiddenVariable>;
    /// Takes over trained parameters.
    fn set(&mut self, parameters: &[f64]);
    /// One Euler step; `terms` are the convolutions that give the current.
    fn step(
        &self,
        device: &D,
        work: &mut D::Workspace,
        terms: &[(&D::Filter, &D::Buffer)],
        batch: usize,
        step: CellStep<'_, D::Buffer>,
    );
    /// The adjoint of a step. The leaky step's own, from dL/dr after it to delta, sum and dL/dr before it, is `leaky`,
    /// as its caller knows how activity was kept.
    fn adjoint(
        &self,
        device: &D,
        work: &mut D::Workspace,
        gradient: CellGradient<'_, D::Buffer>,
        leaky: &dyn Fn([&mut D::Buffer; 3]),
    );
}

/// tau dr/dt = -r + phi(u).
struct Leaky;

impl<T: Real, D: Device<T>> Cell<T, D> for Leaky {
    fn hidden(&self) -> Vec<HiddenVariable> {
        Vec::new()
    }

    fn set(&mut self, _parameters: &[f64]) {}

    fn step(
        &self,
        device: &D,
        work: &mut D::Workspace,
        terms: &[(&D::Filter, &D::Buffer)],
        batch: usize,
        step: CellStep<'_, D::Buffer>,
    ) {
        let (alpha, phi) = step.leak;
        let step = Relaxation {
            alpha,
            phi,
            offset: step.current,
            x: step.r,
            y: step.next,
        };
        device.relax(work, terms, batch, step);
    }

    fn adjoint(
        &self,
        _device: &D,
        _work: &mut D::Workspace,
        CellGradient { g, delta, sum, .. }: CellGradient<'_, D::Buffer>,
        leaky: &dyn Fn([&mut D::Buffer; 3]),
    ) {
        leaky([g, delta, sum]);
    }
}

/// a' = (1 - alpha_a) a + alpha_a beta r, and u - a in the leaky step; both from the values before it.
struct Adapting {
    dt_ms: f64,
    adaptation: Adaptation,
}

impl Adapting {
    /// alpha_a, and alpha_a beta.
    fn factors(&self) -> (f64, f64) {
        let alpha = self.dt_ms / self.adaptation.tau_a_ms;
        (alpha, alpha * self.adaptation.beta)
    }
}

impl<T: Real, D: Device<T>> Cell<T, D> for Adapting {
    fn hidden(&self) -> Vec<HiddenVariable> {
        vec![HiddenVariable {
            tau_ms: self.adaptation.tau_a_ms,
            gain: self.adaptation.beta,
        }]
    }

    fn set(&mut self, parameters: &[f64]) {
        if let [log_tau_a, beta] = parameters {
            self.adaptation.tau_a_ms = log_tau_a.exp();
            self.adaptation.beta = *beta;
        }
    }

    fn step(
        &self,
        device: &D,
        work: &mut D::Workspace,
        terms: &[(&D::Filter, &D::Buffer)],
        batch: usize,
        step: CellStep<'_, D::Buffer>,
    ) {
        let (alpha_a, along) = self.factors();
        let (a, next_a) = (&step.hidden[0], &mut step.next_hidden[0]);
        device.copy(a, next_a);
        device.scale(1.0 - alpha_a, next_a);
        device.add_scaled(along, step.r, next_a);
        device.copy(step.current, step.spare);
        device.add_scaled(-1.0, a, step.spare);
        let (alpha, phi) = step.leak;
        let step = Relaxation {
            alpha,
            phi,
            offset: step.spare,
            x: step.r,
            y: step.next,
        };
        device.relax(work, terms, batch, step);
    }

    /// With alpha_a = dt/tau_a, whose derivative by log tau_a is -alpha_a.
    fn adjoint(
        &self,
        device: &D,
        work: &mut D::Workspace,
        gradient: CellGradient<'_, D::Buffer>,
        leaky: &dyn Fn([&mut D::Buffer; 3]),
    ) {
        let (alpha_a, along) = self.factors();
        let CellGradient {
            r,
            hidden,
            g,
            g_hidden,
            delta,
            sum,
            parameters,
        } = gradient;
        let g_a = &mut g_hidden[0];
        if let [log_tau_a, beta] = parameters {
            device.add_dot(work, alpha_a, g_a, r, beta);
            device.add_dot(work, -along, g_a, r, log_tau_a);
            device.add_dot(work, alpha_a, g_a, &hidden[0], log_tau_a);
        }
        leaky([&mut *g, &mut *delta, sum]);
        device.add_scaled(along, g_a, g);
        device.scale(1.0 - alpha_a, g_a);
        device.add_scaled(-1.0, delta, g_a);
    }
}
