//! How jobs are asked of a site's queue: a small YAML file of the site's or the project's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::node::{self, Node, SourceTexts, Value};
use super::presets::reason;
use super::problem::{Problem, ProblemKind, suggest};
use super::validate::typed;
use crate::kind::{Registry, schema_of};

/// How jobs are asked of a site's queue. No key holds any of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What every job asks for, unless a rule says otherwise.
    #[serde(default)]
    pub job: JobOptions,
    /// What jobs of some stages ask for. Of several rules that fit, the last one that names an option counts.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// How another queue than Slurm is spoken with, for `--executor commands`.
    #[serde(default)]
    pub commands: Option<Commands>,
    /// Stage kinds that are no jobs, but run where `dynvis run` does.
    #[serde(default = "local_kinds")]
    pub local: Vec<String>,
    /// Path of the program on the nodes; that of the program that submits if left out.
    #[serde(default)]
    pub program: Option<PathBuf>,
    /// Members of a matrix that one job array holds at most; 1 for none.
    #[serde(default = "array")]
    #[schemars(range(min = 1, max = 1000))]
    pub array: usize,
    /// How long before its time limit a job is asked to write a checkpoint.
    #[serde(default = "grace")]
    #[schemars(range(min = 1, max = 65_535), extend("x-unit" = "s"))]
    pub grace: u32,
    /// How long between two looks at the queue, at most.
    #[serde(default = "poll")]
    #[schemars(range(min = 0.05, max = 3600), extend("x-unit" = "s"))]
    pub poll: f64,
    /// How far the queue's answers and the nodes' files may be behind.
    #[serde(default = "patience")]
    #[schemars(range(min = 0.1, max = 86_400), extend("x-unit" = "s"))]
    pub patience: f64,
    /// How long a command of the queue may take.
    #[serde(default = "command_limit")]
    #[schemars(range(min = 0.1, max = 3600), extend("x-unit" = "s"))]
    pub command_limit: f64,
    /// Further jobs of a stage whose job was lost, cancelled or ended with its node.
    #[serde(default = "resubmit")]
    #[schemars(range(max = 1000))]
    pub resubmit: u32,
}

/// Options of jobs; those that are left out are not passed to the queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobOptions {
    /// Partition, `--partition`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Account that is charged, `--account`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// Quality of service, `--qos`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// Features of nodes, `--constraint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// Processor threads of stages that name none in `resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cpu: Option<usize>,
    /// Memory of stages that name none in `resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "GiB"))]
    pub memory: Option<f64>,
    /// Time limit of stages that name none in `resources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1e6), extend("exclusiveMinimum" = 0.0, "x-unit" = "min"))]
    pub time: Option<f64>,
    /// How GPUs are asked for, with `{count}` for their number: `--gres=gpu:{count}`. Without it no stage gets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Further options of `sbatch`, each as one word: `--exclude=n7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Vec<String>>,
    /// Lines of the shell before the program starts: `module load cuda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setup: Option<Vec<String>>,
    /// Words that stand before the program: `[apptainer, exec, --nv, lab.sif]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Vec<String>>,
}

/// Commands of a queue: lines for `sh`, which find what they are about in variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Submits the script `$JOB_SCRIPT` and prints the job's id as the last word of its last line. What the job asks for
    /// stands in `$JOB_NAME`, `$JOB_TOKEN`, `$JOB_CPU`, `$JOB_MEMORY` (MiB), `$JOB_MINUTES`, `$JOB_SECONDS`, `$JOB_GPU`,
    /// `$JOB_PARTITION`, `$JOB_ACCOUNT`, `$JOB_QOS`, `$JOB_CONSTRAINT`, `$JOB_OPTIONS`; empty what it does not name.
    pub submit: String,
    /// Lists the user's jobs, one a line: id, state and, where the queue tells it, name.
    pub list: String,
    /// Ends the job `$JOB_ID`.
    pub cancel: String,
    /// Prints the state of the job `$JOB_ID` that `list` does not show any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// What the queue's words for states mean; a job in any other state is taken for going on.
    #[serde(default)]
    pub states: BTreeMap<String, JobState>,
    /// The job's id within the job, as the shell of its script expands it. Unless given, what PBS, Grid Engine or LSF set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// It has not started yet.
    Waits,
    /// It runs.
    Runs,
    /// Its process has ended, well or not.
    Ended,
    /// It had too little memory.
    Memory,
    /// It came to its time limit.
    Time,
    /// It was cancelled, taken away, or ended with its node.
    Taken,
}

/// What jobs of some stages ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Stage kinds; any if left out.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Names of stages, with `*` for any letters; any if left out.
    #[serde(default)]
    pub stages: Vec<String>,
    /// What their jobs ask for.
    pub job: JobOptions,
}

fn local_kinds() -> Vec<String> {
    ["dataset", "collect", "import", "plot"].map(str::to_owned).to_vec()
}

fn array() -> usize {
    100
}

fn grace() -> u32 {
    60
}

fn poll() -> f64 {
    10.0
}

fn patience() -> f64 {
    60.0
}

fn command_limit() -> f64 {
    60.0
}

fn resubmit() -> u32 {
    10
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            job: JobOptions::default(),
            rules: Vec::new(),
            commands: None,
            local: local_kinds(),
            program: None,
            array: array(),
            grace: grace(),
            poll: poll(),
            patience: patience(),
            command_limit: command_limit(),
            resubmit: resubmit(),
        }
    }
}

impl JobOptions {
    /// These, with those of `other` in their place where it has any.
    fn with(self, other: &Self) -> Self {
        macro_rules! either {
            ($($field:ident),*) => {
                Self { $($field: other.$field.clone().or(self.$field)),* }
            };
        }
        either!(
            partition, account, qos, constraint, cpu, memory, time, gpu, options, setup, launch
        )
    }
}

impl JobOptions {
    /// These, with what a stage itself names in their place: threads, GiB, minutes.
    pub(crate) fn claimed(self, cpu: Option<usize>, memory: Option<f64>, time: Option<f64>) -> Self {
        Self {
            cpu: cpu.or(self.cpu),
            memory: memory.or(self.memory),
            time: time.or(self.time),
            ..self
        }
    }
}

impl Rule {
    fn fits(&self, kind: &str, stage: &str) -> bool {
        let names = |pattern: &String| Glob::new(pattern).is_ok_and(|glob| glob.compile_matcher().is_match(stage));
        (self.kinds.is_empty() || self.kinds.iter().any(|name| name == kind))
            && (self.stages.is_empty() || self.stages.iter().any(names))
    }
}

impl Profile {
    /// What a stage's job asks for.
    pub(crate) fn options(&self, kind: &str, stage: &str) -> JobOptions {
        let fitting = self.rules.iter().filter(|rule| rule.fits(kind, stage));
        fitting.fold(self.job.clone(), |options, rule| options.with(&rule.job))
    }
}

static SCHEMA: OnceLock<Json> = OnceLock::new();

/// The JSON Schema of profiles.
pub fn profile_schema() -> &'static Json {
    SCHEMA.get_or_init(schema_of::<Profile>)
}

/// Reads a profile; the texts serve to draw what is wrong with it.
///
/// # Errors
/// Everything that is wrong with the file, each with its place.
pub fn load_profile(path: &Path, registry: &Registry) -> (SourceTexts, Result<Profile, Vec<Problem>>) {
    let mut sources = SourceTexts::default();
    let result = match dynvis_base::files::read_to_string(path) {
        Ok(text) => parse(path.display().to_string(), text, registry, &mut sources),
        Err(error) => Err(vec![Problem {
            kind: ProblemKind::UnreadableFile {
                path: path.display().to_string(),
                reason: reason(&error),
            },
            spot: None,
            related: Vec::new(),
        }]),
    };
    (sources, result)
}

fn parse(name: String, text: String, registry: &Registry, sources: &mut SourceTexts) -> Result<Profile, Vec<Problem>> {
    let is_empty = text
        .lines()
        .all(|line| line.split('#').next().is_none_or(|code| code.trim().is_empty()));
    let source = sources.add(name, text);
    if is_empty {
        return Ok(Profile::default());
    }
    let document = node::parse(sources, source)
        .map_err(|error| vec![Problem::at(error.spot, ProblemKind::Syntax { message: error.message })])?;
    let mut problems = Vec::new();
    let profile = typed::<Profile>(profile_schema(), &document, "option", &mut problems);
    report_kinds(document.get("local"), registry, &mut problems);
    for rule in list(document.get("rules")) {
        report_kinds(rule.get("kinds"), registry, &mut problems);
        for pattern in list(rule.get("stages")) {
            if let Some(Err(error)) = pattern.scalar_text().map(|text| Glob::new(&text)) {
                let message = format!("not a pattern of names: {}", error.kind());
                problems.push(Problem::at(pattern.spot, ProblemKind::Inconsistent { message }));
            }
        }
        report_gpu(rule.get("job"), &mut problems);
    }
    report_gpu(document.get("job"), &mut problems);
    let jobs = list(document.get("rules")).iter().map(|rule| rule.get("job"));
    let by_slurm = document.get("commands").is_none();
    for job in jobs.chain([document.get("job")]).filter(|_| by_slurm) {
        report_options(job, &mut problems);
    }
    match profile {
        Some(profile) if problems.is_empty() => Ok(profile),
        _ => Err(problems),
    }
}

/// The items of a list, or what stands alone in place of a list of one.
fn list(node: Option<&Node>) -> &[Node] {
    match node.map(|node| (node, &node.value)) {
        Some((_, Value::List(items))) => items,
        Some((_, Value::Null)) | None => &[],
        Some((node, _)) => std::slice::from_ref(node),
    }
}

fn report_kinds(names: Option<&Node>, registry: &Registry, problems: &mut Vec<Problem>) {
    for node in list(names) {
        let Some(name) = node.scalar_text().filter(|name| registry.kind(name).is_none()) else {
            continue;
        };
        let valid = || registry.kinds().iter().map(|kind| kind.name());
        let kind = ProblemKind::UnknownName {
            what: "stage kind",
            suggestion: suggest(&name, valid()),
            name,
            valid: valid().map(str::to_owned).collect(),
        };
        problems.push(Problem::at(node.spot, kind));
    }
}

fn report_gpu(job: Option<&Node>, problems: &mut Vec<Problem>) {
    if let Some(node) = job.and_then(|job| job.get("gpu"))
        && let Some(text) = node.scalar_text()
        && !text.contains("{count}")
    {
        let message = "how GPUs are asked for must say where their number stands: `{count}`".to_owned();
        problems.push(Problem::at(node.spot, ProblemKind::Inconsistent { message }));
    }
}

/// Options by which jobs are found, arrays are made, or `sbatch` does something else than to submit.
const OURS: [(&str, Option<&str>); 10] = [
    ("--job-name", Some("-J")),
    ("--array", Some("-a")),
    ("--clusters", Some("-M")),
    ("--dependency", Some("-d")),
    ("--no-requeue", None),
    ("--parsable", None),
    ("--signal", None),
    ("--test-only", None),
    ("--wait", Some("-W")),
    ("--wrap", None),
];

fn report_options(job: Option<&Node>, problems: &mut Vec<Problem>) {
    for node in list(job.and_then(|job| job.get("options"))) {
        let Some(text) = node.scalar_text() else { continue };
        let name = text.split(['=', ' ']).next().unwrap_or_default();
        let is_ours = |(long, short): &(&str, Option<&str>)| {
            name == *long || short.is_some_and(|short| !name.starts_with("--") && name.starts_with(short))
        };
        if let Some((long, _)) = OURS.iter().find(|option| is_ours(option)) {
            let message = format!("`{long}` is not for a profile: jobs could not be found, or would not be submitted");
            problems.push(Problem::at(node.spot, ProblemKind::Inconsistent { message }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{Collect, Command};

    fn read(text: &str) -> Result<Profile, Vec<String>> {
        let registry = Registry::new("0").with::<Command>().with::<Collect>();
        let mut sources = SourceTexts::default();
        parse("slurm.yaml".to_owned(), text.to_owned(), &registry, &mut sources).map_err(|problems| {
            let at = |problem: &Problem| problem.spot.map_or(0, |spot| spot.line);
            problems
                .iter()
                .map(|problem| format!("{}: {}", at(problem), problem.kind))
                .collect()
        })
    }

    #[test]
    fn the_last_rule_that_fits_counts_option_by_option() {
        let text = "
job: { partition: main, cpu: 2, setup: [module load a] }
rules:
  - kinds: [command]
    job: { partition: gpu, time: 60 }
  - stages: ['net@*']
    job: { time: 90, gpu: '--gres=gpu:{count}' }
";
        let profile = read(text).expect("a profile");
        let options = profile.options("command", "net@seed=1");
        assert_eq!(options.partition.as_deref(), Some("gpu"));
        assert_eq!((options.time, options.cpu), (Some(90.0), Some(2)));
        assert_eq!(options.gpu.as_deref(), Some("--gres=gpu:{count}"));
        let options = profile.options("collect", "all");
        assert_eq!((options.partition.as_deref(), options.time), (Some("main"), None));
        assert_eq!(options.setup, Some(vec!["module load a".to_owned()]));
        for nothing in ["", "# nothing yet\n"] {
            assert_eq!(read(nothing), Ok(Profile::default()));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, said) in [
            ("job:\n  partion: main\n", "2: unknown option `partion`"),
            ("poll: 0\n", "1: 0 is out of range"),
            ("local: [comand]\n", "1: unknown stage kind `comand`"),
            ("job:\n  cpu: many\n", "2: expected"),
            ("job:\n  gpu: --gres=gpu:1\n", "2: how GPUs are asked for"),
            (
                "job:\n  options: [--nice, --job-name=x]\n",
                "2: `--job-name` is not for a profile",
            ),
            (
                "rules:\n  - job: { options: [-Mother] }\n",
                "2: `--clusters` is not for a profile",
            ),
            ("rules:\n  - stages: ['[']\n    job: {}\n", "2: not a pattern of names"),
            ("local: comand\n", "1: unknown stage kind `comand`"),
            ("job:\n  options: -a0-3\n", "2: `--array` is not for a profile"),
            ("job: [\n", "not valid YAML"),
        ] {
            let problems = read(text).expect_err(text);
            assert!(
                problems.iter().any(|problem| problem.contains(said)),
                "{text}: {problems:?}"
            );
        }
    }
}
