//! From references to edges: the stages that a reference selects, the output that fits, and no circle among them.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Draft, Resolver};
use crate::pipeline::problem::{Problem, ProblemKind, suggest};
use crate::pipeline::reference::{self, member_name};
use crate::pipeline::validate::{PathPart, ReferenceSite};
use crate::pipeline::{InputSlot, StageId};
use crate::stage::Artifact;

/// Inputs of all stages together.
const LINKS: usize = 2_000_000;

impl Resolver<'_> {
    /// Resolves every reference to input slots and writes the slots' names into the parameters.
    pub(super) fn follow_references(&mut self) -> Vec<Vec<InputSlot>> {
        let mut all = Vec::new();
        let mut count = 0;
        for index in 0..self.drafts.len() {
            let sites = std::mem::take(&mut self.drafts[index].references);
            let mut lists: BTreeMap<String, (Vec<PathPart>, Vec<Json>)> = BTreeMap::new();
            let mut inputs = Vec::new();
            for site in &sites {
                let base = slot_name(&site.path, site.in_list);
                let found = self.targets(site);
                count += found.len();
                if count > LINKS {
                    let (what, limit) = ("links between stages", LINKS);
                    let problem = Problem::at(site.spot, ProblemKind::TooMuch { what, limit });
                    self.problems.push(problem);
                    all.resize(self.drafts.len(), Vec::new());
                    return all;
                }
                for (producer, output, artifact) in found {
                    let slot = if site.in_list {
                        let parent = site.path[..site.path.len() - 1].to_vec();
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
                        producer: StageId(producer),
                        output,
                        artifact,
                    });
                }
            }
            for (path, items) in lists.into_values() {
                write(&mut self.drafts[index].params, &path, Json::Array(items));
            }
            all.push(inputs);
        }
        all
    }

    /// The drafts that a reference selects, each with the output that fits.
    fn targets(&mut self, site: &ReferenceSite) -> Vec<(usize, String, Artifact)> {
        let Some(parsed) = reference::parse(&site.text) else {
            self.problems.push(Problem::at(
                site.spot,
                ProblemKind::BadReference {
                    text: site.text.clone(),
                },
            ));
            return Vec::new();
        };
        let Some(members) = self.families.get(&parsed.stage) else {
            let suggestion = suggest(&parsed.stage, self.families.keys().map(String::as_str));
            self.problems.push(Problem::at(
                site.spot,
                ProblemKind::NoSuchStage {
                    name: parsed.stage,
                    suggestion,
                },
            ));
            return Vec::new();
        };
        if members.is_empty() {
            return Vec::new();
        }
        let has_matrix = members.iter().any(|m| !self.drafts[*m].fields.is_empty());
        let names = || {
            members
                .iter()
                .map(|m| member_name(&parsed.stage, &self.drafts[*m].fields))
                .collect::<Vec<_>>()
        };
        let selected: Vec<usize> = match &parsed.selector {
            None => members.clone(),
            Some(_) if !has_matrix => {
                self.problems.push(Problem::at(
                    site.spot,
                    ProblemKind::NoMatrix {
                        stage: parsed.stage.clone(),
                        reference: site.text.clone(),
                    },
                ));
                return Vec::new();
            }
            Some(selector) => members
                .iter()
                .copied()
                .filter(|m| selector.matches(&self.drafts[*m].fields))
                .collect(),
        };
        if selected.is_empty() {
            self.problems.push(Problem::at(
                site.spot,
                ProblemKind::NoSuchMember {
                    reference: site.text.clone(),
                    stage: parsed.stage.clone(),
                    members: names(),
                },
            ));
            return Vec::new();
        }
        let several_allowed = site.in_list && parsed.selector.as_ref().is_some_and(|s| s.all);
        let exact = !has_matrix || (selected.len() == 1 && parsed.selector.is_some());
        if !several_allowed && !exact {
            let example = names().into_iter().next().unwrap_or_default();
            self.problems.push(Problem::at(
                site.spot,
                ProblemKind::AmbiguousMember {
                    stage: parsed.stage.clone(),
                    count: selected.len(),
                    example,
                },
            ));
            return Vec::new();
        }
        let mut found = Vec::new();
        for member in selected {
            if self.drafts[member].broken && self.drafts[member].outputs.is_empty() {
                // Its edge still counts for cycles; its outputs cannot be judged.
                found.push((member, String::new(), Artifact::Files));
                continue;
            }
            match pick_output(&self.drafts[member], &parsed, site) {
                Ok((output, artifact)) => found.push((member, output, artifact)),
                Err(kind) => self
                    .problems
                    .push(Problem::at(site.spot, kind).with(self.drafts[member].spot, "this stage")),
            }
        }
        found
    }
}

fn pick_output(
    draft: &Draft,
    parsed: &reference::Reference,
    site: &ReferenceSite,
) -> Result<(String, Artifact), ProblemKind> {
    let wanted = Artifact::named(&site.expected);
    let fits = |artifact: Artifact| wanted.is_none_or(|wanted| wanted == artifact);
    let expected = wanted.map_or("any output", Artifact::describe);
    let wrong = |found: &str| ProblemKind::WrongArtifact {
        reference: site.text.clone(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    };
    match &parsed.output {
        Some(name) => match draft.outputs.iter().find(|o| o.slot == *name) {
            Some(output) if fits(output.artifact) => Ok((output.slot.clone(), output.artifact)),
            Some(output) => Err(wrong(output.artifact.describe())),
            None => Err(ProblemKind::NoSuchOutput {
                stage: draft.family.clone(),
                output: name.clone(),
                valid: draft.outputs.iter().map(|o| o.slot.clone()).collect(),
            }),
        },
        None => match draft.outputs.iter().find(|o| fits(o.artifact)) {
            Some(output) => Ok((output.slot.clone(), output.artifact)),
            None => Err(wrong(
                draft.outputs.first().map_or("nothing", |o| o.artifact.describe()),
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

/// A stage that needs itself, by whatever way.
pub(super) fn report_cycles(drafts: &[Draft], inputs: &[Vec<InputSlot>], problems: &mut Vec<Problem>) {
    let mut graph = petgraph::Graph::<usize, ()>::new();
    let nodes: Vec<_> = (0..drafts.len()).map(|i| graph.add_node(i)).collect();
    for (consumer, slots) in inputs.iter().enumerate() {
        for slot in slots {
            graph.add_edge(nodes[slot.producer.0], nodes[consumer], ());
        }
    }
    for component in petgraph::algo::tarjan_scc(&graph) {
        let cyclic = component.len() > 1 || graph.contains_edge(component[0], component[0]);
        if !cyclic {
            continue;
        }
        let mut members: Vec<usize> = component.iter().map(|n| graph[*n]).collect();
        members.sort_unstable();
        let mut families: Vec<&Draft> = Vec::new();
        for member in members {
            if !families.iter().any(|d| d.family == drafts[member].family) {
                families.push(&drafts[member]);
            }
        }
        let mut names: Vec<String> = families.iter().map(|d| d.family.clone()).collect();
        names.push(names[0].clone());
        let mut problem = Problem::at(families[0].spot, ProblemKind::Cycle { stages: names });
        for other in &families[1..] {
            problem = problem.with(other.spot, "part of the circle");
        }
        problems.push(problem);
    }
}
