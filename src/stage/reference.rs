//! Types of outputs that the stage kinds agree on, and references to stages that have one.

use dynvis_runner::kind::Artifact;
use dynvis_runner::reference;

/// Images, labels and splits, memory-mapped by later stages.
pub(crate) const DATASET: Artifact = Artifact::new("dataset");
/// A trained network.
pub(crate) const MODEL: Artifact = Artifact::new("model");
/// Activity of a network's areas for chosen images and times.
pub(crate) const ACTIVITY: Artifact = Artifact::new("activity");
/// Recorded or simulated responses of neurons.
pub(crate) const RECORDINGS: Artifact = Artifact::new("recordings");

reference!(DatasetRef, "dataset", "A stage that prepares a dataset.");
reference!(ModelRef, "model", "A stage that trains or imports a model.");
reference!(ActivityRef, "activity", "A stage that records activity.");
reference!(
    RecordingsRef,
    "recordings",
    "A stage that reads or simulates recordings of neurons."
);
