//! The grammar of references: `stage`, `stage@field=value,…`, `stage@*`, `stage@field=value,*`, each with `/output` behind it.

use indexmap::IndexMap;
use serde_json::Value as Json;

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) stage: String,
    pub(crate) selector: Option<Selector>,
    pub(crate) output: Option<String>,
}

/// Which members of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    /// Fields that must have these values (as text).
    pub(crate) fields: Vec<(String, String)>,
    /// Whether several members may match.
    pub(crate) all: bool,
}

/// Parses a reference; `None` if it is none.
pub(crate) fn parse(text: &str) -> Option<Reference> {
    let (text, output) = match text.split_once('/') {
        Some((before, output)) => (before, Some(output)),
        None => (text, None),
    };
    let (stage, selector) = match text.split_once('@') {
        Some((stage, selector)) => (stage, Some(parse_selector(selector)?)),
        None => (text, None),
    };
    let valid = is_name(stage) && output.is_none_or(is_name);
    valid.then(|| Reference {
        stage: stage.to_owned(),
        selector,
        output: output.map(str::to_owned),
    })
}

fn parse_selector(text: &str) -> Option<Selector> {
    let mut selector = Selector {
        fields: Vec::new(),
        all: false,
    };
    for part in text.split(',').map(str::trim) {
        match part.split_once('=') {
            Some((field, value)) if !field.trim().is_empty() && !value.trim().is_empty() => {
                selector.fields.push((field.trim().to_owned(), value.trim().to_owned()));
            }
            None if part == "*" => selector.all = true,
            _ => return None,
        }
    }
    Some(selector)
}

impl Selector {
    /// Whether a member with these matrix fields is meant.
    pub(crate) fn matches(&self, fields: &IndexMap<String, Json>) -> bool {
        self.fields
            .iter()
            .all(|(name, value)| fields.get(name).is_some_and(|v| scalar(v) == *value))
    }
}

/// A matrix value as it stands in a member's name.
pub(crate) fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `family@field=value,…`, or just the family without a matrix.
pub(crate) fn member_name(family: &str, fields: &IndexMap<String, Json>) -> String {
    if fields.is_empty() {
        return family.to_owned();
    }
    let fields: Vec<_> = fields.iter().map(|(k, v)| format!("{k}={}", scalar(v))).collect();
    format!("{family}@{}", fields.join(","))
}

/// Names of stages, variables and outputs.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let plain = parse("cnn").expect("plain");
        assert_eq!((plain.stage.as_str(), plain.selector), ("cnn", None));
        let one = parse("cordsnet@seed=1,depth=4/training").expect("member");
        let selector = one.selector.expect("selector");
        assert_eq!(
            selector.fields,
            [("seed".into(), "1".into()), ("depth".into(), "4".into())]
        );
        assert!(!selector.all);
        assert_eq!(one.output.as_deref(), Some("training"));
        assert!(parse("cordsnet@*").and_then(|r| r.selector).is_some_and(|s| s.all));
        let some = parse("cordsnet@data=mnist,*").and_then(|r| r.selector).expect("some");
        assert!(some.all && some.fields.len() == 1);
        for bad in ["", "@*", "a@", "a@seed", "a@seed=", "a b", "1a", "a/", "a@*/x y"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
