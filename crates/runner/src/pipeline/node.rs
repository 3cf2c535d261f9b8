//! A YAML document as a tree in which every key and value knows its place.
//!
//! Parsing is serde-saphyr's; this module only keeps what it reports: values and locations.
//! Duplicate keys pass through, so that the validator can name both places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};

/// Index of a text in [`SourceTexts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub usize);

/// A place in a text: 1-based line and column (in characters), and how many characters to underline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// The text that the place is in.
    pub source: SourceId,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// How many characters to underline.
    pub length: usize,
}

/// One text that was read: a pipeline, a preset, or an override of the command line.
#[derive(Debug)]
pub struct SourceText {
    /// As the user knows it: a path relative to where they stand, or `-S …`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// Every text that took part in resolving a pipeline.
#[derive(Debug, Default)]
pub struct SourceTexts(Vec<SourceText>);

impl SourceTexts {
    /// Adds a text and says how places refer to it.
    pub(crate) fn add(&mut self, name: String, text: String) -> SourceId {
        self.0.push(SourceText { name, text });
        SourceId(self.0.len() - 1)
    }

    /// The text of that id.
    ///
    /// # Panics
    /// Where the id is of other texts.
    pub fn get(&self, id: SourceId) -> &SourceText {
        &self.0[id.0]
    }

    /// Every file among the texts, by its path; overrides of the command line are none.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.iter().map(|source| (source.name.as_str(), source.text.as_str()));
        files.filter(|(name, _)| name.ends_with(".yaml") || name.ends_with(".yml"))
    }

    /// The bytes of the text that a place covers; what lies behind the end of a line is left out.
    pub fn byte_range(&self, spot: Spot) -> std::ops::Range<usize> {
        let text = &self.get(spot.source).text;
        let line_start: usize = text
            .split_inclusive('\n')
            .take(spot.line.saturating_sub(1))
            .map(str::len)
            .sum();
        let line = text[line_start..].lines().next().unwrap_or("");
        let mut bounds = line.char_indices().map(|(at, _)| at).chain(std::iter::once(line.len()));
        let from = bounds.nth(spot.column.saturating_sub(1)).unwrap_or(line.len());
        let to = line[from..]
            .char_indices()
            .map(|(at, _)| from + at)
            .chain(std::iter::once(line.len()))
            .nth(spot.length)
            .unwrap_or(line.len());
        line_start + from..line_start + to
    }
}

/// A mapping's key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub text: String,
    pub spot: Spot,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub value: Value,
    pub spot: Spot,
}

/// A number's text where it is not how the number would be printed: `01`, `12e5`, `0x1F`, `1_000`.
/// Samples and sessions have such names, and where text is wanted they stay as they were written.
pub(super) type Written = Option<Box<str>>;

/// What YAML can hold.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64, Written),
    Float(f64, Written),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
    /// Could not be resolved; the reason is already among the problems.
    Unknown,
}

impl Node {
    pub(super) fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a key of a mapping; the last one, where a key stands twice.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.iter().rev().find(|(k, _)| k.text == key).map(|(_, v)| v)
    }

    /// What kind of value this is, in a user's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(..) => "an integer",
            Value::Float(..) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Unknown => "an unresolved value",
        }
    }

    /// A scalar as a user would write it; `None` for lists and mappings.
    pub(super) fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Null => Some("null".into()),
            Value::Bool(b) => Some(b.to_string()),
            Value::Int(_, Some(written)) | Value::Float(_, Some(written)) => Some(written.to_string()),
            Value::Int(i, None) => Some(i.to_string()),
            Value::Float(f, None) => Some(f.to_string()),
            Value::Text(t) => Some(t.clone()),
            Value::List(_) | Value::Map(_) | Value::Unknown => None,
        }
    }

    /// Plain JSON, without places. Non-finite floats become text (JSON has none).
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Unknown => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Int(i, _) => Json::from(*i),
            Value::Float(f, _) => {
                serde_json::Number::from_f64(*f).map_or_else(|| Json::String(f.to_string()), Json::Number)
            }
            Value::Text(t) => Json::String(t.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(entries) => Json::Object(entries.iter().map(|(k, v)| (k.text.clone(), v.to_json())).collect()),
        }
    }
}

/// A text that is not YAML, with the parser's message.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub message: String,
    pub spot: Spot,
}

/// Parses one document.
pub(super) fn parse(sources: &SourceTexts, source: SourceId) -> Result<Node, SyntaxError> {
    parse_text(&sources.get(source).text, source)
}

/// Parses a text that stands for `source`; its places count in that source's lines and columns.
pub(super) fn parse_text(text: &str, source: SourceId) -> Result<Node, SyntaxError> {
    // `n`, `no` and `on` are text: columns are called so, and programs take such arguments.
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
    };
    match serde_saphyr::from_str_with_options::<Raw>(text, options) {
        Ok(raw) => Ok(raw.into_node(text, source)),
        Err(error) => {
            let (line, column) = error
                .location()
                .map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
            Err(SyntaxError {
                message: error.without_snippet().to_string(),
                spot: Spot {
                    source,
                    line: line.max(1),
                    column: column.max(1),
                    length: 1,
                },
            })
        }
    }
}

/// The tree as the deserializer hands it over.
struct Raw(Spanned<RawValue>);

enum RawValue {
    Scalar(Value),
    List(Vec<Raw>),
    Map(Vec<(Spanned<RawKey>, Raw)>),
}

struct RawKey(String);

impl Raw {
    fn into_node(self, text: &str, source: SourceId) -> Node {
        let mut spot = spot_of(&self.0.referenced, source);
        let defined = self.0.defined;
        let value = match self.0.value {
            RawValue::Scalar(Value::Int(i, _)) => Value::Int(i, written(text, &defined, &i.to_string())),
            RawValue::Scalar(Value::Float(f, _)) => Value::Float(f, written(text, &defined, &f.to_string())),
            RawValue::Scalar(value) => value,
            RawValue::List(items) => {
                spot.length = 1;
                Value::List(items.into_iter().map(|i| i.into_node(text, source)).collect())
            }
            RawValue::Map(entries) => {
                spot.length = 1;
                Value::Map(
                    entries
                        .into_iter()
                        .map(|(k, v)| {
                            let spot = spot_of(&k.referenced, source);
                            let key = Key { text: k.value.0, spot };
                            (key, v.into_node(text, source))
                        })
                        .collect(),
                )
            }
        };
        Node { value, spot }
    }
}

/// The text of a plain scalar, where it is another than `printed`.
fn written(text: &str, location: &serde_saphyr::Location, printed: &str) -> Written {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let length = usize::try_from(span.byte_len()?).ok()?;
    let found = text.get(start..start.checked_add(length)?)?.trim();
    // With a tag or in quotes it is not the number's own text.
    let is_plain = !found.is_empty() && found.chars().all(|c| c.is_ascii_alphanumeric() || ".+-_:".contains(c));
    (is_plain && found != printed).then(|| found.into())
}

fn spot_of(location: &serde_saphyr::Location, source: SourceId) -> Spot {
    Spot {
        source,
        line: (location.line() as usize).max(1),
        column: (location.column() as usize).max(1),
        length: (location.span().len() as usize).max(1),
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Spanned::<RawValue>::deserialize(deserializer).map(Raw)
    }
}

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(RawKey)
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Int(v, None)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(
            i64::try_from(v).map_or(Value::Float(v as f64, None), |v| Value::Int(v, None)),
        ))
    }

    fn visit_f64<E>(self, v: f64) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Float(v, None)))
    }

    fn visit_str<E>(self, v: &str) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Text(v.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(d)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawValue::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry::<Spanned<RawKey>, Raw>()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut sources = SourceTexts::default();
        let id = sources.add("test.yaml".into(), text.into());
        parse(&sources, id).expect("parses")
    }

    #[test]
    fn places_of_keys_and_values() {
        let node = tree("name: quick\nstages:\n  a:\n    train: { epochs: 10, lr: 1e-3 }\n");
        let train = node
            .get("stages")
            .and_then(|s| s.get("a"))
            .and_then(|a| a.get("train"))
            .expect("train");
        let (key, value) = &train.as_map().expect("map")[0];
        assert_eq!((key.spot.line, key.spot.column, key.spot.length), (4, 14, 6));
        assert_eq!((value.spot.line, value.spot.column), (4, 22));
        assert!(matches!(value.value, Value::Int(10, None)));
        let lr = train.get("lr").expect("lr");
        assert!(matches!(lr.value, Value::Float(x, _) if x == 1e-3));
    }

    #[test]
    fn only_true_and_false_are_booleans() {
        let node = tree("[n, yes, off, true, False]");
        let Value::List(items) = node.value else {
            panic!("a list");
        };
        let texts: Vec<_> = items.iter().map(|item| item.as_text().unwrap_or("no text")).collect();
        assert_eq!(texts, ["n", "yes", "off", "no text", "no text"]);
    }

    #[test]
    fn duplicate_keys_reach_the_validator() {
        let node = tree("a: 1\nb: 2\na: 3\n");
        assert_eq!(node.as_map().expect("map").len(), 3);
        assert!(matches!(node.get("a").map(|n| &n.value), Some(Value::Int(3, None))));
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let mut sources = SourceTexts::default();
        let id = sources.add("bad.yaml".into(), "a: [1, 2\nb: 3\n".into());
        let error = parse(&sources, id).expect_err("unclosed list");
        assert!(error.spot.line >= 1 && !error.message.is_empty());
    }
}
