//! What a worker tells its parent: JSON lines on the worker's standard output.

use serde::{Deserialize, Serialize};

use crate::kind::{StageError, Update};

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    Progress(Update),
    Note(String),
    Failed(StageError),
    /// All outputs are written; the process ends next.
    Done,
}
