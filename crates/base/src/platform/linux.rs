//! The way of Linux.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use rustix::fs::{OFlags, Stat};
use rustix::process::{Pid, Signal};

pub(super) const LOOK: OFlags = OFlags::PATH;

#[expect(clippy::unnecessary_wraps, reason = "other systems may not say")]
pub(super) fn own_program() -> std::io::Result<PathBuf> {
    Ok("/proc/self/exe".into())
}

pub(super) fn watch_parent(_: u32, signal: Signal) -> std::io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(signal))?)
}

pub(super) fn adopt_orphans() -> std::io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

pub(super) fn children() -> Vec<Pid> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let pid = process.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            // The name, in parentheses, may hold anything; then come the state and the parent.
            let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
            Pid::from_raw(pid).filter(|_| parent == own)
        })
        .collect()
}

pub(super) fn total_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.totalram as u64 * u64::from(info.mem_unit))
}

pub(super) fn free_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    Some(info.freeram as u64 * u64::from(info.mem_unit))
}

pub(super) fn peak_memory() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

pub(super) fn device(stat: &Stat) -> u64 {
    stat.st_dev
}

pub(super) fn copy_within_system(
    source: BorrowedFd<'_>,
    from: &mut u64,
    target: BorrowedFd<'_>,
    bytes: usize,
) -> std::io::Result<usize> {
    Ok(rustix::fs::copy_file_range(source, Some(from), target, None, bytes)?)
}

/// The least of what the system calls available, what is left of the control group's limit, and what is left of the
/// limit on address space.
pub(crate) fn available_memory() -> Option<u64> {
    [
        kibibytes("/proc/meminfo", "MemAvailable:"),
        control_group(),
        address_space(),
    ]
    .into_iter()
    .flatten()
    .min()
}

/// Bytes that a line `NAME 123 kB` of a file states.
fn kibibytes(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What is left below the limits of the control groups that this process is in (version 2, then version 1).
fn control_group() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |folder: &str, [limit, used]: [&str; 2]| {
        let limit = number(&format!("{folder}/{limit}"))?;
        let used = number(&format!("{folder}/{used}"))?;
        let stat = std::fs::read_to_string(format!("{folder}/memory.stat")).unwrap_or_default();
        Some(limit.saturating_sub(used.saturating_sub(file_pages(&stat))))
    };
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else {
            continue;
        };
        let (root, names) = match controllers {
            "" => ("/sys/fs/cgroup", ["memory.max", "memory.current"]),
            _ if controllers.split(',').any(|name| name == "memory") => (
                "/sys/fs/cgroup/memory",
                ["memory.limit_in_bytes", "memory.usage_in_bytes"],
            ),
            _ => continue,
        };
        // A limit holds for all groups below it.
        for ancestor in std::path::Path::new(group).ancestors() {
            let found = left(&format!("{root}{}", ancestor.display()), names);
            least = [least, found].into_iter().flatten().min();
        }
    }
    least
}

/// Bytes of files that a control group's `memory.stat` has in memory. They count as used, and the system gives them
/// back when memory is asked for: a process that has read much would otherwise seem to have filled its group.
fn file_pages(stat: &str) -> u64 {
    let number = |name: &str| -> Option<u64> {
        let value = stat
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    };
    // Version 1 counts the groups below under names of their own.
    let all = |name: &str| number(&format!("total_{name}")).or_else(|| number(name)).unwrap_or(0);
    all("inactive_file").saturating_add(all("active_file"))
}

/// What is left of the limit on this process's address space (`ulimit -v`).
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kibibytes("/proc/self/status", "VmSize:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_files_are_counted_as_free_in_both_versions() {
        let two =
            "anon 4096\nfile 700\nshmem 100\ninactive_anon 50\nactive_anon 60\ninactive_file 200\nactive_file 400\n";
        assert_eq!(file_pages(two), 600);
        let one = "cache 700\ninactive_file 1\nactive_file 2\ntotal_inactive_file 30\ntotal_active_file 40\n";
        assert_eq!(file_pages(one), 70);
        assert_eq!(file_pages(""), 0);
    }
}
