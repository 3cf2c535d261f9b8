//! `dynvis schema`: the JSON Schema of pipeline files, for editors.

use dynvis_runner::kind::{Conditions, published_parameter, schema_of};
use dynvis_runner::pipeline::Resources;
use serde_json::{Map, Value as Json, json};

use super::error::CommandError;
use super::ui::Ui;

use super::registry;

/// Print the JSON Schema of pipeline files, for editors
#[derive(clap::Args)]
pub(crate) struct SchemaArgs {}

pub(crate) fn schema(ui: &mut Ui, _: &SchemaArgs) -> Result<u8, CommandError> {
    ui.out(&format!("{:#}\n", pipeline_schema()))?;
    Ok(0)
}

fn pipeline_schema() -> Json {
    let mut properties = Map::new();
    for kind in registry().kinds() {
        properties.insert(kind.name().to_owned(), with_presets(kind.schema()));
    }
    let alternatives: Vec<Json> = registry()
        .kinds()
        .iter()
        .map(|k| json!({ "required": [k.name()] }))
        .collect();
    properties.insert(
        "description".into(),
        json!({ "type": "string", "description": "Free text for readers; not part of the key." }),
    );
    properties.insert("matrix".into(), matrix());
    properties.insert(
        "resources".into(),
        described(
            schema_of::<Resources>(),
            "What the stage takes while it runs; not part of the key.",
        ),
    );
    properties.insert(
        "ensure".into(),
        described(
            schema_of::<Conditions>(),
            "What must hold of the stage's tables, by output, before they are published; not part of the key.",
        ),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dynvis pipeline",
        "type": "object",
        "additionalProperties": false,
        "required": ["stages"],
        "properties": {
            "name": { "type": "string", "description": "Name of the pipeline; the file's name if left out." },
            "description": { "type": "string", "description": "Free text for readers; not part of any key." },
            "seed": { "type": "integer", "minimum": 0, "default": 0, "description": "Seed of every stage that names \
                none." },
            "headline": { "type": "string", "description": "Stage, or stage/table, to print at the end of a run." },
            "report": report_schema(),
            "cache": cache_schema(),
            "pools": { "type": "object", "additionalProperties": { "type": "integer", "minimum": 1 }, "description": "What stages share besides threads and GPUs: name to number of units. One unit is a mutex." },
            "vars": { "type": "object", "description": "Values for ${vars.name}." },
            "stages": { "type": "object", "additionalProperties": {
                "type": "object",
                "additionalProperties": false,
                "oneOf": alternatives,
                "properties": properties,
            } },
        },
    })
}

/// What a matrix may hold beside fields, which may be called anything, and have values of any type.
fn matrix() -> Json {
    json!({
        "type": ["object", "string"],
        "description": "Field to values; the stage becomes one member for each combination. In place of a list of \
            values: `{ range: { from, to, step } }`, with `n` in place of `step` so many evenly divided, or \
            `{ log_range: { from, to, n } }`, whose values have equal ratios; both ends are included.",
        "properties": {
            "zip": { "description": "Fields whose values go together, the first with the first: field to values; or a \
                list of such mappings." },
            "sample": { "description": "Random draws: `n` of them, by `seed` (0 if not given), of `fields`, each a \
                list, a `range` or a `log_range`. A larger `n` adds members and changes none." },
            "exclude": { "description": "Members that are left out: a mapping of some fields to a value each, or a \
                list of such mappings." },
            "include": { "description": "Members that are added: a mapping of all fields to a value each, or a list \
                of such mappings." },
        },
    })
}

fn report_schema() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "description": "What `dynvis report` says of a run beside its results; not part of any key.",
        "properties": {
            "title": { "type": "string", "description": "Title of the report; the pipeline's name if left out." },
            "text": { "type": "string", "description": "Markdown at its beginning." },
            "stages": {
                "type": "object",
                "additionalProperties": { "type": "string" },
                "description": "Markdown above the results of a stage, by the stage's name without matrix fields.",
            },
        },
    })
}

fn cache_schema() -> Json {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["remote"],
        "description": "Where results are kept besides this machine's cache; not part of any key.",
        "properties": {
            "remote": { "type": "string", "description": "Address: `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER`, or a \
                folder, relative to the project. A run asks there before it computes a stage." },
            "push": { "type": "boolean", "default": false, "description": "Whether a run sends what it has computed." },
        },
    })
}

fn described(schema: Json, description: &str) -> Json {
    let mut schema = for_editors(&schema);
    schema["description"] = description.into();
    schema
}

/// As [`for_editors`], where a preset may be named too, which may bring what is required.
fn with_presets(schema: &Json) -> Json {
    let mut schema = for_editors(schema);
    if let Some(object) = schema.as_object_mut() {
        object.remove("required");
        if let Some(properties) = object.get_mut("properties").and_then(Json::as_object_mut) {
            properties.insert(
                "use".into(),
                json!({
                    "type": ["string", "array"],
                    "items": { "type": "string" },
                    "description": "A preset from the folder `stages`, or several: a later one overrides an earlier \
                        one, and parameters given here override them all.",
                }),
            );
        }
    }
    schema
}

/// Pipelines may also give `${}` for any value, or one value for a list.
fn for_editors(schema: &Json) -> Json {
    let mut schema = relaxed(schema);
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
    }
    schema
}

fn relaxed(schema: &Json) -> Json {
    let Some(object) = schema.as_object() else {
        return schema.clone();
    };
    let mut out = object.clone();
    if let Some(properties) = out.get_mut("properties").and_then(Json::as_object_mut) {
        for value in properties.values_mut() {
            let inner = relaxed(value);
            let description = inner.get("description").cloned();
            let mut alternatives = vec![inner.clone(), json!({ "type": "string", "pattern": "\\$\\{.+\\}" })];
            if let Some(items) = inner.get("items") {
                alternatives.push(items.clone());
            }
            *value = json!({ "anyOf": alternatives });
            if let Some(description) = description {
                value["description"] = description;
            }
        }
        *properties = std::mem::take(properties)
            .into_iter()
            .flat_map(under_published_name)
            .collect();
    }
    Json::Object(out)
}

/// A property under its published name, and where that is not its stored one, under this as a deprecated one.
fn under_published_name((stored, property): (String, Json)) -> Vec<(String, Json)> {
    let parameter = &property["anyOf"][0];
    match published_parameter(&stored, parameter).to_owned() {
        name if name == stored => vec![(stored, property)],
        name => {
            let mut old = property.clone();
            old["deprecated"] = true.into();
            old["description"] = format!("Now called `{name}`.").into();
            vec![(name, property), (stored, old)]
        }
    }
}
