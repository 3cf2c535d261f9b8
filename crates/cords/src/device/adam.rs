//! The numbers of a step of Adam.

/// One step of Adam or AdamW on one parameter (Kingma and Ba 2015; Loshchilov and Hutter 2019), as PyTorch computes it.
#[derive(Clone, Copy, Debug)]
pub struct AdamStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first and the second moment.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Factor of the decay of weights; 0 for none.
    pub weight_decay: f64,
    /// Whether the decay shrinks the parameter itself (AdamW) or is added to the gradient (Adam).
    pub decoupled: bool,
    /// Number of this step, from 1.
    pub step: u64,
}

/// What a step of Adam comes down to once its number is known.
pub(crate) struct AdamFactors {
    /// Learning rate over the first moment's bias correction.
    pub(crate) rate: f64,
    /// Root of the second moment's bias correction.
    pub(crate) root: f64,
    /// What AdamW multiplies the parameter with.
    pub(crate) shrink: f64,
    /// The parameter's share in Adam's gradient.
    pub(crate) added: f64,
}

impl AdamStep {
    /// Formed in double precision: 1 - 0.999^1 loses four digits in single.
    pub(crate) fn factors(&self) -> AdamFactors {
        let count = self.step as f64;
        let [beta1, beta2] = self.betas;
        AdamFactors {
            rate: self.learning_rate / (1.0 - beta1.powf(count)),
            root: (1.0 - beta2.powf(count)).sqrt(),
            shrink: if self.decoupled {
                1.0 - self.learning_rate * self.weight_decay
            } else {
                1.0
            },
            added: if self.decoupled { 0.0 } else { self.weight_decay },
        }
    }
}
