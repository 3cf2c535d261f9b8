//! Key columns by which no row of one table can match one of the other: `dt` where members with `dt=2` and `dt=4` are
//! compared.

use super::diff::common_keys;
use super::{Fields, Table, Value};

/// Two tables without such columns, and what these held.
#[derive(Clone, Debug, PartialEq)]
pub struct SetAside {
    /// The first table.
    pub a: Table,
    /// The second table.
    pub b: Table,
    /// The columns left out, with their value in the first table.
    pub of_a: Fields,
    /// The same in the second table.
    pub of_b: Fields,
}

/// Leaves out key columns of both tables that have one value in all rows of the one and another in all rows of the
/// other. Rows that differed in no other key before still do, so none become alike.
pub fn set_aside(a: &Table, b: &Table) -> SetAside {
    let only_value = |table: &Table, name: &str| -> Option<Value> {
        let values = table.column(name).ok()?;
        let first = values.first()?;
        values
            .iter()
            .all(|value| value.order(first).is_eq())
            .then(|| first.clone())
    };
    let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
    for name in common_keys(a, b) {
        if let (Some(in_a), Some(in_b)) = (only_value(a, &name), only_value(b, &name))
            && in_a.order(&in_b).is_ne()
        {
            of_a.push((name.clone(), in_a));
            of_b.push((name, in_b));
        }
    }
    let whole = |table: &Table| table.schema.columns.len() == of_a.len();
    if whole(a) || whole(b) {
        // Nothing would be left to compare.
        (of_a, of_b) = (Vec::new(), Vec::new());
    }
    let names: Vec<&str> = of_a.iter().map(|(name, _)| name.as_str()).collect();
    SetAside {
        a: a.without(&names),
        b: b.without(&names),
        of_a: Fields(of_a),
        of_b: Fields(of_b),
    }
}

impl Table {
    fn without(&self, names: &[&str]) -> Table {
        let mut out = self.clone();
        let stays = |place: &usize| !names.contains(&self.schema.columns[*place].name.as_str());
        let places: Vec<usize> = (0..self.schema.columns.len()).filter(stays).collect();
        out.schema.columns = places.iter().map(|&place| self.schema.columns[place].clone()).collect();
        out.columns = places.iter().map(|&place| self.columns[place].clone()).collect();
        out
    }
}
