//! Published names: what parameters and outputs are called wherever a user reads or types them.
//!
//! A parameter's name stands in keys and an output's in stored results, so that neither can change. One that was named
//! badly keeps its stored name and gets a published one: a parameter by `x-name` in its schema, an output by
//! [`Declared::called`](super::Declared::called). What users typed before goes on working, with a warning. Parameters
//! within parameters have no published names.

use serde_json::Value as Json;

use super::AnyKind;

/// The name under which a property is published.
pub fn published_parameter<'a>(stored: &'a str, property: &'a Json) -> &'a str {
    property.get("x-name").and_then(Json::as_str).unwrap_or(stored)
}

/// The stored name of a parameter that a user calls so, by the schema of the parameters. Any other text is itself.
pub fn stored_parameter<'a>(schema: &'a Json, name: &'a str) -> &'a str {
    let mut properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let found = properties.find(|(_, property)| property.get("x-name").and_then(Json::as_str) == Some(name));
    found.map_or(name, |(stored, _)| stored.as_str())
}

impl dyn AnyKind + '_ {
    /// A dotted path of stored names, as that of a difference of keys, as users know it.
    pub fn published_path(&'static self, path: &str) -> String {
        let (first, rest) = path.split_at(path.find('.').unwrap_or(path.len()));
        let property = self.schema().get("properties").and_then(|all| all.get(first));
        let first = property.map_or(first, |property| published_parameter(first, property));
        format!("{first}{rest}")
    }

    /// The name under which an output is published, by the name of its slot.
    pub fn published_output<'a>(&self, slot: &'a str) -> &'a str {
        let outputs = self.possible_outputs();
        let found = outputs.iter().find(|output| output.slot == slot);
        found.map_or(slot, |output| output.name)
    }

    /// The slot of an output that a user calls so.
    pub fn stored_output<'a>(&self, name: &'a str) -> &'a str {
        let outputs = self.possible_outputs();
        let found = outputs.iter().find(|output| output.name == name);
        found.map_or(name, |output| output.slot)
    }
}
