//! Outputs: what they are, and how a kind declares them, once.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::table::{TableRow, TableSchema};

/// What an output is, and what an input must be: a [`TABLE`](Self::TABLE), [`FILES`](Self::FILES), or a type that kinds
/// agree on by its name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Artifact {
    /// The name, padded with zeros.
    name: [u8; Self::LONGEST],
    length: u8,
}

impl Artifact {
    /// A Parquet result table.
    pub const TABLE: Self = Self::new("table");
    /// Any other file or folder.
    pub const FILES: Self = Self::new("files");
    const LONGEST: usize = 30;

    /// The type of that name: lower-case ASCII letters, digits and `_`, at most 30 of them.
    ///
    /// # Panics
    /// Where it is another name.
    #[must_use]
    pub const fn new(name: &str) -> Self {
        match Self::parse(name) {
            Some(artifact) => artifact,
            None => panic!("a type of outputs is called by lower-case letters, digits and `_`, at most 30 of them"),
        }
    }

    const fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > Self::LONGEST {
            return None;
        }
        let mut name = [0; Self::LONGEST];
        let mut i = 0;
        while i < bytes.len() {
            if !matches!(bytes[i], b'a'..=b'z' | b'0'..=b'9' | b'_') {
                return None;
            }
            name[i] = bytes[i];
            i += 1;
        }
        let length = bytes.len() as u8;
        Some(Self { name, length })
    }

    /// Name of the type, as pipelines, schemas and records have it.
    #[must_use]
    pub fn name(&self) -> &str {
        // Nothing but ASCII was let in.
        std::str::from_utf8(&self.name[..usize::from(self.length)]).unwrap_or_default()
    }

    /// What a reference of that type takes; none where it takes any output.
    pub(crate) fn wanted(expected: &str) -> Option<Self> {
        (expected != "any").then(|| Self::parse(expected)).flatten()
    }

    /// As messages say it: `a table`, `files`.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = self.name();
        // Of plurals and of `activity` there is no one.
        match name.ends_with(['s', 'y']) {
            true => name.to_owned(),
            false => format!("a {name}"),
        }
    }

    /// As it stands in keys since the first ones: capitalised.
    pub(crate) fn in_keys(&self) -> String {
        let name = self.name();
        name[..1].to_ascii_uppercase() + &name[1..]
    }
}

impl fmt::Debug for Artifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Artifact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Artifact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| serde::de::Error::custom(format!("`{name}` is no type of outputs")))
    }
}

/// A declared output of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Name of the slot; a table is shown under it.
    pub slot: String,
    /// What is written there.
    pub artifact: Artifact,
}

impl Output {
    /// An output of that type in the slot of that name.
    pub fn new(slot: &str, artifact: Artifact) -> Self {
        Self {
            slot: slot.to_owned(),
            artifact,
        }
    }
}

/// Whether a stage with these parameters has an output.
pub(super) type Has<P> = fn(&P) -> bool;

/// An output that stages of a kind can have. `P`: the kind's parameters.
pub struct Declared<P> {
    pub(super) slot: &'static str,
    /// The name under which it is published.
    pub(super) name: &'static str,
    pub(super) artifact: Artifact,
    /// What it holds, for people.
    pub(super) holds: &'static str,
    /// Columns of a table whose rows are a struct.
    pub(super) schema: Option<fn() -> TableSchema>,
    /// Where not every stage has it: which ones do, in words, and whether one with these parameters does.
    pub(super) when: Option<(&'static str, Has<P>)>,
}

impl<P> Declared<P> {
    /// One that every stage of the kind has.
    pub const fn always(slot: &'static str, artifact: Artifact, holds: &'static str) -> Self {
        Self {
            slot,
            name: slot,
            artifact,
            holds,
            schema: None,
            when: None,
        }
    }

    /// A table of such rows, under its name, that every stage of the kind has.
    pub const fn table<R: TableRow>(holds: &'static str) -> Self {
        Self {
            slot: R::NAME,
            name: R::NAME,
            artifact: Artifact::TABLE,
            holds,
            schema: Some(R::schema),
            when: None,
        }
    }

    /// Publishes it under another name than its slot's, which stored results have.
    #[must_use]
    pub const fn called(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// One that some have.
    pub const fn when(mut self, which: &'static str, has: Has<P>) -> Self {
        self.when = Some((which, has));
        self
    }
}

/// A [`Declared`] output without the kind's parameter type, as the runner and `dynvis stages` see it.
#[derive(Clone, Debug, PartialEq)]
pub struct PossibleOutput {
    /// Name of the slot.
    pub slot: &'static str,
    /// What users call it.
    pub name: &'static str,
    /// What is written there.
    pub artifact: Artifact,
    /// What the output holds, for people.
    pub holds: &'static str,
    /// All columns that such a table can have, where they do not depend on what the stage reads.
    pub schema: Option<TableSchema>,
    /// Which stages have it; none where all do.
    pub when: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_outputs_by_name() {
        let table: Artifact = serde_json::from_str("\"table\"").expect("a type");
        assert_eq!(table, Artifact::TABLE);
        assert_eq!(
            serde_json::to_string(&Artifact::new("dataset")).expect("json"),
            "\"dataset\""
        );
        for wrong in ["\"\"", "\"Table\"", "\"a b\"", "7"] {
            assert!(serde_json::from_str::<Artifact>(wrong).is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Artifact>(&format!("\"{}\"", "a".repeat(31))).is_err());
        assert_eq!(Artifact::wanted("any"), None);
        assert_eq!(Artifact::wanted("files"), Some(Artifact::FILES));
        assert_eq!(Artifact::new("dataset").describe(), "a dataset");
        assert_eq!(Artifact::FILES.describe(), "files");
        // Keys of stored results hold these.
        assert_eq!(Artifact::new("dataset").in_keys(), "Dataset");
    }
}
