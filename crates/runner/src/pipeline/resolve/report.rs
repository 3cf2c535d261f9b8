//! `report` of a pipeline: what is said in the report of a run. No key holds it.

use indexmap::IndexMap;

use super::{unknown, wrong_type};
use crate::pipeline::node::Node;
use crate::pipeline::problem::Problem;
use crate::pipeline::validate::report_duplicates;
use crate::store::ReportTexts;

const KEYS: [&str; 3] = ["title", "text", "stages"];

/// The section, where there is one. `families`: the pipeline's stages by their names as written.
pub(super) fn texts<T>(
    document: &Node,
    families: &IndexMap<String, T>,
    problems: &mut Vec<Problem>,
) -> Option<ReportTexts> {
    let section = document.get("report")?;
    let Some(entries) = section.as_map() else {
        problems.push(wrong_type(section, "a mapping with `title`, `text` and `stages`"));
        return None;
    };
    report_duplicates(entries, problems);
    let mut texts = ReportTexts::default();
    for (key, node) in entries {
        match key.text.as_str() {
            "title" => texts.title = text(node, problems),
            "text" => texts.text = text(node, problems),
            "stages" => texts.stages = of_stages(node, families, problems),
            _ => {
                let before = problems.len();
                problems.push(unknown(key, "key", KEYS.into_iter(), before));
            }
        }
    }
    Some(texts)
}

fn of_stages<T>(node: &Node, families: &IndexMap<String, T>, problems: &mut Vec<Problem>) -> IndexMap<String, String> {
    let Some(entries) = node.as_map() else {
        problems.push(wrong_type(node, "a mapping from stage to text"));
        return IndexMap::new();
    };
    report_duplicates(entries, problems);
    let mut texts = IndexMap::new();
    for (key, node) in entries {
        if !families.contains_key(&key.text) {
            let before = problems.len();
            problems.push(unknown(key, "stage", families.keys().map(String::as_str), before));
        }
        texts.extend(text(node, problems).map(|text| (key.text.clone(), text)));
    }
    texts
}

fn text(node: &Node, problems: &mut Vec<Problem>) -> Option<String> {
    let text = node.scalar_text();
    if text.is_none() {
        problems.push(wrong_type(node, "text"));
    }
    text
}
