//! The memory that there is, and refusing what would not fit before it is asked for.

use std::fmt;
use std::io::Read;

/// Part of the free memory that one file's content may take: it is held twice for a moment while it is converted.
const SHARE: f64 = 0.5;

/// Bytes of memory that can still be had: on Linux the least of what the system calls available, what is left of the
/// control group's limit, and what is left of the limit on address space. `None` where the system says none of them.
pub fn available() -> Option<u64> {
    crate::platform::available_memory()
}

/// More than there is memory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct NoRoom {
    /// Bytes that are needed, at least.
    pub needed: u64,
    /// Bytes that may be taken: half of what is available.
    pub room: u64,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| bytes as f64 / (1u64 << 30) as f64;
        write!(
            f,
            "it takes {:.2} GiB of memory or more, and {:.2} GiB (half of what is free) may be taken",
            gib(self.needed),
            gib(self.room)
        )
    }
}

/// Bytes that one file's content may take now: half of [`available`]; without a bound where the system does not say.
pub fn room() -> u64 {
    available().map_or(u64::MAX, share)
}

fn share(bytes: u64) -> u64 {
    (bytes as f64 * SHARE) as u64
}

/// Whether so many bytes may be taken. Small amounts are not looked at.
///
/// # Errors
/// [`NoRoom`] where there is less.
pub fn check_room(needed: u64) -> Result<(), NoRoom> {
    const SMALL: u64 = 16 << 20;
    if needed <= SMALL {
        return Ok(());
    }
    match room() {
        room if needed > room => Err(NoRoom { needed, room }),
        _ => Ok(()),
    }
}

/// Why a stream could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It holds more than there is memory for.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// Reading failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads a stream to its end, at most `limit` bytes, where memory suffices: what unpacks to more than there is room for
/// is refused while it is read. `out` holds what was read in every case.
///
/// # Errors
/// [`ReadError`]; more than `limit` bytes are [`NoRoom`] too.
pub fn read_to_end(mut stream: impl Read, limit: u64, out: &mut Vec<u8>) -> Result<(), ReadError> {
    // Looked at again every so often: other stages take memory meanwhile.
    const STEP: u64 = 64 << 20;
    let before = out.len() as u64;
    loop {
        let read = out.len() as u64 - before;
        // A share of all that there was: what `out` holds already, of streams before this one too, is of it.
        let room = available()
            .map_or(u64::MAX, |bytes| share(bytes.saturating_add(before + read)))
            .max(STEP / 4);
        let allowed = limit.min(room.saturating_sub(before));
        let step = STEP.min(allowed.saturating_sub(read)).saturating_add(1);
        reserve(out, step as usize, room)?;
        let taken = stream.by_ref().take(step).read_to_end(out)? as u64;
        if taken < step {
            return Ok(());
        }
        if read + taken > allowed {
            let (needed, room) = if allowed == limit {
                (read + taken, limit)
            } else {
                (before + read + taken, room)
            };
            return Err(NoRoom { needed, room }.into());
        }
    }
}

/// Makes a vector have space for `more` bytes. It doubles as vectors do, but not beyond what there is room for, where
/// growing by itself would ask for memory that cannot be had, which ends the process.
fn reserve(out: &mut Vec<u8>, more: usize, room: u64) -> Result<(), NoRoom> {
    let least = out.len().saturating_add(more);
    if out.capacity() >= least {
        return Ok(());
    }
    let doubled = least.max(out.capacity().saturating_mul(2));
    let wanted = if doubled as u64 <= room { doubled } else { least };
    out.try_reserve_exact(wanted - out.len()).map_err(|_| NoRoom {
        needed: wanted as u64,
        room,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(available().is_none_or(|bytes| bytes > 0));
        assert_eq!(check_room(1 << 10), Ok(()));
        if available().is_some() {
            let error = check_room(1 << 60).expect_err("an exbibyte");
            assert!(error.to_string().contains("1073741824.00 GiB"), "{error}");
        }
        let mut out = Vec::new();
        read_to_end(&[1u8; 100][..], 100, &mut out).expect("it fits");
        assert_eq!(out, [1; 100]);
        let error = read_to_end(&[1u8; 101][..], 100, &mut Vec::new()).expect_err("one too many");
        assert!(
            matches!(error, ReadError::NoRoom(NoRoom { needed: 101, room: 100 })),
            "{error:?}"
        );
    }
}
