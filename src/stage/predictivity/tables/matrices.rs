//! Pictures of scores by neural time and by model time or latency.

use std::collections::BTreeSet;

use super::super::feature_sets::Role;
use super::super::picture::Matrix;
use super::super::scoring::{Cell, Scored};
use super::summary_of;
use crate::stage::Members;

/// The time bins that a feature set has cells of, which are not all where latencies do not reach some, and its cells
/// row by row.
fn rows_of(cells: &[Cell], source: usize) -> (Vec<usize>, Vec<Vec<&Cell>>) {
    let own: Vec<&Cell> = cells.iter().filter(|cell| cell.source == source).collect();
    let bins: BTreeSet<usize> = own.iter().map(|cell| cell.bin).collect();
    // Cells come row by row, and within a row bin by bin.
    let rows = own.chunks(bins.len().max(1)).map(<[&Cell]>::to_vec).collect();
    (bins.into_iter().collect(), rows)
}

/// The network's scores by neural time and by model time, or by latency where fits were made for each, for every area
/// and region; of other members of its stage too, each in a picture of its own whose title names its matrix fields.
pub(in crate::stage::predictivity) fn matrices(scored: &Scored, members: &Members) -> Vec<(String, Matrix)> {
    let mut found = Vec::new();
    for (source, label) in scored.labels.iter().enumerate() {
        let shown = label.role == Role::Network && members.same_stage(0, label.slot);
        let Some(area) = label.area.filter(|_| shown) else {
            continue;
        };
        let (suffix, fields) = match (label.slot, members.fields(label.slot)) {
            (0, fields) => (String::new(), fields),
            (slot, fields) if members.group(slot) == slot => (format!("_{slot}"), fields),
            // Fields do not tell it from another one.
            (slot, fields) => (
                format!("_{slot}"),
                format!("{fields}{}#{slot}", if fields.is_empty() { "" } else { ", " }),
            ),
        };
        let fields = if fields.is_empty() {
            fields
        } else {
            format!(" ({fields})")
        };
        let (bins, rows) = rows_of(&scored.cells, source);
        let by_latency = rows.iter().flatten().all(|cell| cell.latency_ms.is_some());
        for (region, group) in &scored.regions {
            let value = |cell: &&Cell| summary_of(scored, cell, group).r.unwrap_or(f64::NAN);
            let place = if region.is_empty() { "all neurons" } else { region };
            let matrix = Matrix {
                title: format!("Pearson's r: area {area}, {place}{fields}"),
                rows: if by_latency {
                    "latency [ms]"
                } else {
                    "model time [ms after image onset]"
                },
                rows_ms: rows
                    .iter()
                    .filter_map(|row| row.first())
                    .map(|cell| cell.latency_ms.unwrap_or(cell.model_ms))
                    .collect(),
                neural_ms: bins
                    .iter()
                    .map(|bin| {
                        let [start, end] = scored.recordings.bins_ms[*bin];
                        0.5 * (start + end)
                    })
                    .collect(),
                values: rows.iter().map(|row| row.iter().map(value).collect()).collect(),
            };
            let name: String = region
                .chars()
                .map(|c| if c.is_alphanumeric() { c } else { '_' })
                .collect();
            found.push((
                format!(
                    "area{area}_{}{suffix}",
                    if name.is_empty() { "all" } else { name.as_str() }
                ),
                matrix,
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use cords::neural::PredictionQuality;

    use super::*;

    /// Bins 0 and 3 are not reached by all latencies.
    #[test]
    fn rows_of_a_picture_have_the_bins_that_were_fitted() {
        let cell = |source: usize, latency: f64, bin: usize| Cell {
            source,
            model_ms: 10.0 * bin as f64 - latency,
            bin,
            latency_ms: Some(latency),
            found: PredictionQuality {
                r: Vec::new(),
                squared_error: None,
            },
        };
        let cells = [(0, 0.0, 1), (1, 0.0, 1), (1, 0.0, 2), (1, 40.0, 1), (1, 40.0, 2)];
        let cells = cells.map(|(source, latency, bin)| cell(source, latency, bin));
        let (bins, rows) = rows_of(&cells, 1);
        assert_eq!(bins, [1, 2]);
        let found: Vec<Vec<(Option<f64>, usize)>> = rows
            .iter()
            .map(|row| row.iter().map(|cell| (cell.latency_ms, cell.bin)).collect())
            .collect();
        let of = |latency: f64| vec![(Some(latency), 1), (Some(latency), 2)];
        assert_eq!(found, [of(0.0), of(40.0)]);
    }
}
