//! `command`: a user's own program with declared inputs and outputs, cached like any other stage.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AnyRef, Artifact, Context, ErrorClass, External, ExternalFile, Kind, MissingData, Output, StageError, Update,
    Violation,
};

pub(super) struct Command;

/// What an output of the program is to later stages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OutputType {
    /// any file or folder
    #[default]
    Files,
    /// a CSV or Parquet file, shown and compared like a result table
    Table,
    /// a model.safetensors under the published names
    Model,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OutputSpec {
    /// File or folder that the program writes, relative to its working folder.
    path: String,
    /// What it is to later stages.
    #[serde(default, rename = "type")]
    kind: OutputType,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    /// Program and arguments. `{inputs.NAME}` stands for the folder of an input, `{files.N}` for the N-th declared
    /// file, `{root}` for the project's folder. No shell is involved.
    #[schemars(length(min = 1))]
    run: Vec<String>,
    /// Inputs from other stages: name to stage (or stage/output).
    #[serde(default)]
    inputs: BTreeMap<String, AnyRef>,
    /// Files that the program reads, relative to the project's folder (its script, for one): a change runs it again.
    #[serde(default)]
    files: Vec<String>,
    /// What the program writes into its working folder: name to path and type.
    outputs: BTreeMap<String, OutputSpec>,
    /// Environment variables whose values belong to the stage's identity.
    #[serde(default)]
    environment: Vec<String>,
}

impl Kind for Command {
    type Params = Params;
    const NAME: &'static str = "command";
    const SUMMARY: &'static str = "run a program of your own, with declared inputs and outputs, cached like any stage";
    const CODE_VERSION: u32 = 1;

    fn check(params: &Params) -> Vec<Violation> {
        let mut found = Vec::new();
        if params.outputs.is_empty() {
            found.push(Violation::new("outputs", "declare at least one output"));
        }
        for (name, output) in &params.outputs {
            let inside = Path::new(&output.path)
                .components()
                .all(|c| matches!(c, std::path::Component::Normal(_)));
            if !inside || output.path.is_empty() {
                let message = format!("output `{name}`: a path within the working folder is needed");
                found.push(Violation::new("outputs", message));
            }
        }
        if let Some(unknown) = params
            .run
            .iter()
            .flat_map(|a| placeholders(a))
            .find(|p| resolve(p, params).is_none())
        {
            let message = format!("`{{{unknown}}}` names no declared input or file");
            found.push(Violation::new("run", message));
        }
        found
    }

    fn outputs(params: &Params) -> Vec<Output> {
        params
            .outputs
            .iter()
            .map(|(name, output)| {
                let artifact = match output.kind {
                    OutputType::Files => Artifact::Files,
                    OutputType::Table => Artifact::Table,
                    OutputType::Model => Artifact::Model,
                };
                Output::new(name, artifact)
            })
            .collect()
    }

    fn external(params: &Params, root: &Path) -> External {
        let mut external = External {
            environment: params.environment.clone(),
            ..External::default()
        };
        for (index, file) in params.files.iter().enumerate() {
            let path = root.join(file);
            if path.is_file() {
                external.files.push(ExternalFile {
                    slot: index.to_string(),
                    path,
                });
            } else {
                external.missing.push(MissingData {
                    what: format!("the file `{file}`"),
                    place: file.clone(),
                    hint: "`files` holds paths relative to the project's folder".into(),
                });
            }
        }
        external
    }

    fn run(params: &Params, context: &mut Context) -> Result<(), StageError> {
        let folder = context.scratch.join("work");
        fs_err::create_dir_all(&folder)?;
        let arguments = params
            .run
            .iter()
            .map(|a| fill(a, params, context))
            .collect::<Result<Vec<_>, _>>()?;
        let [program, rest @ ..] = arguments.as_slice() else {
            return Err(StageError::new("`run` is empty"));
        };
        context.report(Update {
            done: 0,
            total: 1,
            unit: "programs".into(),
            phase: params.run.join(" "),
            figures: Vec::new(),
            milestone: false,
        });
        // The worker's standard output belongs to the protocol; what the program says goes to the log.
        let log = std::io::stderr().as_fd().try_clone_to_owned()?;
        let mut command = std::process::Command::new(program);
        if let Some(bytes) = context.gpu_memory {
            command.env("DYNVIS_GPU_MEMORY", bytes.to_string());
        }
        let status = command
            .args(rest)
            .current_dir(&folder)
            .env("DYNVIS_THREADS", context.threads.to_string())
            .stdin(Stdio::null())
            .stdout(log)
            .status()
            .map_err(|e| {
                StageError::new(format!("cannot start `{program}`: {e}"))
                    .hint("give a program on PATH, or a path relative to the project with {root}/…")
            })?;
        if !status.success() {
            return Err(StageError::new(format!("`{program}` ended with {status}")).class(class_of(status)));
        }
        for (name, output) in &params.outputs {
            let written = folder.join(&output.path);
            if !written.exists() {
                return Err(StageError::new(format!(
                    "`{program}` did not write `{}`, its output `{name}`",
                    output.path
                )));
            }
            replace_links(&written)?;
            publish(context, name, output, &written)?;
        }
        Ok(())
    }
}

/// What a program's end says about another attempt: the system kills programs where memory is short (a shell in between
/// makes that 137), and 74 is `EX_IOERR` of `sysexits.h`.
fn class_of(status: std::process::ExitStatus) -> Option<ErrorClass> {
    match (status.signal(), status.code()) {
        (Some(9), _) | (_, Some(137)) => Some(ErrorClass::Oom),
        (_, Some(74)) => Some(ErrorClass::Io),
        _ => None,
    }
}

/// Puts copies in the place of links, so that a result does not change with files elsewhere.
fn replace_links(path: &Path) -> Result<(), StageError> {
    let metadata = fs_err::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs_err::read_dir(path)? {
            replace_links(&entry?.path())?;
        }
        return Ok(());
    }
    if !metadata.is_symlink() && metadata.nlink() == 1 {
        return Ok(());
    }
    let target = fs_err::canonicalize(path)?;
    if target.is_dir() {
        return Err(
            StageError::new(format!("`{}` is a link to a folder", path.display())).hint("write the folder itself")
        );
    }
    let copy = path.with_extension("copy-in-place-of-a-link");
    fs_err::copy(&target, &copy)?;
    Ok(fs_err::rename(&copy, path)?)
}

/// Moves what the program wrote to where the store takes it from, in the form that its type promises.
fn publish(context: &mut Context, name: &str, output: &OutputSpec, written: &Path) -> Result<(), StageError> {
    match output.kind {
        OutputType::Table => {
            let table = crate::table::Table::read(written)?;
            context.write_table(name, &table)
        }
        OutputType::Model => {
            cords::net::Model::load(written)?;
            let target = context.output(name)?.join("model.safetensors");
            Ok(fs_err::rename(written, target)?)
        }
        OutputType::Files if written.is_dir() => {
            let target = context.scratch.join(name);
            Ok(fs_err::rename(written, target)?)
        }
        OutputType::Files => {
            let file = written.file_name().map(PathBuf::from).unwrap_or_default();
            let target = context.output(name)?.join(file);
            Ok(fs_err::rename(written, target)?)
        }
    }
}

/// The expressions within braces.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}').map(|(inside, _)| inside))
        .filter(|p| *p == "root" || p.starts_with("inputs.") || p.starts_with("files."))
}

enum Placeholder<'a> {
    Root,
    Input(&'a AnyRef),
    File(&'a str),
}

fn resolve<'a>(placeholder: &str, params: &'a Params) -> Option<Placeholder<'a>> {
    if placeholder == "root" {
        return Some(Placeholder::Root);
    }
    if let Some(name) = placeholder.strip_prefix("inputs.") {
        return params.inputs.get(name).map(Placeholder::Input);
    }
    let index: usize = placeholder.strip_prefix("files.")?.parse().ok()?;
    params.files.get(index).map(|f| Placeholder::File(f))
}

fn fill(argument: &str, params: &Params, context: &Context) -> Result<String, StageError> {
    let mut text = argument.to_owned();
    for placeholder in placeholders(argument) {
        let value = match resolve(placeholder, params) {
            Some(Placeholder::Root) => context.root.clone(),
            Some(Placeholder::Input(slot)) => context.input(&slot.0)?.to_owned(),
            Some(Placeholder::File(file)) => context.root.join(file),
            None => continue,
        };
        text = text.replace(&format!("{{{placeholder}}}"), &value.to_string_lossy());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_checked_against_what_is_declared() {
        let params: Params = serde_json::from_value(serde_json::json!({
            "run": ["python3", "{files.0}", "{inputs.models}", "{inputs.nothing}", "{unrelated}"],
            "files": ["fit.py"],
            "inputs": { "models": "cnn" },
            "outputs": { "fit": { "path": "fit.csv", "type": "table" } },
        }))
        .expect("parses");
        let found = Command::check(&params);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("inputs.nothing"));
    }
}
