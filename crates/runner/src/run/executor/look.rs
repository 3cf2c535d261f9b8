//! How a job is: by what it has written first, then by what the queue says of it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::folder::{Attempt, Ended, Folder, Line, Now};
use super::queue::{Cluster, Queue, Seen, State};
use super::watch::{Job, Phase, read_from, without_word};
use super::{End, JobEnd, Told};
use crate::kind::ErrorClass;
use crate::run::Failure;
use crate::run::protocol::Message;
use crate::store::sizes;

/// How long after it was asked to end a job that is gone may leave word.
const LAST_WORD: Duration = Duration::from_secs(3);

/// Why the queue keeps a job for ever whose node failed to start it.
const HELD: &str = "launch failed requeued held";

/// What is to happen with a job.
pub(super) enum Verdict {
    /// Nothing has changed.
    Stays,
    /// It goes on, and something has changed.
    Moves,
    /// It has ended so; the worker may have said something last.
    Ends(Box<(End, Option<Message>)>),
    /// It is to be submitted again, since it did this.
    Again(String),
}

impl PartialEq for Verdict {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

fn ends(failure: Failure) -> Verdict {
    Verdict::Ends(Box::new((without_word(failure), None)))
}

fn job_failed(what: &str, class: Option<ErrorClass>) -> Verdict {
    ends(Failure::Job {
        what: what.to_owned(),
        class,
    })
}

/// What is known of a job since it was submitted.
#[derive(Default)]
pub(super) struct News {
    /// It is to end by this.
    wish: Option<Signal>,
    /// The queue has passed the wish for a checkpoint on.
    was_asked: bool,
    /// The queue is to end it now.
    is_to_cancel: bool,
    /// When it gave its last sign of life.
    heard: Option<Instant>,
    last: Option<(Attempt, Now)>,
    /// The job was told to run as this attempt of the queue's.
    told_running: Option<u32>,
    /// How often in a row the queue has said that it waits, after it ran.
    waits_again: u32,
    /// Whether `Queued` was told since it last ran.
    told_again: bool,
    /// Since when the queue does not list it.
    missing: Option<Instant>,
    /// Since when the queue says that it is over.
    over: Option<Instant>,
    /// Since when it has said that its outputs are written, and they are not all there.
    arriving: Option<Instant>,
    reason: String,
    log: u64,
    said: (Option<Attempt>, u64),
}

impl News {
    pub(super) fn is_to_end(&mut self, signal: Signal) {
        self.wish = Some(signal);
    }

    /// Whether the queue is to end it; said once.
    pub(super) fn take_cancel(&mut self) -> bool {
        std::mem::take(&mut self.is_to_cancel)
    }

    pub(super) fn is_unwanted(&self) -> bool {
        self.wish.is_some()
    }

    /// Another submission: nothing is known of it.
    pub(super) fn begin_again(&mut self) {
        *self = Self {
            wish: self.wish,
            log: self.log,
            ..Self::default()
        };
    }

    /// Its lines were seen by whoever watched it before.
    pub(super) fn skip_what_was_said(&mut self, folder: &Folder, token: &str) {
        let names = folder.names();
        if let Some(attempt) = last_of(&names, "said", token) {
            let length = std::fs::metadata(folder.of(&attempt, "said")).map_or(0, |metadata| metadata.len());
            self.said = (Some(attempt), length);
        }
    }

    pub(super) fn was_told_running(&self) -> bool {
        self.told_running.is_some()
    }

    fn was_heard(&self, within: Duration) -> bool {
        self.heard.is_some_and(|at| at.elapsed() < within)
    }
}

fn last_of(names: &std::collections::BTreeSet<String>, what: &str, token: &str) -> Option<Attempt> {
    Folder::attempts(names, what)
        .filter(|attempt| attempt.token == token)
        .max()
}

impl Job {
    pub(super) fn look(&mut self, queue: Option<&Queue>, cluster: &dyn Cluster, patience: Duration) -> Verdict {
        if !self.is_submitted() {
            return match self.news.wish {
                Some(_) => job_failed("was not submitted", None),
                None => Verdict::Stays,
            };
        }
        let seen = queue.and_then(|queue| queue.find(&self.record));
        let mut moves = false;
        // What waits has nothing to say, and a thousand folders are not looked at for that.
        let mut stopped = false;
        if seen.is_none_or(|seen| seen.state != State::Waits) || self.news.over.is_some() {
            match self.read(patience, &mut moves, &mut stopped) {
                Verdict::Stays => {}
                verdict => return verdict,
            }
        }
        if self.news.wish == Some(Signal::KILL) {
            // Whether or not the queue hears of it: the job ends when it finds its folder gone.
            self.news.is_to_cancel = true;
            return job_failed("was cancelled", None);
        }
        let verdict = match (seen, queue) {
            (Some(seen), _) => self.by_queue(seen, cluster, patience, stopped, &mut moves),
            (None, Some(_)) => self.not_listed(cluster, patience),
            (None, None) => Verdict::Stays,
        };
        match verdict {
            Verdict::Stays if moves => Verdict::Moves,
            verdict => verdict,
        }
    }

    /// What it has written.
    fn read(&mut self, patience: Duration, moves: &mut bool, stopped: &mut bool) -> Verdict {
        let names = self.folder.names();
        let mut log = self.news.log;
        if self.copy_log(&mut log) {
            self.news.log = log;
            self.news.heard = Some(Instant::now());
        }
        let token = self.record.token.clone();
        let present = last_of(&names, "now", &token);
        if let Some(attempt) = &present {
            self.hear(attempt, moves);
        }
        if let Some(attempt) = last_of(&names, "said", &token) {
            self.read_lines(attempt, moves);
        }
        // Whatever attempt it was that came to the end.
        let done = Folder::attempts(&names, "ended").find_map(|attempt| {
            let ended = self.folder.ended(&attempt)?;
            ended.is_done().then_some((attempt, ended))
        });
        if let Some((attempt, ended)) = done {
            let since = *self.news.arriving.get_or_insert_with(Instant::now);
            if since.elapsed() < patience && !self.is_whole(&attempt, &ended) {
                return Verdict::Stays;
            }
            return self.ended(&attempt, ended);
        }
        let Some(attempt) = last_of(&names, "ended", &token).filter(|attempt| present.as_ref() == Some(attempt)) else {
            return Verdict::Stays;
        };
        let Some(ended) = self.folder.ended(&attempt) else {
            return Verdict::Stays;
        };
        match ended.stopped {
            None => self.ended(&attempt, ended),
            Some(_) if self.news.is_unwanted() => self.ended(&attempt, ended),
            // Whether the queue has it again, by its own hand or the queue's, only the queue knows.
            Some(_) => {
                *stopped = true;
                Verdict::Stays
            }
        }
    }

    /// A sign of life.
    fn hear(&mut self, attempt: &Attempt, moves: &mut bool) {
        let Some(now) = self.folder.now(attempt) else {
            return;
        };
        let next = (attempt.clone(), now);
        if self.news.last.as_ref() == Some(&next) {
            return;
        }
        let (_, now) = &next;
        self.news.heard = Some(Instant::now());
        if !now.job.is_empty() {
            self.is_known(&now.job);
        }
        if self.news.told_running != Some(attempt.restart) || self.news.told_again {
            self.news.told_running = Some(attempt.restart);
            self.news.told_again = false;
            *moves = true;
            (self.tell)(Told::Running(now.job.clone(), Some(now.host.clone())));
        }
        let before = self.news.last.as_ref().and_then(|(_, before)| before.update.as_ref());
        if let Some(update) = now
            .update
            .as_ref()
            .filter(|update| before != Some(*update) && !update.milestone)
        {
            (self.tell)(Told::Said(Message::Progress(update.clone())));
        }
        self.news.last = Some(next);
    }

    fn read_lines(&mut self, attempt: Attempt, moves: &mut bool) {
        if self.news.said.0.as_ref() != Some(&attempt) {
            self.news.said = (Some(attempt.clone()), 0);
        }
        let start = self.news.said.1;
        let mut end = start;
        let bytes = read_from(&self.folder.of(&attempt, "said"), &mut end);
        let mut at = 0;
        while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
            match serde_json::from_slice(&bytes[at..at + length]) {
                Ok(Line::Milestone(update)) => (self.tell)(Told::Said(Message::Progress(update))),
                Ok(Line::Note(text)) => (self.tell)(Told::Said(Message::Note(text))),
                // Torn where its writer was killed.
                Err(_) => {}
            }
            at += length + 1;
            *moves = true;
        }
        // A line without its end is read again.
        self.news.said.1 = start + at as u64;
    }

    /// Whether all that was written is seen here. What is not there at all may have been published already.
    fn is_whole(&self, attempt: &Attempt, ended: &Ended) -> bool {
        let folder = self.folder.of(attempt, "out");
        let is_whole =
            |folder: &std::path::Path, files: &[(String, u64)]| sizes(folder).is_ok_and(|seen| seen == files);
        ended
            .outputs
            .iter()
            .all(|output| is_whole(&folder.join(&output.slot), &output.files))
    }

    fn ended(&self, attempt: &Attempt, ended: Ended) -> Verdict {
        let said = ended.said.map(|said| match said {
            Ok(()) => Message::Done,
            Err(error) => Message::Failed(error),
        });
        if self.news.told_running.is_none() {
            (self.tell)(Told::Running(ended.job, Some(ended.host)));
        }
        let end = End {
            how: Ok(ExitStatus::from_raw(ended.status)),
            cpu_seconds: ended.cpu_seconds,
            peak_bytes: ended.peak_bytes,
            job: Some(JobEnd {
                seconds: Some(ended.seconds),
                outputs: self.folder.of(attempt, "out"),
                contents: ended
                    .outputs
                    .into_iter()
                    .map(|output| (output.slot, output.content))
                    .collect(),
                is_gone: false,
            }),
        };
        Verdict::Ends(Box::new((end, said)))
    }

    /// What the queue says of it.
    fn by_queue(
        &mut self,
        seen: &Seen,
        cluster: &dyn Cluster,
        patience: Duration,
        stopped: bool,
        moves: &mut bool,
    ) -> Verdict {
        self.news.missing = None;
        self.is_known(&seen.id);
        if !seen.state.is_over() {
            self.news.over = None;
            if seen.state == State::Runs && self.news.told_running.is_none() {
                // Its first sign of life says the same.
                self.news.told_running = Some(0);
                *moves = true;
                (self.tell)(Told::Running(seen.id.clone(), seen.host.clone()));
            }
            if seen.state == State::Waits && seen.reason == HELD {
                // Until somebody releases it, which is no work for people.
                self.news.is_to_cancel = true;
                return match self.news.wish {
                    Some(_) => job_failed("was cancelled", None),
                    None => Verdict::Again("was held, since its node could not start it".to_owned()),
                };
            }
            self.news.waits_again = match seen.state {
                State::Waits if self.news.told_running.is_some() => self.news.waits_again + 1,
                _ => 0,
            };
            // One answer may be an old one.
            if self.news.waits_again == 2 && !self.news.told_again {
                self.news.told_again = true;
                *moves = true;
                self.note(format!("its job {} runs no more: the queue has it again", seen.id));
                (self.tell)(Told::Queued(seen.id.clone()));
            }
            if seen.state == State::Waits && self.news.reason != seen.reason {
                self.news.reason.clone_from(&seen.reason);
                if is_worth_telling(&seen.reason) {
                    self.note(format!("its job {} waits: {}", seen.id, seen.reason));
                }
            }
            if self.news.wish.is_some() {
                self.ask_to_end(seen.state, cluster);
            }
            return Verdict::Stays;
        }
        self.news.reason.clone_from(&seen.reason);
        let since = *self.news.over.get_or_insert_with(Instant::now);
        let patience = match self.news.wish {
            Some(_) => patience.min(LAST_WORD),
            None => patience,
        };
        // Its word may be on its way, and one that gives signs of life is not over whatever the queue says.
        if !stopped && (since.elapsed() < patience || self.news.was_heard(patience)) {
            return Verdict::Stays;
        }
        self.over(seen.state, stopped)
    }

    /// It is over, by the queue's word, and has left no other.
    fn over(&self, state: State, stopped: bool) -> Verdict {
        if self.news.wish.is_some() {
            return job_failed("was cancelled", None);
        }
        let trouble = self.news.last.as_ref().and_then(|(_, now)| now.trouble.as_ref());
        if let (State::Ended, Some(trouble)) = (state, trouble) {
            return job_failed(&format!("could not say how it ended: {trouble}"), Some(ErrorClass::Io));
        }
        match state {
            State::OutOfMemory => job_failed("had too little memory", Some(ErrorClass::Oom)),
            State::TimeLimit if self.has_progressed() => Verdict::Again("came to its time limit".to_owned()),
            State::TimeLimit => job_failed("came to its time limit", Some(ErrorClass::Time)),
            // It found that it was not meant.
            State::Ended if !self.is_recorded() => Verdict::Again("did not find its record".to_owned()),
            State::Ended if !stopped && self.news.last.is_none() => job_failed(
                &format!(
                    "ended before the program started{}: its log may say why; else see whether the nodes have the folder \
                     of the cache and the program",
                    in_parentheses(&self.news.reason)
                ),
                None,
            ),
            State::Taken => Verdict::Again("was cancelled, or lost its node".to_owned()),
            State::Ended if stopped => match self.last_word().filter(|_| !self.record.keeps_checkpoints) {
                // Nobody has ended it: it has failed by itself in its last minute, and said why.
                Some((attempt, ended)) if ended.said.is_some() => self.ended(&attempt, ended),
                _ => Verdict::Again("was stopped on its way".to_owned()),
            },
            State::Ended | State::Waits | State::Runs => Verdict::Again("ended without a word".to_owned()),
        }
    }

    /// How the last attempt of this submission ended, by its own word.
    fn last_word(&self) -> Option<(Attempt, Ended)> {
        let attempt = last_of(&self.folder.names(), "ended", &self.record.token)?;
        let ended = self.folder.ended(&attempt)?;
        Some((attempt, ended))
    }

    /// Whether what its folder holds is of this submission.
    fn is_recorded(&self) -> bool {
        let record = self.folder.record();
        record.is_some_and(|record| record.token == self.record.token)
    }

    /// The queue answers, and does not list it.
    fn not_listed(&mut self, cluster: &dyn Cluster, patience: Duration) -> Verdict {
        if let Phase::Unsure { since, answers } = self.phase {
            self.phase = Phase::Unsure {
                since,
                answers: answers + 1,
            };
            let is_certain = answers > 0 && since.elapsed() >= patience && !self.news.was_heard(patience);
            return match (is_certain, self.news.wish) {
                (true, None) => Verdict::Again("is not in the queue".to_owned()),
                (true, Some(_)) => job_failed("was cancelled", None),
                (false, _) => Verdict::Stays,
            };
        }
        let since = *self.news.missing.get_or_insert_with(Instant::now);
        let patience = match self.news.wish {
            Some(_) => patience.min(LAST_WORD),
            None => patience,
        };
        if since.elapsed() < patience || self.news.was_heard(patience) {
            return Verdict::Stays;
        }
        match self.record.id.as_ref().and_then(|id| cluster.accounted(id)) {
            Some(state) if state.is_over() => self.over(state, false),
            Some(_) => {
                self.news.missing = None;
                Verdict::Stays
            }
            None if self.news.wish.is_some() => job_failed("was cancelled", None),
            None => Verdict::Again("is in no queue any more".to_owned()),
        }
    }

    fn ask_to_end(&mut self, state: State, cluster: &dyn Cluster) {
        let Some(id) = self.record.id.clone() else {
            return;
        };
        if state == State::Runs && self.record.keeps_checkpoints {
            // Asked once: a second signal would end it in the middle of its checkpoint.
            if !self.news.was_asked {
                self.news.was_asked = cluster.ask_to_end(&id).is_ok();
            }
        } else {
            self.news.is_to_cancel = true;
        }
    }
}

/// What the queue gives as a reason, where it gives one.
fn in_parentheses(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(" ({reason})"),
    }
}

/// Jobs that wait for their turn are no news.
fn is_worth_telling(reason: &str) -> bool {
    !matches!(
        reason,
        "" | "Priority" | "Resources" | "BeginTime" | "JobArrayTaskLimit" | "Dependency" | "Cleaning" | "None"
    )
}
