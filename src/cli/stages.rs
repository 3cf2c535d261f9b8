//! `dynvis stages`: the catalogue, drawn from the same schemas that validate pipelines.

use serde_json::Value as Json;

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use crate::pipeline::{suggest, types, unwrap_optional, variants};
use crate::stage::{AnyKind, kind, kinds};

/// List the stage kinds, or every parameter of one
#[derive(clap::Args)]
pub(crate) struct StagesArgs {
    /// A stage kind
    kind: Option<String>,
}

pub(crate) fn stages(ui: &mut Ui, args: &StagesArgs) -> Result<u8, CommandError> {
    let Some(name) = &args.kind else {
        let rows = kinds()
            .iter()
            .map(|k| vec![k.name().to_owned(), k.summary().to_owned()])
            .collect();
        ui.out(&simple_table(&["kind", "what it does"], rows, ui.width()))?;
        ui.status("`dynvis stages KIND` lists the parameters of a kind");
        return Ok(0);
    };
    let Some(found) = kind(name) else {
        let names = kinds().map(AnyKind::name);
        return Err(CommandError::hinted(
            format!("no stage kind `{name}`"),
            match suggest(name, names) {
                Some(s) => format!("did you mean `{s}`?"),
                None => format!("kinds: {}", names.join(", ")),
            },
        ));
    };
    let mut rows = Vec::new();
    parameters(found.schema(), "", &mut rows);
    let (name, summary, version) = (found.name(), found.summary(), found.code_version());
    ui.out(&format!("{name}: {summary}\ncode version {version}\n\n"))?;
    ui.out(&simple_table(
        &["parameter", "type", "unit", "default", "what it is"],
        rows,
        ui.width(),
    ))?;
    Ok(0)
}

/// One row a parameter; nested ones dotted.
fn parameters(schema: &Json, prefix: &str, rows: &mut Vec<Vec<String>>) {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Json::as_array)
        .map_or_else(Vec::new, |r| r.iter().filter_map(Json::as_str).collect());
    let Some(properties) = schema.get("properties").and_then(Json::as_object) else {
        return;
    };
    for (name, property) in properties {
        let (inner, _) = unwrap_optional(property);
        let text = |key: &str| property.get(key).or_else(|| inner.get(key)).and_then(Json::as_str);
        let default = match property.get("default") {
            _ if required.contains(&name.as_str()) => "required".to_owned(),
            Some(Json::Null) | None => "none".to_owned(),
            Some(Json::Object(_)) => String::new(),
            Some(Json::String(s)) => s.clone(),
            Some(value) => value.to_string(),
        };
        let mut description = text("description").unwrap_or_default().replace('\n', " ");
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
        rows.push(vec![
            format!("{prefix}{name}"),
            type_name(inner),
            text("x-unit").unwrap_or_default().to_owned(),
            default,
            description,
        ]);
        if inner.get("properties").is_some() {
            parameters(inner, &format!("{prefix}{name}."), rows);
        }
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
