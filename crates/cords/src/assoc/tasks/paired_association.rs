//! Paired association: classes belong together in pairs, 0 with 1, 2 with 3 and so on; an odd last class with itself.

use super::{Draw, Task};
use crate::assoc::stimulus::Scene;
use crate::assoc::trial::Trial;

pub(super) struct PairedAssociation;

impl Task for PairedAssociation {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["pair".into(), "no pair".into()]
    }

    fn least_classes(&self) -> usize {
        4
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let t = draw.timing();
        let class = draw.class();
        let partner = if class ^ 1 < draw.classes() { class ^ 1 } else { class };
        let paired = draw.coin();
        let test_class = if paired { partner } else { draw.other_class(partner) };
        let (sample, test) = (draw.image_of(class), draw.image_of(test_class));
        let target = 1 + usize::from(!paired);
        let delay = draw.delay();
        Trial::new(if paired { "pair" } else { "no pair" })
            .hold("fixation", t.fixation, None)
            .hold("sample", t.stimulus, Some(Scene::image(sample)))
            .hold("delay", delay, None)
            .hold("test", t.test, Some(Scene::image(test)))
            .respond("response", t.response, None, target)
            .delay(delay)
            .variable("sample", class)
            .variable("test", test_class)
            .variable("choice", target)
    }
}
