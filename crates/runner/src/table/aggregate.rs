//! Rows joined into groups: means, spreads and extremes of number columns, each with the number of values behind it.
//!
//! Every row weighs alike. What stands behind a row (images, trials, seeds) is not known here, so a mean of rates is
//! the mean of the rates, not the rate of all; a mean of means is the mean of all only where the means are of equally
//! many.

use std::collections::BTreeMap;

use super::schema::{ColumnSchema, DType, Role, TableSchema};
use super::{Key, Table, TableError, Value};

/// What becomes of the numbers of a group; missing ones are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// Arithmetic mean.
    Mean,
    /// Standard deviation (with n - 1); missing below two values.
    Sd,
    /// Standard error of the mean, `sd / sqrt(n)`; missing below two values.
    Sem,
    /// The middle value, the mean of both middle ones of an even number.
    Median,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
}

impl Aggregate {
    /// As options and columns call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Sd => "sd",
            Self::Sem => "sem",
            Self::Median => "median",
            Self::Min => "min",
            Self::Max => "max",
        }
    }

    /// As descriptions of columns call it.
    fn words(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Sd => "standard deviation (with n - 1)",
            Self::Sem => "standard error of the mean, sd / sqrt(n),",
            Self::Median => "median",
            Self::Min => "smallest value",
            Self::Max => "largest value",
        }
    }

    /// Of numbers in ascending order, not NaN; none of none, and where it is missing.
    #[must_use]
    pub fn of(self, numbers: &[f64]) -> Option<f64> {
        let n = numbers.len() as f64;
        let mean = || numbers.iter().sum::<f64>() / n;
        let sd = || {
            let mean = mean();
            let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
            (numbers.len() > 1).then(|| match numbers.first() == numbers.last() {
                // Equal values deviate by nothing, not by the rounding of their mean.
                true => 0.0,
                false => (squares / (n - 1.0)).sqrt(),
            })
        };
        let (&smallest, &largest) = (numbers.first()?, numbers.last()?);
        match self {
            Self::Mean => Some(mean()),
            Self::Sd => sd(),
            Self::Sem => sd().map(|sd| sd / n.sqrt()),
            Self::Median => {
                let middle = numbers.len() / 2;
                Some(match numbers.len().is_multiple_of(2) {
                    true => f64::midpoint(numbers[middle - 1], numbers[middle]),
                    false => numbers[middle],
                })
            }
            Self::Min => Some(smallest),
            Self::Max => Some(largest),
        }
        .filter(|value| !value.is_nan())
    }

    /// Its column of a table, beside the column that it is of.
    fn column(self, of: &ColumnSchema) -> ColumnSchema {
        let name = &of.name;
        let description = match of.description.as_str() {
            "" => format!("{} of {name}", self.words()),
            meaning => format!("{} of {name} ({meaning})", self.words()),
        };
        ColumnSchema {
            name: format!("{}({name})", self.name()),
            description: format!("{description} over n({name}) rows of equal weight"),
            unit: of.unit.clone(),
            role: Role::Value,
            dtype: DType::Float,
            slot: None,
            group: false,
            allow_missing: true,
            tolerance: of.tolerance,
        }
    }
}

/// Which rows are joined, and what of them is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grouping {
    /// Columns whose values make a group; none makes one of all rows.
    pub by: Vec<String>,
    /// What of which columns.
    pub aggregates: Vec<(Aggregate, String)>,
}

/// Groups as rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Grouped {
    /// The columns of [`Grouping::by`] as keys, groups in the order of their first rows; then for each aggregated
    /// column its aggregates, `mean(accuracy)`, and `n(accuracy)`, the number of values behind them. Without
    /// aggregates `n`, the number of rows.
    pub table: Table,
    /// Key columns of the rows that have several values within a group: what was aggregated over.
    pub over: Vec<String>,
}

impl Table {
    /// One row a group.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`], [`TableError::NotNumbers`] where a column to aggregate holds none, and
    /// [`TableError::DuplicateColumn`] where a column is named twice.
    pub fn grouped(&self, grouping: &Grouping) -> Result<Grouped, TableError> {
        let place = |name: &String| {
            self.column(name)?;
            Ok(self.schema.position(name).unwrap_or_default())
        };
        let by = grouping.by.iter().map(place).collect::<Result<Vec<_>, TableError>>()?;
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut known: BTreeMap<Key, usize> = BTreeMap::new();
        for row in 0..self.height() {
            let group = *known.entry(self.key(row, &by)).or_insert(groups.len());
            match groups.get_mut(group) {
                Some(rows) => rows.push(row),
                None => groups.push(vec![row]),
            }
        }

        let firsts: Vec<usize> = groups.iter().filter_map(|rows| rows.first().copied()).collect();
        let mut out = Table {
            schema: TableSchema::new(self.schema.name.clone(), self.schema.description.clone()),
            columns: Vec::new(),
            inferred: false,
            lines: Vec::new(),
            passed_over: Vec::new(),
        };
        for &place in &by {
            let mut column = self.schema.columns[place].clone();
            column.role = Role::Key;
            let values = firsts.iter().map(|&row| self.columns[place][row].clone());
            out.append(column, values.collect());
        }
        let mut aggregated: Vec<&String> = Vec::new();
        for (_, name) in &grouping.aggregates {
            if !aggregated.contains(&name) {
                aggregated.push(name);
            }
        }
        for name in &aggregated {
            self.aggregate(grouping, name, &groups, &mut out)?;
        }
        if aggregated.is_empty() {
            let column = ColumnSchema::new("n", Role::Value, DType::Int, "number of rows");
            out.append(column, groups.iter().map(|rows| rows.len().into()).collect());
        }
        out.schema.check()?;
        Ok(Grouped {
            over: self.varying(&by, &groups),
            table: out,
        })
    }

    /// Appends the aggregates of one column.
    fn aggregate(
        &self,
        grouping: &Grouping,
        name: &str,
        groups: &[Vec<usize>],
        out: &mut Table,
    ) -> Result<(), TableError> {
        let values = self.column(name)?;
        let place = self.schema.position(name).unwrap_or_default();
        let schema = &self.schema.columns[place];
        let wanted = grouping.aggregates.iter().filter(|(_, column)| column == name);
        let wanted: Vec<Aggregate> = wanted.map(|(aggregate, _)| *aggregate).collect();
        if !schema.dtype.is_number() {
            return Err(TableError::NotNumbers {
                table: self.schema.name.clone(),
                column: name.to_owned(),
                found: schema.dtype,
                wanted: wanted.first().map_or("mean", |aggregate| aggregate.name()),
            });
        }
        let sorted = |rows: &Vec<usize>| {
            let numbers = rows.iter().filter_map(|&row| values[row].number());
            let mut numbers: Vec<f64> = numbers.collect();
            numbers.sort_by(f64::total_cmp);
            numbers
        };
        let numbers: Vec<Vec<f64>> = groups.iter().map(sorted).collect();
        for aggregate in wanted {
            let found = numbers.iter().map(|numbers| Value::optional(aggregate.of(numbers)));
            out.append(aggregate.column(schema), found.collect());
        }
        let description = format!("number of values of {name}, one a row");
        let column = ColumnSchema::new(format!("n({name})"), Role::Value, DType::Int, description);
        out.append(column, numbers.iter().map(|numbers| numbers.len().into()).collect());
        Ok(())
    }

    /// Key columns beside those of the groups that have several values in one of them.
    fn varying(&self, by: &[usize], groups: &[Vec<usize>]) -> Vec<String> {
        let varies = |place: &usize| {
            let values = &self.columns[*place];
            let differs = |rows: &Vec<usize>| {
                rows.windows(2)
                    .any(|pair| values[pair[0]].order(&values[pair[1]]).is_ne())
            };
            groups.iter().any(differs)
        };
        let keys = self.schema.keys().into_iter();
        keys.filter(|place| !by.contains(place))
            .filter(varies)
            .map(|place| self.schema.columns[place].name.clone())
            .collect()
    }
}
