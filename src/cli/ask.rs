//! What is asked of a table: which rows, joined how, in which order, and which columns. `show` and `diff` share it.

use dynvis_runner::table::{Aggregate, Condition, Grouped, Grouping, SortBy, Table, TableError};

/// Taken in this order: rows, groups, order, columns.
#[derive(clap::Args)]
pub(super) struct Ask {
    /// Rows in which it holds: `network=CNN-R2`, `level>0.5`, `tau=` (missing); all of them where repeated. Taken
    /// before rows are joined
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Vec<Condition>,
    /// Join the rows that are alike in these columns, divided by commas; with `--mean` and the others below, else
    /// counted (`n`)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Means of these columns over the rows of each group, of all rows without `--group-by`, as `mean(NAME)` and
    /// `n(NAME)`, the number of values. Every row weighs alike: of rates over unequal numbers of images it is the mean
    /// of the rates, and of a column that holds means already the mean of those
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    mean: Vec<String>,
    /// Standard deviations (with n - 1) of these columns between the rows of each group; of what lies behind a row they
    /// say nothing
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    sd: Vec<String>,
    /// Standard errors of the mean, sd / sqrt(n): rows are taken to be independent, as repetitions by seed are and
    /// levels of noise on the same network are not
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    sem: Vec<String>,
    /// Medians of these columns over the rows of each group
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    median: Vec<String>,
    /// Smallest values of these columns
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    min: Vec<String>,
    /// Largest values of these columns
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    max: Vec<String>,
    /// Order of the rows, by columns of what is shown, divided by commas; `-NAME` for the largest first
    #[arg(long, value_name = "NAMES", value_delimiter = ',', allow_hyphen_values = true)]
    sort: Vec<SortBy>,
    /// These columns only, divided by commas; joined ones by their names, `mean(accuracy)`. `diff` keeps keys beside
    /// them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', visible_alias = "select")]
    columns: Vec<String>,
}

/// What was asked for.
pub(super) struct Answer {
    pub(super) table: Table,
    /// Over what rows were joined; nothing where they were not.
    pub(super) joined: Option<String>,
}

impl Ask {
    /// Whether nothing in particular is asked for.
    pub(super) fn is_for_all(&self) -> bool {
        self.conditions.is_empty() && self.grouping().is_none() && self.sort.is_empty() && self.columns.is_empty()
    }

    fn grouping(&self) -> Option<Grouping> {
        let asked = [
            (Aggregate::Mean, &self.mean),
            (Aggregate::Sd, &self.sd),
            (Aggregate::Sem, &self.sem),
            (Aggregate::Median, &self.median),
            (Aggregate::Min, &self.min),
            (Aggregate::Max, &self.max),
        ];
        let aggregates = asked
            .into_iter()
            .flat_map(|(aggregate, columns)| columns.iter().map(move |column| (aggregate, column.clone())));
        let grouping = Grouping {
            by: self.group_by.clone(),
            aggregates: aggregates.collect(),
        };
        (grouping != Grouping::default()).then_some(grouping)
    }

    /// The rows and columns that were asked for; `keys` keeps key columns beside those that are named.
    ///
    /// # Errors
    /// A column that the table does not have, or one to aggregate that holds no numbers.
    pub(super) fn of(&self, table: &Table, keys: bool) -> Result<Answer, TableError> {
        let mut table = table.filtered(&self.conditions)?;
        let mut joined = None;
        if let Some(grouping) = self.grouping() {
            let rows = table.height();
            let Grouped { table: groups, over } = table.grouped(&grouping)?;
            joined = Some(over_what(rows, groups.height(), &over));
            table = groups;
        }
        table = table.sorted(&self.sort)?;
        if !self.columns.is_empty() {
            table = table.with_columns(&self.columns, keys)?;
        }
        Ok(Answer { table, joined })
    }
}

/// `96 rows joined into 8, over seed, trial`.
fn over_what(rows: usize, groups: usize, over: &[String]) -> String {
    let joined = format!("{rows} rows joined into {groups}");
    match over {
        [] if rows == groups => format!("{joined}: each is one row"),
        [] => format!("{joined}, which no key column tells apart"),
        over => format!("{joined}, over {}", over.join(", ")),
    }
}
