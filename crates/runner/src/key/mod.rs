//! What a stage's identity is: one function, `describe`, fed to a hash or to JSON.
//!
//! Whatever is not described here cannot make a stage run again; whatever is described here is what
//! `why` and the reasons of `plan` compare. Paths, stage names and resources are not part of it.
//!
//! Reasons are differences of the description, not a record of their own, which could say something else than the hash
//! decides. Inputs enter by their content. With the keys of their producers in its place every key would be known
//! before anything runs, and plans would have no `maybe`; but a change without effect upstream would run everything
//! downstream. Times and paths, as `make` compares them, would need no hashing, run everything again after a copy, and
//! miss an edit that keeps the time. The rest stands in `docs/design/key.md`.

mod fingerprint;
mod tree;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

pub use fingerprint::FingerprintError;
pub(crate) use fingerprint::{FileObservation, Fingerprints, hash_file};
pub use tree::{FileChanges, FileTree, Reading};
use tree::{Piecewise, Slots};
pub(crate) use tree::{heads, remembered, write_files};

/// Changes when the encoding below changes: every key changes with it.
const KEY_VERSION: i64 = 1;

macro_rules! hash_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl From<$name> for String {
            fn from(hash: $name) -> Self {
                hash.0
            }
        }

        /// Files are named by hashes: what is none must not become a path.
        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                match text.len() == 64 && text.bytes().all(digit) {
                    true => Ok(Self(text)),
                    false => Err("not a hash of 64 hexadecimal digits"),
                }
            }
        }

        impl $name {
            /// The hash in hexadecimal digits.
            pub(crate) fn new(hash: &blake3::Hash) -> Self {
                Self(hash.to_hex().to_string())
            }

            /// All 64 hexadecimal digits, lower case.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Enough to tell two apart by eye.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}
hash_type!(StageKey, "Identity of a stage: equal keys give equal results.");
hash_type!(ContentHash, "blake3 of an artifact's files.");

impl StageKey {
    /// The key of that text, where it is one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::try_from(text.to_owned()).ok()
    }
}

/// Everything that determines a stage's result.
pub(crate) struct Identity<'a> {
    /// Name of the stage kind.
    pub kind: &'a str,
    /// The kind's `CODE_VERSION`.
    pub code_version: u32,
    /// With defaults filled in; references and paths replaced by slot names.
    pub params: &'a Json,
    /// Slot -> content.
    pub inputs: &'a [(String, ContentHash)],
    /// Slot -> what the kind is told of the member in it; only where it is told anything.
    pub members: &'a [(String, String)],
    /// Files from outside the pipeline: slot -> content.
    pub files: &'a [(String, ContentHash)],
    /// More of them, many at a time.
    pub trees: &'a [Arc<FileTree>],
    /// Environment variables: name -> hash of the value, `None` where the variable is not set.
    pub environment: &'a [(String, Option<String>)],
    /// Slot -> type of the artifact, as keys have it since the first ones.
    pub outputs: &'a [(String, String)],
}

/// Receives an identity piece by piece.
trait Sink {
    fn integer(&mut self, name: &str, value: i64);
    fn text(&mut self, name: &str, value: &str);
    fn json(&mut self, name: &str, value: &Json);
    fn pairs(&mut self, name: &str, pairs: &mut dyn Iterator<Item = (&str, Option<&str>)>);
    /// As [`pairs`](Self::pairs), of all files.
    fn files(&mut self, name: &str, files: &[(String, ContentHash)], trees: &[Arc<FileTree>]);
}

/// The one place that says what belongs to an identity.
fn describe(identity: &Identity, sink: &mut dyn Sink) {
    sink.integer("key_version", KEY_VERSION);
    sink.text("kind", identity.kind);
    sink.integer("code_version", i64::from(identity.code_version));
    sink.json("params", identity.params);
    sink.pairs(
        "inputs",
        &mut identity.inputs.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
    );
    // Most stages are told nothing, and keep the keys that they had before any was.
    if !identity.members.is_empty() {
        sink.pairs(
            "members",
            &mut identity.members.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
        );
    }
    sink.files("files", identity.files, identity.trees);
    sink.pairs(
        "environment",
        &mut identity.environment.iter().map(|(k, v)| (k.as_str(), v.as_deref())),
    );
    sink.pairs(
        "outputs",
        &mut identity.outputs.iter().map(|(k, v)| (k.as_str(), Some(v.as_str()))),
    );
}

/// The key of an identity.
pub(crate) fn stage_key(identity: &Identity) -> StageKey {
    let mut sink = HashSink(blake3::Hasher::new());
    describe(identity, &mut sink);
    StageKey::new(&sink.0.finalize())
}

/// The same identity in readable form, kept beside the result.
pub(crate) fn description(identity: &Identity) -> Json {
    let mut sink = JsonSink(Map::new());
    describe(identity, &mut sink);
    Json::Object(sink.0)
}

/// A name for all identities that differ from a described one in a parameter alone.
pub(crate) fn without_parameter(description: &Json, parameter: &str) -> StageKey {
    let mut rest = description.clone();
    if let Some(params) = rest.get_mut("params").and_then(Json::as_object_mut) {
        params.shift_remove(parameter);
    }
    let mut sink = HashSink(blake3::Hasher::new());
    sink.text("without", parameter);
    sink.json("description", &rest);
    StageKey::new(&sink.0.finalize())
}

/// Tags make a value of one type never hash like one of another; lengths make fields never run together.
struct HashSink(blake3::Hasher);

impl HashSink {
    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update(&[tag]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn value(&mut self, value: &Json) {
        match value {
            Json::Null => self.bytes(b'0', &[]),
            Json::Bool(b) => self.bytes(b'b', &[u8::from(*b)]),
            Json::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
                (Some(i), _, _) => self.bytes(b'i', &i.to_le_bytes()),
                (_, Some(u), _) => self.bytes(b'u', &u.to_le_bytes()),
                // A zero is one number, whatever its sign.
                (_, _, Some(f)) => self.bytes(b'f', &(f + 0.0).to_bits().to_le_bytes()),
                _ => self.bytes(b'n', n.to_string().as_bytes()),
            },
            Json::String(s) => self.bytes(b's', s.as_bytes()),
            Json::Array(items) => {
                self.bytes(b'l', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|i| self.value(i));
            }
            Json::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_by_key(|(k, _)| k.as_str());
                self.bytes(b'm', &(entries.len() as u64).to_le_bytes());
                for (key, value) in entries {
                    self.bytes(b'k', key.as_bytes());
                    self.value(value);
                }
            }
        }
    }
}

impl Sink for HashSink {
    fn integer(&mut self, name: &str, value: i64) {
        self.bytes(b'k', name.as_bytes());
        self.bytes(b'i', &value.to_le_bytes());
    }

    fn text(&mut self, name: &str, value: &str) {
        self.bytes(b'k', name.as_bytes());
        self.bytes(b's', value.as_bytes());
    }

    fn json(&mut self, name: &str, value: &Json) {
        self.bytes(b'k', name.as_bytes());
        self.value(value);
    }

    fn pairs(&mut self, name: &str, pairs: &mut dyn Iterator<Item = (&str, Option<&str>)>) {
        self.bytes(b'k', name.as_bytes());
        let mut pairs: Vec<_> = pairs.collect();
        pairs.sort_unstable();
        self.bytes(b'm', &(pairs.len() as u64).to_le_bytes());
        for (key, value) in pairs {
            self.bytes(b'k', key.as_bytes());
            match value {
                Some(value) => self.bytes(b's', value.as_bytes()),
                None => self.bytes(b'0', &[]),
            }
        }
    }

    fn files(&mut self, name: &str, files: &[(String, ContentHash)], trees: &[Arc<FileTree>]) {
        self.bytes(b'k', name.as_bytes());
        let all = files.len() + trees.iter().map(|tree| tree.len()).sum::<usize>();
        self.bytes(b'm', &(all as u64).to_le_bytes());
        let mut hasher = Piecewise::new(std::mem::take(&mut self.0));
        let mut bytes = |tag: u8, bytes: &[u8]| {
            hasher.update(&[tag]);
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        merged(files, trees, &mut |slot, content| {
            bytes(b'k', slot);
            bytes(b's', content);
        });
        self.0 = hasher.finish();
    }
}

/// What a stream of files gives next: slot, and hash as text.
type Next = ([u8; 64], Vec<u8>);

/// Calls with slot and hash (as text) of all files, in their order.
fn merged(files: &[(String, ContentHash)], trees: &[Arc<FileTree>], each: &mut dyn FnMut(&[u8], &[u8])) {
    let mut few: Vec<(&str, &str)> = files
        .iter()
        .map(|(slot, hash)| (slot.as_str(), hash.as_str()))
        .collect();
    few.sort_unstable();
    let mut few = few.into_iter().peekable();
    let mut streams: Vec<(Slots, Option<Next>)> = trees.iter().map(|tree| (tree.slots(), None)).collect();
    streams.iter_mut().for_each(step);
    streams.retain(|(_, next)| next.is_some());
    while !streams.is_empty() {
        let order = |next: &Option<Next>| next.as_ref().map(|(hash, slot)| (slot.clone(), *hash));
        let first = match streams.len() {
            1 => 0,
            several => (0..several).min_by_key(|i| order(&streams[*i].1)).unwrap_or(0),
        };
        let stream = &mut streams[first];
        let Some((hash, slot)) = &stream.1 else {
            break;
        };
        while let Some((slot, hash)) = few.next_if(|(s, h)| (s.as_bytes(), h.as_bytes()) <= (slot, &hash[..])) {
            each(slot.as_bytes(), hash.as_bytes());
        }
        each(slot, hash);
        step(stream);
        if stream.1.is_none() {
            streams.remove(first);
        }
    }
    few.for_each(|(slot, hash)| each(slot.as_bytes(), hash.as_bytes()));
}

/// On to the next file of a stream.
fn step((slots, next): &mut (Slots, Option<Next>)) {
    let mut place = next.take().unwrap_or(([0; 64], Vec::new()));
    if let Some((slot, content)) = slots.advance() {
        place.1.clear();
        place.1.extend_from_slice(slot);
        for (byte, digits) in content.iter().zip(place.0.chunks_exact_mut(2)) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            digits[0] = DIGITS[usize::from(byte >> 4)];
            digits[1] = DIGITS[usize::from(byte & 15)];
        }
        *next = Some(place);
    }
}

/// Up to so many files of a stage are listed one by one in what explains its key; of folders with more one hash stands
/// there.
pub(crate) const LISTED: usize = 10_000;

/// Stands for all files of a folder, behind what stands before their slots.
pub(crate) const ALL: &str = "*";

/// All files: one by one where they are few. Each folder of many files is one entry, which is something else wherever
/// one of them is.
pub(crate) fn listed(files: &[(String, ContentHash)], trees: &[Arc<FileTree>]) -> Vec<(String, ContentHash)> {
    let all = files.len() + trees.iter().map(|tree| tree.len()).sum::<usize>();
    let mut listed = Vec::new();
    for tree in trees {
        match all <= LISTED {
            true => listed.extend(tree.listed()),
            false => listed.push((format!("{}{ALL}", tree.prefix()), tree.digest())),
        }
    }
    // As paths are ordered.
    listed.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    listed.extend_from_slice(files);
    listed
}

struct JsonSink(Map<String, Json>);

impl Sink for JsonSink {
    fn integer(&mut self, name: &str, value: i64) {
        self.0.insert(name.into(), value.into());
    }

    fn text(&mut self, name: &str, value: &str) {
        self.0.insert(name.into(), value.into());
    }

    fn json(&mut self, name: &str, value: &Json) {
        self.0.insert(name.into(), value.clone());
    }

    fn pairs(&mut self, name: &str, pairs: &mut dyn Iterator<Item = (&str, Option<&str>)>) {
        let map = pairs.map(|(k, v)| (k.to_owned(), v.into())).collect();
        self.0.insert(name.into(), Json::Object(map));
    }

    fn files(&mut self, name: &str, files: &[(String, ContentHash)], trees: &[Arc<FileTree>]) {
        let listed = listed(files, trees);
        let mut pairs = listed.iter().map(|(slot, hash)| (slot.as_str(), Some(hash.as_str())));
        self.pairs(name, &mut pairs);
    }
}

/// One difference between two descriptions; `None` where a side has no such field.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Dotted, starting with the part of the identity: `params.epochs`, `inputs.data`.
    pub path: String,
    /// The value on the first side.
    pub before: Option<Json>,
    /// The value on the second side.
    pub after: Option<Json>,
}

/// All differences between two descriptions, in order of their paths.
pub fn changes(before: &Json, after: &Json) -> Vec<Change> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(path: String, before: Option<&Json>, after: Option<&Json>, out: &mut Vec<Change>) {
    if before == after {
        return;
    }
    if let (Some(Json::Object(a)), Some(Json::Object(b))) = (before, after) {
        let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
        for name in names {
            let child = if path.is_empty() {
                name.clone()
            } else {
                format!("{path}.{name}")
            };
            compare(child, a.get(name), b.get(name), out);
        }
        return;
    }
    out.push(Change {
        path,
        before: before.cloned(),
        after: after.cloned(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key(params: &Json) -> StageKey {
        stage_key(&Identity {
            kind: "train",
            code_version: 1,
            params,
            inputs: &[],
            members: &[],
            files: &[],
            trees: &[],
            environment: &[],
            outputs: &[],
        })
    }

    #[test]
    fn order_of_parameters_does_not_matter_but_types_do() {
        let a: Json = serde_json::from_str(r#"{"x":1,"y":[1,2]}"#).expect("json");
        let b: Json = serde_json::from_str(r#"{"y":[1,2],"x":1}"#).expect("json");
        assert_eq!(key(&a), key(&b));
        for other in [
            json!({"x":1.0,"y":[1,2]}),
            json!({"x":"1","y":[1,2]}),
            json!({"x":1,"y":[2,1]}),
            json!({"x":1,"y":[12]}),
            json!({"x":1}),
        ] {
            assert_ne!(key(&a), key(&other), "{other}");
        }
    }

    #[test]
    fn the_explanation_names_what_the_hash_sees() {
        let params = json!({"epochs": 3, "optimiser": {"rate": 0.1}});
        let other = json!({"epochs": 4, "optimiser": {"rate": 0.1}, "extra": true});
        let identity = |params| Identity {
            kind: "train",
            code_version: 1,
            params,
            inputs: &[],
            members: &[],
            files: &[],
            trees: &[],
            environment: &[],
            outputs: &[],
        };
        let found = changes(&description(&identity(&params)), &description(&identity(&other)));
        let paths: Vec<_> = found.iter().map(|c| c.path.as_str()).collect();
        assert_eq!(paths, ["params.epochs", "params.extra"]);
        assert_eq!(found[0].before, Some(json!(3)));
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e9..1e9f64).prop_map(Json::from),
            Just(Json::from(0.0)),
            Just(Json::from(-0.0)),
            "[a-z]{0,4}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|m| Json::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Hash and explanation agree: keys differ exactly when a difference is reported.
        #[test]
        fn keys_differ_exactly_when_descriptions_do(a in any_json(), b in any_json()) {
            prop_assert_eq!(key(&a) == key(&b), changes(&a, &b).is_empty());
        }
    }
}
