//! Result tables and pictures of what was scored, and the keys that tables share.

mod latencies;
mod matrices;
mod neurons;
mod paired;
mod scores;

use cords::neural::{Limits, Summary, summarise};

pub(super) use latencies::{Latency, Onset, by_latency};
pub(super) use matrices::matrices;
pub(super) use neurons::OfNeuron;
pub(super) use paired::PairedScore;
pub(super) use scores::{BestScore, Score};

use super::scoring::{Cell, Scored};
use dynvis_runner::table::Row;

/// What a feature set is known by.
#[derive(Row)]
struct SourceKeys {
    /// The stage that recorded the activity
    #[column(key, slot = "activity")]
    activity: usize,
    /// network, or a control: pixels, time_shuffled, frozen, image_shuffled
    #[column(key)]
    features: &'static str,
    /// Area, from 0; none for pixels
    #[column(key)]
    area: Option<usize>,
}

/// When the neurons responded.
#[derive(Row)]
struct BinKeys {
    /// Start of the time bin after stimulus onset
    #[column(key, unit = "ms")]
    bin_start: f64,
    /// End of the time bin
    #[column(key, unit = "ms")]
    bin_end: f64,
}

impl Scored {
    fn source(&self, source: usize) -> SourceKeys {
        let label = &self.labels[source];
        SourceKeys {
            activity: label.slot,
            features: label.role.name(),
            area: label.area,
        }
    }

    fn bin(&self, bin: usize) -> BinKeys {
        let [bin_start, bin_end] = self.recordings.bins_ms[bin];
        BinKeys { bin_start, bin_end }
    }
}

/// The times that a fit was made for.
#[derive(Row)]
struct FitKeys {
    /// Model time after image onset
    #[column(key, unit = "ms")]
    model_time: f64,
    /// Latency that the fit was made for
    #[column(key, unit = "ms")]
    latency: Option<f64>,
    #[column(flatten)]
    bin: BinKeys,
}

impl FitKeys {
    fn of(scored: &Scored, cell: &Cell) -> Self {
        Self {
            model_time: cell.model_ms,
            latency: cell.latency_ms,
            bin: scored.bin(cell.bin),
        }
    }
}

fn summary_of(scored: &Scored, cell: &Cell, group: &[usize]) -> Summary {
    summarise(&cell.found, limits(scored, cell), group)
}

fn limits<'a>(scored: &'a Scored, cell: &Cell) -> Limits<'a> {
    Limits {
        reliability: scored.reliability[cell.bin].as_deref(),
        variances: scored.variances[cell.bin].as_deref(),
    }
}
