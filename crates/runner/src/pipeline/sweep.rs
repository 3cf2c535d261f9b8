//! How a matrix is written: fields with values, `zip`, `sample`, `include` and `exclude`, into members.
//!
//! A field, a `zip` and a `sample` are an axis each; members are all combinations of rows of the axes, less those that
//! `exclude` names, and then those of `include`.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::node::{Key, Node, Spot, Value};
use super::problem::{Problem, ProblemKind, known, suggest};
use super::ranges;
use super::validate::report_duplicates;
use crate::names::is_value;

/// A member's fields.
pub(super) type Fields = IndexMap<String, Node>;

/// Fields that move together; a field of its own is an axis of one.
struct Axis {
    keys: Vec<Key>,
    /// One value a key.
    rows: Vec<Vec<Node>>,
}

/// The matrix of a stage.
#[derive(Default)]
pub(super) struct Matrix {
    axes: Vec<Axis>,
    exclude: Vec<(Fields, Spot)>,
    /// In the order of the axes' fields.
    include: Vec<Fields>,
    /// The fields of `include`, where there is no axis.
    include_keys: Vec<Key>,
}

/// What an entry of a matrix is.
enum Form<'a> {
    Field,
    Zip(Vec<&'a Node>),
    Sample(&'a Node),
    Include(Vec<&'a Node>),
    Exclude(Vec<&'a Node>),
}

/// A field may be called `zip`, as long as its values are not mappings.
fn form<'a>(key: &Key, value: &'a Node) -> Form<'a> {
    let maps = || -> Option<Vec<&Node>> {
        match &value.value {
            Value::Map(_) => Some(vec![value]),
            Value::List(items) if !items.is_empty() && items.iter().all(|item| item.as_map().is_some()) => {
                Some(items.iter().collect())
            }
            _ => None,
        }
    };
    match (key.text.as_str(), maps()) {
        ("zip", Some(maps)) => Form::Zip(maps),
        ("include", Some(maps)) => Form::Include(maps),
        ("exclude", Some(maps)) => Form::Exclude(maps),
        ("sample", Some(_)) if value.as_map().is_some() => Form::Sample(value),
        _ => Form::Field,
    }
}

/// The names of a matrix's fields, each once.
pub(super) fn field_names(matrix: &Node) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in matrix.as_map().into_iter().flatten() {
        let inner: Vec<&Node> = match form(key, value) {
            Form::Field => {
                names.insert(key.text.clone());
                continue;
            }
            Form::Zip(maps) | Form::Include(maps) => maps,
            Form::Sample(sample) => sample.get("fields").into_iter().collect(),
            Form::Exclude(_) => continue,
        };
        let keys = inner.iter().filter_map(|map| map.as_map()).flatten();
        names.extend(keys.map(|(key, _)| key.text.clone()));
    }
    names
}

impl Matrix {
    /// Reads a matrix whose `${}` are filled in. What is wrong is reported, and what is right of it kept.
    pub(super) fn read(node: &Node, problems: &mut Vec<Problem>) -> Self {
        let mut matrix = Self::default();
        let Some(entries) = node.as_map() else {
            let kind = ProblemKind::WrongType {
                expected: "a mapping from field to a list of values".into(),
                found: node.type_name().into(),
            };
            problems.push(Problem::at(node.spot, kind));
            return matrix;
        };
        report_duplicates(entries, problems);
        let mut include = Vec::new();
        let mut exclude = Vec::new();
        for (key, value) in entries {
            match form(key, value) {
                Form::Field => {
                    let values = ranges::values(value, problems);
                    if values.as_ref().is_some_and(Vec::is_empty) {
                        problems.push(empty(key));
                    }
                    let rows = values
                        .unwrap_or_default()
                        .into_iter()
                        .map(|value| vec![value])
                        .collect();
                    let keys = vec![key.clone()];
                    matrix.axes.push(Axis { keys, rows });
                }
                Form::Zip(maps) => matrix.axes.extend(maps.iter().map(|map| zip(map, problems))),
                Form::Sample(sample) => matrix.axes.push(self::sample(sample, problems)),
                Form::Include(maps) => include.extend(maps),
                Form::Exclude(maps) => exclude.extend(maps),
            }
        }
        matrix.report_repeated(problems);
        matrix.read_include(&include, problems);
        matrix.read_exclude(&exclude, problems);
        matrix
    }

    /// All fields in the order in which members have them.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.axes.iter().flat_map(|axis| &axis.keys).chain(&self.include_keys)
    }

    fn report_repeated(&self, problems: &mut Vec<Problem>) {
        let mut seen = IndexMap::new();
        for key in self.keys() {
            if let Some(first) = seen.insert(key.text.as_str(), key.spot) {
                let kind = ProblemKind::DuplicateName { name: key.text.clone() };
                problems.push(Problem::at(key.spot, kind).with(first, "first here"));
            }
        }
    }

    fn read_include(&mut self, maps: &[&Node], problems: &mut Vec<Problem>) {
        if let (true, Some(first)) = (self.axes.is_empty(), maps.first()) {
            self.include_keys = first
                .as_map()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect();
        }
        let names: Vec<String> = self.keys().map(|key| key.text.clone()).collect();
        for map in maps {
            let Some(given) = self.named(map, problems) else {
                continue;
            };
            let missing = names.iter().filter(|name| !given.contains_key(*name));
            let missing: Vec<Problem> = missing
                .map(|name| {
                    let kind = ProblemKind::Missing {
                        what: "matrix field",
                        name: name.clone(),
                        hint: Some("each member of `include` has all fields of the matrix".into()),
                    };
                    Problem::at(map.spot, kind)
                })
                .collect();
            if missing.is_empty() {
                let in_order = names.iter().filter_map(|name| given.get_key_value(name));
                self.include
                    .push(in_order.map(|(name, value)| (name.clone(), value.clone())).collect());
            }
            problems.extend(missing);
        }
    }

    fn read_exclude(&mut self, maps: &[&Node], problems: &mut Vec<Problem>) {
        for map in maps {
            if let Some(given) = self.named(map, problems) {
                self.exclude.push((given, map.spot));
            }
        }
    }

    /// A mapping of some of the matrix's fields; `None` where it names others.
    fn named(&self, map: &Node, problems: &mut Vec<Problem>) -> Option<Fields> {
        let entries = map.as_map().unwrap_or_default();
        report_duplicates(entries, problems);
        let names: Vec<&str> = self.keys().map(|key| key.text.as_str()).collect();
        let unknown: Vec<&Key> = entries
            .iter()
            .map(|(key, _)| key)
            .filter(|key| !names.contains(&key.text.as_str()))
            .collect();
        for key in &unknown {
            let (suggestion, valid) = known(problems.len(), &key.text, names.iter().copied());
            let kind = ProblemKind::UnknownName {
                what: "matrix field",
                name: key.text.clone(),
                suggestion,
                valid,
            };
            problems.push(Problem::at(key.spot, kind));
        }
        let fields = entries.iter().map(|(key, value)| (key.text.clone(), value.clone()));
        unknown.is_empty().then(|| fields.collect())
    }

    /// How many members there are before any is left out.
    pub(super) fn count(&self) -> usize {
        let combined = self
            .axes
            .iter()
            .fold(1, |count: usize, axis| count.saturating_mul(axis.rows.len()));
        match self.axes.is_empty() && !self.include.is_empty() {
            true => self.include.len(),
            false => combined.saturating_add(self.include.len()),
        }
    }

    /// The sum of a weight over all values of all members.
    pub(super) fn weight(&self, of: impl Fn(&Node) -> usize) -> usize {
        let each = self.axes.iter().filter(|axis| !axis.rows.is_empty()).map(|axis| {
            let members = self.count() / axis.rows.len();
            members.saturating_mul(axis.rows.iter().flatten().map(&of).sum())
        });
        let included: usize = self.include.iter().flat_map(Fields::values).map(&of).sum();
        each.fold(included, usize::saturating_add)
    }

    /// Each field with all its values.
    pub(super) fn columns(&self) -> Vec<(&Key, Vec<&Node>)> {
        let mut columns: Vec<(&Key, Vec<&Node>)> = Vec::new();
        for axis in &self.axes {
            for (place, key) in axis.keys.iter().enumerate() {
                columns.push((key, axis.rows.iter().map(|row| &row[place]).collect()));
            }
        }
        columns.extend(self.include_keys.iter().map(|key| (key, Vec::new())));
        for (key, values) in &mut columns {
            values.extend(self.include.iter().filter_map(|fields| fields.get(&key.text)));
        }
        columns
    }

    /// The fields of every member, the first axis varying slowest, those of `include` at the end. An entry of `exclude`
    /// that leaves out nothing is noted: it may be misspelt, or values may be fewer for once.
    pub(super) fn members(&self, problems: &mut Vec<Problem>, notes: &mut Vec<Problem>) -> Vec<Fields> {
        let mut members = Vec::new();
        if !self.axes.is_empty() || self.include_keys.is_empty() {
            members.push(Fields::new());
        }
        for axis in &self.axes {
            members = members
                .into_iter()
                .flat_map(|member: Fields| {
                    axis.rows.iter().map(move |row| {
                        let mut member = member.clone();
                        let names = axis.keys.iter().map(|key| key.text.clone());
                        member.extend(names.zip(row.iter().cloned()));
                        member
                    })
                })
                .collect();
        }
        if let Some((_, spot)) = self.exclude.first()
            && members.len().saturating_mul(self.exclude.len()) > COMPARISONS
        {
            let (what, limit) = ("comparisons of members with `exclude`", COMPARISONS);
            problems.push(Problem::at(*spot, ProblemKind::TooMuch { what, limit }));
            return Vec::new();
        }
        for (excluded, spot) in &self.exclude {
            let before = members.len();
            members.retain(|member| {
                !excluded
                    .iter()
                    .all(|(name, value)| member.get(name).is_some_and(|own| same(own, value)))
            });
            if members.len() == before {
                notes.push(Problem::at(*spot, ProblemKind::ExcludesNothing));
            }
        }
        members.extend(self.include.iter().cloned());
        if let (true, Some((_, spot))) = (members.is_empty(), self.exclude.first()) {
            let message = "this leaves no member of the matrix".to_owned();
            problems.push(Problem::at(*spot, ProblemKind::Inconsistent { message }));
        }
        members
    }
}

/// Members times entries of `exclude`.
const COMPARISONS: usize = 20_000_000;

/// Whether two values are one: the same number, or the same text.
fn same(own: &Node, other: &Node) -> bool {
    match (own.scalar_text(), other.scalar_text()) {
        (Some(_), Some(text)) => is_value(&own.to_json(), &text),
        _ => own.to_json() == other.to_json(),
    }
}

fn empty(key: &Key) -> Problem {
    let kind = ProblemKind::OutOfRange {
        value: "an empty list".into(),
        limit: "at least one value".into(),
    };
    Problem::at(key.spot, kind)
}

/// Fields whose values go together, the first with the first.
fn zip(map: &Node, problems: &mut Vec<Problem>) -> Axis {
    let entries = map.as_map().unwrap_or_default();
    report_duplicates(entries, problems);
    let columns: Vec<(Key, Option<Vec<Node>>)> = entries
        .iter()
        .map(|(key, value)| (key.clone(), ranges::values(value, problems)))
        .collect();
    if columns.is_empty() {
        let kind = ProblemKind::OutOfRange {
            value: "an empty mapping".into(),
            limit: "at least one field".into(),
        };
        problems.push(Problem::at(map.spot, kind));
    }
    let known = || columns.iter().filter_map(|(key, values)| Some((key, values.as_ref()?)));
    for (key, values) in known() {
        let Some((first, of_first)) = known().next() else {
            continue;
        };
        if values.is_empty() {
            problems.push(empty(key));
        } else if values.len() != of_first.len() {
            let message = format!(
                "`{}` has {} values and `{}` has {}; fields of a `zip` go together and have as many each",
                key.text,
                values.len(),
                first.text,
                of_first.len()
            );
            problems.push(Problem::at(key.spot, ProblemKind::Inconsistent { message }));
        }
    }
    // Of what is not known, and reported, there are no members.
    let length = |values: &Option<Vec<Node>>| values.as_ref().map_or(0, Vec::len);
    let shortest = columns.iter().map(|(_, values)| length(values)).min().unwrap_or(0);
    let row = |row: usize| -> Vec<Node> {
        let values = columns.iter().filter_map(|(_, values)| values.as_ref()?.get(row));
        values.cloned().collect()
    };
    Axis {
        rows: (0..shortest).map(row).collect(),
        keys: columns.iter().map(|(key, _)| key.clone()).collect(),
    }
}

/// Random draws of several fields: `{ n: 20, seed: 0, fields: { … } }`.
///
/// A draw depends on the seed, its number and the field's name alone: a larger `n` adds members to those that there
/// are, and another field changes none of the values of the others.
fn sample(node: &Node, problems: &mut Vec<Problem>) -> Axis {
    let mut axis = Axis {
        keys: Vec::new(),
        rows: Vec::new(),
    };
    let entries = node.as_map().unwrap_or_default();
    report_duplicates(entries, problems);
    let names = ["n", "seed", "fields"];
    for (key, _) in entries.iter().filter(|(key, _)| !names.contains(&key.text.as_str())) {
        let kind = ProblemKind::UnknownName {
            what: "key of `sample`",
            name: key.text.clone(),
            suggestion: suggest(&key.text, names),
            valid: names.map(str::to_owned).to_vec(),
        };
        problems.push(Problem::at(key.spot, kind));
    }
    let before = problems.len();
    let n = ranges::count(node, "n", problems);
    let seed = match node.get("seed").map(|seed| (&seed.value, seed.spot)) {
        None => 0,
        Some((Value::Int(seed, _), _)) => *seed,
        Some((_, spot)) => {
            let (expected, found) = ("an integer".into(), "something else".into());
            problems.push(Problem::at(spot, ProblemKind::WrongType { expected, found }));
            0
        }
    };
    let Some(fields) = node.get("fields").and_then(Node::as_map) else {
        let kind = ProblemKind::Missing {
            what: "key of `sample`",
            name: "fields".into(),
            hint: Some("`fields` maps each field to a list of values, a `range` or a `log_range`".into()),
        };
        problems.push(Problem::at(node.spot, kind));
        return axis;
    };
    report_duplicates(fields, problems);
    axis.keys = fields.iter().map(|(key, _)| key.clone()).collect();
    let draws: Vec<_> = fields
        .iter()
        .map(|(_, value)| ranges::Draw::of(value, problems))
        .collect();
    let (Some(n), true) = (n, problems.len() == before) else {
        return axis;
    };
    let mut seen = BTreeSet::new();
    // So many repetitions of what was drawn before that there is hardly anything else.
    let attempts = n.saturating_mul(20).saturating_add(1_000);
    for draw in 0..attempts as u64 {
        if axis.rows.len() == n {
            break;
        }
        let values = fields.iter().zip(&draws);
        let values = values.map(|((key, value), of)| of.value(value.spot, ranges::uniform(seed, draw, &key.text)));
        let row: Vec<Node> = values.collect();
        let name: Vec<String> = row.iter().map(|value| value.to_json().to_string()).collect();
        if seen.insert(name) {
            axis.rows.push(row);
        }
    }
    if axis.rows.len() < n {
        let kind = ProblemKind::OutOfRange {
            value: format!("{n} draws"),
            limit: format!("only {} that differ were found", axis.rows.len()),
        };
        problems.push(Problem::at(node.spot, kind));
    }
    axis
}
