//! Lyapunov exponents, of areas and of whole networks.

use cords::dynamics::{AreaFixedPoint, kaplan_yorke, ranks_in_union};

use super::super::NetworkFixedPoint;
use super::{InArea, StateKeys};
use dynvis_runner::table::Row;

/// Lyapunov exponents of each area along the trajectory from the spontaneous state
#[derive(Row)]
#[table(name = "exponents")]
pub(in crate::stage::fixed_points) struct Exponent<'a> {
    #[column(flatten)]
    keys: InArea<StateKeys<'a>>,
    /// Level of neural noise on the trajectory
    #[column(key)]
    noise: f64,
    /// Rank, from 0
    #[column(key)]
    rank: usize,
    /// Lyapunov exponent; none where nothing is left of a direction
    #[column(unit = "1/ms", absolute = 1e-7, relative = 1e-6)]
    exponent: Option<f64>,
    /// Its error as of a time average of correlated values, two of which hold the exponent in some 95 of 100 cases: the
    /// largest of those between 4, 8, 16 and 32 parts of the trajectory; what turns more slowly than the trajectory is
    /// long does not show in it
    #[column(unit = "1/ms", absolute = 1e-7, relative = 1e-6)]
    error: Option<f64>,
    /// Kaplan-Yorke dimension of the area; none where the exponents given do not reach it
    #[column(absolute = 1e-6, relative = 1e-6)]
    dimension: Option<f64>,
    /// Rank in the whole network; none where an area's exponents that were not computed may come before
    network_rank: Option<usize>,
    /// Kaplan-Yorke dimension of the whole network; none where the exponents with a `network_rank` do not reach it
    #[column(absolute = 1e-6, relative = 1e-6)]
    network_dimension: Option<f64>,
}

impl<'a> Exponent<'a> {
    /// `asked`: exponents of every area.
    pub(in crate::stage::fixed_points) fn rows(
        found: &'a [NetworkFixedPoint],
        levels: &[f64],
        asked: usize,
    ) -> Vec<Self> {
        let mut rows = Vec::new();
        for f in found {
            let areas = &f.point.areas;
            // [level][area].
            let of_levels: Vec<NetworkExponents> = (0..levels.len())
                .map(|level| NetworkExponents::of(areas, level, asked))
                .collect();
            for (area, point) in areas.iter().enumerate() {
                let exponents = point.exponents.iter().flatten();
                for ((noise, exponents), network) in levels.iter().zip(exponents).zip(&of_levels) {
                    let values: Vec<f64> = exponents.iter().map(|exponent| exponent.per_ms).collect();
                    let dimension = kaplan_yorke(&values);
                    rows.extend(exponents.iter().enumerate().map(|(rank, exponent)| Exponent {
                        keys: f.in_area(area),
                        noise: *noise,
                        rank,
                        exponent: Some(exponent.per_ms),
                        error: Some(exponent.error_per_ms),
                        dimension,
                        network_rank: network.ranks[area].get(rank).copied().flatten(),
                        network_dimension: network.dimension,
                    }));
                }
            }
        }
        rows
    }
}

/// The exponents of all areas as those of the whole network.
struct NetworkExponents {
    /// `[area][rank within it]`.
    ranks: Vec<Vec<Option<usize>>>,
    dimension: Option<f64>,
}

impl NetworkExponents {
    /// `asked` exponents of every area were to be computed; fewer are all that it has.
    fn of(areas: &[AreaFixedPoint], level: usize, asked: usize) -> Self {
        let list = |area: &AreaFixedPoint| {
            let Some(exponents) = area.exponents.as_ref().and_then(|levels| levels.get(level)) else {
                return (Vec::new(), false);
            };
            let values: Vec<f64> = exponents.iter().map(|exponent| exponent.per_ms).collect();
            if values.iter().any(|value| value.is_nan()) {
                // Along a trajectory that diverges there are none.
                return (Vec::new(), false);
            }
            (values, exponents.len() < asked)
        };
        let lists: Vec<(Vec<f64>, bool)> = areas.iter().map(list).collect();
        let ranks = ranks_in_union(&lists);
        let mut ranked: Vec<(usize, f64)> = lists
            .iter()
            .zip(&ranks)
            .flat_map(|((values, _), ranks)| ranks.iter().zip(values))
            .filter_map(|(rank, value)| rank.map(|rank| (rank, *value)))
            .collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        let values: Vec<f64> = ranked.into_iter().map(|(_, value)| value).collect();
        Self {
            dimension: kaplan_yorke(&values),
            ranks,
        }
    }
}
