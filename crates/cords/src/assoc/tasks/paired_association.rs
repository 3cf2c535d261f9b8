//! Paired association: classes belong together in pairs, 0 with 1, 2 with 3 and so on; an odd last class with itself.

use super::delayed_match::sample_and_test;
use super::{Draw, Pool, Task, Timing};
use crate::assoc::trial::Trial;

pub(super) struct PairedAssociation;

impl Task for PairedAssociation {
    fn choices(&self, _: usize) -> Vec<String> {
        vec!["pair".into(), "no pair".into()]
    }

    fn least_classes(&self) -> usize {
        4
    }

    fn chance(&self, _: &Pool, _: &Timing) -> f64 {
        // Every class is the partner of one, so that the second image alone says nothing.
        0.5
    }

    fn trial(&self, draw: &mut Draw<'_>) -> Trial {
        let class = draw.class();
        let partner = if class ^ 1 < draw.classes() { class ^ 1 } else { class };
        let paired = draw.coin();
        let test_class = if paired { partner } else { draw.other_class(partner) };
        let (sample, test) = (draw.image_of(class), draw.image_of(test_class));
        let target = 1 + usize::from(!paired);
        let condition = if paired { "pair" } else { "no pair" };
        sample_and_test(draw, condition, (class, sample), (test_class, test), target)
    }
}
