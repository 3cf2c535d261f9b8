//! Pictures of the `fixed_points` stage: the spectrum in the complex plane.

use std::path::Path;

use indexmap::IndexMap;
use kuva::plot::ScatterPlot;
use kuva::render::annotations::ReferenceLine;
use kuva::render::layout::Layout;
use kuva::render::plots::Plot;

use super::NetworkFixedPoint;
use crate::stage::StageError;
use crate::stage::picture::{COLOURS, file_name, write_picture};

/// Leading eigenvalues of every area, of all steady states of a network together, in one picture each.
pub(super) fn write(found: &[NetworkFixedPoint], folder: &Path) -> Result<(), StageError> {
    let mut networks: IndexMap<usize, Vec<&NetworkFixedPoint>> = IndexMap::new();
    for f in found {
        networks.entry(f.slot).or_default().push(f);
    }
    for (slot, of_network) in &networks {
        let first = of_network[0];
        let mut areas: Vec<Vec<(f64, f64)>> = vec![Vec::new(); first.point.areas.len()];
        for f in of_network {
            for (points, area) in areas.iter_mut().zip(&f.point.areas) {
                let modes = area.spectrum.iter().flat_map(|spectrum| &spectrum.modes);
                points.extend(modes.map(|mode| (mode.real_per_ms, mode.imaginary_per_ms)));
            }
        }
        if areas.iter().all(Vec::is_empty) {
            continue;
        }
        let reals = || areas.iter().flatten().map(|(real, _)| *real);
        let (low, high) = (reals().fold(0.0, f64::min), reals().fold(0.0, f64::max));
        let margin = 0.05 * (high - low);
        let draw = || {
            let plots: Vec<Plot> = areas
                .iter()
                .enumerate()
                .filter_map(|(area, points)| {
                    let legend = legend(first, area)?;
                    let scatter = ScatterPlot::new()
                        .with_data(points.iter().copied())
                        .with_color(COLOURS[area % COLOURS.len()])
                        .with_size(4.0)
                        .with_marker_opacity(0.6)
                        .with_legend(legend);
                    Some(Plot::Scatter(scatter))
                })
                .collect();
            let layout = Layout::auto_from_plots(&plots)
                .with_title(format!("{}, seed {}: slowest modes", first.title, first.seed))
                .with_x_label("real part [1/ms]")
                .with_y_label("imaginary part [1/ms]")
                .with_x_axis_min(low - margin)
                .with_x_axis_max(high + margin)
                // Right of it modes grow.
                .with_reference_line(ReferenceLine::vertical(0.0));
            (plots, layout)
        };
        let name = format!("spectrum_{slot}_{}", file_name(&first.network));
        write_picture(folder, &name, draw)?;
    }
    Ok(())
}

/// What the modes at an area are of: of the area, or of areas that drive each other, whose modes stand at the first of
/// them; none at the others.
fn legend(f: &NetworkFixedPoint, area: usize) -> Option<String> {
    match f.together(area).as_slice() {
        [] => None,
        [_] => Some(format!("area {area}")),
        several => Some(format!("areas {} together", several.join(", "))),
    }
}
