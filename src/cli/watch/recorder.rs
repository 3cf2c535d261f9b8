//! The writer of the file that `watch` reads, within `run`.
//!
//! A thread of its own writes, so that a slow disk holds nothing up; what it cannot take in time is left out. Once a
//! second at most it appends what there is: the last place of every stage, and every end of an epoch. The file is never
//! synchronised, and where it cannot be written the run goes on without. A run in which no stage starts makes none.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use dynvis_runner::pipeline::StageId;
use dynvis_runner::run::Event;

use super::line::{Counts, FILE, Line, Place, Said};
use super::live::Live;
use crate::cli::forecast::SharedForecast;
use crate::cli::progress::reasons_text;

/// How often the file is written at most.
const EVERY: Duration = Duration::from_secs(1);
/// How often the file is touched when nothing happens, for those who see no lock of the run's.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(10);
/// Bytes from which the file is written anew with what is kept of it, which is less than half of that.
const LARGEST: u64 = 4 << 20;
/// The same at the end of the run.
const LARGEST_AT_END: u64 = 256 << 10;
/// Bytes that are kept until they are written.
const WAITING: usize = 256 << 10;
/// Lines on their way to the thread.
const LINES: usize = 4096;

/// Takes the events of a run.
pub(in crate::cli) struct Recorder {
    folder: Option<PathBuf>,
    began: Instant,
    counts: Counts,
    /// Stages that wait for another process.
    waiting: HashSet<StageId>,
    forecast: Arc<SharedForecast>,
    writer: Option<(SyncSender<Line>, JoinHandle<()>)>,
}

impl Recorder {
    pub(in crate::cli) fn new(forecast: Arc<SharedForecast>) -> Self {
        Self {
            folder: None,
            began: Instant::now(),
            counts: Counts::default(),
            waiting: HashSet::new(),
            forecast,
            writer: None,
        }
    }

    pub(in crate::cli) fn event(&mut self, event: &Event) {
        match event {
            Event::Started { folder, selected, .. } => {
                self.folder = Some(folder.to_path_buf());
                self.began = Instant::now();
                self.counts.selected = *selected;
            }
            Event::StageStarted {
                stage,
                reasons,
                threads,
                gpus,
                ..
            } => {
                self.start();
                self.say(Said::Started {
                    stage: (*stage).to_owned(),
                    threads: *threads,
                    gpus: gpus.to_vec(),
                    reason: reasons_text(reasons),
                });
                self.say(Said::Stages(self.counts.clone()));
            }
            Event::Progress { stage, id, update } => self.say(Said::Progress {
                stage: (*stage).to_owned(),
                place: Place::new(update, self.forecast.of_stage(*id)),
            }),
            Event::Note { stage, text, .. } => self.say(Said::Note {
                stage: (*stage).to_owned(),
                text: (*text).to_owned(),
            }),
            Event::Waiting { stage, id } => {
                self.start();
                self.waiting.insert(*id);
                self.say(Said::Waiting {
                    stage: (*stage).to_owned(),
                });
                self.say(Said::Stages(self.counts.clone()));
            }
            Event::StageFinished {
                stage,
                id,
                outcome,
                seconds,
                error,
            } => {
                self.counts.add(*outcome);
                // Of thousands that are there the number is told and no more.
                if self.waiting.remove(id) || seconds.is_some() || error.is_some() {
                    self.say(Said::Ended {
                        stage: (*stage).to_owned(),
                        outcome: *outcome,
                        seconds: *seconds,
                        error: error.map(ToString::to_string),
                    });
                }
                self.say(Said::Stages(self.counts.clone()));
            }
            Event::Interrupted => {
                self.counts.is_ending = true;
                self.say(Said::Stages(self.counts.clone()));
            }
            Event::Finished { .. } => self.end(),
            Event::Queued { stage, job, .. } => {
                self.start();
                self.say(Said::Queued {
                    stage: (*stage).to_owned(),
                    job: (*job).to_owned(),
                });
            }
            Event::Reading { .. }
            | Event::ReadingGoesOn { .. }
            | Event::GpuPassedOver { .. }
            | Event::QueueSilent { .. } => {}
        }
    }

    fn start(&mut self) {
        let Some(folder) = self.folder.take() else {
            return;
        };
        let (sender, receiver) = sync_channel(LINES);
        let (forecast, began) = (Arc::clone(&self.forecast), self.began);
        let thread = std::thread::Builder::new().name("progress".into());
        let thread = thread.spawn(move || Writer::new(&folder, forecast, began).serve(&receiver));
        self.writer = thread.ok().map(|thread| (sender, thread));
    }

    fn say(&self, said: Said) {
        if let Some((sender, _)) = &self.writer {
            let at = (self.began.elapsed().as_secs_f64() * 100.0).round() / 100.0;
            // Rather one line less than a run that waits.
            let _ = sender.try_send(Line {
                at,
                said: said.shortened(),
            });
        }
    }

    /// Lets the thread write what it has.
    fn end(&mut self) {
        if let Some((sender, thread)) = self.writer.take() {
            drop(sender);
            // If it panicked, the file ends there.
            let _ = thread.join();
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

/// The thread's side.
struct Writer {
    path: PathBuf,
    forecast: Arc<SharedForecast>,
    began: Instant,
    /// What stands in the file, or will.
    live: Live,
    waiting: String,
    /// The last place of stages that said more than one since the file was written.
    held: HashMap<String, Line>,
    counts: Option<Line>,
    size: u64,
}

impl Writer {
    fn new(folder: &Path, forecast: Arc<SharedForecast>, began: Instant) -> Self {
        Self {
            path: folder.join(FILE),
            forecast,
            began,
            live: Live::default(),
            waiting: String::new(),
            held: HashMap::new(),
            counts: None,
            size: 0,
        }
    }

    fn serve(mut self, receiver: &Receiver<Line>) {
        let mut due = Instant::now();
        loop {
            let wait = match self.has_nothing() {
                true => SIGN_OF_LIFE,
                false => due.saturating_duration_since(Instant::now()),
            };
            match receiver.recv_timeout(wait) {
                Ok(line) => self.take(line),
                Err(RecvTimeoutError::Timeout) if self.has_nothing() => self.touch(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    if self.size > LARGEST_AT_END {
                        self.write_anew();
                    }
                    return;
                }
            }
            if !self.has_nothing() && Instant::now() >= due {
                self.write();
                due = Instant::now() + EVERY;
            }
        }
    }

    fn has_nothing(&self) -> bool {
        self.waiting.is_empty() && self.held.is_empty() && self.counts.is_none()
    }

    fn take(&mut self, line: Line) {
        match &line.said {
            Said::Stages(_) => self.counts = Some(line),
            Said::Progress { stage, place } if !place.milestone => {
                self.held.insert(stage.clone(), line);
            }
            Said::Progress { stage, .. } => {
                self.held.remove(stage);
                self.add(line);
            }
            _ => self.add(line),
        }
    }

    fn add(&mut self, line: Line) {
        if let (true, Ok(text)) = (self.waiting.len() < WAITING, serde_json::to_string(&line)) {
            self.waiting += &text;
            self.waiting.push('\n');
            self.live.take(line);
        }
    }

    fn write(&mut self) {
        let mut held: Vec<Line> = std::mem::take(&mut self.held).into_values().collect();
        held.sort_by(|a, b| a.at.total_cmp(&b.at));
        held.into_iter().for_each(|line| self.add(line));
        let last = self.counts.take();
        let last = last.map_or_else(
            || self.live.counts.clone(),
            |line| match line.said {
                Said::Stages(counts) => counts,
                _ => self.live.counts.clone(),
            },
        );
        self.add(Line {
            at: (self.began.elapsed().as_secs_f64() * 100.0).round() / 100.0,
            said: Said::Stages(Counts {
                left: self.forecast.left(),
                ..last
            }),
        });
        let options = std::fs::OpenOptions::new().create(true).append(true).open(&self.path);
        // A reader passes over the line that a full disk cut off; on the next one there may be room again.
        let _ = options.and_then(|mut file| file.write_all(self.waiting.as_bytes()));
        self.size += self.waiting.len() as u64;
        self.waiting.clear();
        if self.size > LARGEST {
            self.write_anew();
        }
    }

    fn write_anew(&mut self) {
        let lines = self.live.lines();
        let lines = lines.iter().filter_map(|line| serde_json::to_string(line).ok());
        let text: String = lines.map(|line| line + "\n").collect();
        let written = || {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let mut file = dynvis_base::files::temporary(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok::<(), std::io::Error>(())
        };
        // Where there is no room for it, it is tried again once as much more was written.
        self.size = match written() {
            Ok(()) => text.len() as u64,
            Err(_) => self.size / 2,
        };
    }

    /// That the run lives is to be seen by the file's time.
    fn touch(&self) {
        let file = std::fs::OpenOptions::new().append(true).open(&self.path);
        let _ = file.and_then(|file| file.set_modified(SystemTime::now()));
    }
}
