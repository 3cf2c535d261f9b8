//! In place of the steps at which tests kill the tool: here nothing fails on purpose.

#[derive(Clone, Copy)]
pub(crate) enum Step {
    HalfAppended,
    FirstAppended,
    Appended,
    Hashed,
    Durable,
    Renamed,
}

pub(crate) fn is_next(_: Step) -> bool {
    false
}

pub(crate) fn at(_: Step) -> std::io::Result<()> {
    Ok(())
}
