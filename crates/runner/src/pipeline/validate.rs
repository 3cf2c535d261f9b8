//! Holds a located YAML tree against a parameter struct's JSON Schema: finds every error, not only the first.
//!
//! Knows the part of JSON Schema that schemars writes for our structs; the typed struct itself has the last word.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value as Json};

use super::node::{Key, Node, Spot, Value};
use super::problem::{Problem, ProblemKind, suggest};
use crate::kind::published_parameter;

/// A parameter that names another stage.
#[derive(Clone, Debug)]
pub(super) struct ReferenceSite {
    /// The parameter, dotted; with an index for an item of a list.
    pub path: Vec<PathPart>,
    /// What the schema asks for: `dataset`, `model`, `any`.
    pub expected: String,
    /// Items of a list may fan in over a matrix.
    pub in_list: bool,
    /// It stands for a list where it fans in.
    pub may_be_several: bool,
    pub text: String,
    pub spot: Spot,
}

/// One step into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathPart {
    Field(String),
    Index(usize),
}

/// What validation leaves behind.
#[derive(Default)]
pub(super) struct Validated {
    pub problems: Vec<Problem>,
    pub references: Vec<ReferenceSite>,
}

/// Checks `node` against `schema` and returns it as JSON.
pub(super) fn validate(schema: &Json, node: &Node, out: &mut Validated) -> Json {
    value(schema, node, &mut Vec::new(), false, out)
}

/// The value of a type, by its schema; none if anything is wrong with it.
pub(super) fn typed<T: DeserializeOwned>(
    schema: &Json,
    node: &Node,
    what: &'static str,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let mut validated = Validated::default();
    let json = validate(schema, node, &mut validated);
    for problem in &mut validated.problems {
        if let ProblemKind::UnknownName { what: found, .. } = &mut problem.kind {
            *found = what;
        }
    }
    let is_sound = validated.problems.is_empty();
    problems.append(&mut validated.problems);
    if !is_sound {
        return None;
    }
    match serde_json::from_value(json) {
        Ok(value) => Some(value),
        // Interpolation has reported what is not known.
        Err(_)
            if problems
                .iter()
                .any(|p| matches!(p.kind, ProblemKind::UnknownName { .. })) =>
        {
            None
        }
        Err(error) => {
            let message = error.to_string();
            problems.push(Problem::at(node.spot, ProblemKind::Inconsistent { message }));
            None
        }
    }
}

/// The schema of one property, if the object schema has it.
pub(super) fn property<'a>(schema: &'a Json, name: &str) -> Option<&'a Json> {
    schema.get("properties")?.get(name)
}

/// Names of all properties, as users know them.
pub(super) fn property_names(schema: &Json) -> Vec<&str> {
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    properties
        .map(|(name, property)| published_parameter(name, property))
        .collect()
}

/// `(variant, description)` of a schema that is a plain enumeration.
pub fn variants(schema: &Json) -> Option<Vec<(String, Option<String>)>> {
    let description = |s: &Json| s.get("description").and_then(Json::as_str).map(str::to_owned);
    if let Some(list) = schema.get("enum").and_then(Json::as_array) {
        return Some(
            list.iter()
                .filter_map(|v| v.as_str())
                .map(|v| (v.to_owned(), None))
                .collect(),
        );
    }
    let alternatives = schema.get("oneOf").and_then(Json::as_array)?;
    let mut found = Vec::new();
    for alternative in alternatives {
        if let Some(name) = alternative.get("const").and_then(Json::as_str) {
            found.push((name.to_owned(), description(alternative)));
        } else {
            found.extend(variants(alternative)?);
        }
    }
    Some(found)
}

/// The non-null alternative of an optional parameter, and whether null is allowed.
pub fn unwrap_optional(schema: &Json) -> (&Json, bool) {
    if let Some(any) = schema.get("anyOf").and_then(Json::as_array) {
        let is_null = |s: &&Json| s.get("type").and_then(Json::as_str) == Some("null");
        if any.iter().any(|s| is_null(&s))
            && let Some(other) = any.iter().find(|s| !is_null(s))
        {
            return (other, true);
        }
    }
    (schema, types(schema).contains(&"null"))
}

/// Of a schema for values of several shapes the schema of each.
pub fn alternatives(schema: &Json) -> &[Json] {
    let all = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(*key)?.as_array());
    all.map_or(&[], Vec::as_slice)
}

/// The JSON types that a schema names.
pub fn types(schema: &Json) -> Vec<&str> {
    match schema.get("type") {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(many)) => many.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn value(schema: &Json, node: &Node, path: &mut Vec<PathPart>, in_list: bool, out: &mut Validated) -> Json {
    if matches!(node.value, Value::Unknown) {
        return Json::Null;
    }
    let (schema, nullable) = unwrap_optional(schema);
    if let (Value::Null, true) = (&node.value, nullable) {
        return Json::Null;
    }
    if let Some(expected) = schema.get("x-reference").and_then(Json::as_str) {
        let Some(text) = node.as_text() else {
            return wrong_type("the name of a stage", node, out);
        };
        out.references.push(ReferenceSite {
            path: path.clone(),
            expected: expected.to_owned(),
            in_list,
            may_be_several: schema.get("x-several").and_then(Json::as_bool) == Some(true),
            text: text.to_owned(),
            spot: node.spot,
        });
        return Json::String(text.to_owned());
    }
    if let Some(variants) = variants(schema) {
        let Some(text) = node.scalar_text() else {
            return wrong_type("one of a few names", node, out);
        };
        if !variants.iter().any(|(name, _)| *name == text) {
            let suggestion = suggest(&text, variants.iter().map(|(n, _)| n.as_str()));
            let valid = variants.into_iter().map(|(n, _)| n).collect();
            out.problems.push(Problem::at(
                node.spot,
                ProblemKind::NotOneOf {
                    value: text.clone(),
                    valid,
                    suggestion,
                },
            ));
        }
        return Json::String(text);
    }
    if let Some(alternative) = alternative(schema, node) {
        return value(&alternative, node, path, in_list, out);
    }
    let types = types(schema);
    if types.contains(&"object") {
        return object(schema, node, path, out);
    }
    if types.contains(&"array") {
        return array(schema, node, path, out);
    }
    let accepted = match &node.value {
        Value::Bool(_) => types.contains(&"boolean"),
        Value::Int(..) => types.contains(&"integer") || types.contains(&"number"),
        Value::Float(f, _) => {
            types.contains(&"number") || (types.contains(&"integer") && f.fract() == 0.0 && f.abs() < 9e15)
        }
        Value::Text(_) => types.contains(&"string"),
        _ => false,
    };
    // Text that looks like a number or a date is still text where text is wanted.
    if !accepted
        && types.contains(&"string")
        && let (Some(text), false) = (node.scalar_text(), matches!(node.value, Value::Null))
    {
        return Json::String(text);
    }
    if !accepted && !types.is_empty() {
        return wrong_type(expected_name(&types), node, out);
    }
    check_range(schema, node, out);
    match (&node.value, types.contains(&"integer")) {
        (Value::Float(f, _), true) => Json::from(*f as i64),
        _ => node.to_json(),
    }
}

/// Of a schema for values of several shapes the one for values of this node's shape: a mapping, a list or a single
/// value; names are one alternative together.
fn alternative(schema: &Json, node: &Node) -> Option<Json> {
    let all = alternatives(schema);
    if all.is_empty() {
        return None;
    }
    let wanted: &[&str] = match node.value {
        Value::Map(_) => &["object"],
        Value::List(_) => &["array"],
        Value::Int(..) => &["integer", "number"],
        Value::Float(..) => &["number"],
        Value::Bool(_) => &["boolean"],
        _ => &["string"],
    };
    let of = |wanted: &[&str]| -> Vec<&Json> {
        let fits = |schema: &&Json| types(schema).iter().any(|t| wanted.contains(t));
        all.iter().filter(fits).collect()
    };
    let fitting = match of(wanted) {
        // Text that looks like a number is still text.
        none if none.is_empty() && node.scalar_text().is_some() => of(&["string"]),
        fitting => fitting,
    };
    let is_name = |schema: &&Json| schema.get("const").is_some() || schema.get("enum").is_some();
    match fitting[..] {
        [one] if !is_name(&one) => Some(one.clone()),
        [_, ..] if fitting.iter().all(is_name) => Some(serde_json::json!({ "oneOf": fitting })),
        // Of several mappings the first that knows a key of this one.
        [first, ..] => {
            let knows = |schema: &&&Json| {
                let mut keys = node.as_map().into_iter().flatten();
                keys.any(|(key, _)| property(schema, &key.text).is_some())
            };
            Some((*fitting.iter().find(knows).unwrap_or(&first)).clone())
        }
        [] => None,
    }
}

fn expected_name(types: &[&str]) -> &'static str {
    match types.iter().find(|t| **t != "null") {
        Some(&"boolean") => "true or false",
        Some(&"integer") => "an integer",
        Some(&"number") => "a number",
        Some(&"string") => "text",
        _ => "another type",
    }
}

fn wrong_type(expected: &str, node: &Node, out: &mut Validated) -> Json {
    let found = match node.scalar_text() {
        Some(text) if !text.is_empty() => format!("{} (`{text}`)", node.type_name()),
        _ => node.type_name().to_owned(),
    };
    out.problems.push(Problem::at(
        node.spot,
        ProblemKind::WrongType {
            expected: expected.to_owned(),
            found,
        },
    ));
    node.to_json()
}

fn check_range(schema: &Json, node: &Node, out: &mut Validated) {
    let number = match node.value {
        Value::Int(i, _) => i as f64,
        Value::Float(f, _) => f,
        _ => return,
    };
    let bound = |name: &str| schema.get(name).and_then(Json::as_f64);
    let mut limits = Vec::new();
    let mut broken = !number.is_finite();
    if let Some(minimum) = bound("minimum") {
        broken |= number < minimum;
        limits.push(format!("at least {minimum}"));
    }
    if let Some(minimum) = bound("exclusiveMinimum") {
        broken |= number <= minimum;
        limits.push(format!("greater than {minimum}"));
    }
    if let Some(maximum) = bound("maximum") {
        broken |= number > maximum;
        limits.push(format!("at most {maximum}"));
    }
    if let Some(maximum) = bound("exclusiveMaximum") {
        broken |= number >= maximum;
        limits.push(format!("less than {maximum}"));
    }
    let unit = schema.get("x-unit").and_then(Json::as_str);
    let (least, most) = sensible(schema, unit);
    if let Some(most) = most
        && number.abs() > most
        && !broken
    {
        broken = true;
        limits = vec![format!("at most {most} {}", unit.unwrap_or("")).trim_end().to_owned()];
    }
    if let Some(least) = least
        && number < least
        && !broken
    {
        broken = true;
        limits = vec![format!("at least {least} {}", unit.unwrap_or("")).trim_end().to_owned()];
    }
    if !number.is_finite() && limits.is_empty() {
        limits.push("a finite number".into());
    }
    if broken {
        out.problems.push(Problem::at(
            node.spot,
            ProblemKind::OutOfRange {
                value: node.scalar_text().unwrap_or_default(),
                limit: limits.join(", "),
            },
        ));
    }
}

/// Limits of numbers for which the schema names none: of positive ones the least, of all the largest magnitude. Counts
/// follow from them (steps of a time, epochs of images), and no experiment is that long.
fn sensible(schema: &Json, unit: Option<&str>) -> (Option<f64>, Option<f64>) {
    /// ms: three hours, and a microsecond.
    const TIMES: [f64; 2] = [1e-3, 1e7];
    /// Minutes between checkpoints and GiB of memory: what a clock and an address can count.
    const AMOUNTS: [f64; 2] = [1e-9, 1e6];
    /// What is still a number in float32.
    const NUMBERS: [f64; 2] = [1e-30, 1e30];
    const COUNT: f64 = 1e7;
    let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
    if types(schema).contains(&"integer") {
        // Seeds, of 64 and 32 bits, may be any.
        let is_count = format == "uint" || unit.is_some();
        let has_own = schema.get("maximum").is_some();
        return (None, (is_count && !has_own).then_some(COUNT));
    }
    let [least, most] = match unit {
        Some("ms") => TIMES,
        Some("min" | "GiB") => AMOUNTS,
        _ => NUMBERS,
    };
    let is_positive = schema.get("exclusiveMinimum").and_then(Json::as_f64) == Some(0.0);
    (is_positive.then_some(least), Some(most))
}

fn array(schema: &Json, node: &Node, path: &mut Vec<PathPart>, out: &mut Validated) -> Json {
    let item_schema = schema.get("items").unwrap_or(&Json::Null);
    let with_unit;
    let item_schema = match (schema.get("x-unit"), item_schema.as_object()) {
        (Some(unit), Some(item)) if !item.contains_key("x-unit") => {
            let mut item = item.clone();
            item.insert("x-unit".to_owned(), unit.clone());
            with_unit = Json::Object(item);
            &with_unit
        }
        _ => item_schema,
    };
    let single = std::slice::from_ref(node);
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        // One value stands for a list of one.
        Value::Map(_) | Value::Null => return wrong_type("a list", node, out),
        _ => single,
    };
    let bound = |name: &str| schema.get(name).and_then(Json::as_u64).map(|n| n as usize);
    let (minimum, maximum) = (bound("minItems"), bound("maxItems"));
    if minimum.is_some_and(|m| items.len() < m) || maximum.is_some_and(|m| items.len() > m) {
        let limit = match (minimum, maximum) {
            (Some(a), Some(b)) if a == b => format!("exactly {a} items"),
            (Some(a), Some(b)) => format!("{a} to {b} items"),
            (Some(a), None) => format!("at least {a} item{}", if a == 1 { "" } else { "s" }),
            (None, b) => format!("at most {} items", b.unwrap_or(0)),
        };
        out.problems.push(Problem::at(
            node.spot,
            ProblemKind::OutOfRange {
                value: format!("a list of {}", items.len()),
                limit,
            },
        ));
    }
    Json::Array(
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                path.push(PathPart::Index(index));
                let json = value(item_schema, item, path, true, out);
                path.pop();
                json
            })
            .collect(),
    )
}

fn object(schema: &Json, node: &Node, path: &mut Vec<PathPart>, out: &mut Validated) -> Json {
    let Some(entries) = node.as_map() else {
        return wrong_type("a mapping", node, out);
    };
    report_duplicates(entries, &mut out.problems);
    let free = schema.get("additionalProperties").filter(|s| s.is_object()).cloned();
    let mut json = Map::new();
    for (key, child) in entries {
        let child_schema = match (property(schema, &key.text), &free) {
            (Some(found), _) => found,
            (None, Some(any)) => any,
            (None, None) => {
                let names = property_names(schema);
                out.problems.push(Problem::at(
                    key.spot,
                    ProblemKind::UnknownName {
                        what: "parameter",
                        name: key.text.clone(),
                        suggestion: suggest(&key.text, names.iter().copied()),
                        valid: names.into_iter().map(str::to_owned).collect(),
                    },
                ));
                continue;
            }
        };
        path.push(PathPart::Field(key.text.clone()));
        let child_json = value(child_schema, child, path, false, out);
        path.pop();
        json.insert(key.text.clone(), child_json);
    }
    let required = schema.get("required").and_then(Json::as_array);
    for name in required.into_iter().flatten().filter_map(Json::as_str) {
        if !entries.iter().any(|(k, _)| k.text == name) {
            let property = property(schema, name);
            let name = property.map_or(name, |property| published_parameter(name, property));
            let hint = property
                .and_then(|s| s.get("description"))
                .and_then(Json::as_str)
                .map(|d| format!("`{name}`: {d}"));
            out.problems.push(Problem::at(
                node.spot,
                ProblemKind::Missing {
                    what: "parameter",
                    name: name.to_owned(),
                    hint,
                },
            ));
        }
    }
    Json::Object(json)
}

/// Names both places of every key that stands twice.
pub(super) fn report_duplicates(entries: &[(Key, Node)], problems: &mut Vec<Problem>) {
    let mut first = HashMap::new();
    for (key, _) in entries {
        let place = *first.entry(key.text.as_str()).or_insert(key.spot);
        if place != key.spot {
            problems.push(
                Problem::at(key.spot, ProblemKind::DuplicateName { name: key.text.clone() }).with(place, "first here"),
            );
        }
    }
}
