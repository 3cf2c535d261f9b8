//! `dynvis stages`: the catalogue, drawn from the same schemas that validate pipelines.

use super::registry;
use serde_json::Value as Json;

use super::error::CommandError;
use super::presets::presets_for;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::wrapped;
use dynvis_runner::kind::{AnyKind, PossibleOutput, published_parameter};
use dynvis_runner::pipeline::{alternatives, suggest, types, unwrap_optional, variants};

/// List the stage kinds, or every parameter and output of one and its presets
#[derive(clap::Args)]
pub(crate) struct StagesArgs {
    /// Stage kind whose parameters, outputs and presets are listed
    kind: Option<String>,
}

pub(crate) fn stages(ui: &mut Ui, args: &StagesArgs) -> Result<u8, CommandError> {
    let Some(name) = &args.kind else {
        let rows = registry()
            .kinds()
            .iter()
            .map(|k| vec![k.name().to_owned(), k.summary().to_owned()])
            .collect();
        ui.out(&simple_table(&["kind", "what it does"], rows, ui.width()))?;
        ui.status("`dynvis stages KIND` lists the parameters, outputs and presets of a kind");
        return Ok(0);
    };
    let found = kind_called(name)?;
    let (name, summary, version) = (found.name(), found.summary(), found.code_version());
    let title = format!("{name}: {summary}");
    let title = ui.width().map_or(title.clone(), |width| wrapped(&title, width));
    let tables = [
        simple_table(
            &["parameter", "type", "unit", "default", "what it is"],
            parameter_rows(found.schema()).map(Vec::from).collect(),
            ui.width(),
        ),
        outputs(found, ui.width()),
        presets(name, ui.width()),
    ];
    let tables = tables.join("\n");
    ui.out(&format!("{title}\ncode version {version}\n\n{}\n", tables.trim_end()))?;
    Ok(0)
}

/// The kind of that name, or what it was meant to be.
pub(super) fn kind_called(name: &str) -> Result<&'static dyn AnyKind, CommandError> {
    registry().kind(name).ok_or_else(|| {
        let names: Vec<&str> = registry().kinds().iter().map(|kind| kind.name()).collect();
        CommandError::hinted(
            format!("no stage kind `{name}`"),
            match suggest(name, names.iter().copied()) {
                Some(s) => format!("did you mean `{s}`?"),
                None => format!("kinds: {}", names.join(", ")),
            },
        )
    })
}

/// What stages of the kind write.
fn outputs(kind: &dyn AnyKind, width: Option<usize>) -> String {
    let row = |output: PossibleOutput| {
        let when = output.when.map(|when| format!(" ({when})")).unwrap_or_default();
        let artifact = output.artifact.name();
        vec![
            output.name.to_owned(),
            artifact.to_owned(),
            format!("{}{when}", output.holds),
        ]
    };
    let rows: Vec<_> = kind.possible_outputs().into_iter().map(row).collect();
    if rows.is_empty() {
        let text = "its outputs are those that the stage's parameter `outputs` names\n";
        return width.map_or_else(|| text.to_owned(), |width| wrapped(text, width));
    }
    simple_table(&["output", "type", "what it holds"], rows, width)
}

fn presets(kind: &str, width: Option<usize>) -> String {
    match presets_for(kind) {
        rows if rows.is_empty() => String::new(),
        rows => simple_table(&["preset", "from", "what it is"], rows, width),
    }
}

/// The default of a parameter whose description does not say what happens without it.
const NOT_SAID: &str = "not said";

/// One row a parameter: name, type, unit, default and what it is.
pub(super) fn parameter_rows(schema: &Json) -> impl Iterator<Item = [String; 5]> {
    let mut rows = Vec::new();
    parameters(schema, "", &mut rows);
    rows.into_iter()
}

/// Nested parameters are dotted; `[]` stands behind a list and `.NAME` behind a mapping of things that have parameters.
fn parameters(schema: &Json, prefix: &str, rows: &mut Vec<[String; 5]>) {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Json::as_array)
        .map_or_else(Vec::new, |r| r.iter().filter_map(Json::as_str).collect());
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
        return;
    };
    for (stored, property) in properties {
        let name = published_parameter(stored, property);
        let (inner, _) = unwrap_optional(property);
        let text = |key: &str| property.get(key).or_else(|| inner.get(key)).and_then(Json::as_str);
        let mut description = text("description").unwrap_or_default().replace('\n', " ");
        let default = match (property.get("default"), if_not_given(&description)) {
            _ if required.contains(&stored.as_str()) => "required".to_owned(),
            // Also where there is a default: a seed's is the pipeline's.
            (_, Some((what_then, rest))) => {
                description = rest;
                what_then
            }
            (Some(Json::Null) | None, None) => NOT_SAID.to_owned(),
            // Its parts have their own.
            (Some(Json::Object(_)), None) => String::new(),
            (Some(value), None) => flow(value),
        };
        if let Some(variants) = variants(inner) {
            let names: Vec<String> = variants
                .iter()
                .map(|(n, d)| match d {
                    Some(d) => format!("{n} ({})", d.trim_end_matches('.').replace('\n', " ")),
                    None => n.clone(),
                })
                .collect();
            description += &format!(" One of: {}.", names.join("; "));
        }
        rows.push([
            format!("{prefix}{name}"),
            type_name(inner),
            text("x-unit").unwrap_or_default().to_owned(),
            default,
            description.trim().to_owned(),
        ]);
        nested(inner, &format!("{prefix}{name}"), rows);
    }
}

/// The parameters within one.
fn nested(schema: &Json, name: &str, rows: &mut Vec<[String; 5]>) {
    parameters(schema, &format!("{name}."), rows);
    if let Some(items) = schema.get("items") {
        nested(unwrap_optional(items).0, &format!("{name}[]"), rows);
    }
    if let Some(values) = schema.get("additionalProperties") {
        nested(unwrap_optional(values).0, &format!("{name}.NAME"), rows);
    }
    for schema in alternatives(schema) {
        nested(schema, name, rows);
    }
}

/// What a description says of a parameter that is left out, and the description without that: `X if not given` at the
/// end of a sentence or in parentheses, or a sentence `If not given, X.`
fn if_not_given(description: &str) -> Option<(String, String)> {
    const BEFORE: &str = "If not given, ";
    const BEHIND: &str = " if not given";
    if let Some(start) = description.find(BEFORE) {
        let clause = &description[start + BEFORE.len()..];
        let end = clause.find(". ").map_or(clause.len(), |end| end + 1);
        let rest = format!("{}{}", &description[..start], clause[end..].trim_start());
        return Some((clause[..end].trim_end_matches('.').to_owned(), rest.trim().to_owned()));
    }
    let end = description.find(BEHIND)?;
    let head = &description[..end];
    let (start, length) = ["; ", ". ", " ("]
        .iter()
        .filter_map(|mark| Some((head.rfind(mark)?, mark.len())))
        .max()
        .unwrap_or((0, 0));
    let clause = head[start + length..].trim_end_matches(',').to_owned();
    let mut tail = &description[end + BEHIND.len()..];
    let kept = match &description[start..start + length] {
        " (" => {
            tail = tail.strip_prefix(')').unwrap_or(tail);
            &description[..start]
        }
        ". " => {
            // The sentence was this alone.
            tail = tail.strip_prefix('.').unwrap_or(tail);
            &description[..=start]
        }
        _ => &description[..start],
    };
    Some((clause, format!("{kept}{tail}")))
}

/// A default as a pipeline has it on one line.
fn flow(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(entries) => {
            let given = entries.iter().filter(|(_, value)| !value.is_null());
            let given: Vec<String> = given.map(|(name, value)| format!("{name}: {}", flow(value))).collect();
            format!("{{ {} }}", given.join(", "))
        }
        other => other.to_string(),
    }
}

/// Type and range in a reader's words.
fn type_name(schema: &Json) -> String {
    if let Some(reference) = schema.get("x-reference").and_then(Json::as_str) {
        return match reference {
            "any" => "stage".into(),
            kind => format!("stage ({kind})"),
        };
    }
    if variants(schema).is_some() {
        return "name".into();
    }
    if let Some(name) = schema.get("const").and_then(Json::as_str) {
        return name.to_owned();
    }
    let several: Vec<String> = alternatives(schema).iter().map(type_name).collect();
    if !several.is_empty() {
        return several.join(" or ");
    }
    let base = types(schema).into_iter().find(|t| *t != "null").unwrap_or("any");
    if base == "array" {
        let item = schema.get("items").map_or_else(|| "any".into(), type_name);
        return format!("list of {item}");
    }
    let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
    let low = bound("minimum")
        .map(|v| format!("{v}"))
        .or_else(|| bound("exclusiveMinimum").map(|v| format!(">{v}")));
    let high = bound("maximum")
        .map(|v| format!("{v}"))
        .or_else(|| bound("exclusiveMaximum").map(|v| format!("<{v}")));
    let name = match base {
        "string" => "text",
        "object" => "mapping",
        other => other,
    };
    match (low, high) {
        (Some(low), Some(high)) => format!("{name} {low}..{high}"),
        (Some(low), None) if low.starts_with('>') => format!("{name} {low}"),
        (Some(low), None) => format!("{name} {low}.."),
        (None, Some(high)) => format!("{name} ..{high}"),
        (None, None) => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_a_description_says_of_an_absent_parameter() {
        for (description, what_then, rest) in [
            (
                "Euler step; 2 ms, or as in `start`, if not given.",
                "2 ms, or as in `start`",
                "Euler step.",
            ),
            ("Of the readout (1 if not given).", "1", "Of the readout."),
            ("Brain regions; all if not given.", "all", "Brain regions."),
            (
                "Channels of areas. 64, or as in `start`, if not given.",
                "64, or as in `start`",
                "Channels of areas.",
            ),
            (
                "Time; 200 ms, or none in `linear`, if not given. More.",
                "200 ms, or none in `linear`",
                "Time. More.",
            ),
            (
                "Memory, to the same result. If not given, half of this machine's. More of it is read.",
                "half of this machine's",
                "Memory, to the same result. More of it is read.",
            ),
        ] {
            let found = if_not_given(description).expect(description);
            assert_eq!((found.0.as_str(), found.1.as_str()), (what_then, rest));
        }
        assert_eq!(if_not_given("Weight decay."), None);
    }

    #[test]
    fn a_published_name_is_that_of_one_thing() {
        for kind in registry().kinds() {
            let properties = kind.schema()["properties"].as_object().expect("parameters");
            let parameters = properties.iter().flat_map(|(stored, property)| {
                BTreeSet::from([stored.as_str(), published_parameter(stored, property)])
            });
            let outputs = kind.possible_outputs();
            let outputs = outputs
                .iter()
                .flat_map(|output| BTreeSet::from([output.slot, output.name]));
            for mut names in [parameters.collect::<Vec<_>>(), outputs.collect()] {
                names.sort_unstable();
                assert!(
                    names.windows(2).all(|pair| pair[0] != pair[1]),
                    "{}: {names:?}",
                    kind.name()
                );
            }
        }
    }

    #[test]
    fn a_parameter_with_default_none_says_what_happens_then() {
        let silent: Vec<String> = registry()
            .kinds()
            .iter()
            .flat_map(|kind| {
                let nothing = parameter_rows(kind.schema()).filter(|row| row[3] == NOT_SAID);
                nothing.map(|row| format!("{} {}: {}", kind.name(), row[0], row[4]))
            })
            .collect();
        assert!(
            silent.is_empty(),
            "say what happens in `... if not given`:\n{}",
            silent.join("\n")
        );
    }
}
