//! `cache` of a pipeline: where results are kept besides this machine's cache. No key holds it.

use super::{unknown, wrong_type};
use crate::pipeline::CacheSettings;
use crate::pipeline::node::{Node, Value};
use crate::pipeline::problem::{Problem, ProblemKind};
use crate::pipeline::validate::report_duplicates;

const KEYS: [&str; 2] = ["remote", "push"];

/// The section, where there is one. `check` says what is wrong with the address of a remote.
pub(super) fn settings(
    document: &Node,
    check: fn(&str) -> Result<(), String>,
    problems: &mut Vec<Problem>,
) -> Option<CacheSettings> {
    let section = document.get("cache")?;
    let Some(entries) = section.as_map() else {
        problems.push(wrong_type(section, "a mapping with `remote` and `push`"));
        return None;
    };
    report_duplicates(entries, problems);
    let (mut remote, mut push) = (None, false);
    for (key, node) in entries {
        match key.text.as_str() {
            "remote" => match node.scalar_text().filter(|text| !text.is_empty()) {
                Some(text) => match check(&text) {
                    Ok(()) => remote = Some(text),
                    Err(message) => problems.push(Problem::at(node.spot, ProblemKind::Inconsistent { message })),
                },
                None => problems.push(wrong_type(
                    node,
                    "an address: `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder",
                )),
            },
            "push" => match &node.value {
                Value::Bool(value) => push = *value,
                _ => problems.push(wrong_type(node, "`true` or `false`")),
            },
            _ => {
                let before = problems.len();
                problems.push(unknown(key, "key", KEYS.into_iter(), before));
            }
        }
    }
    if section.get("remote").is_none() {
        problems.push(Problem::at(
            section.spot,
            ProblemKind::Missing {
                what: "key",
                name: "remote".into(),
                hint: Some("`remote:` is the address of where results are kept".into()),
            },
        ));
    }
    Some(CacheSettings { remote: remote?, push })
}
