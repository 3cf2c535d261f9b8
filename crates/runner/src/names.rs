//! Names of stages, of a matrix's members and of outputs, and the one way from a name back to what it stands for.
//!
//! The grammar of references: `stage`, `stage@field=value,…`, `stage@*`, `stage@field=value,*`, each with `/output`
//! behind it.
//!
//! One rule for values in names: a value of letters, digits and `_ - . + : # ~` stands as it is written; any other
//! stands as a JSON string, `it@file="data/s1.csv"`. Names are printed so. Whoever types one may leave the quotes out
//! (a shell takes them away): a name as it is printed comes first, then the reading with the longest value that names a
//! member.

use std::borrow::Cow;

use indexmap::IndexMap;
use serde_json::Value as Json;

/// The matrix field that tells repetitions apart.
pub const REPETITION: &str = "seed";

/// A parsed reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Name of the stage as the pipeline writes it, without matrix fields.
    pub stage: String,
    /// What stands behind the `@`; `None` where no member is chosen.
    pub selector: Option<Selector>,
    /// What stands behind the last `/`; `None` where no output is named.
    pub output: Option<String>,
}

/// Which members of a matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector {
    /// Fields that must have these values (as text).
    pub fields: Vec<(String, String)>,
    /// Whether several members may match.
    pub all: bool,
}

/// Parses a reference whose values are plain or quoted; `None` if it is none.
#[cfg(test)]
fn parse(text: &str) -> Option<Reference> {
    readings(text, |_| false).into_iter().next()
}

/// Every way to read a text as a reference, the likeliest first: a value without quotes may hold `/`, `,`, `=` and `@`.
/// A comma ends a value where one of the stage's matrix fields or `*` follows.
pub(crate) fn readings(text: &str, is_field: impl Fn(&str) -> bool) -> Vec<Reference> {
    let stage_ends = text.find(['@', '/']).unwrap_or(text.len());
    let (stage, rest) = text.split_at(stage_ends);
    if !is_name(stage) {
        return Vec::new();
    }
    let reference = |selector, output: Option<&str>| Reference {
        stage: stage.to_owned(),
        selector,
        output: output.map(str::to_owned),
    };
    if rest.is_empty() {
        return vec![reference(None, None)];
    }
    if let Some(output) = rest.strip_prefix('/') {
        return if is_name(output) {
            vec![reference(None, Some(output))]
        } else {
            Vec::new()
        };
    }
    let rest = &rest[1..];
    let whole = std::iter::once((rest, None));
    let split = rest
        .rmatch_indices('/')
        .map(|(at, _)| (&rest[..at], Some(&rest[at + 1..])));
    whole
        .chain(split.filter(|(_, output)| output.is_some_and(is_name)))
        .filter_map(|(selector, output)| Some(reference(Some(parse_selector(selector, &is_field)?), output)))
        .collect()
}

fn parse_selector(text: &str, is_field: &impl Fn(&str) -> bool) -> Option<Selector> {
    let mut selector = Selector {
        fields: Vec::new(),
        all: false,
    };
    let mut rest = text.trim();
    loop {
        let after = if let Some(after) = rest.strip_prefix('*') {
            selector.all = true;
            after
        } else {
            let (field, value) = rest.split_once('=')?;
            let (field, value) = (field.trim(), value.trim_start());
            if field.is_empty() || field.contains([',', '"', '/']) {
                return None;
            }
            let is_quoted = value.starts_with('"');
            let (value, after) = if is_quoted {
                quoted(value)?
            } else {
                let end = value
                    .match_indices(',')
                    .map(|(at, _)| at)
                    .find(|at| starts_part(&value[at + 1..], is_field))
                    .unwrap_or(value.len());
                (value[..end].trim().to_owned(), &value[end..])
            };
            if value.is_empty() && !is_quoted {
                return None;
            }
            selector.fields.push((field.to_owned(), value));
            after
        };
        let after = after.trim_start();
        if after.is_empty() {
            return Some(selector);
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// Whether a part of a selector begins here: `*` at its end, or a field with its value.
fn starts_part(text: &str, is_field: &impl Fn(&str) -> bool) -> bool {
    let text = text.trim();
    text == "*" || text.starts_with("*,") || text.split_once('=').is_some_and(|(field, _)| is_field(field.trim()))
}

/// The value of a JSON string, and what stands behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = values.next()?.ok()?;
    Some((value, &text[values.byte_offset()..]))
}

impl Selector {
    /// Whether a member with these matrix fields is meant.
    pub(crate) fn matches(&self, fields: &IndexMap<String, Json>) -> bool {
        self.fields
            .iter()
            .all(|(name, value)| fields.get(name).is_some_and(|found| is_value(found, value)))
    }
}

/// Whether a text stands for that value: the same letters, or the same number (`1e-3` for 0.001).
pub(crate) fn is_value(value: &Json, text: &str) -> bool {
    if scalar(value) == text {
        return true;
    }
    match (value, serde_json::from_str::<Json>(text)) {
        (Json::Number(number), Ok(Json::Number(other))) => {
            number.as_f64().is_some_and(|number| other.as_f64() == Some(number))
        }
        _ => false,
    }
}

/// What has a name that may be that of a matrix's member.
pub trait Named {
    /// The whole name, `stage@field=value,…` for a member of a matrix.
    fn name(&self) -> &str;
    /// The stage's name as the pipeline writes it, without matrix fields.
    fn family(&self) -> &str;
    /// Matrix fields of the member, in order of declaration; empty without a matrix.
    fn fields(&self) -> &IndexMap<String, Json>;
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Positions in the list that was searched.
    pub members: Vec<usize>,
    /// What stands behind the `/`.
    pub output: Option<String>,
}

/// The members that `stage`, `stage@field=value`, `stage@*`, with or without `/output`, name; `None` if there are none.
pub fn find<T: Named>(items: &[T], text: &str) -> Option<Selected> {
    let positions = |is_meant: &dyn Fn(&T) -> bool| -> Vec<usize> {
        let all = items.iter().enumerate();
        all.filter(|(_, item)| is_meant(item)).map(|(at, _)| at).collect()
    };
    let exact = positions(&|item| item.name() == text);
    if !exact.is_empty() {
        let output = None;
        return Some(Selected { members: exact, output });
    }
    if let Some((name, output)) = text.rsplit_once('/').filter(|(_, output)| is_name(output)) {
        let exact = positions(&|item| item.name() == name);
        if !exact.is_empty() {
            let output = Some(output.to_owned());
            return Some(Selected { members: exact, output });
        }
    }
    let family = text.split(['@', '/']).next().unwrap_or(text);
    let first = items.iter().find(|item| item.family() == family)?;
    let found = readings(text, |field| first.fields().contains_key(field));
    found.into_iter().find_map(|reading| {
        let members = positions(&|item| {
            item.family() == reading.stage
                && match &reading.selector {
                    None => true,
                    Some(selector) => !item.fields().is_empty() && selector.matches(item.fields()),
                }
        });
        let output = reading.output.clone();
        (!members.is_empty()).then_some(Selected { members, output })
    })
}

/// A matrix value without the quotes of its name.
pub fn scalar(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A value as it stands in a name: as it is where nothing in it means something to a reference, else as a JSON string.
pub(crate) fn value_in_name(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "_-.+:#~".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(Json::from(text).to_string())
}

/// `family@field=value,…`, or just the family without a matrix.
pub fn member_name(family: &str, fields: &IndexMap<String, Json>) -> String {
    let written = fields.iter().map(|(field, value)| (field.as_str(), scalar(value)));
    name_of(family, written)
}

/// The same of fields whose values are text already.
pub(crate) fn name_of<'a>(family: &str, fields: impl Iterator<Item = (&'a str, String)>) -> String {
    let fields: Vec<_> = fields
        .map(|(field, value)| format!("{field}={}", value_in_name(&value)))
        .collect();
    if fields.is_empty() {
        return family.to_owned();
    }
    format!("{family}@{}", fields.join(","))
}

/// Names of stages, variables and outputs.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grammar() {
        let plain = parse("cnn").expect("plain");
        assert_eq!((plain.stage.as_str(), plain.selector), ("cnn", None));
        let some = parse("cordsnet@*").and_then(|r| r.selector).expect("all");
        assert!(some.all && some.fields.is_empty());
        for bad in [
            "",
            "@*",
            "a@",
            "a@seed",
            "a@seed=",
            "a b",
            "1a",
            "a/",
            "a/x y",
            "a@seed=\"1",
            "a@seed=\"1\"x",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    struct Item(String, IndexMap<String, Json>);

    impl Named for Item {
        fn name(&self) -> &str {
            &self.0
        }
        fn family(&self) -> &str {
            "s"
        }
        fn fields(&self) -> &IndexMap<String, Json> {
            &self.1
        }
    }

    fn item(fields: &[(&str, Json)]) -> Item {
        let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
        Item(member_name("s", &fields), fields)
    }

    #[test]
    fn every_name_finds_its_member_and_no_other() {
        let values = [
            "", " ", "1", "01", "a/b", "a,b=2", "2,b=3", "a=b", "x@y", "*", "a,*", "\"", "\"q\"", "\\", "é漢", "\n",
            "[8,8]", "{x}", "a/b/out", "'", "$x", "a b", "..", "/", "-1", "true", "null", "%2f", "\u{0}",
        ];
        let mut items = Vec::new();
        for first in values {
            for second in values {
                items.push(item(&[("a", first.into()), ("b", second.into())]));
            }
        }
        for (at, Item(name, _)) in items.iter().enumerate() {
            let selected = find(&items, name).expect(name);
            assert_eq!((selected.members, selected.output), (vec![at], None), "{name}");
            let selected = find(&items, &format!("{name}/out")).expect(name);
            assert_eq!(selected.members, [at], "{name}/out");
            assert_eq!(selected.output.as_deref(), Some("out"), "{name}/out");
        }
    }

    #[test]
    fn quotes_may_be_left_out_where_one_reading_is_left() {
        let items = [
            item(&[("file", "data/m/s1.csv".into()), ("seed", 0.into())]),
            item(&[("file", "data/m/s1.csv".into()), ("seed", 1.into())]),
            item(&[("file", "V4,IT".into()), ("seed", 1.into())]),
            item(&[("file", "12".into()), ("seed", 0.001.into())]),
        ];
        let found = |text: &str| find(&items, text).map(|s| (s.members, s.output));
        assert_eq!(found("s@file=data/m/s1.csv,seed=1"), Some((vec![1], None)));
        assert_eq!(
            found("s@file=data/m/s1.csv,seed=1/neurons"),
            Some((vec![1], Some("neurons".into())))
        );
        assert_eq!(found("s@file=data/m/s1.csv,*"), Some((vec![0, 1], None)));
        assert_eq!(found("s@file=data/m/s1.csv"), Some((vec![0, 1], None)));
        assert_eq!(found("s@file=V4,IT"), Some((vec![2], None)));
        assert_eq!(found("s@seed=1e-3"), Some((vec![3], None)));
        assert_eq!(found("s@*/t"), Some((vec![0, 1, 2, 3], Some("t".into()))));
        assert_eq!(found("s@seed=2"), None);
        assert_eq!(found("t"), None);
    }
}
