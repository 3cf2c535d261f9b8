//! Scores of the network beside those of controls and other networks.

use cords::neural::paired;

use super::super::feature_sets::Role;
use super::super::scoring::{Cell, Scored};
use super::{FitKeys, SourceKeys};
use dynvis_runner::table::Row;

/// r of the network's area less r of a control or of another network, paired by neuron, at the same times
#[derive(Row)]
#[table(name = "paired")]
pub(in crate::stage::predictivity) struct PairedScore<'a> {
    #[column(flatten)]
    source: SourceKeys,
    /// Area of the network that is compared
    #[column(key)]
    network_area: usize,
    #[column(flatten)]
    fit: FitKeys,
    /// Brain region
    #[column(key)]
    region: &'a str,
    /// Mean over neurons of the network's r less the other's
    #[column(absolute = 1e-9, relative = 1e-9)]
    difference: f64,
    /// Standard error of that mean over neurons
    #[column(absolute = 1e-9, relative = 1e-9)]
    error: Option<f64>,
    /// Share of neurons that the network predicts better
    better: f64,
    /// Number of neurons
    neurons: usize,
}

impl<'a> PairedScore<'a> {
    pub(in crate::stage::predictivity) fn rows(scored: &'a Scored) -> Vec<Self> {
        let mut rows = Vec::new();
        for cell in &scored.cells {
            let own = &scored.labels[cell.source];
            let Some(area) = own.area.filter(|_| own.slot == 0 && own.role == Role::Network) else {
                continue;
            };
            for (source, label) in scored.labels.iter().enumerate() {
                // The same area of another network or control, or what has no area.
                if source == cell.source || label.area.is_some_and(|other| other != area) {
                    continue;
                }
                let Some(other) = counterpart(scored, source, cell) else {
                    continue;
                };
                rows.extend(scored.regions.iter().filter_map(|(region, group)| {
                    let paired = paired(&cell.found.r, &other.found.r, group)?;
                    Some(PairedScore {
                        source: scored.source(source),
                        network_area: area,
                        fit: FitKeys::of(scored, cell),
                        region,
                        difference: paired.difference,
                        error: paired.error,
                        better: paired.better,
                        neurons: paired.neurons,
                    })
                }));
            }
        }
        rows
    }
}

/// Another feature set's cell at the same bin, latency and model time, or its only one where it does not change.
fn counterpart<'a>(scored: &'a Scored, source: usize, cell: &Cell) -> Option<&'a Cell> {
    let own: Vec<&Cell> = scored
        .cells
        .iter()
        .filter(|c| c.source == source && c.bin == cell.bin)
        .collect();
    match own.as_slice() {
        [only] => Some(only),
        several => several
            .iter()
            .copied()
            .find(|other| other.latency_ms == cell.latency_ms && (other.model_ms - cell.model_ms).abs() < 1e-6),
    }
}
