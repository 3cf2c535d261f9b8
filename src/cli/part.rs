//! `@:cordsnet@dt=2`: one stage of a run, or some members of a matrix, as a side of a comparison.

use dynvis_runner::kind::Artifact;
use dynvis_runner::names::find;
use dynvis_runner::pipeline::suggest;
use dynvis_runner::store::{RunRecord, RunStage};

use super::error::CommandError;
use super::tables::{find_outputs, tables_of};
use super::wording::first_names;

/// The part of a run that is meant.
pub(super) struct Part {
    /// What finds the stage or the members, as typed, without a table.
    pub(super) stage: String,
    /// Their tables by name, each once: the one that is named, or all.
    pub(super) tables: Vec<String>,
    /// Positions of the members among the run's stages.
    members: Vec<usize>,
}

impl Part {
    /// `@:cordsnet@dt=2` as run and part; `None` where no run stands before a colon.
    pub(super) fn split(reference: &str) -> Option<(&str, &str)> {
        let (run, part) = reference.split_once(':')?;
        let is_run = run.starts_with('@') || !run.is_empty() && run.bytes().all(|byte| byte.is_ascii_lowercase());
        is_run.then_some((run, part))
    }

    /// # Errors
    /// No such stage, or none with a table of that name.
    pub(super) fn of(run: &RunRecord, text: &str) -> Result<Self, CommandError> {
        let lacks = || {
            let mut families: Vec<&str> = run.stages.iter().map(|stage| stage.family.as_str()).collect();
            families.dedup();
            let family = text.split(['@', '/']).next().unwrap_or(text);
            CommandError::hinted(
                format!("run {} has no stage or table `{text}`", run.id),
                match suggest(family, families.iter().copied()) {
                    _ if families.contains(&family) => {
                        let names = run.stages.iter().filter(|stage| stage.family == family);
                        format!("of `{family}` it has {}", first_names(names.map(|s| s.name.as_str())))
                    }
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its stages: {}", first_names(families)),
                },
            )
        };
        let selected = find(&run.stages, text).ok_or_else(lacks)?;
        let stage = match &selected.output {
            Some(output) => text.strip_suffix(&format!("/{output}")).unwrap_or(text),
            None => text,
        };
        let mut tables: Vec<String> = Vec::new();
        match &selected.output {
            Some(output) => {
                if find_outputs(run, text, |artifact| artifact == Artifact::TABLE).is_empty() {
                    return Err(lacks());
                }
                tables.push(output.clone());
            }
            None => {
                let is_selected =
                    |stage: &RunStage| selected.members.iter().any(|m| std::ptr::eq(&run.stages[*m], stage));
                for table in tables_of(run).iter().filter(|table| is_selected(table.stage)) {
                    if !tables.iter().any(|known| known == table.output()) {
                        tables.push(table.output().to_owned());
                    }
                }
            }
        }
        Ok(Self {
            stage: stage.to_owned(),
            tables,
            members: selected.members,
        })
    }

    /// The members that are held against each other: those alike in all fields but the ones that tell the sides apart.
    pub(super) fn pairs<'a>(
        &self,
        run: &'a RunRecord,
        other: &Self,
        other_run: &'a RunRecord,
    ) -> Vec<(&'a RunStage, &'a RunStage)> {
        let members = |part: &Self, run: &'a RunRecord| -> Vec<&'a RunStage> {
            part.members.iter().map(|member| &run.stages[*member]).collect()
        };
        let (first, second) = (members(self, run), members(other, other_run));
        // A field with one value on each side, and not the same, tells the sides apart.
        let only_value = |stages: &[&RunStage], field: &str| {
            let value = stages.first()?.fields.get(field);
            stages
                .iter()
                .all(|stage| stage.fields.get(field) == value)
                .then_some(value?.clone())
        };
        let alike = |a: &RunStage, b: &RunStage| {
            let mut fields = a.fields.keys().chain(b.fields.keys());
            fields.all(|field| {
                a.fields.get(field) == b.fields.get(field)
                    || only_value(&first, field).is_some() && only_value(&second, field).is_some()
            })
        };
        let pairs = first.iter().flat_map(|a| second.iter().map(move |b| (*a, *b)));
        pairs.filter(|(a, b)| a.kind == b.kind && alike(a, b)).collect()
    }
}
