//! Which parameters identify a result.
//!
//! A parameter at its default is left out, so that a kind can get a new one without changing the keys of results that
//! were made before it. Parameters of before that rule stand in keys with their defaults, and go on doing so.

use serde_json::Value as Json;

/// Without paths, since only what stands in the files counts, and without what cannot change a result.
pub(super) fn without_unkeyed(schema: &Json, mut params: Json) -> Json {
    let properties = schema.get("properties").and_then(Json::as_object);
    if let (Some(map), Some(properties)) = (params.as_object_mut(), properties) {
        let counts = |property: &Json| property.get("x-path").is_none() && property.get("x-unkeyed").is_none();
        map.retain(|name, _| properties.get(name).is_none_or(counts));
    }
    params
}

/// Removes from `identity` what is at its default in `all`, but for what `keyed` names. `read` fills in defaults: what
/// comes back when it is left out was at its default.
pub(super) fn drop_defaults(identity: &mut Json, all: &Json, keyed: &[&str], read: impl Fn(Json) -> Option<Json>) {
    let mut candidates = Vec::new();
    collect(identity, &mut Vec::new(), keyed, &mut candidates);
    for path in candidates {
        let mut without = all.clone();
        if remove(&mut without, &path) && read(without).as_ref() == Some(all) {
            remove(identity, &path);
        }
    }
}

/// A step into a value: the key of an object or the place in a list.
#[derive(Clone, PartialEq)]
enum Step {
    Key(String),
    Place(usize),
}

/// The keys of objects that no pattern names, the outer ones first.
fn collect(value: &Json, path: &mut Vec<Step>, keyed: &[&str], found: &mut Vec<Vec<Step>>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                path.push(Step::Key(key.clone()));
                if !keyed.iter().any(|pattern| fits(pattern, path)) {
                    found.push(path.clone());
                }
                collect(value, path, keyed, found);
                path.pop();
            }
        }
        Json::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                path.push(Step::Place(place));
                collect(value, path, keyed, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Whether a pattern like `outputs.*.type` names a path; places in lists count for nothing.
fn fits(pattern: &str, path: &[Step]) -> bool {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Place(_) => None,
    });
    let mut parts = pattern.split('.');
    let same = keys
        .clone()
        .all(|key| parts.next().is_some_and(|part| part == "*" || part == key));
    same && parts.next().is_none()
}

/// Whether there was something at the path to be removed.
fn remove(value: &mut Json, path: &[Step]) -> bool {
    match (path, value) {
        ([Step::Key(key)], Json::Object(map)) => map.shift_remove(key).is_some(),
        ([Step::Key(key), rest @ ..], Json::Object(map)) => map.get_mut(key).is_some_and(|inner| remove(inner, rest)),
        ([Step::Place(place), rest @ ..], Json::Array(items)) => {
            items.get_mut(*place).is_some_and(|inner| remove(inner, rest))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Serialize, Deserialize)]
    struct Noise {
        kind: String,
        #[serde(default)]
        length: f64,
    }

    fn two() -> u32 {
        2
    }

    #[derive(Serialize, Deserialize)]
    struct Params {
        data: String,
        #[serde(default = "two")]
        areas: u32,
        #[serde(default)]
        noises: Vec<Noise>,
        #[serde(default)]
        named: BTreeMap<String, Noise>,
        #[serde(default)]
        limit: Option<u32>,
    }

    fn identity(params: Json, keyed: &[&str]) -> Json {
        let read = |params: Json| serde_json::to_value(serde_json::from_value::<Params>(params).ok()?).ok();
        let all = read(params).expect("parameters");
        let mut identity = all.clone();
        drop_defaults(&mut identity, &all, keyed, read);
        identity
    }

    #[test]
    fn what_is_at_its_default_is_left_out_whatever_way_it_got_there() {
        assert_eq!(identity(json!({ "data": "d" }), &[]), json!({ "data": "d" }));
        let given = json!({ "data": "d", "areas": 2, "limit": null, "noises": [] });
        assert_eq!(identity(given, &[]), json!({ "data": "d" }));
        let given =
            json!({ "data": "d", "areas": 4, "noises": [{ "kind": "shot" }, { "kind": "shot", "length": 1.0 }] });
        let kept =
            json!({ "data": "d", "areas": 4, "noises": [{ "kind": "shot" }, { "kind": "shot", "length": 1.0 }] });
        assert_eq!(identity(given, &[]), kept);
        let given = json!({ "data": "d", "named": { "a": { "kind": "x", "length": 0.0 } } });
        assert_eq!(
            identity(given, &[]),
            json!({ "data": "d", "named": { "a": { "kind": "x" } } })
        );
    }

    #[test]
    fn parameters_of_before_keep_their_defaults() {
        let given = || json!({ "data": "d", "named": { "a": { "kind": "x" } } });
        assert_eq!(
            identity(given(), &["areas", "named.*.length"]),
            json!({ "data": "d", "areas": 2, "named": { "a": { "kind": "x", "length": 0.0 } } })
        );
    }
}
