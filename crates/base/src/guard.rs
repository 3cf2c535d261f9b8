//! Parsers of files that others wrote, run so that a panic in them is an error.
//!
//! Decoders are third-party code that may give up in the middle of a damaged file. [`guard`] turns that into an error,
//! to which the caller adds the file's name, and keeps the panic's message off the screen.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

/// A parser that gave up by a panic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged in a way that its reader cannot name ({0})")]
pub struct Panicked(
    /// What it said, and where.
    pub String,
);

thread_local! {
    /// How many guards this thread is in, and what the last panic in them said.
    static GUARDED: RefCell<(usize, String)> = const { RefCell::new((0, String::new())) };
}

/// Runs a parser on this thread; a panic in it becomes an error and prints nothing. Guards may stand within each other.
///
/// Whatever `parse` was working on must not be used after an error.
///
/// # Errors
/// [`Panicked`] with the message of the panic.
pub fn guard<T>(parse: impl FnOnce() -> T) -> Result<T, Panicked> {
    quiet_within_guards();
    GUARDED.with_borrow_mut(|(depth, _)| *depth += 1);
    // Nothing that a parser leaves half-done is looked at again.
    let result = catch_unwind(AssertUnwindSafe(parse));
    GUARDED.with_borrow_mut(|(depth, message)| {
        *depth -= 1;
        result.map_err(|_| Panicked(std::mem::take(message)))
    })
}

/// Puts a hook before the one that is there: within a guard it notes the message instead of printing it.
fn quiet_within_guards() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let guarded = GUARDED.with_borrow_mut(|(depth, message)| {
                if *depth > 0 {
                    let said = info.payload_as_str().unwrap_or("a panic");
                    *message = match info.location() {
                        Some(place) => format!("{said}, {}:{}", file_name(place.file()), place.line()),
                        None => said.to_owned(),
                    };
                }
                *depth > 0
            });
            if !guarded {
                before(info);
            }
        }));
    });
}

/// The end of a source path: folders of the machine that built the program tell a user nothing.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_message() {
        assert_eq!(guard(|| 7), Ok(7));
        let error = guard(|| -> usize { [1, 2][std::hint::black_box(5)] }).expect_err("a panic");
        assert!(
            error.0.contains("index out of bounds") && error.0.contains("guard.rs:"),
            "{error}"
        );
        // One within another: the outer one goes on.
        let outer = guard(|| {
            guard(|| -> usize { panic!("inner") })
                .expect_err("a panic")
                .0
                .contains("inner")
        });
        assert_eq!(outer, Ok(true));
    }
}
