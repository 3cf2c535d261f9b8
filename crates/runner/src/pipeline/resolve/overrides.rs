//! `-S path=value`: parameters that the command line changes, each with a place of its own for errors.

use super::{STAGE_KEYS, unknown};
use crate::kind::Registry;
use crate::pipeline::node::{self, Key, Node, SourceTexts, Spot, Value};
use crate::pipeline::problem::{Problem, ProblemKind, suggest};
use crate::pipeline::published::NameFindings;

/// Applies one `-S path=value` to the document. Unknown parameters surface later, at the override's own place.
pub(super) fn apply_override(
    document: &mut Node,
    text: &str,
    registry: &Registry,
    sources: &mut SourceTexts,
    names: &mut NameFindings,
    problems: &mut Vec<Problem>,
) {
    let source = sources.add(format!("-S {text}"), text.to_owned());
    let whole = Spot {
        source,
        line: 1,
        column: 1,
        length: text.chars().count(),
    };
    let bad = || Problem::at(whole, ProblemKind::BadOverride { text: text.into() });
    let Some((path, value)) = text.split_once('=') else {
        problems.push(bad());
        return;
    };
    // Padding keeps the value's columns those of the whole argument.
    let padded = format!("{}{value}", " ".repeat(path.chars().count() + 1));
    let value = match node::parse_text(&padded, source) {
        Ok(value) => value,
        Err(e) => {
            problems.push(Problem::at(e.spot, ProblemKind::Syntax { message: e.message }));
            return;
        }
    };
    let mut column = 1;
    let parts: Vec<Key> = path
        .split('.')
        .map(|part| {
            let length = part.chars().count();
            let spot = Spot {
                source,
                line: 1,
                column,
                length: length.max(1),
            };
            column += length + 1;
            Key {
                text: part.trim().to_owned(),
                spot,
            }
        })
        .collect();
    if parts.iter().any(|p| p.text.is_empty()) {
        problems.push(bad());
        return;
    }
    match parts.as_slice() {
        [key] if key.text == "seed" || key.text == "name" => set(document, &parts, value),
        [first, name] if first.text == "vars" || first.text == "pools" => {
            let known: Vec<&str> = document
                .get(&first.text)
                .and_then(Node::as_map)
                .map_or_else(Vec::new, |m| m.iter().map(|(k, _)| k.text.as_str()).collect());
            if known.contains(&name.text.as_str()) {
                set(document, &parts, value);
            } else {
                let what = if first.text == "vars" { "variable" } else { "pool" };
                let before = problems.len();
                problems.push(unknown(name, what, known.iter().copied(), before));
            }
        }
        [stage, parameter, ..] => {
            let Some(Value::Map(stages)) = map_value(document, "stages") else {
                return;
            };
            let Some(index) = stages.iter().rposition(|(k, _)| k.text == stage.text) else {
                let suggestion = suggest(&stage.text, stages.iter().map(|(k, _)| k.text.as_str()).chain(["vars"]));
                problems.push(Problem::at(
                    stage.spot,
                    ProblemKind::NoSuchStage {
                        name: stage.text.clone(),
                        suggestion,
                    },
                ));
                return;
            };
            let target = &mut stages[index].1;
            let is_of_stage = STAGE_KEYS.contains(&parameter.text.as_str());
            let entries = target.as_map().unwrap_or_default();
            let kind = entries.iter().find_map(|(key, _)| registry.kind(&key.text));
            let mut path = parts[1..].to_vec();
            if let Some(kind) = kind {
                let (of, at) = match parameter.text.as_str() {
                    "matrix" => (target.get("matrix"), 1),
                    _ if is_of_stage => (None, 0),
                    _ => (target.get(kind.name()), 0),
                };
                if let (Some(of), Some(key)) = (of, path.get_mut(at)) {
                    names.spell_as(kind.schema(), of, key);
                }
            }
            if is_of_stage {
                set(target, &path, value);
            } else if let Value::Map(entries) = &mut target.value
                && let Some((_, params)) = entries.iter_mut().find(|(k, _)| registry.kind(&k.text).is_some())
            {
                set(params, &path, value);
            }
        }
        _ => problems.push(bad()),
    }
}

fn map_value<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Value> {
    let Value::Map(entries) = &mut node.value else {
        return None;
    };
    entries
        .iter_mut()
        .rev()
        .find(|(k, _)| k.text == key)
        .map(|(_, v)| &mut v.value)
}

/// Sets a nested value, making mappings on the way.
pub(super) fn set(node: &mut Node, path: &[Key], value: Node) {
    let [key, rest @ ..] = path else {
        *node = value;
        return;
    };
    if !matches!(node.value, Value::Map(_)) {
        node.value = Value::Map(Vec::new());
    }
    if let Value::Map(entries) = &mut node.value {
        let index = match entries.iter().rposition(|(k, _)| k.text == key.text) {
            Some(index) => index,
            None => {
                let empty = Node {
                    value: Value::Null,
                    spot: key.spot,
                };
                entries.push((key.clone(), empty));
                entries.len() - 1
            }
        };
        set(&mut entries[index].1, rest, value);
    }
}
