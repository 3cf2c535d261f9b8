//! The processes that compute one stage together.

use super::StageError;

/// The processes that compute a stage together, a GPU each, as one of them sees them.
pub struct Ranks<'a> {
    /// Which of them this is, from 0. The first one writes outputs and checkpoints, and speaks for all.
    pub rank: usize,
    /// How many there are, from 1.
    pub world: usize,
    meeting: Meeting<'a>,
}

/// Starts the others, and gives them the id by which ranks find each other.
type Start<'a> = Box<dyn FnMut(&[u8]) -> Result<(), StageError> + Send + 'a>;

enum Meeting<'a> {
    Alone,
    Starts(Start<'a>),
    Told(Vec<u8>),
}

impl<'a> Ranks<'a> {
    /// One process alone.
    pub fn alone() -> Self {
        Self {
            rank: 0,
            world: 1,
            meeting: Meeting::Alone,
        }
    }

    /// Rank 0 of `world`, which starts the others with an id.
    pub(crate) fn first(world: usize, start: Start<'a>) -> Self {
        Self {
            rank: 0,
            world,
            meeting: Meeting::Starts(start),
        }
    }

    /// Another rank, which was started with an id.
    pub(crate) fn other(rank: usize, world: usize, id: Vec<u8>) -> Self {
        Self {
            rank,
            world,
            meeting: Meeting::Told(id),
        }
    }

    /// Whether this is the one that writes.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// The id by which the ranks find each other, as of NCCL. Rank 0 makes it and starts the others, once, so whatever
    /// may fail before they are waited for comes before. From then on a rank that fails ends them all.
    ///
    /// # Errors
    /// It cannot be made, or the others cannot be started.
    pub fn meet<E: Into<StageError>>(
        &mut self,
        make: impl FnOnce() -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, StageError> {
        match std::mem::replace(&mut self.meeting, Meeting::Alone) {
            Meeting::Told(id) => Ok(id),
            Meeting::Alone => make().map_err(E::into),
            Meeting::Starts(mut start) => {
                let id = make().map_err(E::into)?;
                start(&id)?;
                Ok(id)
            }
        }
    }
}
