//! Results that others have computed: the remote is asked for a stage's key once that is locked and still to be
//! computed. What comes is published here; then the loop finds it as it finds what another run has computed meanwhile.
//! Threads ask, since a transfer takes long; a stage whose result may be on its way has no threads, GPUs or pools.

use std::fs::File;
use std::time::{Duration, Instant};

use super::{Arrival, Dispatcher};
use crate::key::StageKey;
use crate::pipeline::StageId;
use crate::plan::{Decision, Reason};
use crate::run::RunError;
use crate::store::{ElsewhereError, Parcel, StoreError, fetch};

/// Results that may be on their way at once.
const AT_ONCE: usize = 4;

/// After how long it is said that a stage waits for the remote.
const LATE: Duration = Duration::from_secs(10);

/// What the remote has of a key: its files have arrived then.
pub(super) type Answer = Result<Option<Box<Parcel>>, ElsewhereError>;

/// A stage whose result may be on its way.
pub(super) struct Asking {
    id: StageId,
    /// What the remote is called.
    from: String,
    /// When it is to be said that nothing has come yet; `None` once it was.
    pub(super) late: Option<Instant>,
    /// Of its key: nobody else computes it meanwhile.
    _lock: File,
}

impl Dispatcher<'_> {
    /// Whether a stage must wait to be asked for, since so many are on their way.
    pub(super) fn must_wait_to_ask(&self, key: &StageKey) -> bool {
        self.remote.is_some() && self.asking.len() >= AT_ONCE && !self.asked.contains(key)
    }

    /// Whether the remote is to be asked before a stage is computed.
    pub(super) fn is_to_ask(&self, key: &StageKey, decision: &Decision) -> bool {
        // Whoever forces a stage does not want what is there; and one that breaks a condition here does so anywhere.
        let wants_own = |reason: &Reason| matches!(reason, Reason::Forced | Reason::ConditionBroken(_));
        self.remote.is_some()
            && !self.asked.contains(key)
            && !self.store.has_job(key)
            && !self.store.has_checkpoint(key)
            && !decision.reasons.iter().any(wants_own)
    }

    /// Has a thread ask for a key, whose lock is kept until it has an answer.
    pub(super) fn ask(&mut self, id: StageId, key: &StageKey, lock: File) {
        self.asked.insert(key.clone());
        let Some(remote) = self.remote.clone() else {
            return;
        };
        let stage = self.pipeline.stage(id);
        let kind = stage.kind().name();
        let outputs = stage.outputs.clone();
        let (key, folder) = (key.clone(), self.store.arriving(key));
        let sender = self.sender.clone();
        let from = remote.name().to_owned();
        let spawned = std::thread::Builder::new().spawn(move || {
            let is_wanted = |parcel: &Parcel| parcel.fits(kind, &outputs);
            let answer = fetch(&key, remote.as_ref(), &folder, &is_wanted);
            // The run may be over.
            let _ = sender.send(Arrival::Remote(id, answer.map(|found| found.map(Box::new))));
        });
        match spawned {
            Ok(_) => {
                self.ready.remove(&self.rank[id.0]);
                self.asking.push(Asking {
                    id,
                    from,
                    late: Some(Instant::now() + LATE),
                    _lock: lock,
                });
            }
            // Without a thread to spare it is computed.
            Err(_) => self.open(id),
        }
    }

    /// Says which stages wait for the remote.
    pub(super) fn say_who_waits(&mut self) {
        let now = Instant::now();
        let mut late = Vec::new();
        for asking in &mut self.asking {
            if asking.late.take_if(|at| *at <= now).is_some() {
                late.push((asking.id, asking.from.clone()));
            }
        }
        for (id, from) in late {
            let seconds = LATE.as_secs();
            self.note(id, &format!("waits for {from}, which has not given it in {seconds} s"));
        }
    }

    /// Publishes a result. A description from elsewhere is not checked, so ours is kept.
    fn admit(&mut self, id: StageId, parcel: &Parcel, from: &str) -> Result<(), StoreError> {
        self.store.admit(parcel, from)?;
        let ours = self.decided[id.0].as_ref();
        if let Some(description) = ours.and_then(|decision| decision.description.as_ref()) {
            // Without it the result is as good.
            let _ = self.store.keep_description(&parcel.key, description);
        }
        Ok(())
    }

    /// Publishes what has come; else the stage is computed.
    pub(super) fn remote_answered(&mut self, id: StageId, answer: Answer) -> Result<(), RunError> {
        let Some(index) = self.asking.iter().position(|asking| asking.id == id) else {
            return Ok(());
        };
        let asking = self.asking.remove(index);
        let admitted = match answer {
            Ok(Some(parcel)) => self.admit(id, &parcel, &asking.from).map_err(|error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                ElsewhereError::of_content(format!("{error}{}", cause.unwrap_or_default()))
            }),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = admitted {
            let text = match error.is_about_content {
                true => format!("{error}: it is computed here"),
                false => {
                    // Once: a run does not wait for it at every stage.
                    match self.remote.take() {
                        Some(_) => format!("{error}: this run computes what is missing and asks there no more"),
                        None => String::new(),
                    }
                }
            };
            if !text.is_empty() {
                self.note(id, &text);
            }
        }
        drop(asking);
        self.open(id);
        Ok(())
    }
}
