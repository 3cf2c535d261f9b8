//! What a matrix field does in a member: it sets the parameter of its name, stands where `${matrix.…}` names it, or
//! takes those members of other stages that have the same.
//!
//! A stage's name alone, `cordsnet`, is the member whose fields agree with those that the referring member has too. A
//! field by which a member is taken sets no parameter, since `areas` of a network is not `areas` of what records it.
//! `seed` sets its parameter all the same: members that differ in it repeat each other from end to end. A field that
//! only stands in `${matrix.…}` sets the parameter of its name as it did before there was that rule, for the sake of
//! keys, and a note says how to ask for it.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::overrides::set;
use super::{Draft, InputSlot, Resolver};
use crate::kind::{AnyKind, stored_parameter};
use crate::names::{REPETITION, scalar};
use crate::pipeline::matrix::{self, Scope};
use crate::pipeline::node::{Key, Node, Spot, Value};
use crate::pipeline::problem::{Problem, ProblemKind, suggest_few};
use crate::pipeline::sweep::field_names;
use crate::pipeline::validate::{Validated, property, property_names, validate};

/// The matrix fields of every written stage.
#[derive(Default)]
pub(super) struct FieldsOfStages(HashMap<String, BTreeSet<String>>);

impl FieldsOfStages {
    /// Of stages as they are written; what is wrong with them is found later.
    pub(super) fn of(stages: &[(Key, Node)], scope: &Scope<'_>) -> Self {
        let fields = |stage: &Node| {
            let written = stage.get("matrix")?;
            let written = match written.as_map() {
                Some(_) => written.clone(),
                None => scope.interpolate(written, &mut Vec::new()),
            };
            Some(field_names(&written))
        };
        let named = stages
            .iter()
            .filter_map(|(key, stage)| Some((key.text.clone(), fields(stage)?)));
        Self(named.collect())
    }

    /// Whether a reference is the name of a stage alone, or with an output, that has such a field.
    fn is_taken_by(&self, reference: &str, field: &str) -> bool {
        let stage = reference.split('/').next().unwrap_or(reference);
        self.0.get(stage).is_some_and(|fields| fields.contains(field))
    }
}

/// A field that a member does nothing with, unless a reference turns out to take a member by it.
pub(super) struct Idle {
    field: String,
    spot: Spot,
}

/// A member's parameters before its fields are in them.
pub(super) struct Written<'a> {
    /// The whole stage.
    pub(super) stage: &'a Node,
    /// Its parameters, as they stand in the pipeline.
    pub(super) own: &'a Node,
    pub(super) kind: &'static dyn AnyKind,
    /// Fields that `${matrix.…}` names, in presets too.
    pub(super) mentioned: &'a BTreeSet<&'a str>,
}

impl Resolver<'_> {
    /// Sets the parameters that are called as fields are; returns the fields that nothing was done with.
    pub(super) fn set_fields(
        &mut self,
        written: &Written<'_>,
        fields: &IndexMap<String, Node>,
        params: &mut Node,
    ) -> Vec<Idle> {
        let schema = written.kind.schema();
        let mut idle = Vec::new();
        for (field, value) in fields {
            let stored = stored_parameter(schema, field);
            let is_mentioned = written.mentioned.contains(field.as_str());
            let spot = field_spot(written.stage, field).unwrap_or(value.spot);
            if property(schema, stored).is_none() {
                if !is_mentioned {
                    let field = field.clone();
                    idle.push(Idle { field, spot });
                }
                continue;
            }
            if field != REPETITION && self.takes_members_by(field, schema, params) {
                continue;
            }
            let given = [field.as_str(), stored].iter().find_map(|name| written.own.get(name));
            let is_asked = given.is_some_and(|given| matrix::mentions(given, field));
            if is_mentioned && !is_asked && field != REPETITION {
                let (field, kind) = (field.clone(), written.kind.name().to_owned());
                let note = ProblemKind::FieldSetsParameter { field, kind };
                self.names.notes.push(Problem::at(spot, note));
            }
            let at = Key {
                text: stored.to_owned(),
                spot: value.spot,
            };
            set(params, &[at], value.clone());
        }
        idle
    }

    /// Whether a parameter that names stages names one alone that has this field.
    fn takes_members_by(&self, field: &str, schema: &Json, params: &Node) -> bool {
        let is_taken = |text: &str| self.fields_of_stages.is_taken_by(text, field);
        // What is a reference the schema alone knows; most members have no such text at all.
        if !any_text(params, &is_taken) {
            return false;
        }
        let mut validated = Validated::default();
        validate(schema, params, &mut validated);
        validated.references.iter().any(|site| is_taken(&site.text))
    }

    /// Reports the fields of a member that no reference took a member by.
    pub(super) fn report_idle(&mut self, index: usize, used: &BTreeSet<String>) {
        let kind = self.drafts[index].kind;
        for Idle { field, spot } in std::mem::take(&mut self.drafts[index].idle) {
            if used.contains(&field) {
                continue;
            }
            self.drafts[index].has_idle = true;
            let problem = ProblemKind::UnusedMatrixField {
                suggestion: suggest_few(self.problems.len(), &field, property_names(kind.schema()).into_iter()),
                kind: kind.name().into(),
                field,
            };
            self.problems.push(Problem::at(spot, problem));
        }
    }

    /// Members of one matrix that are one and the same: they would count twice. `inputs`: those of every draft.
    pub(super) fn report_equal_members(&mut self, inputs: &[Vec<InputSlot>]) {
        for (spot, alike) in std::mem::take(&mut self.alike) {
            let mut seen: HashMap<Vec<(usize, &str)>, usize> = HashMap::new();
            // Where a field is of no use, that is what is wrong.
            for draft in alike.into_iter().filter(|draft| !self.drafts[*draft].has_idle) {
                let taken = inputs.get(draft).into_iter().flatten();
                let taken = taken.map(|slot| (slot.producer.0, slot.output.as_str())).collect();
                if let Some(other) = seen.insert(taken, draft) {
                    let name = |draft: usize| self.drafts[draft].name.clone();
                    let (first, second) = (name(other), name(draft));
                    let kind = ProblemKind::EqualMembers { first, second };
                    self.problems.push(Problem::at(spot, kind));
                }
            }
        }
    }
}

/// Where a field stands in the matrix of its stage.
fn field_spot(stage: &Node, field: &str) -> Option<Spot> {
    let entries = stage.get("matrix")?.as_map()?;
    entries
        .iter()
        .find(|(key, _)| key.text == *field)
        .map(|(key, _)| key.spot)
}

/// Whether a text below `node` is such.
fn any_text(node: &Node, is_such: &impl Fn(&str) -> bool) -> bool {
    match &node.value {
        Value::Text(text) => is_such(text),
        Value::List(items) => items.iter().any(|item| any_text(item, is_such)),
        Value::Map(entries) => entries.iter().any(|(_, value)| any_text(value, is_such)),
        _ => false,
    }
}

/// Members of a stage by their values in some fields: there may be as many references as members.
type ByValues = HashMap<Vec<String>, Vec<usize>>;

/// Which members of a stage have the same fields as another stage's member.
#[derive(Default)]
pub(super) struct Agreements(HashMap<(String, Vec<String>), ByValues>);

impl Agreements {
    /// Of `members` of one stage the ones that have the values of `fields`; `all`: they are all of them.
    pub(super) fn find(
        &mut self,
        drafts: &[Draft],
        members: &[usize],
        fields: &[(String, Json)],
        all: bool,
    ) -> Vec<usize> {
        let Some(first) = members.first() else {
            return Vec::new();
        };
        let names: Vec<String> = fields.iter().map(|(name, _)| name.clone()).collect();
        let values_of = |member: &usize| -> Vec<String> {
            let own = &drafts[*member].fields;
            names
                .iter()
                .map(|name| own.get(name).map_or_else(String::new, comparable))
                .collect()
        };
        let family = drafts[*first].family.clone();
        let wanted: Vec<String> = fields.iter().map(|(_, value)| comparable(value)).collect();
        let found = if all {
            let by_values = self.0.entry((family, names.clone())).or_insert_with(|| {
                let mut by_values = ByValues::new();
                for member in members {
                    by_values.entry(values_of(member)).or_default().push(*member);
                }
                by_values
            });
            by_values.get(&wanted).cloned().unwrap_or_default()
        } else {
            let agrees = |member: &usize| values_of(member) == wanted;
            members.iter().copied().filter(agrees).collect()
        };
        // Numbers that are names, 1.1 and 1.10, are told apart by how they are written.
        let is_same = |member: &usize| {
            let own = &drafts[*member].fields;
            fields.iter().all(|(name, value)| own.get(name) == Some(value))
        };
        let same: Vec<usize> = found.iter().copied().filter(is_same).collect();
        if same.is_empty() { found } else { same }
    }
}

/// A value as references compare it: a number by its value.
fn comparable(value: &Json) -> String {
    let text = scalar(value);
    match serde_json::from_str::<f64>(&text) {
        Ok(number) => format!("{:?}", number + 0.0),
        Err(_) => text,
    }
}
