//! From references to edges: the stages that a reference selects, the output that fits, and no cycle among them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use serde_json::Value as Json;

use super::{Draft, Resolver};
use crate::kind::Artifact;
use crate::names::{self, Reference, Selector};
use crate::pipeline::problem::{Problem, ProblemKind, suggest_few};
use crate::pipeline::published::output_names;
use crate::pipeline::validate::{PathPart, ReferenceSite};
use crate::pipeline::{InputSlot, Spot, StageId};

/// A draft, and the output of it that fits.
type Target = (usize, String, Artifact);

/// Inputs of all stages together.
const LINKS: usize = 2_000_000;

impl Resolver<'_> {
    /// Resolves every reference to input slots and writes the slots' names into the parameters.
    pub(super) fn follow_references(&mut self) -> Vec<Vec<InputSlot>> {
        let names = self.names();
        let mut all = Vec::new();
        let mut count = 0;
        for index in 0..self.drafts.len() {
            let sites = std::mem::take(&mut self.drafts[index].references);
            let mut used = BTreeSet::new();
            let mut lists: BTreeMap<String, (Vec<PathPart>, Vec<Json>)> = BTreeMap::new();
            let mut inputs = Vec::new();
            for site in &sites {
                let base = slot_name(&site.path, site.in_list);
                let (found, is_several) = self.targets(index, site, &names, &mut used);
                count += found.len();
                if count > LINKS {
                    let (what, limit) = ("links between stages", LINKS);
                    let problem = Problem::at(site.spot, ProblemKind::TooMuch { what, limit });
                    self.problems.push(problem);
                    all.resize(self.drafts.len(), Vec::new());
                    return all;
                }
                for (producer, output, artifact) in found {
                    let is_item = site.in_list || is_several;
                    let slot = if is_item {
                        // A list that stands where one reference was is written in its place.
                        let parent = site.path[..site.path.len() - usize::from(site.in_list)].to_vec();
                        let (_, items) = lists.entry(base.clone()).or_insert((parent, Vec::new()));
                        let slot = format!("{base}.{}", items.len());
                        items.push(Json::String(slot.clone()));
                        slot
                    } else {
                        write(&mut self.drafts[index].params, &site.path, Json::String(base.clone()));
                        base.clone()
                    };
                    inputs.push(InputSlot {
                        slot,
                        list: is_item.then(|| base.clone()),
                        producer: StageId(producer),
                        output,
                        artifact,
                    });
                }
            }
            self.report_idle(index, &used);
            for (path, items) in lists.into_values() {
                write(&mut self.drafts[index].params, &path, Json::Array(items));
            }
            all.push(inputs);
        }
        all
    }

    /// Every draft by its name.
    fn names(&self) -> HashMap<String, usize> {
        let named = self.drafts.iter().enumerate().map(|(at, d)| (d.name.clone(), at));
        named.collect()
    }

    /// Holds the name of the table that stands for a run against the stages. As `show` has it, a stage stands for all
    /// members of its matrix, and without an output for its first table.
    pub(super) fn check_headline(&mut self, text: &str, spot: Spot) {
        let site = ReferenceSite {
            path: Vec::new(),
            expected: "table".to_owned(),
            in_list: true,
            may_be_several: false,
            text: text.to_owned(),
            spot,
        };
        if let Some((parsed, members)) = self.members(&site, &self.names()) {
            self.outputs(&site, &parsed, members);
        }
    }

    /// The drafts that a reference of the draft `from` selects, each with the output that fits, and whether it makes a
    /// list of what is none. `names`: every draft by its name; `used`: matrix fields by which members were taken.
    fn targets(
        &mut self,
        from: usize,
        site: &ReferenceSite,
        names: &HashMap<String, usize>,
        used: &mut BTreeSet<String>,
    ) -> (Vec<Target>, bool) {
        let (parsed, selected, shared) = match self.whole_stage(site) {
            Some(parsed) => {
                let shared = self.shared_fields(from, &parsed);
                let members = &self.families[&parsed.stage];
                let selected = match shared.is_empty() {
                    true => members.clone(),
                    false => self.agreements.find(&self.drafts, members, &shared, true),
                };
                (parsed, selected, shared)
            }
            None => {
                let Some((parsed, selected)) = self.members(site, names) else {
                    return (Vec::new(), false);
                };
                let takes_all = parsed.selector.as_ref().is_some_and(|s| s.all);
                let shared = match selected.len() > 1 && !takes_all {
                    true => self.shared_fields(from, &parsed),
                    false => Vec::new(),
                };
                let selected = match shared.is_empty() {
                    true => selected,
                    false => self.agreements.find(&self.drafts, &selected, &shared, false),
                };
                (parsed, selected, shared)
            }
        };
        let members = self.families.get(&parsed.stage).map_or(&[][..], Vec::as_slice);
        let has_matrix = members
            .first()
            .is_some_and(|first| !self.drafts[*first].fields.is_empty());
        let takes_all = parsed.selector.as_ref().is_some_and(|s| s.all);
        used.extend(shared.iter().map(|(name, _)| name.clone()));
        if selected.is_empty() {
            let shown = members
                .iter()
                .take(SHOWN)
                .map(|member| self.drafts[*member].name.clone());
            let kind = ProblemKind::NoMemberAgrees {
                members: shown.collect(),
                count: members.len(),
                fields: described(&shared),
                stage: parsed.stage,
            };
            self.problems.push(Problem::at(site.spot, kind));
            return (Vec::new(), false);
        }
        let is_several = site.may_be_several && takes_all;
        let several_allowed = site.in_list && takes_all || is_several;
        let is_chosen = parsed.selector.is_some() || !shared.is_empty();
        let exact = !has_matrix || (selected.len() == 1 && is_chosen);
        if !several_allowed && !exact {
            let example = selected.first().map(|first| &self.drafts[*first]);
            let kind = ProblemKind::AmbiguousMember {
                count: selected.len(),
                example: example.map(|first| first.name.clone()).unwrap_or_default(),
                fields: described(&shared),
                stage: parsed.stage,
            };
            self.problems.push(Problem::at(site.spot, kind));
            return (Vec::new(), false);
        }
        (self.outputs(site, &parsed, selected), is_several)
    }

    /// A reference that is the name of a stage with a matrix and nothing more, but perhaps an output.
    fn whole_stage(&self, site: &ReferenceSite) -> Option<Reference> {
        let reading = names::readings(&site.text, |_| false).into_iter().next()?;
        let members = self.families.get(&reading.stage)?;
        let first = members.first()?;
        let has_matrix = !self.drafts[*first].fields.is_empty();
        (reading.selector.is_none() && has_matrix).then_some(reading)
    }

    /// The fields of a draft that a stage has too and a reference to it does not name.
    fn shared_fields(&self, from: usize, reference: &Reference) -> Vec<(String, Json)> {
        let first = self.families.get(&reference.stage).and_then(|members| members.first());
        let Some(first) = first else {
            return Vec::new();
        };
        let named = |field: &str| {
            let selector = reference.selector.iter();
            selector.flat_map(|s| &s.fields).any(|(name, _)| name == field)
        };
        let theirs = &self.drafts[*first].fields;
        let own = self.drafts[from].fields.iter();
        own.filter(|(field, _)| theirs.contains_key(*field) && !named(field))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect()
    }

    /// The reading of a reference that fits, and the drafts that it selects; what is wrong with it is reported.
    fn members(&mut self, site: &ReferenceSite, names: &HashMap<String, usize>) -> Option<(Reference, Vec<usize>)> {
        let text = site.text.as_str();
        let family = text.split(['@', '/']).next().unwrap_or(text);
        let has_field = |field: &str| {
            let first = self.families.get(family).and_then(|members| members.first());
            first.is_some_and(|member| self.drafts[*member].fields.contains_key(field))
        };
        let readings = names::readings(text, has_field);
        let Some(likeliest) = readings.first() else {
            let text = site.text.clone();
            self.problems
                .push(Problem::at(site.spot, ProblemKind::BadReference { text }));
            return None;
        };
        let Some(members) = self.families.get(family) else {
            let known = self.families.keys().map(String::as_str);
            let suggestion = suggest_few(self.problems.len(), family, known);
            let name = family.to_owned();
            self.problems
                .push(Problem::at(site.spot, ProblemKind::NoSuchStage { name, suggestion }));
            return None;
        };
        let first = members.first()?;
        let has_matrix = !self.drafts[*first].fields.is_empty();
        if likeliest.selector.is_some() && !has_matrix {
            let (stage, reference) = (family.to_owned(), site.text.clone());
            self.problems
                .push(Problem::at(site.spot, ProblemKind::NoMatrix { stage, reference }));
            return None;
        }
        let (parsed, selected) = self.selected(site, &readings, members, names);
        if selected.is_empty() {
            self.problems.push(Problem::at(
                site.spot,
                ProblemKind::NoSuchMember {
                    reference: site.text.clone(),
                    stage: parsed.stage.clone(),
                    members: members
                        .iter()
                        .take(SHOWN)
                        .map(|m| self.drafts[*m].name.clone())
                        .collect(),
                    count: members.len(),
                },
            ));
            return None;
        }
        Some((parsed.clone(), selected))
    }

    /// Of each draft the output that a reference means.
    fn outputs(&mut self, site: &ReferenceSite, parsed: &Reference, selected: Vec<usize>) -> Vec<Target> {
        let mut found = Vec::new();
        for member in selected {
            if self.drafts[member].broken && self.drafts[member].outputs.is_empty() {
                // Its edge still counts for cycles; its outputs cannot be judged.
                found.push((member, String::new(), Artifact::FILES));
                continue;
            }
            if let Some(name) = &parsed.output {
                let [_, published] = output_names(self.drafts[member].kind, name);
                self.names.note(name, &published, site.spot);
            }
            match pick_output(&self.drafts[member], parsed, site) {
                Ok((output, artifact)) => found.push((member, output, artifact)),
                Err(kind) => self
                    .problems
                    .push(Problem::at(site.spot, kind).with(self.drafts[member].spot, "this stage")),
            }
        }
        found
    }
}

impl Resolver<'_> {
    /// The first reading that names a member; the first at all where none does.
    fn selected<'r>(
        &self,
        site: &ReferenceSite,
        readings: &'r [Reference],
        members: &[usize],
        names: &HashMap<String, usize>,
    ) -> (&'r Reference, Vec<usize>) {
        let without_output = |reading: &Reference| match &reading.output {
            Some(output) => site.text.len().saturating_sub(output.len() + 1),
            None => site.text.len(),
        };
        // A member's own name, as most references are, is looked up: there may be as many of them as members.
        let named = readings.iter().find_map(|reading| {
            let member = names.get(&site.text[..without_output(reading)])?;
            members.binary_search(member).ok()?;
            Some((reading, vec![*member]))
        });
        let selects = |selector: &Selector| -> Vec<usize> {
            let fits = |member: &&usize| selector.matches(&self.drafts[**member].fields);
            members.iter().filter(fits).copied().collect()
        };
        let searched = || {
            readings.iter().find_map(|reading| {
                let found = reading.selector.as_ref().map_or_else(|| members.to_vec(), selects);
                (!found.is_empty()).then_some((reading, found))
            })
        };
        named
            .filter(|(reading, _)| reading.selector.is_some())
            .or_else(searched)
            .unwrap_or((&readings[0], Vec::new()))
    }
}

/// Fields as a message names them: `set=mnist, areas=4`.
fn described(fields: &[(String, Json)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(field, value)| format!("{field}={}", names::scalar(value)))
        .collect();
    fields.join(", ")
}

fn pick_output(draft: &Draft, parsed: &Reference, site: &ReferenceSite) -> Result<(String, Artifact), ProblemKind> {
    let wanted = Artifact::wanted(&site.expected);
    let fits = |artifact: Artifact| wanted.is_none_or(|wanted| wanted == artifact);
    let expected = wanted.map_or_else(|| "any output".to_owned(), |wanted| wanted.describe());
    let wrong = |found: &str| ProblemKind::WrongArtifact {
        reference: site.text.clone(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    let slot = parsed
        .output
        .as_deref()
        .map(|name| (name, draft.kind.stored_output(name)));
    match slot {
        Some((name, slot)) => match draft.outputs.iter().find(|o| o.slot == slot) {
            Some(output) if fits(output.artifact) => Ok((output.slot.clone(), output.artifact)),
            Some(output) => Err(wrong(&output.artifact.describe())),
            None => Err(ProblemKind::NoSuchOutput {
                stage: draft.family.clone(),
                output: name.to_owned(),
                valid: draft
                    .outputs
                    .iter()
                    .map(|o| draft.kind.published_output(&o.slot).to_owned())
                    .collect(),
            }),
        },
        None => match draft.outputs.iter().find(|o| fits(o.artifact)) {
            Some(output) => Ok((output.slot.clone(), output.artifact)),
            None => Err(wrong(
                &draft
                    .outputs
                    .first()
                    .map_or_else(|| "nothing".to_owned(), |o| o.artifact.describe()),
            )),
        },
    }
}

fn slot_name(path: &[PathPart], in_list: bool) -> String {
    let path = if in_list { &path[..path.len() - 1] } else { path };
    path.iter()
        .map(|p| match p {
            PathPart::Field(name) => name.clone(),
            PathPart::Index(index) => index.to_string(),
        })
        .collect::<Vec<_>>()
        .join(".")
}

fn write(target: &mut Json, path: &[PathPart], value: Json) {
    let mut at = target;
    for part in path {
        let next = match part {
            PathPart::Field(name) => at.get_mut(name),
            PathPart::Index(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return,
        }
    }
    *at = value;
}

/// Names and places of a long list that are shown.
const SHOWN: usize = 8;

/// A stage that needs itself, by whatever way: of each knot of such stages one shortest cycle.
pub(super) fn report_cycles(drafts: &[Draft], inputs: &[Vec<InputSlot>], problems: &mut Vec<Problem>) {
    let mut graph = petgraph::Graph::<usize, ()>::new();
    let nodes: Vec<_> = (0..drafts.len()).map(|i| graph.add_node(i)).collect();
    for (consumer, slots) in inputs.iter().enumerate() {
        for slot in slots {
            graph.add_edge(nodes[consumer], nodes[slot.producer.0], ());
        }
    }
    let knots = petgraph::algo::tarjan_scc(&graph);
    let mut knot_of = vec![0; drafts.len()];
    for (knot, members) in knots.iter().enumerate() {
        for member in members {
            knot_of[graph[*member]] = knot;
        }
    }
    for (knot, members) in knots.iter().enumerate() {
        let Some(first) = members.iter().map(|n| graph[*n]).min() else {
            continue;
        };
        let waits_for = |stage: usize| {
            let producers = inputs.get(stage).into_iter().flatten().map(|slot| slot.producer.0);
            producers.filter(|producer| knot_of[*producer] == knot)
        };
        let Some(cycle) = shortest_cycle(first, waits_for) else {
            continue;
        };
        let mut families: Vec<&Draft> = cycle.iter().map(|stage| &drafts[*stage]).collect();
        families.dedup_by(|a, b| a.family == b.family);
        if families.len() > 1 && families.first().map(|d| &d.family) == families.last().map(|d| &d.family) {
            families.pop();
        }
        let mut stages: Vec<String> = families.iter().map(|d| d.family.clone()).collect();
        if stages.len() > SHOWN {
            let left_out = stages.len() - SHOWN + 1;
            let last = stages.split_off(stages.len() - 1);
            stages.truncate(SHOWN - 2);
            stages.push(format!("({left_out} more)"));
            stages.extend(last);
        }
        stages.push(families[0].family.clone());
        let mut problem = Problem::at(families[0].spot, ProblemKind::Cycle { stages });
        for other in families.iter().skip(1).take(SHOWN) {
            problem = problem.with(other.spot, "part of the cycle");
        }
        problems.push(problem);
    }
}

/// The shortest way from a stage back to it, the stage itself first; none if there is none.
fn shortest_cycle<I: Iterator<Item = usize>>(start: usize, next: impl Fn(usize) -> I) -> Option<Vec<usize>> {
    let mut came_from: HashMap<usize, usize> = HashMap::new();
    let mut waiting = VecDeque::from([start]);
    while let Some(stage) = waiting.pop_front() {
        for other in next(stage) {
            if other == start {
                let mut cycle = vec![stage];
                while let Some(before) = cycle.last().and_then(|last| came_from.get(last)) {
                    cycle.push(*before);
                }
                cycle.reverse();
                return Some(cycle);
            }
            if let std::collections::hash_map::Entry::Vacant(entry) = came_from.entry(other) {
                entry.insert(stage);
                waiting.push_back(other);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_shortest_cycle_asks_each_stage_once() {
        const COUNT: usize = 5_000;
        let asked = Cell::new(0);
        // A large cycle, in which every stage also waits for the one behind it: the shortest way back has two stages.
        let both = |stage: usize| {
            asked.set(asked.get() + 1);
            [(stage + 1) % COUNT, (stage + COUNT - 1) % COUNT].into_iter()
        };
        assert_eq!(shortest_cycle(7, both), Some(vec![7, 8]));
        assert!(asked.get() <= COUNT, "{}", asked.get());

        asked.set(0);
        let one = |stage: usize| {
            asked.set(asked.get() + 1);
            std::iter::once((stage + 1) % COUNT)
        };
        assert_eq!(shortest_cycle(0, one), Some((0..COUNT).collect()));
        assert_eq!(asked.get(), COUNT);

        assert_eq!(shortest_cycle(0, |stage| (stage + 1..3).take(1)), None);
    }
}
