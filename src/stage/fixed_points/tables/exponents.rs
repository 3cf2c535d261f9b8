//! Lyapunov exponents, of areas and of whole networks.

use cords::dynamics::{AreaFixedPoint, kaplan_yorke, ranks_in_union};

use super::super::Found;
use super::{key_values, keys};
use dynvis_runner::table::{DType, Table, TableError, TableSchema, TableWriter, Value};

pub(in crate::stage::fixed_points) fn exponents_table(
    found: &[Found],
    levels: &[f64],
    asked: usize,
) -> Result<Table, TableError> {
    let mut table = TableWriter::new(
        keys(TableSchema::new(
            "exponents",
            "Lyapunov exponents of each area along the trajectory from the spontaneous state",
        ))
        .key("noise", DType::Float, "Level of neural noise on the trajectory")
        .key("rank", DType::Int, "Rank, from 0")
        .value(
            "exponent",
            DType::Float,
            "Lyapunov exponent; none where nothing is left of a direction",
        )
        .unit("1/ms")
        .tolerance(1e-7, 1e-6)
        .allow_missing()
        .value(
            "error",
            DType::Float,
            "Its error as of a time average of correlated values, two of which hold the exponent in some 95 of 100 cases: the \
             largest of those between 4, 8, 16 and 32 parts of the trajectory; what turns more slowly than the trajectory is long \
             does not show in it",
        )
        .unit("1/ms")
        .tolerance(1e-7, 1e-6)
        .allow_missing()
        .value(
            "dimension",
            DType::Float,
            "Kaplan-Yorke dimension of the area; none where the exponents given do not reach it",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing()
        .value(
            "network_rank",
            DType::Int,
            "Rank in the whole network; none where an area's exponents that were not computed may come before",
        )
        .allow_missing()
        .value(
            "network_dimension",
            DType::Float,
            "Kaplan-Yorke dimension of the whole network; none where the exponents with a `network_rank` do not reach it",
        )
        .tolerance(1e-6, 1e-6)
        .allow_missing(),
    )?;
    for f in found {
        let areas = &f.point.areas;
        // [level][area].
        let of_levels: Vec<NetworkExponents> = (0..levels.len())
            .map(|level| NetworkExponents::of(areas, level, asked))
            .collect();
        for (area, point) in areas.iter().enumerate() {
            for ((level, exponents), network) in levels.iter().zip(point.exponents.iter().flatten()).zip(&of_levels) {
                let values: Vec<f64> = exponents.iter().map(|exponent| exponent.per_ms).collect();
                for (rank, exponent) in exponents.iter().enumerate() {
                    let mut row = key_values(f, area);
                    row.extend([
                        Value::Float(*level),
                        Value::Int(rank as i64),
                        Value::finite(exponent.per_ms),
                        Value::finite(exponent.error_per_ms),
                        Value::optional(kaplan_yorke(&values)),
                        network.ranks[area]
                            .get(rank)
                            .copied()
                            .flatten()
                            .map_or(Value::Null, |rank| Value::Int(rank as i64)),
                        Value::optional(network.dimension),
                    ]);
                    table.push_row(row)?;
                }
            }
        }
    }
    table.finish()
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
