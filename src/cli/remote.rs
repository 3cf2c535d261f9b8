//! Which remote a command is about, and how it is asked.

use std::path::Path;
use std::time::Duration;

use dynvis_remote::{Options, Place};
use dynvis_runner::pipeline::{LoadOptions, Pipeline, load};
use dynvis_runner::store::{ElsewhereError, PullError, RunRecord, Store};

use super::error::CommandError;
use super::registry;
use crate::remote::Shared;

/// What stands for no remote.
const NONE: &str = "none";

/// How long a run waits for a remote that says nothing. What it does not get it computes.
const PATIENCE_OF_A_RUN: Duration = Duration::from_secs(20);

/// The remote of one command.
#[derive(clap::Args, Clone, Debug, Default)]
pub(crate) struct RemoteArgs {
    /// Where results are asked for before they are computed: `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER`, a folder, or
    /// `none` [default: `cache: { remote: URL }` of the pipeline]
    #[arg(long, env = "DYNVIS_REMOTE", value_name = "URL")]
    remote: Option<String>,
}

impl RemoteArgs {
    /// The pipeline's remote, or that which the command line names in its place.
    pub(crate) fn open(&self, pipeline: &Pipeline, store: &Store) -> Result<Option<Shared>, CommandError> {
        let options = Options {
            patience: PATIENCE_OF_A_RUN,
            retries: 2,
            ..Options::default()
        };
        let place = place_of(self.remote.as_deref(), Some(pipeline))?;
        place.map(|place| open(&place, store, options)).transpose()
    }

    /// The same, for a question that is not worth a wait.
    pub(crate) fn open_in_passing(&self, pipeline: &Pipeline, store: &Store) -> Result<Option<Shared>, CommandError> {
        let options = Options {
            patience: Duration::from_secs(5),
            retries: 0,
            ..Options::default()
        };
        let place = place_of(self.remote.as_deref(), Some(pipeline))?;
        place.map(|place| open(&place, store, options)).transpose()
    }
}

fn place_of(given: Option<&str>, pipeline: Option<&Pipeline>) -> Result<Option<Place>, CommandError> {
    let here = || std::env::current_dir().unwrap_or_default();
    match given.filter(|given| !given.is_empty()) {
        Some(NONE) => Ok(None),
        Some(url) => Ok(Some(Place::parse(url, &here())?)),
        None => match pipeline.and_then(|pipeline| Some((pipeline.cache.as_ref()?, &pipeline.root))) {
            // Paths in a pipeline are the project's.
            Some((cache, root)) => {
                let root = std::path::absolute(root).unwrap_or_else(|_| root.clone());
                Ok(Some(Place::parse(&cache.remote, &root)?))
            }
            None => Ok(None),
        },
    }
}

fn open(place: &Place, store: &Store, options: Options) -> Result<Shared, CommandError> {
    if let Place::Folder(folder) = place {
        let real = |path: &Path| {
            path.canonicalize()
                .or_else(|_| std::path::absolute(path))
                .unwrap_or_else(|_| path.to_owned())
        };
        if real(folder).starts_with(real(store.root())) {
            return Err(CommandError::hinted(
                format!("`{}` is within the cache, which `gc` keeps clean", folder.display()),
                "a remote is a folder of its own",
            ));
        }
    }
    let state = store.exists().then(|| store.root().join("uploads"));
    Ok(Shared::open(place, Options { state, ..options })?)
}

/// The remote that `push` or `pull` is about. `flag`: how it is named on the command line.
pub(crate) fn needed(
    given: Option<&str>,
    flag: &str,
    pipeline: Option<&Pipeline>,
    store: &Store,
) -> Result<Shared, CommandError> {
    match place_of(given, pipeline)? {
        Some(place) => open(&place, store, Options::default()),
        None if given == Some(NONE) => Err(CommandError::hinted(
            format!("`{NONE}` stands for no remote"),
            format!("name one with `{flag} URL`; DYNVIS_REMOTE may say `{NONE}`"),
        )),
        None => Err(CommandError::hinted(
            "it is not known which remote is meant",
            format!(
                "name one with `{flag} URL` or DYNVIS_REMOTE, or in the pipeline, `cache: {{ remote: URL }}`; a URL is \
                 `s3://BUCKET/PREFIX`, `ssh://HOST/FOLDER` or a folder"
            ),
        )),
    }
}

/// The pipeline of a run, where its file is still there and right: for the remote that it names.
pub(crate) fn pipeline_of(run: &RunRecord, project: &Path) -> Option<Pipeline> {
    let path = match run.path.is_file() {
        true => run.path.clone(),
        false => project.join(&run.path),
    };
    let options = LoadOptions {
        registry: registry(),
        overrides: Vec::new(),
    };
    load(&path, &options).result.ok()
}

impl From<ElsewhereError> for CommandError {
    fn from(error: ElsewhereError) -> Self {
        Self::User {
            message: error.message,
            hint: Some(error.advice).filter(|advice| !advice.is_empty()),
        }
    }
}

impl From<PullError> for CommandError {
    fn from(error: PullError) -> Self {
        match error {
            PullError::Elsewhere(error) => error.into(),
            PullError::Store(error) => Self::Store(error),
        }
    }
}
