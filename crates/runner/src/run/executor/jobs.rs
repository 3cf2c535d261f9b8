//! Workers as jobs of a queue: what the dispatcher asks for goes to a thread that alone speaks with the queue.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;

use super::folder::{Folder, Record, VERSION};
use super::watch::{Ask, Job, Watch};
use super::{End, Executor, Order, Worker};
use crate::key::StageKey;
use crate::pipeline::Profile;

/// Submits them, and takes over those that are recorded.
pub(in crate::run) struct Jobs {
    /// None where jobs of others are taken over and none are submitted.
    profile: Option<Profile>,
    version: &'static str,
    asks: Sender<Ask>,
}

impl Jobs {
    /// Starts the thread. `trouble` hears what keeps the queue from being asked.
    ///
    /// # Errors
    /// The thread cannot be started, or this program has no path.
    pub(in crate::run) fn new(
        profile: Option<Profile>,
        version: &'static str,
        trouble: Box<dyn Fn(String) + Send>,
    ) -> std::io::Result<Self> {
        let (asks, receiver) = channel();
        let known = profile.clone().unwrap_or_default();
        let program = match &known.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let watch = Watch::new(known, profile.is_some(), program, receiver, trouble);
        std::thread::Builder::new().spawn(move || watch.run())?;
        Ok(Self { profile, version, asks })
    }

    fn record(&self, order: &Order<'_>) -> Record {
        let profile = self.profile.clone().unwrap_or_default();
        let claim = &order.claim;
        let [more_memory, more_time] = claim.factors;
        let options = profile.options(&order.spec.kind, order.stage);
        let mut options = options.claimed(claim.cpu, claim.memory, claim.time);
        options.memory = options.memory.map(|gib| gib * more_memory);
        options.time = options.time.map(|minutes| minutes * more_time);
        // Without a way to ask for them there are none.
        let gpus = if options.gpu.is_some() { claim.gpus } else { 0 };
        Record {
            version: VERSION,
            key: order.key.clone(),
            stage: order.stage.to_owned(),
            family: order.family.to_owned(),
            token: String::new(),
            task: None,
            id: None,
            submissions: 0,
            user: Some(rustix::process::getuid().as_raw()),
            options,
            gpus,
            grace: profile.commands.as_ref().map(|_| profile.grace),
            commands: profile.commands.clone(),
            keeps_checkpoints: claim.keeps_checkpoints,
            is_forced: claim.is_forced,
            beat: profile.poll.min(profile.patience / 4.0),
            inputs: claim.inputs.clone(),
            checkpoint: None,
            program: self.version.to_owned(),
            code: order.code,
        }
    }
}

impl Executor for Jobs {
    fn start(&mut self, order: Order<'_>) -> std::io::Result<Box<dyn Worker>> {
        let folder = Folder(order.place.to_owned());
        let end: Arc<Mutex<Option<End>>> = Arc::default();
        let fresh = self.record(&order);
        let found = folder.record().filter(|found| found.key == *order.key);
        let key = order.key.clone();
        let log: PathBuf = order.log;
        let job = Job::new(folder, fresh, found, order.spec, log, order.tell, Arc::clone(&end));
        self.ask(Ask::Start(Box::new(job)))?;
        Ok(Box::new(JobWorker {
            key,
            asks: self.asks.clone(),
            end,
        }))
    }

    fn submit(&mut self) {
        // Without the thread no job is there to submit.
        let _ = self.ask(Ask::Submit);
    }
}

impl Jobs {
    fn ask(&self, ask: Ask) -> std::io::Result<()> {
        let gone = |_| std::io::Error::other("the thread that speaks with the queue has ended");
        self.asks.send(ask).map_err(gone)
    }
}

struct JobWorker {
    key: StageKey,
    asks: Sender<Ask>,
    end: Arc<Mutex<Option<End>>>,
}

impl Worker for JobWorker {
    fn signal(&self, signal: Signal) {
        // One that has ended needs none.
        let _ = self.asks.send(Ask::Signal(self.key.clone(), signal));
    }

    fn end(self: Box<Self>) -> std::io::Result<End> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.take()
            .ok_or_else(|| std::io::Error::other("the job's end is not known"))
    }

    fn leave(&self) -> bool {
        self.asks.send(Ask::Leave(self.key.clone())).is_ok()
    }
}
