//! `command`: a user's own program with declared inputs and outputs, cached like any other stage.

mod files;
mod inputs;
mod outputs;
mod shell;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::kind::{
    AnyRefs, Artifact, Context, Declared, ErrorClass, External, ExternalFile, Kind, MissingData, Output, StageError,
    Update, Violation, located,
};
use crate::names::is_name;
use crate::run::run_program;

/// `command`; `T`: the types that outputs can have.
pub struct Command<T = FilesOrTable>(PhantomData<T>);

/// Types that a pipeline can give to what a program writes (`outputs: { NAME: { path: PATH, type: TYPE } }`). Doc
/// comments of the variants are what users read.
pub trait OutputType:
    Copy + Default + std::fmt::Debug + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// What it is to later stages.
    fn artifact(self) -> Artifact;

    /// For types other than files and tables, which are taken as they are: whether `written` is what the type promises,
    /// and the name that the file gets.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(self, written: &Path) -> Result<&'static str, StageError> {
        let kind = self.artifact();
        Err(StageError::new(format!(
            "nothing says whether `{}` is {}",
            written.display(),
            kind.describe()
        )))
    }
}

/// Files and tables, which every program can offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FilesOrTable {
    /// any file or folder
    #[default]
    Files,
    /// a CSV or Parquet file, shown and compared like a result table
    Table,
}

impl OutputType for FilesOrTable {
    fn artifact(self) -> Artifact {
        match self {
            Self::Files => Artifact::FILES,
            Self::Table => Artifact::TABLE,
        }
    }
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "T: OutputType")]
#[schemars(bound = "T: OutputType")]
struct OutputSpec<T> {
    /// File or folder that the program writes, relative to its working folder.
    path: String,
    /// What it is to later stages.
    #[serde(default, rename = "type")]
    kind: T,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "T: OutputType")]
#[schemars(bound = "T: OutputType", rename = "Params")]
pub struct Params<T> {
    /// Program and arguments. `{inputs.NAME}` stands for the folder of an input (for all folders, in order, where it
    /// has several members), `{files.N}` for the N-th declared file (all of its files where it is a glob), `{root}` for
    /// the project's folder. No shell is involved; in the script of `sh -c` they are quoted as the shell needs it. An
    /// argument that is nothing but one of them becomes as many as it stands for; within a longer one there is a space
    /// between them.
    #[schemars(length(min = 1))]
    run: Vec<String>,
    /// Inputs from other stages: name to stage (or stage/output), or to all members of a matrix (`stage@*/output`). The
    /// environment variable DYNVIS_INPUTS names a JSON file that lists them, an entry for every input and member:
    /// `{"name": "scores", "folder": "/...", "artifact": "table", "fields": {"seed": 1}}`, with matrix fields where the
    /// input has `*`.
    #[serde(default)]
    inputs: BTreeMap<String, AnyRefs>,
    /// Files that the program reads, relative to the project's folder (its script, for one), folders or globs
    /// (`scripts/*.py`): a change runs it again. `__pycache__`, `.git`, `.ipynb_checkpoints` and `.DS_Store` do not
    /// count.
    #[serde(default)]
    files: Vec<String>,
    /// What the program writes into its working folder: name to path and type. One may lie within another.
    outputs: BTreeMap<String, OutputSpec<T>>,
    /// Environment variables whose values belong to the stage's identity; what is kept of a value is its hash.
    #[serde(default)]
    environment: Vec<String>,
}

impl<T: OutputType> Kind for Command<T> {
    type Params = Params<T>;
    const NAME: &'static str = "command";
    const SUMMARY: &'static str = "run a program of your own, with declared inputs and outputs, cached like any stage";
    const CODE_VERSION: u32 = 1;
    const KEYED_DEFAULTS: &'static [&'static str] = &[
        "run",
        "inputs",
        "inputs.*",
        "files",
        "outputs",
        "outputs.*",
        "outputs.*.path",
        "outputs.*.type",
        "environment",
    ];
    /// The parameter `outputs` names them.
    const OUTPUTS: &'static [Declared<Params<T>>] = &[];
    // The file that lists the inputs names the fields of members.
    const SEES_GROUPS: bool = true;
    const SEES_REPETITIONS: bool = true;
    const SEES_LISTS_ALONE: bool = true;

    fn check(params: &Params<T>) -> Vec<Violation> {
        let mut found = inputs::violations(&params.inputs);
        if params.outputs.is_empty() {
            found.push(Violation::new("outputs", "declare at least one output"));
        }
        for (name, output) in &params.outputs {
            // It becomes the name of a folder.
            if !is_name(name) {
                let message = format!(
                    "output `{name}`: a name has letters, digits, `_` and `-`, and begins with a letter (`path` says \
                     where the program writes it)"
                );
                found.push(Violation::new("outputs", message));
            }
            let inside = Path::new(&output.path)
                .components()
                .all(|c| matches!(c, std::path::Component::Normal(_)));
            if !inside || output.path.is_empty() {
                let message = format!("output `{name}`: a path within the working folder is needed");
                found.push(Violation::new("outputs", message));
            }
        }
        for name in &params.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("`{name}` is not the name of an environment variable; give the name alone");
                found.push(Violation::new("environment", message));
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

    fn outputs(params: &Params<T>) -> Vec<Output> {
        params
            .outputs
            .iter()
            .map(|(name, output)| Output::new(name, output.kind.artifact()))
            .collect()
    }

    fn external(params: &Params<T>, root: &Path) -> External {
        let mut external = External {
            environment: params.environment.clone(),
            ..External::default()
        };
        for (index, file) in params.files.iter().enumerate() {
            match files::named(root, file) {
                Ok(found) => external
                    .files
                    .extend(found.into_iter().map(|(within, path)| ExternalFile {
                        slot: match within {
                            Some(within) => format!("{index}/{within}"),
                            None => index.to_string(),
                        },
                        path,
                    })),
                Err(hint) => external.missing.push(MissingData {
                    what: format!("the file `{file}`"),
                    place: file.clone(),
                    unusable: located(root, file).exists().then(|| hint.clone()),
                    hint,
                }),
            }
        }
        external
    }

    fn run(params: &Params<T>, context: &mut Context) -> Result<(), StageError> {
        let folder = context.scratch.join(WORK);
        fs_err::create_dir_all(&folder)?;
        let real = fs_err::canonicalize(&folder)?;
        let arguments = arguments(params, context)?;
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
        let listed = context.scratch.with_file_name("inputs.json");
        inputs::list(&params.inputs, context, &listed)?;
        let place = context.scratch.with_file_name("ended.json");
        let status = run_program(program, rest, &place, |command| {
            if let Some(bytes) = context.gpu_memory {
                command.env("DYNVIS_GPU_MEMORY", bytes.to_string());
            }
            command
                .current_dir(&folder)
                .env("DYNVIS_INPUTS", &listed)
                .env("DYNVIS_THREADS", context.threads.to_string());
        })
        .map_err(|e| {
            StageError::new(format!("cannot start `{program}`: {e}"))
                .hint("give a program on PATH, or a path relative to the project with {root}/…")
        })?;
        if !status.success() {
            let class = class_of(status);
            let error = StageError::new(format!("`{program}` ended with {status}")).class(class);
            return Err(match class {
                Some(ErrorClass::Oom) => error.hint(
                    "the system ends programs so where memory is short: `resources: { memory }` asks for more, in GiB, \
                     and `retry` tries again with more",
                ),
                _ => error,
            });
        }
        let mut all = Vec::new();
        for (name, output) in &params.outputs {
            let written = folder.join(&output.path);
            if std::fs::symlink_metadata(&written).is_err() {
                return Err(StageError::new(format!(
                    "`{program}` did not write `{}`, its output `{name}`",
                    output.path
                )));
            }
            let place = outputs::place(&real, &written, name)?;
            // Links may lead to what the program wrote beside its outputs, so that all of it must still be there.
            outputs::make_real(&place)?;
            all.push((name, output, place));
        }
        outputs::clear(&context.scratch, WORK)?;
        // What lies within another output comes first, and stays for that one.
        all.sort_by_key(|(_, _, place)| std::cmp::Reverse(place.components().count()));
        // No output has this name, so that one called `work` has its place.
        let kept = context.scratch.join(".work");
        fs_err::rename(&folder, &kept)?;
        for (index, (name, output, place)) in all.iter().enumerate() {
            let written = kept.join(place.strip_prefix(&real).unwrap_or(place));
            let is_shared = all[index + 1..].iter().any(|(_, _, other)| place.starts_with(other));
            outputs::publish(context, name, output, &written, is_shared)?;
        }
        Ok(())
    }
}

/// The program's working folder, within the scratch folder.
const WORK: &str = "work";

/// What a program's end says about another attempt: the system kills programs where memory is short (a shell in between
/// makes that 137), and 74 is `EX_IOERR` of `sysexits.h`.
fn class_of(status: std::process::ExitStatus) -> Option<ErrorClass> {
    match (status.signal(), status.code()) {
        (Some(9), _) | (_, Some(137)) => Some(ErrorClass::Oom),
        (_, Some(74)) => Some(ErrorClass::Io),
        _ => None,
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
    Input(&'a AnyRefs),
    File(&'a str),
}

fn resolve<'a, T>(placeholder: &str, params: &'a Params<T>) -> Option<Placeholder<'a>> {
    if placeholder == "root" {
        return Some(Placeholder::Root);
    }
    if let Some(name) = placeholder.strip_prefix("inputs.") {
        return params.inputs.get(name).map(Placeholder::Input);
    }
    let index: usize = placeholder.strip_prefix("files.")?.parse().ok()?;
    params.files.get(index).map(|f| Placeholder::File(f))
}

/// The program and its arguments, filled in. One that is nothing but a glob becomes as many as there are files.
fn arguments<T>(params: &Params<T>, context: &Context) -> Result<Vec<String>, StageError> {
    let mut all = Vec::new();
    for (index, argument) in params.run.iter().enumerate() {
        let is_script = index >= 2 && params.run[index - 1].ends_with('c') && shell::is_shell(&params.run[..index]);
        let value = |placeholder: &str| -> Result<Option<Vec<String>>, StageError> {
            let paths = match resolve(placeholder, params) {
                Some(Placeholder::Root) => vec![context.root.clone()],
                Some(Placeholder::Input(input)) => {
                    let folders = inputs::slots(input).iter().map(|slot| context.input(slot));
                    folders
                        .map(|folder| Ok(folder?.to_owned()))
                        .collect::<Result<_, StageError>>()?
                }
                Some(Placeholder::File(file)) => files::paths(&context.root, file).map_err(StageError::new)?,
                None => return Ok(None),
            };
            Ok(Some(
                paths.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            ))
        };
        let whole = argument.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        if let Some(whole) = whole.filter(|whole| !whole.contains(['{', '}']))
            && let Some(values) = value(whole)?
        {
            all.extend(values);
            continue;
        }
        let mut text = String::new();
        let mut rest = argument.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            text += before;
            let filled = match after.split_once('}') {
                Some((inside, behind)) => value(inside)?.map(|values| (values, behind)),
                None => None,
            };
            match filled {
                Some((values, behind)) if is_script => {
                    text = shell::with_values(text, &values);
                    rest = behind;
                }
                Some((values, behind)) => {
                    text += &values.join(" ");
                    rest = behind;
                }
                None => {
                    text.push('{');
                    rest = after;
                }
            }
        }
        all.push(text + rest);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_checked_against_what_is_declared() {
        let params: Params<FilesOrTable> = serde_json::from_value(serde_json::json!({
            "run": ["python3", "{files.0}", "{inputs.models}", "{inputs.nothing}", "{unrelated}"],
            "files": ["fit.py"],
            "inputs": { "models": "cnn" },
            "outputs": { "fit": { "path": "fit.csv", "type": "table" } },
        }))
        .expect("parses");
        let found = <Command>::check(&params);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("inputs.nothing"));
    }
}
