//! From located YAML to a [`Pipeline`]: overrides, variables, matrices, presets, types, references, cycles.
//!
//! Collects problems and goes on, so that one pass finds all of them. Reads nothing but presets, through [`Presets`].
//!
//! Steps that end at their first problem would never meet a half-known value, but a user would correct one mistake a
//! call. Here what is wrong becomes [`Value::Unknown`] or a draft that is `broken`; later steps pass over these in
//! silence, since their problem is reported, and still draw the edges of such a stage, so that cycles show in the same
//! pass.

mod cache;
mod claims;
mod fields;
mod links;
mod overrides;
mod report;
mod use_presets;

use std::collections::BTreeSet;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde_json::Value as Json;

use self::claims::Claims;
use self::fields::{Agreements, FieldsOfStages, Idle, Written};
use self::links::report_cycles;
use self::overrides::{apply_override, set};
use super::matrix::{self, Room, Scope};
use super::node::{Key, Node, SourceTexts, Spot, Value};
use super::presets::Presets;
use super::problem::{Problem, ProblemKind, known};
use super::published::NameFindings;
use super::sweep::Matrix;
use super::validate::{ReferenceSite, Validated, property, report_duplicates, validate};
use super::{InputSlot, LoadOptions, Pipeline, Stage, StageId};
use crate::kind::{AnyKind, Output, Registry};
use crate::names::is_name;

const TOP_KEYS: [&str; 9] = [
    "name",
    "description",
    "seed",
    "headline",
    "report",
    "cache",
    "vars",
    "pools",
    "stages",
];
/// Stages with all members of their matrices.
const MEMBERS: usize = 100_000;
const STAGE_KEYS: [&str; 4] = ["description", "matrix", "resources", "ensure"];

/// Where the pipeline stands on disk.
pub(super) struct PipelineLocation {
    pub path: PathBuf,
    pub root: PathBuf,
    pub default_name: String,
}

/// A stage whose own parameters are known, before its references are followed.
struct Draft {
    /// `family@field=value,…`, values as they are written.
    name: String,
    family: String,
    fields: IndexMap<String, Json>,
    kind: &'static dyn AnyKind,
    params: Json,
    outputs: Vec<Output>,
    references: Vec<ReferenceSite>,
    /// Matrix fields that are of no use, unless a reference takes a member by them.
    idle: Vec<Idle>,
    /// Whether that was reported of one.
    has_idle: bool,
    claims: Claims,
    spot: Spot,
    /// Its own parameters have errors, so nothing can be said of its outputs.
    broken: bool,
}

/// Resolves a parsed document. `notes`: what is as good as it was, but should be written in another way; of each once
/// a text.
pub(super) fn resolve(
    document: &Node,
    place: PipelineLocation,
    options: &LoadOptions<'_>,
    presets: &mut dyn Presets,
    sources: &mut SourceTexts,
    notes: &mut Vec<Problem>,
) -> Result<Pipeline, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut names = NameFindings::default();
    let mut document = document.clone();
    for text in &options.overrides {
        apply_override(
            &mut document,
            text,
            options.registry,
            sources,
            &mut names,
            &mut problems,
        );
    }
    let Some(entries) = document.as_map() else {
        let found = document.type_name().to_owned();
        problems.push(Problem::at(
            document.spot,
            ProblemKind::WrongType {
                expected: "a mapping with `stages`".into(),
                found,
            },
        ));
        return Err(problems);
    };
    report_duplicates(entries, &mut problems);
    for (key, _) in entries {
        if !TOP_KEYS.contains(&key.text.as_str()) {
            let before = problems.len();
            problems.push(unknown(key, "key", TOP_KEYS.into_iter(), before));
        }
    }
    let text_of = |name: &str, problems: &mut Vec<Problem>| {
        let node = document.get(name)?;
        let text = node.scalar_text();
        if text.is_none() {
            problems.push(wrong_type(node, "text"));
        }
        text
    };
    let name = text_of("name", &mut problems).unwrap_or(place.default_name);
    text_of("description", &mut problems);
    let headline = text_of("headline", &mut problems);
    let seed = match document.get("seed").map(|n| (&n.value, n)) {
        None => 0,
        Some((Value::Int(seed, _), _)) if *seed >= 0 => *seed,
        Some((_, node)) => {
            problems.push(wrong_type(node, "an integer that is not negative"));
            0
        }
    };
    let room = Room::new();
    let cache = cache::settings(&document, options.registry.check_remote, &mut problems);
    let vars = variables(&document, seed, &room, &mut problems);
    let pools = claims::pools(&document, &vars, seed, &room, &mut problems);
    let Some(stages) = document.get("stages") else {
        problems.push(Problem::at(
            document.spot,
            ProblemKind::Missing {
                what: "key",
                name: "stages".into(),
                hint: Some("`stages:` maps each stage's name to its kind and parameters".into()),
            },
        ));
        return Err(problems);
    };
    let Some(stages) = stages.as_map() else {
        problems.push(wrong_type(stages, "a mapping of stages"));
        return Err(problems);
    };
    report_duplicates(stages, &mut problems);

    let no_fields = IndexMap::new();
    // Names of fields alone: what the values take of the room is counted later.
    let names_alone = Room::new();
    let scope = Scope {
        vars: &vars,
        fields: &no_fields,
        seed,
        room: &names_alone,
    };
    let mut resolver = Resolver {
        fields_of_stages: FieldsOfStages::of(stages, &scope),
        agreements: Agreements::default(),
        alike: Vec::new(),
        vars: &vars,
        pools: &pools,
        seed,
        room: &room,
        presets,
        registry: options.registry,
        sources,
        problems,
        names,
        drafts: Vec::new(),
        families: IndexMap::new(),
    };
    for (key, node) in stages {
        resolver.stage(key, node);
    }
    let inputs = resolver.follow_references();
    resolver.report_equal_members(&inputs);
    if let (Some(headline), Some(node)) = (&headline, document.get("headline")) {
        resolver.check_headline(headline, node.spot);
    }
    let report = report::texts(&document, &resolver.families, &mut resolver.problems);
    let Resolver {
        mut problems,
        mut names,
        drafts,
        ..
    } = resolver;
    problems.append(&mut names.problems);
    // Every member of a matrix says it again.
    let mut noted = BTreeSet::new();
    names
        .notes
        .retain(|note| noted.insert((note.spot.map(|spot| spot.source), note.kind.to_string())));
    notes.append(&mut names.notes);
    report_cycles(&drafts, &inputs, &mut problems);
    if !problems.is_empty() {
        let mut seen = BTreeSet::new();
        problems.retain(|p| seen.insert((p.spot, p.kind.to_string())));
        problems.sort_by_key(|p| p.spot);
        return Err(problems);
    }
    let mut stages = Vec::with_capacity(drafts.len());
    for (index, (draft, inputs)) in drafts.into_iter().zip(inputs).enumerate() {
        let work = draft.kind.stage(draft.params).map_err(|message| {
            // They were read before, with other names in the place of references.
            vec![Problem::at(draft.spot, ProblemKind::Inconsistent { message })]
        })?;
        stages.push(Stage {
            id: StageId(index),
            name: draft.name,
            family: draft.family,
            fields: draft.fields,
            work,
            inputs,
            outputs: draft.outputs,
            resources: draft.claims.resources,
            ensure: draft.claims.ensure,
        });
    }
    Ok(Pipeline {
        name,
        path: place.path,
        root: place.root,
        headline,
        report,
        cache,
        pools,
        texts: Vec::new(),
        stages,
    })
}

/// `before`: how many problems were found already.
fn unknown<'a>(
    key: &Key,
    what: &'static str,
    valid: impl ExactSizeIterator<Item = &'a str> + Clone,
    before: usize,
) -> Problem {
    let name = key.text.clone();
    let (suggestion, valid) = known(before, &name, valid);
    let kind = ProblemKind::UnknownName {
        what,
        name,
        suggestion,
        valid,
    };
    Problem::at(key.spot, kind)
}

fn wrong_type(node: &Node, expected: &str) -> Problem {
    Problem::at(
        node.spot,
        ProblemKind::WrongType {
            expected: expected.to_owned(),
            found: node.type_name().to_owned(),
        },
    )
}

/// `vars`, each interpolated with those before it.
fn variables(document: &Node, seed: i64, room: &Room, problems: &mut Vec<Problem>) -> IndexMap<String, Node> {
    let mut vars = IndexMap::new();
    let Some(node) = document.get("vars") else {
        return vars;
    };
    let Some(entries) = node.as_map() else {
        problems.push(wrong_type(node, "a mapping of variables"));
        return vars;
    };
    report_duplicates(entries, problems);
    for (key, value) in entries {
        let value = Scope {
            vars: &vars,
            fields: &IndexMap::new(),
            seed,
            room,
        }
        .interpolate(value, problems);
        vars.insert(key.text.clone(), value);
    }
    vars
}

struct Resolver<'a> {
    vars: &'a IndexMap<String, Node>,
    pools: &'a IndexMap<String, usize>,
    seed: i64,
    room: &'a Room,
    presets: &'a mut dyn Presets,
    registry: &'a Registry,
    sources: &'a mut SourceTexts,
    problems: Vec<Problem>,
    names: NameFindings,
    drafts: Vec<Draft>,
    /// Drafts of each written stage; empty where the stage had errors.
    families: IndexMap<String, Vec<usize>>,
    fields_of_stages: FieldsOfStages,
    agreements: Agreements,
    /// Members of one matrix with the same parameters, and the place of the matrix.
    alike: Vec<(Spot, Vec<usize>)>,
}

impl Resolver<'_> {
    fn stage(&mut self, key: &Key, node: &Node) {
        self.families.entry(key.text.clone()).or_default();
        if !is_name(&key.text) {
            self.problems
                .push(Problem::at(key.spot, ProblemKind::BadName { name: key.text.clone() }));
        }
        let Some(entries) = node.as_map() else {
            self.problems.push(wrong_type(node, "a mapping with the stage's kind"));
            return;
        };
        report_duplicates(entries, &mut self.problems);
        let valid: Vec<&str> = self.registry.kinds().iter().map(|k| k.name()).collect();
        let mut found = Vec::new();
        let mut unknown_keys = 0;
        for (k, _) in entries {
            if self.registry.kind(&k.text).is_some() {
                found.push(k.text.clone());
            } else if !STAGE_KEYS.contains(&k.text.as_str()) {
                unknown_keys += 1;
                let known = [valid.as_slice(), &STAGE_KEYS[..]].concat();
                let before = self.problems.len();
                self.problems
                    .push(unknown(k, "stage kind", known.iter().copied(), before));
            }
        }
        found.dedup();
        let (Some(stage_kind), true) = (found.first().and_then(|n| self.registry.kind(n)), found.len() == 1) else {
            // An unknown key is most likely the misspelt kind, and already reported.
            if found.len() > 1 || unknown_keys == 0 {
                self.problems.push(Problem::at(
                    key.spot,
                    ProblemKind::KindCount {
                        found,
                        valid: valid.into_iter().map(str::to_owned).collect(),
                    },
                ));
            }
            return;
        };
        let schema = stage_kind.schema();
        let matrix = self.matrix(node, schema);
        if self.drafts.len().saturating_add(matrix.count()) > MEMBERS {
            let spot = node.get("matrix").map_or(key.spot, |m| m.spot);
            let (what, limit) = ("stages", MEMBERS);
            self.problems
                .push(Problem::at(spot, ProblemKind::TooMuch { what, limit }));
            return;
        }
        if !self.room.take(matrix::weight_of_all(&matrix), node, &mut self.problems) {
            return;
        }
        let mut names = BTreeSet::new();
        let texts = matrix::fields_of_text(&matrix);
        let first = self.drafts.len();
        for fields in matrix.members(&mut self.problems, &mut self.names.notes) {
            let plain = matrix::plain(&fields, &texts);
            let name = matrix::name(&key.text, &fields);
            if !names.insert(name.clone()) {
                let spot = node.get("matrix").map_or(key.spot, |m| m.spot);
                self.problems
                    .push(Problem::at(spot, ProblemKind::DuplicateName { name }));
                continue;
            }
            self.member(key, node, stage_kind, schema, &fields, (name, plain));
        }
        self.keep_alike(first, node.get("matrix").map_or(key.spot, |m| m.spot));
    }

    /// Keeps members whose parameters are the same, as those are whose values differ only in how they are written: what
    /// their references take is known later.
    fn keep_alike(&mut self, first: usize, spot: Spot) {
        let mut groups: IndexMap<String, Vec<usize>> = IndexMap::new();
        for (index, draft) in self
            .drafts
            .iter()
            .enumerate()
            .skip(first)
            .filter(|(_, draft)| !draft.broken)
        {
            groups.entry(draft.params.to_string()).or_default().push(index);
        }
        let alike = groups.into_values().filter(|members| members.len() > 1);
        self.alike.extend(alike.map(|members| (spot, members)));
    }

    /// The matrix of a stage. Its fields are called as they are written, by the published or the stored name of a
    /// parameter.
    fn matrix(&mut self, stage: &Node, schema: &Json) -> Matrix {
        let Some(node) = stage.get("matrix") else {
            return Matrix::default();
        };
        let node = Scope {
            vars: self.vars,
            fields: &IndexMap::new(),
            seed: self.seed,
            room: self.room,
        }
        .interpolate(node, &mut self.problems);
        let matrix = Matrix::read(&node, &mut self.problems);
        self.names.check_fields(schema, matrix.keys());
        matrix
    }

    fn member(
        &mut self,
        key: &Key,
        node: &Node,
        stage_kind: &'static dyn AnyKind,
        schema: &Json,
        fields: &IndexMap<String, Node>,
        names: (String, IndexMap<String, Json>),
    ) {
        let before = self.problems.len();
        let scope = Scope {
            vars: self.vars,
            fields,
            seed: self.seed,
            room: self.room,
        };
        let own = node.get(stage_kind.name()).cloned().unwrap_or(Node {
            value: Value::Null,
            spot: key.spot,
        });
        let mut params = scope.interpolate(&own, &mut self.problems);
        if matches!(params.value, Value::Null) {
            params.value = Value::Map(Vec::new());
        }
        let before_names = self.names.problems.len();
        self.names.store_parameters(schema, &mut params);
        let mut mentioned: BTreeSet<&str> = fields
            .keys()
            .map(String::as_str)
            .filter(|f| matrix::mentions(&own, f))
            .collect();
        let before_preset = self.problems.len();
        params = self.merge_presets(stage_kind, params, &scope, &[], &mut mentioned);
        let preset_failed = self.problems.len() > before_preset;
        let written = Written {
            stage: node,
            own: &own,
            kind: stage_kind,
            mentioned: &mentioned,
        };
        let idle = self.set_fields(&written, fields, &mut params);
        if property(schema, "seed").is_some() && params.get("seed").is_none() {
            let seed_key = Key {
                text: "seed".into(),
                spot: params.spot,
            };
            let seed = Node {
                value: Value::Int(self.seed, None),
                spot: params.spot,
            };
            set(&mut params, &[seed_key], seed);
        }
        let mut validated = Validated::default();
        // A missing parameter is reported at the kind's key, which the reader finds sooner than the brace.
        let kind_spot = node
            .as_map()
            .and_then(|m| m.iter().find(|(k, _)| k.text == stage_kind.name()))
            .map_or(key.spot, |(k, _)| k.spot);
        let located = Node {
            value: params.value.clone(),
            spot: kind_spot,
        };
        let json = validate(schema, &located, &mut validated);
        if preset_failed {
            // What the preset would have brought is not missing.
            validated
                .problems
                .retain(|p| !matches!(p.kind, ProblemKind::Missing { .. }));
        }
        self.problems.append(&mut validated.problems);
        let claims = claims::of_stage(
            node,
            stage_kind,
            &scope,
            self.pools,
            &mut self.names,
            &mut self.problems,
        );
        if let Some(description) = node.get("description").filter(|d| d.scalar_text().is_none()) {
            self.problems.push(wrong_type(description, "text"));
        }
        if self.problems.len() > before || self.names.problems.len() > before_names {
            // Still draw its edges, so that cycles and wrong types show in the same pass.
            // Parameters that cannot be read have no outputs; those that break a rule have.
            let outputs = stage_kind
                .draft(json.clone())
                .map_or_else(|_| Vec::new(), |draft| draft.outputs);
            self.push_draft(
                key,
                names,
                stage_kind,
                (json, outputs),
                (validated.references, idle),
                claims,
                true,
            );
            return;
        }
        match stage_kind.draft(json) {
            Ok(draft) => {
                for violation in draft.violations {
                    let spot = find_spot(&params, &violation.parameter).unwrap_or(kind_spot);
                    self.problems.push(Problem::at(
                        spot,
                        ProblemKind::Inconsistent {
                            message: violation.message,
                        },
                    ));
                }
                self.problems
                    .extend(claims.misplaced(&key.text, stage_kind, &draft.outputs));
                let known = (draft.params, draft.outputs);
                self.push_draft(
                    key,
                    names,
                    stage_kind,
                    known,
                    (validated.references, idle),
                    claims,
                    false,
                );
            }
            Err(message) => self
                .problems
                .push(Problem::at(kind_spot, ProblemKind::Inconsistent { message })),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "assembles one record from its parts")]
    fn push_draft(
        &mut self,
        key: &Key,
        (name, fields): (String, IndexMap<String, Json>),
        kind: &'static dyn AnyKind,
        (params, outputs): (Json, Vec<Output>),
        (references, idle): (Vec<ReferenceSite>, Vec<Idle>),
        claims: Claims,
        broken: bool,
    ) {
        self.families
            .entry(key.text.clone())
            .or_default()
            .push(self.drafts.len());
        self.drafts.push(Draft {
            name,
            family: key.text.clone(),
            fields,
            kind,
            params,
            outputs,
            references,
            idle,
            has_idle: false,
            claims,
            spot: key.spot,
            broken,
        });
    }
}

/// The place of a dotted parameter.
fn find_spot(params: &Node, dotted: &str) -> Option<Spot> {
    let mut node = params;
    let mut found = None;
    for part in dotted.split('.') {
        let inner = match &node.value {
            Value::List(items) => part.parse().ok().and_then(|place: usize| items.get(place)),
            _ => node.get(part),
        };
        let Some(inner) = inner else { break };
        node = inner;
        found = Some(node.spot);
    }
    found
}
