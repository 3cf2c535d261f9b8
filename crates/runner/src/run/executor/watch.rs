//! The thread that alone speaks with the queue: it submits, looks how jobs are, and ends them.
//!
//! Nothing that the queue says, or fails to say, is final by itself. What a job has written counts; of the queue only what
//! it goes on saying for as long as its answers may be behind.

use std::collections::BTreeSet;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::command::Backoff;
use super::folder::{Folder, Record, stamp};
use super::look::{News, Verdict};
use super::queue::{Cluster, Queue, Refusal, cluster};
use super::slurm::paths;
use super::{End, JobEnd, Tell, Told};
use crate::fail::{self, Step};
use crate::key::StageKey;
use crate::pipeline::Profile;
use crate::run::Failure;
use crate::run::protocol::Message;
use crate::run::worker::WorkerSpec;
use crate::store::persist;

/// Failures in a row after which the user hears that the queue does not answer.
const TOLD_AFTER: u32 = 3;
/// Looks come no faster than this after something has happened, unless `poll` says so.
const SOON: Duration = Duration::from_secs(2);

/// What the dispatcher asks for.
pub(super) enum Ask {
    Start(Box<Job>),
    Submit,
    Signal(StageKey, Signal),
    Leave(StageKey),
}

/// Where a job is on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// To be submitted, once those that go with it are here.
    New,
    /// To be submitted.
    Due,
    /// The queue may have it or not. It has been asked so often since.
    Unsure { since: Instant, answers: u32 },
    /// The queue has it.
    Queued,
}

/// A job that is watched.
pub(super) struct Job {
    pub(super) folder: Folder,
    pub(super) record: Record,
    spec: WorkerSpec,
    pub(super) log: PathBuf,
    pub(super) tell: Tell,
    end: Arc<Mutex<Option<End>>>,
    pub(super) phase: Phase,
    pub(super) news: News,
}

impl Job {
    /// `found`: what was recorded by whoever submitted it before.
    pub(super) fn new(
        folder: Folder,
        fresh: Record,
        found: Option<Record>,
        spec: WorkerSpec,
        log: PathBuf,
        tell: Tell,
        end: Arc<Mutex<Option<End>>>,
    ) -> Self {
        let mut job = Self {
            folder,
            record: fresh,
            spec,
            log,
            tell,
            end,
            phase: Phase::New,
            news: News::default(),
        };
        if let Some(found) = found {
            job.folder.unask();
            job.phase = match &found.id {
                Some(_) => Phase::Queued,
                None => Phase::Unsure {
                    since: Instant::now(),
                    answers: 0,
                },
            };
            // What it asks for if it is submitted again is what is asked for now.
            job.record = Record {
                options: job.record.options,
                gpus: job.record.gpus,
                ..found
            };
            job.news.skip_what_was_said(&job.folder, &job.record.token);
            let id = job.record.id.clone();
            job.note(match &id {
                Some(id) => format!("takes over its job {id}"),
                None => "an earlier run may have submitted its job: looks for it".to_owned(),
            });
            if let Some(id) = id {
                (job.tell)(Told::Queued(id));
            }
        }
        job
    }

    pub(super) fn note(&self, text: String) {
        (self.tell)(Told::Said(Message::Note(text)));
    }

    /// The queue has it under this id, which is recorded.
    pub(super) fn is_known(&mut self, id: &str) {
        self.phase = Phase::Queued;
        if self.record.id.as_deref() == Some(id) {
            return;
        }
        self.record.id = Some(id.to_owned());
        if let Err(error) = self.folder.keep(&self.record) {
            // It is found by its name.
            self.note(format!("cannot record the id of its job, {id}: {error}"));
        }
        // One that runs may be called in another way by the node.
        if !self.news.was_told_running() {
            (self.tell)(Told::Queued(id.to_owned()));
        }
    }

    /// Whether the queue may have it.
    pub(super) fn is_submitted(&self) -> bool {
        !matches!(self.phase, Phase::New | Phase::Due)
    }

    /// Whether a checkpoint was written since it was submitted.
    pub(super) fn has_progressed(&self) -> bool {
        stamp(&self.spec.checkpoint).is_some_and(|now| self.record.checkpoint.as_ref() != Some(&now))
    }

    /// What it is submitted with, durable before it is.
    fn prepare(&mut self, token: &str, task: Option<u32>) -> std::io::Result<()> {
        self.record.token = token.to_owned();
        self.record.task = task;
        self.record.id = None;
        self.record.submissions += 1;
        self.record.user = Some(rustix::process::getuid().as_raw());
        self.record.checkpoint = stamp(&self.spec.checkpoint);
        self.news.begin_again();
        fs_err::create_dir_all(&self.folder.0)?;
        self.folder.unask();
        persist(&self.folder.spec(), &serde_json::to_vec(&self.spec)?)?;
        self.folder.keep(&self.record)
    }

    fn finish(&self, mut end: End, said: Option<Message>) {
        if let Some(said) = said {
            (self.tell)(Told::Said(said));
        }
        if let Some(job) = &mut end.job
            && job.outputs.as_os_str().is_empty()
        {
            job.outputs = self.folder.0.join("out");
        }
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        (self.tell)(Told::Ended);
    }

    /// Appends what is new in its log to the stage's own.
    pub(super) fn copy_log(&self, from: &mut u64) -> bool {
        let new = read_from(&self.folder.log(), from);
        if new.is_empty() {
            return false;
        }
        let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log);
        // A lost line of a log fails no stage.
        let _ = log.and_then(|mut log| log.write_all(&new));
        true
    }
}

/// What a file holds behind a place, which moves on.
pub(super) fn read_from(path: &Path, from: &mut u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(*from))?;
        file.read_to_end(&mut bytes)
    });
    // A file that is not there yet holds nothing.
    *from += read.unwrap_or(0) as u64;
    bytes
}

/// An end of which nothing is known but why.
pub(super) fn without_word(failure: Failure) -> End {
    End {
        how: Err(failure),
        cpu_seconds: 0.0,
        peak_bytes: 0,
        job: Some(JobEnd::default()),
    }
}

/// The thread's state.
pub(super) struct Watch {
    profile: Profile,
    may_submit: bool,
    program: PathBuf,
    cluster: Box<dyn Cluster>,
    asks: Receiver<Ask>,
    trouble: Box<dyn Fn(String) + Send>,
    jobs: Vec<Job>,
    queue_backoff: Backoff,
    submit_backoff: Backoff,
    /// Members of an array, at most, besides what the profile says. Of a site that takes few at once a large one is never taken.
    most: usize,
    next: Instant,
    pause: Duration,
}

impl Watch {
    pub(super) fn new(
        profile: Profile,
        may_submit: bool,
        program: PathBuf,
        asks: Receiver<Ask>,
        trouble: Box<dyn Fn(String) + Send>,
    ) -> Self {
        let poll = Duration::from_secs_f64(profile.poll);
        Self {
            most: usize::MAX,
            cluster: cluster(&profile),
            profile,
            may_submit,
            program,
            asks,
            trouble,
            jobs: Vec::new(),
            queue_backoff: Backoff::new(poll),
            submit_backoff: Backoff::new(poll),
            next: Instant::now(),
            pause: poll.min(SOON),
        }
    }

    /// Until nobody asks any more.
    pub(super) fn run(mut self) {
        loop {
            // Without jobs there is nothing to look at.
            let wait = match self.jobs.is_empty() {
                true => Duration::from_secs(3600),
                false => self.next.saturating_duration_since(Instant::now()),
            };
            match self.asks.recv_timeout(wait) {
                Ok(ask) => self.take(ask),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(ask) = self.asks.try_recv() {
                self.take(ask);
            }
            // Together what was asked for while the queue was spoken with: one call, and one array, for many.
            self.submit_due();
            if !self.jobs.is_empty() && Instant::now() >= self.next {
                let poll = Duration::from_secs_f64(self.profile.poll);
                self.pause = match self.look() {
                    true => poll.min(SOON),
                    false => (self.pause * 3 / 2).min(poll),
                };
                self.next = Instant::now() + self.pause;
            }
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            // Its record is of another version.
            Ask::Start(job) if job.phase == Phase::New && !self.may_submit => gone(&job, "is not known here"),
            Ask::Start(job) => {
                // Of a queue that the run knows nothing of the job's record does.
                if !self.may_submit {
                    self.profile.commands.clone_from(&job.record.commands);
                    self.cluster = cluster(&self.profile);
                }
                if job.phase != Phase::New {
                    self.next = Instant::now();
                }
                self.jobs.push(*job);
            }
            Ask::Submit => {
                for job in self.jobs.iter_mut().filter(|job| job.phase == Phase::New) {
                    job.phase = Phase::Due;
                }
            }
            Ask::Signal(key, signal) => {
                if let Some(job) = self.jobs.iter_mut().find(|job| job.record.key == key) {
                    job.news.is_to_end(signal);
                    // So that it is not queued again.
                    if job.is_submitted()
                        && let Err(error) = job.folder.ask_to_stop()
                    {
                        job.note(format!("cannot say in its folder that it is to end: {error}"));
                    }
                    self.next = Instant::now();
                }
            }
            Ask::Leave(key) => self.jobs.retain(|job| job.record.key != key),
        }
    }

    /// Submits what is due: members of a matrix that ask for the same together.
    fn submit_due(&mut self) {
        if !self.submit_backoff.is_over() {
            return;
        }
        let most = self.most.min(self.cluster.most_together(&self.profile));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, job) in self.jobs.iter().enumerate() {
            if job.phase != Phase::Due || job.news.is_unwanted() {
                continue;
            }
            let fits = |group: &&mut Vec<usize>| {
                let first = &self.jobs[group[0]].record;
                let same = (&first.family, &first.options, first.gpus);
                group.len() < most && same == (&job.record.family, &job.record.options, job.record.gpus)
            };
            match groups.iter_mut().find(fits) {
                Some(group) => group.push(index),
                None => groups.push(vec![index]),
            }
        }
        let mut over = Vec::new();
        for group in groups {
            over.extend(self.submit(&group));
            if !self.submit_backoff.is_over() {
                break;
            }
        }
        over.sort_unstable();
        for index in over.into_iter().rev() {
            self.jobs.remove(index);
        }
    }

    /// Those of a group that have ended by it.
    fn submit(&mut self, group: &[usize]) -> Vec<usize> {
        let token = token();
        let mut ready = Vec::new();
        let mut over = Vec::new();
        for &index in group {
            let task = u32::try_from(ready.len()).ok().filter(|_| group.len() > 1);
            let job = &mut self.jobs[index];
            match job.prepare(&token, task) {
                Ok(()) => ready.push(index),
                Err(error) => {
                    let message = format!("cannot record its job: {error}");
                    let class = Some(crate::kind::ErrorClass::Io);
                    job.finish(without_word(Failure::Store { message, class }), None);
                    over.push(index);
                }
            }
        }
        // What a test lets fail here ends the process.
        let _ = fail::at(Step::JobRecorded);
        let records: Vec<&Record> = ready.iter().map(|index| &self.jobs[*index].record).collect();
        let folders = paths(ready.iter().map(|index| &self.jobs[*index].folder));
        if records.is_empty() {
            return over;
        }
        let submitted = self.cluster.submit(&records, &folders, &self.profile, &self.program);
        let _ = fail::at(Step::JobSubmitted);
        match submitted {
            Ok(id) => {
                self.submit_backoff.succeeded();
                self.most = self.most.saturating_mul(2);
                for &index in &ready {
                    let job = &mut self.jobs[index];
                    let id = job
                        .record
                        .task
                        .map_or_else(|| id.clone(), |task| format!("{id}_{task}"));
                    job.is_known(&id);
                }
                let _ = fail::at(Step::JobKnown);
            }
            Err(Refusal::ForGood(said)) => {
                for &index in &ready {
                    let what = format!("was refused: {said}");
                    self.jobs[index].finish(without_word(Failure::Job { what, class: None }), None);
                    over.push(index);
                }
            }
            Err(Refusal::Unsure(said)) => {
                self.submit_backoff.failed();
                self.most = (ready.len() / 2).max(1);
                for &index in &ready {
                    let job = &mut self.jobs[index];
                    job.phase = Phase::Unsure {
                        since: Instant::now(),
                        answers: 0,
                    };
                    job.note(format!("{said}; looks whether the queue has its job"));
                }
            }
        }
        over
    }

    /// Looks at every job. Whether something has changed.
    fn look(&mut self) -> bool {
        let queue = match self.queue_backoff.is_over() {
            true => self.ask_queue(),
            false => None,
        };
        let patience = Duration::from_secs_f64(self.profile.patience);
        let mut looked = Vec::with_capacity(self.jobs.len());
        let mut cancelled = Vec::new();
        for mut job in std::mem::take(&mut self.jobs) {
            let verdict = job.look(queue.as_ref(), self.cluster.as_ref(), patience);
            if job.news.take_cancel() {
                cancelled.extend(job.record.id.clone());
            }
            looked.push((job, verdict));
        }
        // Before they are told to have ended: the tool may end with the last of them.
        if !cancelled.is_empty()
            && let Err(error) = self.cluster.cancel(&cancelled)
        {
            let [_, cancels] = self.cluster.words();
            (self.trouble)(format!(
                "{cancels}: {error}; jobs end when they find that nobody wants them"
            ));
        }
        let mut has_news = false;
        let mut stay = Vec::with_capacity(looked.len());
        for (job, verdict) in looked {
            has_news |= verdict != Verdict::Stays;
            match verdict {
                Verdict::Stays | Verdict::Moves => stay.push(job),
                Verdict::Ends(ended) => {
                    let (end, said) = *ended;
                    job.finish(end, said);
                }
                Verdict::Again(why) => stay.extend(self.again(job, &why)),
            }
        }
        self.jobs = stay;
        self.submit_due();
        has_news
    }

    fn ask_queue(&mut self) -> Option<Queue> {
        // Of a cache that a group shares, jobs may be those of others.
        let users = self.jobs.iter().filter_map(|job| job.record.user);
        let own = rustix::process::getuid().as_raw();
        let users: BTreeSet<u32> = users.chain([own]).collect();
        match self.cluster.queue(&users) {
            Ok(queue) => {
                self.queue_backoff.succeeded();
                Some(queue)
            }
            Err(error) => {
                if self.queue_backoff.failed() == TOLD_AFTER {
                    let [lists, _] = self.cluster.words();
                    (self.trouble)(format!("{lists}: {error}; jobs go on, and it is asked again and again"));
                }
                None
            }
        }
    }

    /// A job that is to be submitted again, where that may be.
    fn again(&self, mut job: Job, why: &str) -> Option<Job> {
        if !self.may_submit {
            gone(&job, why);
            return None;
        }
        if job.has_progressed() {
            // It comes to its end some day.
            job.record.submissions = 0;
        } else if matches!(job.phase, Phase::Unsure { .. }) {
            // Of a queue that takes nothing for hours no stage fails.
            job.record.submissions = job.record.submissions.saturating_sub(1);
        }
        if job.record.submissions > self.profile.resubmit {
            let what = format!(
                "{why}, and was submitted {} times without getting further",
                job.record.submissions
            );
            job.finish(without_word(Failure::Job { what, class: None }), None);
            return None;
        }
        job.note(format!("its job {why}: submits it again"));
        job.phase = Phase::Due;
        Some(job)
    }
}

/// Ends a job that nobody here can submit again.
fn gone(job: &Job, why: &str) {
    let mut end = without_word(Failure::Job {
        what: why.to_owned(),
        class: None,
    });
    end.job = Some(JobEnd {
        is_gone: true,
        ..JobEnd::default()
    });
    job.finish(end, None);
}

/// Names a submission; no two share one.
fn token() -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one((std::process::id(), Instant::now()));
    let time = jiff::Timestamp::now().as_nanosecond();
    let hash = blake3::hash(format!("{random} {time}").as_bytes()).to_hex();
    hash[..16].to_owned()
}
