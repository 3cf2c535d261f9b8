//! `use:`: a stage's parameters over those of the presets that it names.

use std::collections::BTreeSet;

use super::{Resolver, wrong_type};
use crate::kind::AnyKind;
use crate::pipeline::matrix::{self, Scope};
use crate::pipeline::node::{Node, Value};
use crate::pipeline::presets::{PresetError, suggest_preset};
use crate::pipeline::problem::{Problem, ProblemKind};

impl Resolver<'_> {
    /// Puts `params` over the presets that it names (of several, the later over the earlier), each of them over its
    /// own, and so on.
    pub(super) fn merge_presets<'f>(
        &mut self,
        stage_kind: &'static dyn AnyKind,
        params: Node,
        scope: &Scope<'f>,
        chain: &[String],
        mentioned: &mut BTreeSet<&'f str>,
    ) -> Node {
        let Some(used) = params.get("use").cloned() else {
            return params;
        };
        let mut own = params;
        if let Value::Map(entries) = &mut own.value {
            entries.retain(|(k, _)| k.text != "use");
        }
        let used = match used.value {
            Value::List(items) => items,
            _ => vec![used],
        };
        let bodies: Vec<Node> = used
            .iter()
            .filter_map(|used| self.preset(stage_kind, used, scope, chain, mentioned))
            .collect();
        match bodies.into_iter().reduce(merge) {
            Some(below) => merge(below, own),
            None => own,
        }
    }

    /// The parameters of one preset, over those of the presets that it names itself.
    fn preset<'f>(
        &mut self,
        stage_kind: &'static dyn AnyKind,
        used: &Node,
        scope: &Scope<'f>,
        chain: &[String],
        mentioned: &mut BTreeSet<&'f str>,
    ) -> Option<Node> {
        if matches!(used.value, Value::Unknown) {
            return None;
        }
        let Some(name) = used.as_text().map(str::to_owned) else {
            self.problems
                .push(wrong_type(used, "the name of a preset, or a list of names"));
            return None;
        };
        let mut longer = chain.to_vec();
        longer.push(name.clone());
        if chain.contains(&name) {
            self.problems
                .push(Problem::at(used.spot, ProblemKind::PresetCycle { chain: longer }));
            return None;
        }
        let preset = match self.presets.get(&name, self.sources) {
            Ok(preset) => preset,
            Err(error) => {
                let problem = match error {
                    PresetError::Unreadable(reason) => Problem::at(
                        used.spot,
                        ProblemKind::UnreadablePreset {
                            suggestion: suggest_preset(&name, self.presets, self.problems.len()),
                            name,
                            reason,
                        },
                    ),
                    PresetError::Syntax(e) => {
                        Problem::at(e.spot, ProblemKind::Syntax { message: e.message }).with(used.spot, "used here")
                    }
                };
                self.problems.push(problem);
                return None;
            }
        };
        for field in scope.fields.keys() {
            if matrix::mentions(&preset, field) {
                mentioned.insert(field);
            }
        }
        let Some([(kind_key, body)]) = preset.as_map() else {
            self.problems
                .push(wrong_type(&preset, "one stage kind with its parameters").with(used.spot, "used here"));
            return None;
        };
        if kind_key.text != stage_kind.name() {
            self.problems.push(
                Problem::at(
                    used.spot,
                    ProblemKind::UnreadablePreset {
                        name,
                        reason: format!("it is for `{}`, not for `{}`", kind_key.text, stage_kind.name()),
                        suggestion: None,
                    },
                )
                .with(kind_key.spot, "the preset's kind"),
            );
            return None;
        }
        let mut body = scope.interpolate(body, &mut self.problems);
        self.names.store_parameters(stage_kind.schema(), &mut body);
        Some(self.merge_presets(stage_kind, body, scope, &longer, mentioned))
    }
}

/// Maps merge deeply; anything else of `over` replaces what is below.
fn merge(below: Node, over: Node) -> Node {
    match (below.value, over.value) {
        (Value::Map(mut entries), Value::Map(above)) => {
            for (key, value) in above {
                match entries.iter().position(|(k, _)| k.text == key.text) {
                    Some(index) => {
                        let (_, old) = entries.remove(index);
                        entries.insert(index, (key, merge(old, value)));
                    }
                    None => entries.push((key, value)),
                }
            }
            Node {
                value: Value::Map(entries),
                spot: over.spot,
            }
        }
        (_, value) => Node { value, spot: over.spot },
    }
}
