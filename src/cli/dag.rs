//! `dynvis dag`.

use std::collections::BTreeMap;

use dynvis_runner::pipeline::Pipeline;
use indexmap::IndexMap;
use serde_json::json;

use super::PipelineArgs;
use super::error::CommandError;
use super::ui::Ui;

/// Draw the pipeline's graph; a matrix is one node with its count
#[derive(clap::Args)]
pub(crate) struct DagArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[arg(long, value_enum, default_value_t = DagFormat::Text)]
    format: DagFormat,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum DagFormat {
    Text,
    Mermaid,
    Dot,
    Json,
}

/// A written stage with all its members.
struct Family {
    kind: &'static str,
    members: usize,
    /// Producer -> the parameters that it fills.
    inputs: BTreeMap<String, Vec<String>>,
}

pub(crate) fn dag(ui: &mut Ui, args: &DagArgs) -> Result<u8, CommandError> {
    let pipeline = args.pipeline.load(ui)?;
    let families = families(&pipeline);
    let text = match args.format {
        DagFormat::Text => text(&families),
        DagFormat::Mermaid => mermaid(&families),
        DagFormat::Dot => dot(&families),
        DagFormat::Json => json_text(&families),
    };
    ui.out(&text)?;
    Ok(0)
}

fn families(pipeline: &Pipeline) -> IndexMap<String, Family> {
    let mut families: IndexMap<String, Family> = IndexMap::new();
    let graph = pipeline.graph();
    for id in pipeline.order() {
        let stage = pipeline.stage(id);
        let family = families.entry(stage.family.clone()).or_insert_with(|| Family {
            kind: stage.kind().name(),
            members: 0,
            inputs: BTreeMap::new(),
        });
        family.members += 1;
        let node = petgraph::graph::NodeIndex::new(id.0);
        for edge in graph.edges_directed(node, petgraph::Direction::Incoming) {
            let producer = &pipeline.stage(graph[petgraph::visit::EdgeRef::source(&edge)]).family;
            // `models.3` fills the parameter `models`.
            let parameter = edge.weight().split('.').next().unwrap_or_default().to_owned();
            let slots = family.inputs.entry(producer.clone()).or_default();
            if !slots.contains(&parameter) {
                slots.push(parameter);
            }
        }
    }
    families
}

fn label(name: &str, family: &Family) -> String {
    match family.members {
        1 => name.to_owned(),
        n => format!("{name} x{n}"),
    }
}

fn text(families: &IndexMap<String, Family>) -> String {
    let width = families.iter().map(|(n, f)| label(n, f).len()).max().unwrap_or(0);
    let kinds = families.values().map(|f| f.kind.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, family) in families {
        let inputs: Vec<String> = family
            .inputs
            .iter()
            .map(|(producer, slots)| format!("{producer} ({})", slots.join(", ")))
            .collect();
        let line = format!("{:width$}  {:kinds$}", label(name, family), family.kind);
        text += line.trim_end();
        if !inputs.is_empty() {
            text += &format!("  <- {}", inputs.join(", "));
        }
        text.push('\n');
    }
    text
}

fn mermaid(families: &IndexMap<String, Family>) -> String {
    let mut text = "graph TD\n".to_owned();
    for (name, family) in families {
        text += &format!("  {name}[\"{} ({})\"]\n", label(name, family), family.kind);
    }
    for (name, family) in families {
        for producer in family.inputs.keys() {
            text += &format!("  {producer} --> {name}\n");
        }
    }
    text
}

fn dot(families: &IndexMap<String, Family>) -> String {
    let mut text = "digraph pipeline {\n  rankdir=TB; node [shape=box];\n".to_owned();
    for (name, family) in families {
        text += &format!("  \"{name}\" [label=\"{}\\n{}\"];\n", label(name, family), family.kind);
    }
    for (name, family) in families {
        for producer in family.inputs.keys() {
            text += &format!("  \"{producer}\" -> \"{name}\";\n");
        }
    }
    text + "}\n"
}

fn json_text(families: &IndexMap<String, Family>) -> String {
    let stages: Vec<_> = families
        .iter()
        .map(|(name, f)| json!({ "stage": name, "kind": f.kind, "members": f.members, "inputs": f.inputs }))
        .collect();
    format!("{:#}\n", json!({ "version": 1, "stages": stages }))
}
