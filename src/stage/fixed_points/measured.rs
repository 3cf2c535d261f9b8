//! What a `noise` stage measured under neural noise, held against the response to small noise.

use dynvis_runner::table::{Row, Table, TableError, Value};
use indexmap::IndexMap;

use super::NetworkFixedPoint;
use super::tables::{InArea, ModelKeys};
use crate::stage::StageError;

/// Change of an area's activity under neural noise of the lowest level that was measured, for one network.
pub(super) struct Measured {
    network: String,
    seed: i64,
    area: usize,
    level: f64,
    /// E|dr|^2 / E|r|^2, mean over trials.
    change: f64,
}

/// The measurements with neural noise in a table `gains`.
pub(super) fn gains(table: &Table) -> Result<Vec<Measured>, StageError> {
    let text = |row: usize, name: &str| -> Result<String, TableError> {
        Ok(match &table.column(name)?[row] {
            Value::Text(text) => text.clone(),
            _ => String::new(),
        })
    };
    let mut sums: IndexMap<(String, i64, usize, u64), (f64, f64)> = IndexMap::new();
    // Which of the stage's models each network was.
    let mut slots: IndexMap<(String, i64), Value> = IndexMap::new();
    for row in 0..table.height() {
        if text(row, "noise")? != "neural" || text(row, "view")? != "dynamics" {
            continue;
        }
        let numbers = (
            &table.column("seed")?[row],
            &table.column("area")?[row],
            &table.column("level")?[row],
            &table.column("change")?[row],
        );
        if let (Value::Int(seed), Value::Int(area), Value::Float(level), Value::Float(change)) = numbers {
            let network = text(row, "network")?;
            let slot = &table.column("models")?[row];
            if slots.entry((network.clone(), *seed)).or_insert_with(|| slot.clone()) != slot {
                return Err(StageError::new(format!(
                    "`measured` holds several networks {network} of seed {seed}, which cannot be distinguished"
                ))
                .hint("measure them in `noise` stages of their own"));
            }
            let key = (network, *seed, *area as usize, level.to_bits());
            let sum = sums.entry(key).or_default();
            *sum = (sum.0 + change, sum.1 + 1.0);
        }
    }
    if sums.is_empty() {
        let hint = "give `measured` the table `gains` of a `noise` stage with neural noise";
        return Err(StageError::new("`measured` holds no changes under neural noise").hint(hint));
    }
    let mut lowest: IndexMap<(String, i64, usize), Measured> = IndexMap::new();
    for ((network, seed, area, level), (sum, n)) in sums {
        let level = f64::from_bits(level);
        let key = (network.clone(), seed, area);
        if lowest.get(&key).is_none_or(|known| level < known.level) {
            let change = sum / n;
            let measured = Measured {
                network,
                seed,
                area,
                level,
                change,
            };
            lowest.insert(key, measured);
        }
    }
    Ok(lowest.into_values().collect())
}

/// Fluctuations from small noise in every unit: by the linearisation at the images' steady states, and as measured
#[derive(Row)]
#[table(name = "noise_measured")]
pub(super) struct Compared<'a> {
    #[column(flatten)]
    keys: InArea<ModelKeys<'a>>,
    /// Trace of the stationary covariance under Euler steps over |r|^2, sums over images, for noise of standard
    /// deviation 1
    #[column(absolute = 1e-9, relative = 1e-6)]
    predicted: Option<f64>,
    /// Its standard error, from the probes
    #[column(absolute = 1e-9, relative = 1e-6)]
    error: Option<f64>,
    /// E|dr|^2 / E|r|^2 at the end of the presentation, over level^2
    #[column(absolute = 1e-9, relative = 1e-6)]
    measured: f64,
    /// Level of the neural noise that it was measured with, the lowest there was
    level: f64,
    /// measured over predicted
    #[column(absolute = 1e-6, relative = 1e-6)]
    ratio: Option<f64>,
}

impl<'a> Compared<'a> {
    pub(super) fn rows(found: &'a [NetworkFixedPoint], measured: &[Measured]) -> impl Iterator<Item = Self> {
        let mut seen: IndexMap<(usize, usize), (&NetworkFixedPoint, f64, f64, f64)> = IndexMap::new();
        for f in found.iter().filter(|f| f.image >= 0) {
            for (area, point) in f.point.areas.iter().enumerate() {
                if let Some(response) = point.response.as_ref().filter(|response| response.converged) {
                    let sum = seen.entry((f.slot, area)).or_insert((f, 0.0, 0.0, 0.0));
                    sum.1 += response.trace.value;
                    sum.2 += response.trace.error.powi(2);
                    sum.3 += point.steady.norm.powi(2);
                }
            }
        }
        seen.into_iter()
            .filter_map(|((_, area), (f, trace, squared_error, size))| {
                let of = |m: &&Measured| m.network == f.network && m.seed == f.seed as i64 && m.area == area;
                let m = measured.iter().find(of)?;
                let predicted = (size > 0.0).then(|| trace / size);
                let change = m.change / m.level.powi(2);
                Some(Compared {
                    keys: f.in_network(area),
                    predicted,
                    error: predicted.map(|_| squared_error.sqrt() / size),
                    measured: change,
                    level: m.level,
                    ratio: predicted.filter(|p| *p > 0.0).map(|predicted| change / predicted),
                })
            })
    }
}
