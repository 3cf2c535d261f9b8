//! From the names that a pipeline has to those that are stored ([`crate::kind`] says which names differ): before
//! presets are merged, since one may have the published name of a parameter and the other the stored one.

use serde_json::Value as Json;

use super::node::{Key, Node, Spot, Value};
use super::problem::{Problem, ProblemKind};
use crate::kind::{AnyKind, published_parameter, stored_parameter};

/// What is found out about names: old ones, which still work, and those that are given twice.
#[derive(Default)]
pub(super) struct NameFindings {
    pub(super) notes: Vec<Problem>,
    pub(super) problems: Vec<Problem>,
}

impl NameFindings {
    /// Notes `name` where it is no longer the published one.
    pub(super) fn note(&mut self, name: &str, published: &str, spot: Spot) {
        if name != published {
            let (old, new) = (name.to_owned(), published.to_owned());
            self.notes.push(Problem::at(spot, ProblemKind::OldName { old, new }));
        }
    }

    /// The stored name of every key of a mapping. `names`: of a key's text the stored and the published name. Of two
    /// keys of one stored name, which is a problem, the second has none.
    fn stored_keys<'a>(
        &mut self,
        keys: impl Iterator<Item = &'a Key>,
        names: impl Fn(&str) -> [String; 2],
    ) -> Vec<Option<String>> {
        let mut kept: Vec<(&Key, String)> = Vec::new();
        let mut stored_keys = Vec::new();
        for key in keys {
            let [stored, published] = names(&key.text);
            self.note(&key.text, &published, key.spot);
            // What is written twice is found later, with all else that is wrong with a mapping.
            let is_other = |(first, name): &&(&Key, String)| *name == stored && first.text != key.text;
            if let Some((first, _)) = kept.iter().find(is_other) {
                let kind = ProblemKind::DuplicateName { name: published };
                let problem = Problem::at(key.spot, kind).with(first.spot, "first here, by its other name");
                self.problems.push(problem);
                stored_keys.push(None);
                continue;
            }
            kept.push((key, stored.clone()));
            stored_keys.push(Some(stored));
        }
        stored_keys
    }

    /// Gives the keys of a mapping their stored names; of two keys of one stored name the first stays.
    pub(super) fn store_keys(&mut self, node: &mut Node, names: impl Fn(&str) -> [String; 2]) {
        let Value::Map(entries) = &mut node.value else {
            return;
        };
        let keys = entries.iter().map(|(key, _)| key);
        let mut stored_keys = self.stored_keys(keys, names).into_iter();
        entries.retain_mut(|(key, _)| match stored_keys.next().flatten() {
            Some(stored) => {
                key.text = stored;
                true
            }
            None => false,
        });
    }

    /// Checks the fields of a matrix, which keep their names: they are part of the members'.
    pub(super) fn check_fields<'a>(&mut self, schema: &Json, fields: impl Iterator<Item = &'a Key>) {
        self.stored_keys(fields, |name| parameter_names(schema, name));
    }

    /// [`store_keys`](Self::store_keys) of a mapping of parameters.
    pub(super) fn store_parameters(&mut self, schema: &Json, node: &mut Node) {
        self.store_keys(node, |name| parameter_names(schema, name));
    }

    /// Spells a parameter that overrides one of these parameters, or a matrix field, as it is spelt there.
    pub(super) fn spell_as(&mut self, schema: &Json, there: &Node, parameter: &mut Key) {
        let names = parameter_names(schema, &parameter.text);
        if there.get(&parameter.text).is_none()
            && let Some(name) = names.iter().find(|name| there.get(name).is_some())
        {
            self.note(&parameter.text, &names[1], parameter.spot);
            parameter.text.clone_from(name);
        }
    }
}

/// The stored and the published name of a parameter that a user calls so.
pub(super) fn parameter_names(schema: &Json, name: &str) -> [String; 2] {
    let stored = stored_parameter(schema, name);
    let property = schema.get("properties").and_then(|all| all.get(stored));
    let published = property.map_or(stored, |property| published_parameter(stored, property));
    [stored, published].map(str::to_owned)
}

/// The slot and the published name of an output that a user calls so.
pub(super) fn output_names(kind: &dyn AnyKind, name: &str) -> [String; 2] {
    let stored = kind.stored_output(name);
    [stored, kind.published_output(stored)].map(str::to_owned)
}
