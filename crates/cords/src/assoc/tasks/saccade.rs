//! Saccades to the place of an object, or to the opposite place.

use super::{Draw, Pool, Task, Timing};
use crate::assoc::stimulus::{PLACES, Scene};
use crate::assoc::trial::Trial;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Saccades {
    Pro,
    Anti,
    /// Either, told by a cue throughout the trial.
    Cued,
}

pub(super) struct Saccade(pub(super) Saccades);

impl Task for Saccade {
    fn choices(&self, _: usize) -> Vec<String> {
        (0..PLACES).map(|place| format!("place {place}")).collect()
    }

    fn cues(&self) -> Vec<String> {
        match self.0 {
            Saccades::Cued => vec!["pro".into(), "anti".into()],
            Saccades::Pro | Saccades::Anti => Vec::new(),
        }
    }

    fn placed(&self) -> bool {
        true
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        1.0 / PLACES as f64
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let coin = draw.coin();
        let anti = match self.0 {
            Saccades::Pro => false,
            Saccades::Anti => true,
            Saccades::Cued => coin,
        };
        let class = draw.class();
        let image = draw.image_of(class);
        let place = draw.below(PLACES);
        let goal = if anti { (place + PLACES / 2) % PLACES } else { place };
        let delay = draw.delay();
        let trial = Trial::new(if anti { "anti" } else { "pro" })
            .hold("fixation", t.fixation, None)
            .hold("stimulus", t.stimulus, Some(Scene::placed(&[(image, place)])))
            .hold("delay", delay, None)
            .respond("response", t.response, None, 1 + goal)
            .delay(delay)
            .variable("class", class)
            .variable("place", place)
            .variable("choice", 1 + goal);
        match self.0 {
            Saccades::Cued => trial.cue_throughout(if anti { &[0.0, 1.0] } else { &[1.0, 0.0] }),
            Saccades::Pro | Saccades::Anti => trial,
        }
    }
}
