//! The figures of the stage kinds' tables, a description each.
//!
//! A table that no description is about has no figure. Descriptions name slots, kinds and columns as they
//! are stored; a test holds them against the kinds.

use super::description::{Figure, Guide, Interval, LINES, Mark, Only};

const FOREST: Figure<'static> = Figure {
    mark: Mark::Forest,
    ..LINES
};

const SHARE: Option<[f64; 2]> = Some([0.0, 1.0]);
const WILSON: &str = "95 % interval over images (Wilson)";
const IMAGES: &str = "95 % interval, images resampled";
const AFTER_ONSET: &str = "time after image onset [ms]";
const OVER_IMAGES: &[&str] = &["image"];

/// The figures of a kind's table.
pub(crate) fn figures_of<'a>(
    kind: &'a str,
    table: &'a str,
) -> impl Iterator<Item = &'static Figure<'static>> + use<'a> {
    FIGURES
        .iter()
        .filter(move |figure| figure.kind == kind && figure.table == table)
}

/// Whether a figure stands in the place of a picture that stages of a kind store.
pub(crate) fn stands_for(kind: &str, picture: &str) -> bool {
    FIGURES
        .iter()
        .filter(|figure| figure.kind == kind)
        .any(|figure| figure.stands_for.iter().any(|start| picture.starts_with(start)))
}

/// Every figure, by kind and table.
pub(super) const FIGURES: &[Figure<'static>] = &[
    Figure {
        kind: "train",
        table: "training",
        title: "Cross-entropy over training",
        caption: "Of training images as augmented, and of validation images.",
        x: "epoch",
        y: &[
            ("cross_entropy", "training"),
            ("validation_cross_entropy", "validation"),
        ],
        y_label: "cross-entropy [nat]",
        ..LINES
    },
    Figure {
        kind: "train",
        table: "training",
        title: "Accuracy over training",
        caption: "Of training images as augmented, and of validation images.",
        x: "epoch",
        y: &[("accuracy", "training"), ("validation_accuracy", "validation")],
        y_label: "accuracy",
        y_range: SHARE,
        ..LINES
    },
    Figure {
        kind: "train",
        table: "training",
        title: "Gradient over training",
        caption: "Norm before clipping, mean over the steps of an epoch.",
        x: "epoch",
        y: &[("gradient_norm", "")],
        y_label: "norm of the gradient",
        is_log_y: true,
        ..LINES
    },
    Figure {
        kind: "evaluate",
        table: "accuracy",
        title: "Accuracy",
        caption: "Of every model on the same images.",
        y: &[("accuracy", "")],
        y_label: "accuracy",
        interval: Interval::Ends("accuracy_low", "accuracy_high", WILSON),
        facet: &["phase"],
        ..FOREST
    },
    Figure {
        kind: "noise",
        table: "summary",
        title: "Accuracy over the level of noise",
        caption: "In the units of each kind of noise: of pixels the standard deviation in [0, 1], of silenced units their share.",
        x: "level",
        x_label: "level",
        y: &[("accuracy", "")],
        y_label: "accuracy",
        interval: Interval::Around(
            "deviation",
            "plus and minus one standard deviation over models and trials",
        ),
        facet: &["noise", "presentation"],
        style: "view",
        y_range: SHARE,
        stands_for: &["accuracy_"],
        ..LINES
    },
    Figure {
        kind: "noise",
        table: "robustness",
        title: "Level at which half of the clean accuracy is left",
        caption: "By a logistic curve over log level; missing where it is not within the levels.",
        y: &[("half", "")],
        y_label: "level at half of the clean accuracy",
        interval: Interval::Ends("half_low", "half_high", IMAGES),
        // Levels of different noises have different units.
        is_apart: true,
        facet: &["noise", "presentation"],
        ..FOREST
    },
    Figure {
        kind: "noise",
        table: "paired",
        title: "Against the CordsNets, image by image",
        caption: "Accuracy less that of the CordsNet on the same images (McNemar): above 0 the network is better.",
        x: "level",
        x_label: "level",
        y: &[("difference", "")],
        y_label: "difference in accuracy",
        facet: &["noise", "presentation", "against"],
        style: "view",
        guides: &[Guide::Horizontal(0.0, "")],
        ..LINES
    },
    Figure {
        kind: "noise",
        table: "time",
        title: "Accuracy over time",
        caption: "Of CordsNets with their dynamics, at every level of the noise.",
        x: "time",
        x_label: AFTER_ONSET,
        y: &[("accuracy", "")],
        y_label: "accuracy",
        facet: &["network", "noise", "presentation"],
        only: &[Only::Is("view", "dynamics")],
        y_range: SHARE,
        stands_for: &["time_"],
        ..LINES
    },
    Figure {
        kind: "noise",
        table: "gains",
        title: "How much of the noise reaches each area",
        caption: "At the lowest level above 0, relative to what stands in the frame: 1 is as much.",
        x: "area",
        y: &[("gain", "")],
        y_label: "noise left, relative to the frame",
        facet: &["noise", "presentation"],
        style: "view",
        only: &[Only::LowestAboveZero("level")],
        is_log_y: true,
        guides: &[Guide::Horizontal(1.0, "")],
        stands_for: &["gain_"],
        ..LINES
    },
    Figure {
        kind: "noise",
        table: "gains",
        title: "How much activity changes",
        caption: "Under noise that is not on pixels, at every level.",
        x: "area",
        y: &[("change", "")],
        y_label: "E|dr|\u{b2} / E|r|\u{b2}",
        facet: &["noise", "presentation", "network", "view"],
        only: &[Only::Missing("gain")],
        is_log_y: true,
        ..LINES
    },
    Figure {
        kind: "corruptions",
        table: "accuracy",
        title: "Accuracy over severity",
        caption: "Of the published corrupted images, and of noise of the same kind drawn here.",
        x: "severity",
        y: &[("accuracy", "")],
        y_label: "accuracy",
        interval: Interval::Ends("accuracy_low", "accuracy_high", WILSON),
        facet: &["corruption"],
        style: "source",
        only: &[Only::IsNot("source", "clean")],
        y_range: SHARE,
        stands_for: &["error_"],
        ..LINES
    },
    Figure {
        kind: "corruptions",
        table: "errors",
        title: "Error by corruption",
        caption: "Wrong answers, mean over severities.",
        y: &[("mean_error", "")],
        y_label: "mean error",
        interval: Interval::Ends("mean_error_low", "mean_error_high", IMAGES),
        facet: &["network"],
        ..FOREST
    },
    Figure {
        kind: "fixed_points",
        table: "eigenvalues",
        title: "Leading eigenvalues",
        caption: "Of every area, at all steady states together. Modes right of the line grow.",
        mark: Mark::Points,
        x: "real",
        x_label: "real part [1/ms]",
        y: &[("imaginary", "")],
        y_label: "imaginary part [1/ms]",
        facet: &["network"],
        over: &["image", "mode", "order"],
        only: &[Only::Is("order", "real")],
        guides: &[Guide::Vertical(0.0, "stability")],
        stands_for: &["spectrum_"],
        ..LINES
    },
    Figure {
        kind: "fixed_points",
        table: "states",
        title: "Slowest time constant of each area",
        caption: "At its steady states.",
        x: "area",
        y: &[("time_constant", "")],
        y_label: "slowest time constant [ms]",
        over: OVER_IMAGES,
        is_log_y: true,
        ..LINES
    },
    Figure {
        kind: "fixed_points",
        table: "growth",
        title: "Largest growth of a perturbation, area by area",
        caption: "Other areas left as they are.",
        x: "time",
        x_label: "time after the perturbation [ms]",
        y: &[("factor", "continuous time"), ("euler_factor", "Euler steps")],
        y_label: "growth",
        facet: &["network"],
        over: OVER_IMAGES,
        is_log_y: true,
        guides: &[Guide::Horizontal(1.0, "")],
        ..LINES
    },
    Figure {
        kind: "fixed_points",
        table: "network_growth",
        title: "Largest growth of a perturbation, whole network",
        caption: "A perturbation passes from area to area.",
        x: "time",
        x_label: "time after the perturbation [ms]",
        y: &[("factor", "continuous time"), ("euler_factor", "Euler steps")],
        y_label: "growth",
        over: OVER_IMAGES,
        is_log_y: true,
        guides: &[Guide::Horizontal(1.0, "")],
        ..LINES
    },
    Figure {
        kind: "fixed_points",
        table: "power",
        title: "Power of fluctuations by frequency",
        caption: "Of noise with standard deviation 1, in continuous time.",
        x: "frequency",
        y: &[("power", "")],
        facet: &["network"],
        over: OVER_IMAGES,
        is_log_y: true,
        ..LINES
    },
    Figure {
        kind: "fixed_points",
        table: "exponents",
        title: "Lyapunov exponents",
        caption: "Along the trajectory from the spontaneous state.",
        x: "rank",
        y: &[("exponent", "")],
        facet: &["network", "noise"],
        over: OVER_IMAGES,
        guides: &[Guide::Horizontal(0.0, "")],
        ..LINES
    },
    Figure {
        kind: "record",
        table: "summary",
        title: "Mean rate over time",
        caption: "Mean over units and images.",
        x: "time",
        x_label: AFTER_ONSET,
        y: &[("mean_rate", "")],
        stands_for: &["activity"],
        ..LINES
    },
    Figure {
        kind: "record",
        table: "summary",
        title: "Dimensionality over time",
        caption: "Participation ratio of the covariance over images.",
        x: "time",
        x_label: AFTER_ONSET,
        y: &[("participation_ratio", "")],
        stands_for: &["dimensionality"],
        ..LINES
    },
    Figure {
        kind: "cognitive",
        table: "training",
        title: "Accuracy over training",
        caption: "On validation images.",
        x: "step",
        x_label: "gradient steps",
        y: &[("validation_accuracy", "")],
        y_label: "accuracy",
        y_range: SHARE,
        ..LINES
    },
    Figure {
        kind: "cognitive",
        table: "accuracy",
        title: "Accuracy by delay",
        caption: "On test images, by kind of trial.",
        x: "delay",
        y: &[("accuracy", "")],
        y_label: "share of right answers",
        interval: Interval::Ends("low", "high", WILSON),
        style: "delays",
        y_range: SHARE,
        stands_for: &["delays"],
        ..LINES
    },
    Figure {
        kind: "cognitive",
        table: "lesions",
        title: "Accuracy with projections cut",
        caption: "On test images, cut after training.",
        y: &[("accuracy", "")],
        y_label: "share of right answers",
        interval: Interval::Ends("low", "high", WILSON),
        ..FOREST
    },
    Figure {
        kind: "cognitive",
        table: "decoding",
        title: "What is read of each area over time",
        caption: "By a linear classifier, on trials with the longest delay.",
        x: "time",
        x_label: "time [ms]",
        y: &[("accuracy", "")],
        y_label: "share decoded rightly",
        interval: Interval::Ends("low", "high", WILSON),
        facet: &["variable"],
        y_range: SHARE,
        guides: &[Guide::Column("chance", "chance")],
        stands_for: &["decoding_"],
        ..LINES
    },
    Figure {
        kind: "predictivity",
        table: "scores",
        title: "Predictivity over neural time",
        caption: "At the model time that predicts best, beside the neurons' ceiling.",
        x: "bin_start",
        x_label: "start of the time bin after onset [ms]",
        y: &[("r", "r"), ("ceiling", "ceiling")],
        y_label: "Pearson's r",
        facet: &["region", "activity", "features"],
        best_of: &["model_time", "latency", "bin_end"],
        guides: &[Guide::Horizontal(0.0, "")],
        ..LINES
    },
    Figure {
        kind: "predictivity",
        table: "scores",
        title: "Predictivity by model time and neural time",
        caption: "Pearson's r, median over neurons.",
        mark: Mark::Matrix,
        x: "bin_start",
        x_label: "start of the time bin [ms]",
        y: &[("r", "")],
        rows: "model_time",
        y_label: "model time [ms]",
        facet: &["region", "activity", "area"],
        over: &["bin_end"],
        only: &[Only::Is("features", "network")],
        stands_for: &["area"],
        ..LINES
    },
    Figure {
        kind: "predictivity",
        table: "latencies",
        title: "Predictivity by latency",
        caption: "How long the neurons respond after the model.",
        x: "latency",
        x_label: "latency [ms]",
        y: &[("r", "")],
        y_label: "Pearson's r",
        facet: &["region", "activity", "features"],
        guides: &[Guide::Horizontal(0.0, "")],
        ..LINES
    },
    Figure {
        kind: "predictivity",
        table: "onsets",
        title: "Latency of each region",
        caption: "The latency with the largest mean r over neurons.",
        y: &[("latency", "")],
        y_label: "latency [ms]",
        interval: Interval::Ends("latency_low", "latency_high", "95 % interval, neurons resampled"),
        facet: &["region"],
        ..FOREST
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_of_tables_that_kinds_have() {
        let registry = crate::kinds();
        for figure in FIGURES {
            let kind = registry.kind(figure.kind);
            let kind = kind.unwrap_or_else(|| panic!("no kind `{}`", figure.kind));
            let outputs = kind.possible_outputs();
            assert!(
                outputs.iter().any(|output| output.slot == figure.table),
                "{} has no table `{}`: {outputs:?}",
                figure.kind,
                figure.table
            );
        }
    }

    #[test]
    fn figures_name_columns_that_stored_tables_have() {
        let columns = include_str!("../../tests/golden/columns.txt");
        for figure in FIGURES {
            let named = figure
                .y
                .iter()
                .map(|(name, _)| *name)
                .chain([figure.x, figure.rows, figure.style]);
            for name in named
                .chain(figure.facet.iter().copied())
                .filter(|name| !name.is_empty())
            {
                let start = format!("\n{name} | ");
                assert!(columns.contains(&start), "{}: no column `{name}`", figure.title);
            }
        }
    }
}
