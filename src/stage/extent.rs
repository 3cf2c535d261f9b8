//! What stages of the kinds here take, told before they run: how many images a data set has, which network is trained,
//! and how many images are shown to networks for how many time steps.

use std::sync::Arc;

use cords::data::Split;
use cords::device::cuda::Precision;
use cords::net::{Euler, Graph, Presentation};

use super::{Extent, InputExtents};

/// What kinds tell each other and the command line, beside bytes on disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Of a data set.
    pub(crate) images: Option<ImageCounts>,
    /// Of a stage that gives a model.
    pub(crate) network: Option<Network>,
    /// What is shown to networks, training first.
    pub(crate) shown: Vec<Shown>,
}

/// Images of a data set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageCounts {
    pub(crate) train: u64,
    pub(crate) validation: u64,
    pub(crate) test: u64,
    pub(crate) channels: usize,
    pub(crate) side: usize,
    pub(crate) classes: usize,
}

impl ImageCounts {
    pub(crate) fn of(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.train,
            Split::Validation => self.validation,
            Split::Test => self.test,
        }
    }
}

/// A network that will be there.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) graph: Arc<Graph>,
    /// Step and time constants; none for a CNN.
    pub(crate) euler: Option<Euler>,
    /// How long it is without an image and shown one, where its training says so.
    pub(crate) presentation: Option<Presentation>,
}

/// Images that are shown to networks.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// What for: `training`, `validation`, ...
    pub(crate) purpose: &'static str,
    /// As many, each as often as it is shown.
    pub(crate) images: u64,
    /// None where the time for it follows from no benchmark.
    pub(crate) trial: Option<Trial>,
}

/// How each of them is shown, in the terms of `dynvis benchmark`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Areas of the published network.
    pub(crate) areas: usize,
    pub(crate) side: usize,
    /// Images of a gradient step; of images that are shown without, as many as in the training before.
    pub(crate) batch: Option<usize>,
    pub(crate) precision: Precision,
    pub(crate) steps: Steps,
}

/// Time steps for one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Steps {
    /// Simulated and gone back through.
    pub(crate) with_gradient: f64,
    /// Simulated alone.
    pub(crate) without: f64,
}

impl Steps {
    /// A step without gradient is one convolution with every kernel, one with gradient that, one back to the activity
    /// before and one to the kernel.
    pub(crate) const COST_WITHOUT: f64 = 1.0 / 3.0;

    /// How many steps with gradient would take as long.
    pub(crate) fn cost(self) -> f64 {
        self.with_gradient + Self::COST_WITHOUT * self.without
    }
}

impl Network {
    /// How images are shown to it; none unless it is a CordsNet of a published size, which are what is timed.
    pub(crate) fn trial(&self, precision: Precision, batch: Option<usize>, steps: Steps) -> Option<Trial> {
        let (areas, side) = (self.graph.areas(), self.graph.image_side());
        let published = Graph::published(areas, self.graph.in_channels(), side, self.graph.classes()).ok()?;
        (self.euler.is_some() && published == *self.graph).then_some(Trial {
            areas,
            side,
            batch,
            precision,
            steps,
        })
    }

    /// How an image is shown to it for evaluation, from a state without an image that all of a batch share.
    pub(crate) fn evaluation(&self, stimulus_ms: f64) -> Option<Trial> {
        let dt_ms = self.euler.as_ref()?.dt_ms;
        let steps = Steps {
            with_gradient: 0.0,
            without: stimulus_ms / dt_ms,
        };
        self.trial(Precision::default(), None, steps)
    }
}

/// What the producer of an input told.
pub(crate) fn facts<'a>(inputs: &InputExtents<'a>, slot: &str) -> Option<&'a Facts> {
    let extent: &'a Extent = inputs.get(slot).copied()?;
    extent.facts()
}
