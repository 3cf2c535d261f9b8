//! `${}` interpolation, in parsed scalars only, and the names and fields of a matrix's members.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::node::{Node, Value};
use super::problem::{Problem, ProblemKind, known};
use super::sweep::Matrix;
use crate::names::{name_of, scalar};

/// What `${…}` can name.
pub(super) struct Scope<'a> {
    pub vars: &'a IndexMap<String, Node>,
    pub fields: &'a IndexMap<String, Node>,
    pub seed: i64,
    pub room: &'a Room,
}

/// How much more variables, presets and matrices may make of a text. A few lines can name each other to gigabytes.
pub(super) struct Room(Cell<usize>);

impl Room {
    /// Values of the whole pipeline; 32 letters of text count as one.
    const VALUES: usize = 4_000_000;

    pub(super) fn new() -> Self {
        Self(Cell::new(Self::VALUES))
    }

    /// Whether so many more values may be made. The first time that they may not is a problem.
    pub(super) fn take(&self, count: usize, at: &Node, problems: &mut Vec<Problem>) -> bool {
        let left = self.0.get().checked_sub(count);
        if left.is_none() && self.0.get() > 0 {
            let (what, limit) = ("values", Self::VALUES);
            problems.push(Problem::at(at.spot, ProblemKind::TooMuch { what, limit }));
        }
        self.0.set(left.unwrap_or(0));
        left.is_some()
    }
}

/// What a value takes of a [`Room`].
fn weight(node: &Node) -> usize {
    1 + match &node.value {
        Value::Text(text) => text.len() / 32,
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(entries) => entries.iter().map(|(k, v)| k.text.len() / 32 + weight(v)).sum(),
        _ => 0,
    }
}

/// What all values of all members take of a [`Room`].
pub(super) fn weight_of_all(matrix: &Matrix) -> usize {
    matrix.weight(weight)
}

impl Scope<'_> {
    /// Replaces `${vars.x}`, `${matrix.x}` and `${seed}` in every scalar below `node`.
    /// A scalar that is nothing but one such expression takes over the type of the value.
    pub(super) fn interpolate(&self, node: &Node, problems: &mut Vec<Problem>) -> Node {
        let own = match &node.value {
            Value::Text(text) => 1 + text.len() / 32,
            _ => 1,
        };
        if !self.room.take(own, node, problems) {
            let value = Value::Unknown;
            return Node { value, spot: node.spot };
        }
        let value = match &node.value {
            Value::Text(text) if text.contains("${") => {
                return self.text(node, text, problems);
            }
            Value::List(items) => Value::List(items.iter().map(|i| self.interpolate(i, problems)).collect()),
            Value::Map(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(k, v)| (k.clone(), self.interpolate(v, problems)))
                    .collect(),
            ),
            other => other.clone(),
        };
        Node { value, spot: node.spot }
    }

    fn text(&self, node: &Node, text: &str, problems: &mut Vec<Problem>) -> Node {
        let mut result = String::new();
        let mut rest = text;
        let before = problems.len();
        while let Some(start) = rest.find("${") {
            let Some(length) = rest[start..].find('}') else {
                break;
            };
            let expression = rest[start + 2..start + length].trim();
            let found = self.lookup(expression, node, problems);
            if let (true, Some(found)) = (start == 0 && length + 1 == text.len(), &found) {
                return Node {
                    value: found.value.clone(),
                    spot: node.spot,
                };
            }
            result += &rest[..start];
            match found.map(|f| (f.scalar_text(), f)) {
                Some((Some(scalar), _)) => result += &scalar,
                Some((None, found)) => problems.push(Problem::at(
                    node.spot,
                    ProblemKind::WrongType {
                        expected: format!("a single value in `{expression}`"),
                        found: found.type_name().into(),
                    },
                )),
                None => {}
            }
            rest = &rest[start + length + 1..];
        }
        result += rest;
        let value = if problems.len() > before {
            Value::Unknown
        } else {
            Value::Text(result)
        };
        Node { value, spot: node.spot }
    }

    fn lookup(&self, expression: &str, at: &Node, problems: &mut Vec<Problem>) -> Option<Node> {
        let seed = Node {
            value: Value::Int(self.seed, None),
            spot: at.spot,
        };
        let (what, found) = match expression.split_once('.') {
            Some(("vars", name)) => ("variable", self.vars.get(name)),
            Some(("matrix", name)) => ("matrix field", self.fields.get(name)),
            _ if expression == "seed" => ("expression", Some(&seed)),
            _ => ("expression", None),
        };
        if let Some(found) = &found
            && !self.room.take(weight(found), at, problems)
        {
            return None;
        }
        if found.is_none() {
            let name = expression
                .split_once('.')
                .filter(|_| what != "expression")
                .map_or(expression, |(_, name)| name);
            let before = problems.len();
            let (suggestion, valid) = match what {
                "variable" => known(before, name, self.vars.keys().map(String::as_str)),
                "matrix field" => known(before, name, self.fields.keys().map(String::as_str)),
                _ => known(before, name, ["vars.NAME", "matrix.FIELD", "seed"].into_iter()),
            };
            let kind = ProblemKind::UnknownName {
                what,
                name: name.to_owned(),
                suggestion,
                valid,
            };
            problems.push(Problem::at(at.spot, kind));
        }
        found.cloned()
    }
}

/// The fields of a `${matrix.…}` that occur anywhere below `node`.
pub(super) fn mentions(node: &Node, field: &str) -> bool {
    match &node.value {
        Value::Text(text) => text.split("${").skip(1).any(|part| {
            part.split('}')
                .next()
                .is_some_and(|e| e.trim() == format!("matrix.{field}"))
        }),
        Value::List(items) => items.iter().any(|i| mentions(i, field)),
        Value::Map(entries) => entries.iter().any(|(_, v)| mentions(v, field)),
        _ => false,
    }
}

/// Fields whose numbers are names, not amounts: one is written as no other program reads it (`01`, `1_000`), or two are
/// equal and differ only in how they are written (`1.1`, `1.10`).
pub(super) fn fields_of_text(matrix: &Matrix) -> BTreeSet<&str> {
    let is_text = |values: &[&Node]| {
        let mut seen: BTreeMap<u64, String> = BTreeMap::new();
        values.iter().any(|value| {
            let (Value::Int(..) | Value::Float(..), Some(text)) = (&value.value, value.scalar_text()) else {
                return false;
            };
            let Ok(number) = serde_json::from_str::<f64>(&text) else {
                return true;
            };
            // Digits beyond those of a number would be lost.
            let is_exact = text.contains(['.', 'e', 'E']) || text.parse::<i64>().is_ok();
            !is_exact
                || seen
                    .insert(number.to_bits(), text.clone())
                    .is_some_and(|other| other != text)
        })
    };
    let found = matrix.columns().into_iter().filter(|(_, values)| is_text(values));
    found.map(|(key, _)| key.text.as_str()).collect()
}

/// Matrix values as they enter tables.
pub(super) fn plain(fields: &IndexMap<String, Node>, texts: &BTreeSet<&str>) -> IndexMap<String, Json> {
    fields
        .iter()
        .map(|(k, v)| {
            let json = match (&v.value, v.scalar_text()) {
                (Value::Int(..) | Value::Float(..), Some(written)) if texts.contains(k.as_str()) => {
                    Json::String(written)
                }
                _ => v.to_json(),
            };
            let json = match json {
                Json::Array(_) | Json::Object(_) => Json::String(scalar(&json)),
                simple => simple,
            };
            (k.clone(), json)
        })
        .collect()
}

/// The name of a member, its values as they are written.
pub(super) fn name(family: &str, fields: &IndexMap<String, Node>) -> String {
    let written = |node: &Node| node.scalar_text().unwrap_or_else(|| scalar(&node.to_json()));
    name_of(
        family,
        fields.iter().map(|(field, value)| (field.as_str(), written(value))),
    )
}
