//! Several emulated GPUs in threads of one process.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::device::{DeviceError, Peers};

/// Where the ranks of one world exchange what they have.
pub(super) struct Meeting {
    world: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What ranks have brought to the present round.
    brought: Vec<Option<Vec<u8>>>,
    /// How many have taken what all brought.
    taken: usize,
    /// Whether a rank will bring no more.
    left: bool,
}

/// A rank of a world; the others hear when it ends.
#[derive(Clone)]
pub(super) struct Rank {
    meeting: Arc<Meeting>,
    pub(super) peers: Peers,
}

/// Says that a rank ends, in whatever way.
pub(super) struct Leaving(Arc<Meeting>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.state().left = true;
        self.0.changed.notify_all();
    }
}

impl Meeting {
    /// The ranks of a world, each with what must be dropped at its end.
    pub(super) fn of(world: usize) -> impl Iterator<Item = (Rank, Leaving)> {
        let meeting = Arc::new(Self {
            world,
            state: Mutex::new(State {
                brought: vec![None; world],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        (0..world).map(move |rank| {
            let leaving = Leaving(Arc::clone(&meeting));
            let (meeting, peers) = (Arc::clone(&meeting), Peers { rank, world });
            (Rank { meeting, peers }, leaving)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rank {
    /// What all bring, in the order of ranks.
    pub(super) fn exchange(&self, own: Vec<u8>) -> Result<Vec<u8>, DeviceError> {
        let Self { meeting, peers } = self;
        let mut state = meeting.state();
        // Until all have taken what the last round brought.
        while state.brought[peers.rank].is_some() {
            state = meeting.wait(state);
        }
        state.brought[peers.rank] = Some(own);
        meeting.changed.notify_all();
        while state.brought.iter().any(Option::is_none) {
            if state.left {
                return Err(DeviceError::Failed {
                    call: "an exchange with other GPUs".to_owned(),
                    reason: "one of them has ended".to_owned(),
                });
            }
            state = meeting.wait(state);
        }
        let all: Vec<u8> = state.brought.iter().flatten().flatten().copied().collect();
        state.taken += 1;
        if state.taken == meeting.world {
            (state.taken, state.brought) = (0, vec![None; meeting.world]);
            meeting.changed.notify_all();
        }
        Ok(all)
    }
}
