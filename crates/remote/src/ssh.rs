//! A folder of another machine, by the user's own `ssh` with its keys and settings. The other machine needs a shell and
//! what every Unix has (`cat`, `tail`, `wc`, `mkdir`, `mv`, `rm`), and `sha256sum` or `shasum` for uploads to go on in the
//! middle of a file; not dynvis.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::Options;
use crate::backend::{Backend, Content, Sender, Take, Trouble, pump};

/// The program that reaches the other machine, in place of `ssh`.
const PROGRAM: &str = "DYNVIS_SSH";
/// Exit status of `ssh` where it is itself at fault.
const UNREACHABLE: i32 = 255;
/// Exit status of our commands where there is no such file, and where there is no such folder.
const NOT_THERE: i32 = 44;
const NO_FOLDER: i32 = 45;
/// Where something else stands in a file's place.
const IN_THE_WAY: i32 = 46;

pub(crate) struct Ssh {
    host: String,
    port: Option<u16>,
    folder: String,
    program: String,
    patience: Duration,
    sender: Sender,
}

impl Ssh {
    pub(crate) fn new(host: &str, port: Option<u16>, folder: &str, options: &Options) -> Self {
        Self {
            host: host.to_owned(),
            port,
            folder: folder.to_owned(),
            program: options.variable(PROGRAM).unwrap_or_else(|| "ssh".into()),
            patience: options.patience,
            sender: Sender::new(options.state.clone()),
        }
    }

    /// Begins a command in the remote's folder.
    fn start(&self, script: &str, stdin: Stdio) -> Result<Running, Trouble> {
        let program = &self.program;
        let seconds = self.patience.as_secs().max(1);
        let mut command = Command::new(program);
        // Nobody is asked: a password would be asked for at every file. A connection that says nothing ends.
        command
            .args(["-o", "BatchMode=yes"])
            .args(["-o", &format!("ConnectTimeout={seconds}")])
            .args(["-o", &format!("ServerAliveInterval={}", seconds.div_ceil(3))])
            .args(["-o", "ServerAliveCountMax=3"]);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        let script = format!("cd -- {} || exit {NO_FOLDER}; {script}", quoted(&self.folder));
        command
            .args(["--", &self.host, &format!("exec sh -c {}", quoted(&script))])
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let reason = format!("cannot start `{program}`: {error}");
            Trouble::lasting(reason, format!("install ssh, or name a program in {PROGRAM}"))
        })?;
        let errors = child.stderr.take();
        // Read aside, so that a talkative machine does not fill the pipe.
        let said = std::thread::Builder::new().spawn(move || {
            let mut text = Vec::new();
            if let Some(errors) = errors {
                let mut errors = errors;
                let _ = errors.by_ref().take(1 << 14).read_to_end(&mut text);
                let _ = std::io::copy(&mut errors, &mut std::io::sink());
            }
            String::from_utf8_lossy(&text).into_owned()
        });
        Ok(Running {
            child: Mutex::new(child),
            is_ended: AtomicBool::new(false),
            said: said.ok(),
        })
    }

    /// How many bytes of a part that is there are those with which a file begins: 0 where they are others, or where the
    /// machine cannot tell. While it counts it says so, so that it is waited for.
    fn beginning(&self, part: &str, file: &Path, size: u64) -> Result<u64, Trouble> {
        let part = quoted(part);
        let script = format!(
            "[ -f {part} ] && [ ! -L {part} ] || exit 0; (while sleep 5 >&- 2>&-; do echo; done) & \
             sum=$(sha256sum {part} || shasum -a 256 {part}); kill $!; echo $(wc -c <{part}) $sum"
        );
        let answer = self.ask(&script, b"")?;
        let mut words = answer.split_whitespace();
        let (length, sum) = (words.next().and_then(|word| word.parse().ok()), words.next());
        match (length, sum) {
            (Some(length), Some(sum)) if length <= size => {
                let ours = sha256_of(file, length).map_err(Trouble::local("read what is to be sent"))?;
                Ok(if ours == sum { length } else { 0 })
            }
            _ => Ok(0),
        }
    }

    /// All that a short command prints.
    fn ask(&self, script: &str, input: &[u8]) -> Result<String, Trouble> {
        let running = self.start(script, Stdio::piped())?;
        let (stdin, stdout) = running.pipes();
        let mut text = Vec::new();
        let outcome = running.watched(self.patience, |alive| {
            std::thread::scope(|scope| {
                let write = move || {
                    if let Some(mut stdin) = stdin {
                        let _ = stdin.write_all(input);
                    }
                };
                // Both ways at once, or each would wait for the other.
                let _ = std::thread::Builder::new().spawn_scoped(scope, write);
                if let Some(mut stdout) = stdout {
                    let mut take = |bytes: &[u8]| {
                        alive();
                        text.extend_from_slice(bytes);
                        Ok(())
                    };
                    // Answers are short, and looking at many files may take long.
                    return pump(&mut stdout, &mut take, None, &|error| {
                        Trouble::passing(error.to_string())
                    });
                }
                Ok(())
            })
        });
        if outcome.is_err() {
            running.kill();
        }
        let ended = running.end();
        outcome?;
        match ended? {
            Ended::Well => Ok(String::from_utf8_lossy(&text).into_owned()),
            Ended::NotThere => Err(Trouble::passing("a file went while it was looked at")),
        }
    }
}

/// Of the first bytes of a file, as `sha256sum` prints it.
fn sha256_of(path: &Path, length: u64) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = dynvis_base::files::open(path)?.take(length);
    let mut block = vec![0; 1 << 17];
    loop {
        match file.read(&mut block)? {
            0 => break,
            count => hasher.update(&block[..count]),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

enum Ended {
    Well,
    NotThere,
}

struct Running {
    child: Mutex<Child>,
    /// By us, with all that it started.
    is_ended: AtomicBool,
    said: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    fn pipes(&self) -> (Option<std::process::ChildStdin>, Option<std::process::ChildStdout>) {
        match self.child.lock() {
            Ok(mut child) => (child.stdin.take(), child.stdout.take()),
            Err(_) => (None, None),
        }
    }

    /// Does something with the process, which is ended where nothing goes on for too long; `work` is given what tells
    /// that something does.
    fn watched<T>(&self, patience: Duration, work: impl FnOnce(&dyn Fn()) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let last = Mutex::new(Instant::now());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = || {
                while !is_over.load(Ordering::SeqCst) {
                    std::thread::park_timeout(Duration::from_millis(200));
                    let is_late = last.lock().is_ok_and(|last| last.elapsed() > patience);
                    if is_late && !is_over.load(Ordering::SeqCst) {
                        return self.kill();
                    }
                }
            };
            let watcher = std::thread::Builder::new().spawn_scoped(scope, watch);
            let alive = || {
                if let Ok(mut last) = last.lock() {
                    *last = Instant::now();
                }
            };
            let result = work(&alive);
            is_over.store(true, Ordering::SeqCst);
            if let Ok(watcher) = watcher {
                watcher.thread().unpark();
            }
            match self.is_ended.load(Ordering::SeqCst) {
                true => Err(Trouble::passing("nothing came for too long")),
                false => result,
            }
        })
    }

    fn kill(&self) {
        self.is_ended.store(true, Ordering::SeqCst);
        let Ok(mut child) = self.child.lock() else {
            return;
        };
        // With what it has started, a proxy command for instance, which would hold its output open.
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = child.kill();
    }

    /// How the process ended.
    fn end(self) -> Result<Ended, Trouble> {
        let Ok(mut child) = self.child.into_inner() else {
            return Err(Trouble::passing("ssh was lost"));
        };
        let status = child.wait().map_err(Trouble::local("wait for ssh"))?;
        if self.is_ended.load(Ordering::SeqCst) {
            return Err(Trouble::passing("nothing came for too long"));
        }
        let said = self.said.and_then(|said| said.join().ok()).unwrap_or_default();
        let said: String = said
            .trim()
            .lines()
            .last()
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        let reason = match said.as_str() {
            "" => format!("ssh ended ({status})"),
            said => said.to_owned(),
        };
        match status.code() {
            Some(0) => Ok(Ended::Well),
            Some(NOT_THERE) => Ok(Ended::NotThere),
            Some(NO_FOLDER) => Err(Trouble::lasting(
                "there is no such folder",
                "make it there, if it is to be a new remote",
            )),
            Some(IN_THE_WAY) => Err(Trouble::lasting(reason, "move it away there")),
            Some(UNREACHABLE) if is_about_keys(&reason) => Err(Trouble::lasting(
                reason,
                "`ssh` must reach the machine without asking for a password: see `ssh-add` and `ssh-copy-id`",
            )),
            Some(UNREACHABLE) if reason.contains("Could not resolve") => Err(Trouble::lasting(
                reason,
                "see the machine's name, and whether there is a network",
            )),
            Some(UNREACHABLE) | None => Err(Trouble::passing(reason)),
            Some(_) if reason.contains("No space left") => Err(Trouble::lasting(
                reason,
                "make room there, then give the same command again",
            )),
            Some(_)
                if ["Read-only file system", "Permission denied"]
                    .iter()
                    .any(|text| reason.contains(text)) =>
            {
                Err(Trouble::lasting(reason, "see who may write there"))
            }
            Some(_) => Err(Trouble::passing(reason)),
        }
    }
}

fn is_about_keys(reason: &str) -> bool {
    ["Permission denied", "Host key verification failed"]
        .iter()
        .any(|text| reason.contains(text))
}

/// For a shell, as one word.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl Backend for Ssh {
    fn sizes(&self, names: &[String]) -> Result<Vec<Option<u64>>, Trouble> {
        let list: String = names.iter().map(|name| format!("{name}\n")).collect();
        let script = "while IFS= read -r f; do if [ -f \"$f\" ]; then wc -c <\"$f\"; else echo -; fi; done";
        let answer = self.ask(script, list.as_bytes())?;
        let sizes: Vec<Option<u64>> = answer.lines().map(|line| line.trim().parse().ok()).collect();
        match sizes.len() == names.len() {
            true => Ok(sizes),
            false => Err(Trouble::passing("the answer broke off")),
        }
    }

    fn read(&self, name: &str, from: u64, take: &mut Take) -> Result<bool, Trouble> {
        let name = quoted(name);
        let script = format!(
            "[ -f {name} ] || exit {NOT_THERE}; exec tail -c +{} {name}",
            from.saturating_add(1)
        );
        let running = self.start(&script, Stdio::null())?;
        let (_, stdout) = running.pipes();
        let outcome = running.watched(self.patience, |alive| {
            let Some(mut stdout) = stdout else {
                return Ok(());
            };
            let mut take = |bytes: &[u8]| {
                alive();
                take(bytes)
            };
            let broken = |error: std::io::Error| Trouble::passing(error.to_string());
            pump(&mut stdout, &mut take, Some(self.patience), &broken)
        });
        if outcome.is_err() {
            running.kill();
            let _ = running.end();
            return outcome.map(|()| true);
        }
        match running.end()? {
            Ended::Well => Ok(true),
            Ended::NotThere => Ok(false),
        }
    }

    fn write(&self, name: &str, content: Content, arrived: &AtomicU64) -> Result<(), Trouble> {
        let reading = || Trouble::local("read what is to be sent");
        let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let part = self.sender.part_of(name);
        let (quoted_part, quoted_name) = (quoted(&part), quoted(name));
        let size = content.size();
        let from = match content {
            Content::File(path, _) => self.beginning(&part, path, size)?,
            // A record may be another one.
            Content::Bytes(_) => 0,
        };
        arrived.store(from, Ordering::Relaxed);
        let arrow = if from == 0 { ">" } else { ">>" };
        let sum = match content {
            Content::File(path, _) => sha256_of(path, size).map_err(reading())?,
            Content::Bytes(_) => String::new(),
        };
        // What is no file is not written through. Where the line ends, `cat` ends too, and what came is gone on with; what
        // is longer than it should be is not. Nor is what has other bytes, as far as the machine can tell: one that was
        // killed here may still be writing there.
        let sum_there = format!("$(sha256sum {quoted_part} 2>/dev/null || shasum -a 256 {quoted_part} 2>/dev/null)");
        let script = format!(
            "mkdir -p {} || exit; if [ -d {quoted_name} ]; then echo 'a folder stands in its place' >&2; exit {IN_THE_WAY}; fi; \
             if [ -L {quoted_part} ] || [ ! -f {quoted_part} ]; then rm -rf {quoted_part}; fi; \
             cat {arrow} {quoted_part} || exit; n=$(wc -c <{quoted_part}); \
             if [ $n -lt {size} ]; then echo 'bytes were lost on the way' >&2; exit 1; fi; \
             if [ $n -eq {size} ]; then case {sum_there} in ''|{sum}*) exec mv -f {quoted_part} {quoted_name};; esac; fi; \
             rm -f {quoted_part}; echo 'bytes were changed on the way' >&2; exit 1",
            quoted(folder)
        );
        let running = self.start(&script, Stdio::piped())?;
        let (stdin, _stdout) = running.pipes();
        let mut source = content.from(from).map_err(reading())?;
        let outcome = running.watched(self.patience, |alive| {
            let Some(mut stdin) = stdin else {
                return Ok(());
            };
            let mut write = |bytes: &[u8]| {
                alive();
                stdin
                    .write_all(bytes)
                    .map_err(|error| Trouble::passing(error.to_string()))
            };
            pump(&mut source, &mut write, None, &|error| reading()(error))
        });
        if let Err(trouble @ Trouble::Local { .. }) = outcome {
            running.kill();
            let _ = running.end();
            return Err(trouble);
        }
        // Why a pipe broke is what the process says.
        let ended = running.end();
        match (ended, outcome) {
            (Err(trouble), _) | (Ok(_), Err(trouble)) => Err(trouble),
            (Ok(_), Ok(())) => Ok(()),
        }
    }

    fn lanes(&self) -> usize {
        3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_the_shell_is_one_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's; rm -rf $HOME"), r"'it'\''s; rm -rf $HOME'");
    }
}
