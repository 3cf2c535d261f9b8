//! The way of systems that have what POSIX says, macOS among them.
// On Linux it is compiled for its tests.
#![cfg_attr(target_os = "linux", allow(dead_code))]

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, Stat};
use rustix::process::{Pid, Signal};

pub(super) const LOOK: OFlags = OFlags::RDONLY;

/// How often a process looks whether its parent is still there.
const EVERY: Duration = Duration::from_millis(100);

pub(super) fn own_program() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}

pub(super) fn watch_parent(parent: u32, signal: Signal) -> std::io::Result<()> {
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        while super::is_parent(parent) {
            std::thread::sleep(EVERY);
        }
        // Nothing is left to do where it fails.
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    })?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "Linux may refuse")]
pub(super) fn adopt_orphans() -> std::io::Result<()> {
    Ok(())
}

pub(super) fn children() -> Vec<Pid> {
    let (parents, list) = parents();
    let own = rustix::process::getpid();
    let mut found = BTreeSet::from([own.as_raw_nonzero().get()]);
    // Parents come before or after their children: until there are no more.
    loop {
        let before = found.len();
        let more = parents.iter().filter(|(_, parent)| found.contains(parent));
        let more: Vec<i32> = more.map(|(pid, _)| *pid).collect();
        found.extend(more);
        if found.len() == before {
            break;
        }
    }
    found.remove(&own.as_raw_nonzero().get());
    found.retain(|pid| Some(*pid) != list);
    found.into_iter().filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
pub(super) fn parent_of(pid: Pid) -> Option<Pid> {
    Pid::from_raw(*parents().0.get(&pid.as_raw_nonzero().get())?)
}

/// All processes with their parents, and the process that has listed them; nothing where there is no `ps`.
fn parents() -> (BTreeMap<i32, i32>, Option<i32>) {
    let started = Command::new("ps")
        .args(["-A", "-o", "pid=", "-o", "ppid="])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(process) = started else {
        return (BTreeMap::new(), None);
    };
    let list = i32::try_from(process.id()).ok();
    let text = process.wait_with_output().map(|out| out.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    (lines.collect(), list)
}

#[cfg(not(target_os = "linux"))]
fn memory(read: impl Fn(&sysinfo::System) -> u64) -> Option<u64> {
    let mut system = sysinfo::System::new().ok()?;
    system.refresh_memory();
    Some(read(&system)).filter(|bytes| *bytes > 0)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn total_memory() -> Option<u64> {
    memory(sysinfo::System::total_memory)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn free_memory() -> Option<u64> {
    available_memory()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn available_memory() -> Option<u64> {
    memory(sysinfo::System::available_memory)
}

pub(super) fn peak_memory() -> Option<u64> {
    None
}

/// Equal numbers for equal ones is all that is asked of it.
#[cfg_attr(target_os = "linux", allow(clippy::unnecessary_cast))]
pub(super) fn device(stat: &Stat) -> u64 {
    stat.st_dev as u64
}

pub(super) fn copy_within_system(
    _: BorrowedFd<'_>,
    _: &mut u64,
    _: BorrowedFd<'_>,
    _: usize,
) -> std::io::Result<usize> {
    Err(std::io::ErrorKind::Unsupported.into())
}
