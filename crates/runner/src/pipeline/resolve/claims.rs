//! `resources` and `ensure` of a stage, and the pipeline's `pools`: what a run heeds and a key does not hold.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::{unknown, wrong_type};
use crate::kind::{AnyKind, Artifact, Conditions, Output, schema_of};
use crate::names::is_name;
use crate::pipeline::Resources;
use crate::pipeline::matrix::{Room, Scope};
use crate::pipeline::node::{Key, Node, Spot, Value};
use crate::pipeline::problem::{Problem, ProblemKind};
use crate::pipeline::published::{NameFindings, output_names};
use crate::pipeline::validate::{report_duplicates, typed};

/// What a stage claims of the run.
#[derive(Default)]
pub(super) struct Claims {
    pub(super) resources: Resources,
    pub(super) ensure: Conditions,
    /// Where each output of `ensure` is named.
    spots: BTreeMap<String, Spot>,
}

/// The pipeline's `pools`: name to number of units.
pub(super) fn pools(
    document: &Node,
    vars: &IndexMap<String, Node>,
    seed: i64,
    room: &Room,
    problems: &mut Vec<Problem>,
) -> IndexMap<String, usize> {
    let Some(node) = document.get("pools") else {
        return IndexMap::new();
    };
    let fields = &IndexMap::new();
    let scope = Scope {
        vars,
        fields,
        seed,
        room,
    };
    let node = scope.interpolate(node, problems);
    let Some(entries) = node.as_map() else {
        problems.push(wrong_type(&node, "a mapping from pool to its number of units"));
        return IndexMap::new();
    };
    report_duplicates(entries, problems);
    let mut pools = IndexMap::new();
    for (key, size) in entries {
        if !is_name(&key.text) {
            problems.push(Problem::at(key.spot, ProblemKind::BadName { name: key.text.clone() }));
        }
        let units = match size.value {
            Value::Int(units @ 1..=10_000, _) => usize::try_from(units).unwrap_or(1),
            Value::Unknown => 1,
            Value::Int(units, _) => {
                let (value, limit) = (units.to_string(), "from 1 to 10000".to_owned());
                problems.push(Problem::at(size.spot, ProblemKind::OutOfRange { value, limit }));
                1
            }
            _ => {
                problems.push(wrong_type(size, "a number of units"));
                1
            }
        };
        pools.insert(key.text.clone(), units);
    }
    pools
}

/// Both mappings of one stage.
pub(super) fn of_stage(
    stage: &Node,
    kind: &'static dyn AnyKind,
    scope: &Scope,
    pools: &IndexMap<String, usize>,
    names: &mut NameFindings,
    problems: &mut Vec<Problem>,
) -> Claims {
    let mut claims = Claims::default();
    if let Some(node) = stage.get("resources") {
        let node = scope.interpolate(node, problems);
        let schema = RESOURCES.get_or_init(schema_of::<Resources>);
        claims.resources = typed(schema, &node, "resource", problems).unwrap_or_default();
        for (key, amount) in node.get("pools").and_then(Node::as_map).unwrap_or_default() {
            report_pool(key, amount, pools, problems);
        }
    }
    if let Some(node) = stage.get("ensure") {
        let mut node = scope.interpolate(node, problems);
        names.store_keys(&mut node, |name| output_names(kind, name));
        let schema = CONDITIONS.get_or_init(schema_of::<Conditions>);
        claims.ensure = typed(schema, &node, "condition", problems).unwrap_or_default();
        let entries = node.as_map().unwrap_or_default();
        claims.spots = entries.iter().map(|(key, _)| (key.text.clone(), key.spot)).collect();
    }
    claims
}

fn report_pool(key: &Key, amount: &Node, pools: &IndexMap<String, usize>, problems: &mut Vec<Problem>) {
    let Some(size) = pools.get(&key.text) else {
        let before = problems.len();
        problems.push(unknown(key, "pool", pools.keys().map(String::as_str), before));
        return;
    };
    if let Value::Int(units, _) = amount.value
        && usize::try_from(units).is_ok_and(|units| units > *size)
    {
        let value = units.to_string();
        let limit = format!("the pool `{}` has {size}", key.text);
        problems.push(Problem::at(amount.spot, ProblemKind::OutOfRange { value, limit }));
    }
}

static RESOURCES: OnceLock<Json> = OnceLock::new();
static CONDITIONS: OnceLock<Json> = OnceLock::new();

impl Claims {
    /// Conditions on what the stage does not write, or on what is no table.
    pub(super) fn misplaced<'a>(
        &'a self,
        stage: &'a str,
        kind: &'static dyn AnyKind,
        outputs: &'a [Output],
    ) -> impl Iterator<Item = Problem> + 'a {
        let published = move |slot: &str| kind.published_output(slot).to_owned();
        self.spots.iter().filter_map(move |(slot, spot)| {
            let kind = match outputs.iter().find(|output| output.slot == *slot) {
                None => ProblemKind::NoSuchOutput {
                    stage: stage.to_owned(),
                    output: published(slot),
                    valid: outputs.iter().map(|output| published(&output.slot)).collect(),
                },
                Some(output) if output.artifact != Artifact::TABLE => ProblemKind::Inconsistent {
                    message: format!(
                        "`{stage}/{}` gives {}, and conditions are about tables",
                        published(slot),
                        output.artifact.describe()
                    ),
                },
                Some(_) => return None,
            };
            Some(Problem::at(*spot, kind))
        })
    }
}
