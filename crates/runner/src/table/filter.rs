//! Rows and columns that a user asks for: `accuracy<0.5`, `network=CNN-R2`, `tau=` for a missing value.

use std::cmp::Ordering;
use std::str::FromStr;

use super::schema::Role;
use super::{Table, TableError, Value};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A condition on one column. Equality holds of numbers by value and of everything else by its text; a value that is
/// missing equals `-` and the empty text, and is neither less nor more than anything.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// Name of the column.
    pub column: String,
    relation: Relation,
    value: String,
}

/// Longer ones first, so that `<=` is not read as `<` and `=`.
const RELATIONS: [(&str, Relation); 7] = [
    ("!=", Relation::Unequal),
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("=", Relation::Equal),
    ("<", Relation::Less),
    (">", Relation::More),
];

impl FromStr for Condition {
    type Err = String;

    /// The leftmost relation divides column and value.
    fn from_str(text: &str) -> Result<Self, String> {
        let (place, (sign, relation)) = text
            .char_indices()
            .find_map(|(place, _)| {
                let found = RELATIONS.iter().find(|(sign, _)| text[place..].starts_with(sign))?;
                Some((place, found))
            })
            .ok_or("expected `COLUMN=VALUE`, or one of != < <= > >= in its place")?;
        let (column, value) = (text[..place].trim(), text[place + sign.len()..].trim());
        if column.is_empty() {
            return Err("there is no column before the sign".to_owned());
        }
        let orders = !matches!(relation, Relation::Equal | Relation::Unequal);
        if orders && value.parse::<f64>().map_or(true, f64::is_nan) {
            return Err(format!("`{value}` is not a number, and `{sign}` compares numbers"));
        }
        Ok(Self {
            column: column.to_owned(),
            relation: *relation,
            value: value.to_owned(),
        })
    }
}

impl Condition {
    fn holds(&self, value: &Value) -> bool {
        let equal = || match (value, value.number(), self.value.parse::<f64>()) {
            (Value::Null, ..) => self.value.is_empty() || self.value == "-",
            (_, Some(number), Ok(wanted)) => number == wanted,
            _ => value.to_string() == self.value,
        };
        // The value was seen to be a number when the condition was read.
        let order = || value.number()?.partial_cmp(&self.value.parse().ok()?);
        match self.relation {
            Relation::Equal => equal(),
            Relation::Unequal => !equal(),
            Relation::Less => order() == Some(Ordering::Less),
            Relation::AtMost => order().is_some_and(Ordering::is_le),
            Relation::More => order() == Some(Ordering::Greater),
            Relation::AtLeast => order().is_some_and(Ordering::is_ge),
        }
    }
}

impl Table {
    /// The rows in which all conditions hold.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`].
    pub fn filtered(&self, conditions: &[Condition]) -> Result<Table, TableError> {
        let columns = conditions.iter().map(|condition| self.column(&condition.column));
        let columns: Vec<&[Value]> = columns.collect::<Result<_, _>>()?;
        let wanted = |row: &usize| {
            conditions
                .iter()
                .zip(&columns)
                .all(|(c, values)| c.holds(&values[*row]))
        };
        let rows: Vec<usize> = (0..self.height()).filter(wanted).collect();
        Ok(self.select(&rows))
    }

    /// The named columns alone, in the order in which they are named; `keys` keeps the key columns in front of them.
    ///
    /// # Errors
    /// [`TableError::UnknownColumn`].
    pub fn with_columns(&self, names: &[String], keys: bool) -> Result<Table, TableError> {
        let mut places = if keys { self.schema.keys() } else { Vec::new() };
        for name in names {
            self.column(name)?;
            let place = self.schema.position(name).unwrap_or_default();
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let mut out = self.clone();
        out.schema.columns = places.iter().map(|&place| self.schema.columns[place].clone()).collect();
        out.columns = places.iter().map(|&place| self.columns[place].clone()).collect();
        // Without all of its keys a row is no longer told from others.
        let whole = self.schema.keys().iter().all(|place| places.contains(place));
        if !whole {
            out.inferred = true;
            out.schema
                .columns
                .iter_mut()
                .for_each(|column| column.role = Role::Value);
        }
        Ok(out)
    }
}
