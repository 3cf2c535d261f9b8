//! Commands of a queue: they may hang, fail or answer late, and end within a limit here.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Why a command gave no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CommandError {
    /// There is no such program.
    Absent,
    /// It was ended, since it took too long.
    TimedOut,
    /// It failed with this text.
    Failed(String),
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such program"),
            Self::TimedOut => f.write_str("it did not answer"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

/// Runs a command with this input and gives what it prints.
pub(super) fn answer(mut command: Command, input: &str, limit: Duration) -> Result<String, CommandError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => CommandError::Absent,
        _ => CommandError::Failed(error.to_string()),
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let (out, err) = (reading(child.stdout.take()), reading(child.stderr.take()));
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_owned();
        // One that does not read it must not hold this thread.
        let _ = std::thread::Builder::new().spawn(move || stdin.write_all(input.as_bytes()));
    }
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if started.elapsed() > limit => {
                // What it started may go on and hold its output, which is not waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(CommandError::TimedOut);
            }
            None => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let (out, err) = (text(out), text(err));
    if status.success() {
        return Ok(out);
    }
    let said = err.lines().map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<&str> = said.collect();
    Err(CommandError::Failed(match said.as_slice() {
        [] => status.to_string(),
        lines => lines.join("; "),
    }))
}

type Reading = Option<JoinHandle<String>>;

fn reading(from: Option<impl Read + Send + 'static>) -> Reading {
    let mut from = from?;
    let read = move || {
        let mut bytes = Vec::new();
        // What came until then is what it said.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::Builder::new().spawn(read).ok()
}

fn text(reading: Reading) -> String {
    reading.and_then(|thread| thread.join().ok()).unwrap_or_default()
}

/// When something that fails is tried again: each time later, up to a limit.
#[derive(Debug)]
pub(super) struct Backoff {
    failures: u32,
    first: Duration,
    not_before: Option<Instant>,
}

impl Backoff {
    /// Never later than this.
    const LONGEST: Duration = Duration::from_secs(300);

    pub(super) fn new(first: Duration) -> Self {
        Self {
            failures: 0,
            first,
            not_before: None,
        }
    }

    /// Whether it may be tried now.
    pub(super) fn is_over(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
    }

    /// How often it has failed since it last did not.
    pub(super) fn failed(&mut self) -> u32 {
        let factor = 2_u32.saturating_pow(self.failures.min(16));
        self.failures += 1;
        self.not_before = Some(Instant::now() + self.first.saturating_mul(factor).min(Self::LONGEST));
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn commands_answer_fail_or_are_ended() {
        let long = Duration::from_secs(60);
        let input = "x".repeat(1 << 20);
        assert_eq!(
            answer(shell("wc -c"), &input, long).map(|said| said.trim().to_owned()),
            Ok(input.len().to_string())
        );
        assert_eq!(
            answer(shell("exit 0"), &input, long),
            Ok(String::new()),
            "it need not read its input"
        );
        let failed = answer(shell("echo no; echo bad >&2; echo worse >&2; exit 1"), "", long);
        assert_eq!(failed, Err(CommandError::Failed("bad; worse".to_owned())));
        assert_eq!(
            answer(shell("exec sleep 600"), "", Duration::from_millis(50)),
            Err(CommandError::TimedOut)
        );
        assert_eq!(
            answer(Command::new("/no/such/program"), "", long),
            Err(CommandError::Absent)
        );
    }

    #[test]
    fn what_fails_is_tried_later_each_time() {
        let mut backoff = Backoff::new(Duration::from_secs(50));
        assert!(backoff.is_over());
        assert_eq!((backoff.failed(), backoff.failed()), (1, 2));
        assert!(!backoff.is_over());
        let waits = backoff.not_before.expect("it waits") - Instant::now();
        assert!(
            waits > Duration::from_secs(50) && waits <= Duration::from_secs(100),
            "{waits:?}"
        );
        for _ in 0..40 {
            backoff.failed();
        }
        let waits = backoff.not_before.expect("it waits") - Instant::now();
        assert!(waits <= Backoff::LONGEST, "{waits:?}");
        backoff.succeeded();
        assert!(backoff.is_over());
    }
}
