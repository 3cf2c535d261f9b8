//! What a stage takes, told before it runs.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Bytes of what a stage writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// So many.
    pub bytes: u64,
    /// Whether it may be fewer.
    pub is_most: bool,
}

/// What a stage takes, as far as its kind can tell before it runs.
#[derive(Clone, Default)]
pub struct Extent {
    /// What its outputs take on disk.
    pub size: Option<Size>,
    facts: Option<Arc<dyn Any + Send + Sync>>,
}

impl Extent {
    /// One with more that kinds tell each other and the program, as a type that they agree on; the runner hands it on.
    #[must_use]
    pub fn with_facts<T: Any + Send + Sync>(size: Option<Size>, facts: T) -> Self {
        Self {
            size,
            facts: Some(Arc::new(facts)),
        }
    }

    /// What was told beside the size, if it is of this type.
    #[must_use]
    pub fn facts<T: Any>(&self) -> Option<&T> {
        self.facts.as_deref()?.downcast_ref()
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extent")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What the producers of a stage's inputs said that they take, by input slot; those are missing that said nothing.
pub type InputExtents<'a> = BTreeMap<&'a str, &'a Extent>;
