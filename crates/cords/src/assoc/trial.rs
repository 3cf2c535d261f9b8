//! One trial of a task as epochs: what is seen, what is cued, what is to be answered, and how much that counts.

use serde::{Deserialize, Serialize};

use super::stimulus::Scene;
use super::tasks::Timing;

/// A part of a trial in which nothing changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Name of the trial epoch, as in tables.
    pub name: &'static str,
    /// Duration of the trial epoch in ms.
    pub ms: f64,
    /// The images that are visible; none for a blank screen.
    pub scene: Option<Scene>,
    /// Values of the task's cues, the fixation signal left out; as many as the task names, or none for all 0.
    pub cues: Vec<f32>,
    /// Whether the fixation signal is on: while it is, the answer is withheld.
    pub fixate: bool,
    /// The output that is right, 0 being fixation.
    pub target: usize,
    /// Whether the answer in this epoch is judged.
    pub judged: bool,
}

/// One trial of a task.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Trial {
    /// Epochs in their order.
    pub epochs: Vec<Epoch>,
    /// What kind of trial, as tables tell it: `match`, `anti`.
    pub condition: String,
    /// The delay that memory has to span, in ms; none for tasks without one.
    pub delay_ms: Option<f64>,
    /// Signed strength of the evidence for the second choice; none for tasks without it.
    pub strength: Option<f64>,
    /// What is to be decoded: a name and the class that this trial has.
    pub variables: Vec<(&'static str, usize)>,
}

impl Trial {
    /// A trial without epochs.
    pub fn new(condition: impl Into<String>) -> Self {
        Self {
            condition: condition.into(),
            ..Self::default()
        }
    }

    /// Adds an epoch in which fixation is held.
    pub fn hold(mut self, name: &'static str, ms: f64, scene: Option<Scene>) -> Self {
        self.epochs.push(Epoch {
            name,
            ms,
            scene,
            cues: Vec::new(),
            fixate: true,
            target: 0,
            judged: false,
        });
        self
    }

    /// Adds an epoch in which `target` is to be answered.
    pub fn respond(mut self, name: &'static str, ms: f64, scene: Option<Scene>, target: usize) -> Self {
        self.epochs.push(Epoch {
            name,
            ms,
            scene,
            cues: Vec::new(),
            fixate: false,
            target,
            judged: true,
        });
        self
    }

    /// Adds a second stimulus, of the duration `test`, and the answer to it: while it is shown, or after a wait.
    pub fn answer_to(self, name: &'static str, timing: &Timing, scene: Option<Scene>, target: usize) -> Self {
        match timing.answer_at_test {
            true => self.respond(name, timing.test, scene, target),
            false => {
                let shown = self.hold(name, timing.test, scene);
                shown
                    .hold("wait", timing.wait, None)
                    .respond("response", timing.response, None, target)
            }
        }
    }

    /// Sets the cues of the epoch added last.
    pub fn cue(mut self, cues: &[f32]) -> Self {
        if let Some(epoch) = self.epochs.last_mut() {
            epoch.cues = cues.to_vec();
        }
        self
    }

    /// Sets the cues of all epochs added so far.
    pub fn cue_throughout(mut self, cues: &[f32]) -> Self {
        self.epochs.iter_mut().for_each(|epoch| epoch.cues = cues.to_vec());
        self
    }

    /// Says which delay memory has to span.
    pub fn delay(mut self, ms: f64) -> Self {
        self.delay_ms = Some(ms);
        self
    }

    /// Says how strong the evidence is.
    pub fn strength(mut self, strength: f64) -> Self {
        self.strength = Some(strength);
        self
    }

    /// Names something that may be decoded.
    pub fn variable(mut self, name: &'static str, class: usize) -> Self {
        self.variables.push((name, class));
        self
    }

    /// All images that are shown, in order; one may come more than once.
    pub fn images(&self) -> Vec<u32> {
        let scenes = self.epochs.iter().filter_map(|epoch| epoch.scene.as_ref());
        scenes
            .flat_map(|scene| scene.items.iter().map(|item| item.image))
            .collect()
    }

    /// Duration of all trial epochs together in ms.
    pub fn ms(&self) -> f64 {
        self.epochs.iter().map(|epoch| epoch.ms).sum()
    }
}

/// How much each part of a trial counts in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mask {
    /// While fixation is held.
    pub hold: f64,
    /// While an answer is due.
    pub respond: f64,
    /// Time at a trial's beginning and after the signal to answer that does not count, in ms.
    pub grace_ms: f64,
}

impl Default for Mask {
    /// 1 while held, 5 in the response, 100 ms of grace (Yang et al. 2019).
    fn default() -> Self {
        Self {
            hold: 1.0,
            respond: 5.0,
            grace_ms: 100.0,
        }
    }
}
