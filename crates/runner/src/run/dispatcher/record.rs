//! What became of the stages, for the loop and for the run's record.

use serde_json::Value as Json;

use super::{Dispatcher, Settled};
use crate::fail::{self, Step};
use crate::key::{ContentHash, StageKey};
use crate::names::member_name;
use crate::pipeline::Stage;
use crate::plan::{Decision, Reason};
use crate::run::provenance::{self, Git};
use crate::run::{Event, Failure, RunError};
use crate::store::{JournalEntry, RunInput, RunOutput, RunRecord, RunStage, RunStatus, StageOutcome};

impl Dispatcher<'_> {
    pub(super) fn outputs_of(&self, key: &StageKey) -> Vec<(String, ContentHash)> {
        self.store.result(key).map_or_else(Vec::new, |r| {
            r.outputs.iter().map(|o| (o.slot.clone(), o.content.clone())).collect()
        })
    }

    /// Settles a stage whose result is there, and says what of that is to be committed.
    pub(super) fn settle_present(
        &mut self,
        stage: &Stage,
        decision: &Decision,
        outcome: StageOutcome,
    ) -> Vec<JournalEntry> {
        let mut records = Vec::new();
        if let Some(key) = decision.key.clone() {
            if outcome == StageOutcome::Restored {
                records.push(self.current_entry(stage, &key));
            }
            if !self.store.is_ensured(&key, &stage.ensure) {
                // Just held against them; the next plan need not read its tables again.
                records.push(JournalEntry::Ensured {
                    key: key.clone(),
                    conditions: stage.ensure.clone(),
                });
            }
            let outputs = self.outputs_of(&key);
            self.settle(stage, outcome, Some(key), decision, None, outputs, None);
        }
        records
    }

    pub(super) fn current_entry(&self, stage: &Stage, key: &StageKey) -> JournalEntry {
        self.store.current_entry(&self.pipeline.name, &stage.name, key)
    }

    #[expect(clippy::too_many_arguments, reason = "the one setter of a stage's end")]
    pub(super) fn settle(
        &mut self,
        stage: &Stage,
        outcome: StageOutcome,
        key: Option<StageKey>,
        decision: &Decision,
        seconds: Option<f64>,
        outputs: Vec<(String, ContentHash)>,
        error: Option<&Failure>,
    ) {
        let reasons: Vec<String> = decision.reasons.iter().map(Reason::to_string).collect();
        let reason = match error {
            Some(error) => error.to_string(),
            None => reasons.join("; "),
        };
        self.unnoted.extend(key.clone());
        self.settled[stage.id.0] = Some(Settled {
            outcome,
            key,
            reason,
            seconds,
            outputs,
        });
        let ended = self.settled[stage.id.0]
            .as_ref()
            .map(|settled| self.run_stage(stage, settled));
        self.unwritten.extend(ended);
        self.ready.remove(&self.rank[stage.id.0]);
        for consumer in std::mem::take(&mut self.consumers[stage.id.0]) {
            self.unsettled[consumer.0] -= 1;
            if self.unsettled[consumer.0] == 0 {
                self.open(consumer);
            }
        }
        self.reporter.event(&Event::StageFinished {
            stage: &stage.name,
            id: stage.id,
            outcome,
            seconds,
            error,
        });
    }

    /// Writes the final record.
    pub(super) fn finish(mut self, mut failed: bool) -> Result<RunRecord, RunError> {
        for planned in &self.planned {
            let is_selected = self.selection.includes(planned.id);
            let settled = self.settled[planned.id.0].get_or_insert_with(|| Settled {
                outcome: if is_selected {
                    StageOutcome::Blocked
                } else {
                    StageOutcome::Excluded
                },
                key: None,
                reason: "the run stopped before it".into(),
                seconds: None,
                outputs: Vec::new(),
            });
            failed |= settled.outcome == StageOutcome::Failed;
        }
        let mut stages = Vec::new();
        for planned in &self.planned {
            let settled = self.settled[planned.id.0].as_ref();
            stages.extend(settled.map(|settled| self.run_stage(self.pipeline.stage(planned.id), settled)));
        }
        self.record.stages = stages;
        fail::at(Step::Ended).map_err(|source| RunError::Record {
            folder: self.folder.clone(),
            source,
        })?;
        self.record.status = if self.interrupts > 0 {
            RunStatus::Interrupted
        } else if failed {
            RunStatus::Failed
        } else {
            RunStatus::Done
        };
        self.record.driver = self
            .gpus
            .as_ref()
            .and_then(|gpus| provenance::driver(gpus, self.options.registry.gpus()));
        self.record.git = self.git.take().and_then(Git::answer);
        self.record.finished_at = Some(jiff::Timestamp::now().to_string());
        self.record.seconds = self.started.elapsed().as_secs_f64();
        // The record of a run that did nothing is no loss in a power cut, and a disk may take long.
        let executed = self.record.stages.iter().any(|s| s.execution.is_some());
        self.store.write_run(&self.folder, &self.record, executed)?;
        self.store.save_fingerprints()?;
        // Once more: another run's last worker may have ended since.
        self.store.sweep();
        self.reporter.event(&Event::Finished { record: &self.record });
        Ok(self.record)
    }

    /// A stage that has ended, as the run's record tells it.
    fn run_stage(&self, stage: &Stage, settled: &Settled) -> RunStage {
        let content = |outputs: &[(String, ContentHash)], slot: &str| {
            let found = outputs.iter().find(|(s, _)| s == slot);
            found.map(|(_, content)| content.clone())
        };
        RunStage {
            name: stage.name.clone(),
            family: stage.family.clone(),
            fields: stage.fields.clone(),
            kind: stage.kind().name().to_owned(),
            outcome: settled.outcome,
            reason: settled.reason.clone(),
            accepted: settled.key.as_ref().and_then(|key| self.accepted(key)),
            pulled: (settled.key.as_ref()).and_then(|key| self.store.result(key)?.pulled.clone()),
            key: settled.key.clone(),
            seconds: settled.seconds,
            execution: self.executions.get(&stage.id).cloned(),
            seed: stage.work.params().get("seed").and_then(Json::as_i64),
            files: (self.observed[stage.id.0].iter())
                .flat_map(|observed| observed.listed())
                .collect(),
            inputs: stage
                .inputs
                .iter()
                .map(|i| {
                    let producer = self.pipeline.stage(i.producer);
                    let filled = self.settled[i.producer.0].as_ref();
                    RunInput {
                        slot: i.slot.clone(),
                        stage: producer.family.clone(),
                        member: (member_name(&producer.family, &producer.fields) != producer.name)
                            .then(|| producer.name.clone()),
                        fields: producer.fields.clone(),
                        content: filled.and_then(|filled| content(&filled.outputs, &i.output)),
                    }
                })
                .collect(),
            outputs: stage
                .outputs
                .iter()
                .filter_map(|o| {
                    Some(RunOutput {
                        slot: o.slot.clone(),
                        artifact: o.artifact,
                        content: content(&settled.outputs, &o.slot)?,
                    })
                })
                .collect(),
        }
    }

    /// Why the result of a key was declared to be up to date, where it was.
    fn accepted(&self, key: &StageKey) -> Option<String> {
        Some(self.store.result(key)?.accepted.as_ref()?.reason.clone())
    }
}
