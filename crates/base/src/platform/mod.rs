//! What operating systems do in different ways, in one place: which program this is, how processes end together, how
//! much memory there is, copying within a file system. Linux has its own way; any other system with POSIX's calls goes
//! the portable way, which does the same later or less completely, as each function says.
//!
//! Both ways are compiled on Linux, and its tests run of the portable one what can be told there, so that it does not rot
//! where nobody builds it.

use std::path::PathBuf;

use rustix::fs::{OFlags, Stat};
use rustix::process::{Pid, Signal};

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod portable;

#[cfg(target_os = "linux")]
use linux as here;
#[cfg(not(target_os = "linux"))]
use portable as here;

#[cfg(target_os = "linux")]
pub(crate) use linux::available_memory;
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::available_memory;

/// The file of the program that this process runs, to start it again. On Linux it is that very file, even if another
/// build has replaced it since; elsewhere it is its path.
///
/// # Errors
/// The system does not say.
pub fn own_program() -> std::io::Result<PathBuf> {
    here::own_program()
}

/// Has this process get `signal` when the process `parent` ends, which must have started it. On Linux the system sends
/// it at once, and also when only the thread ends that has started this process; elsewhere a thread of this process
/// looks ten times a second.
///
/// # Errors
/// `parent` has ended already, as text for its user; the system refuses.
pub fn end_with_parent(parent: u32, signal: Signal) -> std::io::Result<()> {
    here::watch_parent(parent, signal)?;
    match is_parent(parent) {
        true => Ok(()),
        false => Err(std::io::Error::other("the process that started this one is gone")),
    }
}

fn is_parent(parent: u32) -> bool {
    let now = rustix::process::getppid().map(|now| now.as_raw_nonzero().get());
    now == i32::try_from(parent).ok()
}

/// Has this process become the parent of whatever its descendants leave behind, so that [`children`] finds it. On Linux
/// alone: elsewhere a process whose parent has ended before [`children`] looks is not found any more.
///
/// # Errors
/// The system refuses.
pub fn adopt_orphans() -> std::io::Result<()> {
    here::adopt_orphans()
}

/// Processes that this one has started or adopted. Elsewhere than on Linux, where none are adopted, also those that
/// these have started, and so on, as `ps` lists them.
#[must_use]
pub fn children() -> Vec<Pid> {
    here::children()
}

/// Bytes of memory that this machine has; none where the system does not say.
#[must_use]
pub fn total_memory() -> Option<u64> {
    here::total_memory()
}

/// Bytes of memory that nothing uses, files that the system keeps in it not counted as use of it where it says how much
/// of them it can give back.
#[must_use]
pub fn free_memory() -> Option<u64> {
    here::free_memory()
}

/// Bytes of memory that this process has taken at most. On Linux alone.
#[must_use]
pub fn peak_memory() -> Option<u64> {
    here::peak_memory()
}

/// Has the file system copy bytes of one file from `from` on, which it moves, to where `target` stands; it shares blocks
/// where it can. The number of bytes that were copied, which may be fewer than asked for. On Linux alone.
///
/// # Errors
/// Other file systems and other systems refuse ([`std::io::ErrorKind::Unsupported`] and others): the caller writes the
/// bytes by itself.
pub fn copy_within_system(
    source: &impl std::os::fd::AsFd,
    from: &mut u64,
    target: &impl std::os::fd::AsFd,
    bytes: usize,
) -> std::io::Result<usize> {
    here::copy_within_system(source.as_fd(), from, target.as_fd(), bytes)
}

/// How a folder is opened that only files are looked up in: on Linux that takes no permission to list it.
pub const LOOK: OFlags = here::LOOK;

/// The number of the file system that a file is on.
#[must_use]
pub fn device(stat: &Stat) -> u64 {
    here::device(stat)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// A shell with a child of its own, and what ends both.
    fn family() -> std::process::Child {
        Command::new("sh")
            .args(["-c", "sleep 60 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell")
    }

    fn wait_for_line(child: &mut std::process::Child) {
        use std::io::Read;
        let mut byte = [0];
        let out = child.stdout.as_mut().expect("piped");
        out.read_exact(&mut byte).expect("a line");
    }

    #[test]
    fn children_are_found_in_both_ways() {
        let mut shell = family();
        wait_for_line(&mut shell);
        let pid = Pid::from_child(&shell);
        let portable = portable::children();
        // Other tests have children, too.
        assert!(portable.contains(&pid), "{portable:?}");
        let own: Vec<Pid> = portable
            .iter()
            .copied()
            .filter(|p| portable::parent_of(*p) == Some(pid))
            .collect();
        assert_eq!(own.len(), 1, "the child's child");
        #[cfg(target_os = "linux")]
        {
            let found = linux::children();
            assert!(found.contains(&pid) && !found.contains(&own[0]), "{found:?}");
        }
        for pid in [own[0], pid] {
            rustix::process::kill_process(pid, Signal::KILL).expect("killed");
        }
        shell.wait().expect("ended");
        assert!(!portable::children().contains(&pid));
    }

    #[test]
    fn a_process_that_is_no_parent_is_told_apart() {
        let parent = rustix::process::getppid().expect("a parent").as_raw_nonzero().get();
        assert!(is_parent(parent.cast_unsigned()));
        assert!(!is_parent(std::process::id()));
        let gone = end_with_parent(std::process::id(), Signal::CONT).expect_err("not the parent");
        assert!(gone.to_string().contains("is gone"), "{gone}");
    }

    /// It plays both: what starts the child, and, as that, the child.
    #[test]
    fn a_process_ends_with_its_parent_in_the_portable_way() {
        use std::io::{Read, Write};
        const CHILD: &str = "DYNVIS_TEST_IS_CHILD";
        const NAME: &str = "platform::tests::a_process_ends_with_its_parent_in_the_portable_way";
        let say = |text: &str| std::io::stdout().write_all(text.as_bytes()).expect("written");
        if std::env::var_os(CHILD).is_some() {
            let parent = rustix::process::getppid().expect("a parent").as_raw_nonzero().get();
            portable::watch_parent(parent.cast_unsigned(), Signal::KILL).expect("watched");
            say("watches\n");
            std::thread::sleep(std::time::Duration::from_secs(20));
            say("outlived\n");
            return;
        }
        let mut shell = Command::new("sh")
            .args(["-c", "\"$0\" --exact \"$1\" & wait"])
            .arg(std::env::current_exe().expect("known"))
            .arg(NAME)
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut out = shell.stdout.take().expect("piped");
        let mut text = Vec::new();
        while !text.ends_with(b"watches\n") {
            let mut byte = [0];
            out.read_exact(&mut byte).expect("the child speaks");
            text.push(byte[0]);
        }
        shell.kill().expect("killed");
        shell.wait().expect("ended");
        // Until the child, who has it too, is gone.
        out.read_to_end(&mut text).expect("read");
        let text = String::from_utf8_lossy(&text);
        assert!(!text.contains("outlived"), "{text}");
    }

    #[test]
    fn this_program_can_be_started_again() {
        for program in [own_program(), portable::own_program()] {
            let out = Command::new(program.expect("known"))
                .arg("--help")
                .output()
                .expect("started");
            assert!(out.status.success());
        }
    }

    #[test]
    fn memory_is_plausible_where_it_is_told() {
        let total = total_memory();
        assert!(total.is_none_or(|total| total > 64 << 20), "{total:?}");
        if let (Some(total), Some(available)) = (total, available_memory()) {
            assert!(available > 0 && available <= total);
        }
        assert!(portable::peak_memory().is_none());
        #[cfg(target_os = "linux")]
        assert!(peak_memory().is_some_and(|peak| peak > 0 && peak < total.expect("Linux says it")));
    }
}
