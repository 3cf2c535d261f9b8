//! Where stages run, and how jobs of a queue are asked for.

use std::path::{Path, PathBuf};

use dynvis_runner::kind::Device;
use dynvis_runner::pipeline::{Pipeline, Profile, load_profile};
use dynvis_runner::plan::{Selection, plan};
use dynvis_runner::run::{
    ChainOptions, Link, QueueOptions, StoreWorld, missing_data, observe, queue_report, submit_chain,
};
use dynvis_runner::store::Store;

use super::error::CommandError;
use super::ui::Ui;
use super::{PipelineArgs, registry};

/// Jobs that wait or run at once, unless the user says otherwise.
const JOBS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Executor {
    /// As processes beside this command
    Local,
    /// As jobs of a Slurm cluster, which sees the cache under the same path
    Slurm,
    /// As jobs of another queue, spoken with by the commands of a profile
    Commands,
}

impl Executor {
    /// Name of the file that says how jobs are asked for.
    fn profile(self) -> &'static str {
        match self {
            Self::Local | Self::Slurm => "slurm.yaml",
            Self::Commands => "queue.yaml",
        }
    }

    /// How jobs are asked for, where stages become jobs.
    pub(crate) fn queue(
        self,
        profile: Option<&Path>,
        pipeline: &Pipeline,
        jobs: Option<u16>,
    ) -> Result<Option<QueueOptions>, CommandError> {
        if self == Self::Local {
            return match profile {
                Some(_) => Err(CommandError::hinted(
                    "`--profile` says how jobs are asked for, and no stage becomes a job",
                    "`--executor slurm` makes jobs of stages",
                )),
                None => Ok(None),
            };
        }
        let name = self.profile();
        let found = profile.map(Path::to_owned).or_else(|| find(name, pipeline));
        let said = found.as_ref().map(|path| path.display().to_string());
        let profile = match found {
            Some(path) => {
                let (sources, profile) = load_profile(&path, registry());
                profile.map_err(|problems| CommandError::Pipeline {
                    what: "profile",
                    problems,
                    sources,
                })?
            }
            None => Profile::default(),
        };
        match (self, &profile.commands) {
            (Self::Commands, None) => {
                return Err(CommandError::hinted(
                    match said {
                        Some(path) => format!("`{path}` has no `commands`"),
                        None => {
                            format!("there is no profile, {name}, beside the pipeline, in the project or of the user")
                        }
                    },
                    "a profile says with which commands jobs are submitted, listed and cancelled: docs/slurm.md",
                ));
            }
            (Self::Slurm, Some(_)) => {
                return Err(CommandError::hinted(
                    format!("`{}` has commands of a queue of its own", said.unwrap_or_default()),
                    "`--executor commands` uses them; without `commands` in the profile jobs are Slurm's",
                ));
            }
            _ => {}
        }
        let jobs = jobs.map_or(JOBS, usize::from);
        Ok(Some(QueueOptions { profile, jobs }))
    }
}

/// The nearest profile of that name: beside the pipeline, in the project, of the user.
fn find(name: &str, pipeline: &Pipeline) -> Option<PathBuf> {
    let beside = pipeline.path.parent().map(|folder| folder.join(name));
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let of_user = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let of_user = of_user.map(|folder| folder.join("dynvis").join(name));
    let places = [beside, Some(pipeline.root.join(name)), of_user];
    places.into_iter().flatten().find(|path| path.is_file())
}

/// How jobs of a chain are asked for, which are jobs of Slurm.
pub(crate) fn profile_of_chain(queue: Option<QueueOptions>) -> Result<Profile, CommandError> {
    let profile = queue
        .map(|queue| queue.profile)
        .filter(|profile| profile.commands.is_none());
    profile.ok_or_else(|| CommandError::hinted("`--chain` submits jobs of Slurm", "give `--executor slurm` too"))
}

/// Submits what is to run as a chain, and says what was.
pub(crate) fn chain(
    ui: &mut Ui,
    store: &mut Store,
    pipeline: &Pipeline,
    selection: &Selection,
    profile: Profile,
    device: Device,
    typed: &PipelineArgs,
) -> Result<u8, CommandError> {
    let observed = observe(pipeline, selection, store, &mut |event| ui.reading(event))?;
    let mut world = StoreWorld {
        store,
        pipeline: &pipeline.name,
        observed: &observed,
    };
    let planned = plan(pipeline, selection, &mut world);
    let missing = missing_data(pipeline, &planned);
    if !missing.is_empty() {
        return Err(CommandError::MissingData(missing));
    }
    let own = || {
        std::env::current_exe().map_err(|source| CommandError::Io {
            action: "cannot tell this program's path".to_owned(),
            source,
        })
    };
    let absolute = std::path::absolute(&typed.pipeline).unwrap_or_else(|_| typed.pipeline.clone());
    let mut arguments = vec![absolute.to_string_lossy().into_owned()];
    arguments.extend(typed.overrides.iter().flat_map(|one| ["--set".to_owned(), one.clone()]));
    let options = ChainOptions {
        program: profile.program.clone().map_or_else(own, Ok)?,
        profile,
        cache: store.root().to_owned(),
        arguments,
        device,
    };
    let links = submit_chain(pipeline, selection, &planned, &options).map_err(|error| {
        CommandError::hinted(
            error.to_string(),
            "the same command again submits what is missing, and nothing twice",
        )
    })?;
    let width = links.iter().map(|link| link.stage.len()).max().unwrap_or(0);
    for Link {
        stage,
        job,
        after,
        is_new,
    } in &links
    {
        let how = if *is_new {
            "queued as"
        } else {
            "is in the queue already as"
        };
        let after = match after.as_slice() {
            [] => String::new(),
            jobs => format!(", after {}", jobs.join(", ")),
        };
        ui.status(&format!("{stage:width$}  {how} job {job}{after}"));
    }
    match links.len() {
        0 => ui.status("everything is up to date"),
        _ => ui.status(
            "when they have ended, `dynvis run` says what became of all stages, and computes none of them again",
        ),
    }
    Ok(0)
}

/// What there is of Slurm here, and which locks the cache's file system has, for `doctor`.
pub(crate) fn rows(cache: &Path) -> Vec<Vec<String>> {
    let report = queue_report();
    let row = |found: String, note: String| vec!["Slurm".to_owned(), found, note];
    let mut rows = match (report.version, report.partitions) {
        (Err(_), _) => vec![row(
            "no".to_owned(),
            "`run --executor slurm` needs its `sbatch`, `squeue`, `scancel`".to_owned(),
        )],
        (Ok(version), Err(reason)) => vec![row(version, format!("the cluster does not answer: {reason}"))],
        (Ok(version), Ok(partitions)) => {
            let accounting = match report.has_accounting {
                true => "accounting answers",
                false => "no accounting, which is not needed",
            };
            vec![row(
                format!("{version}, partitions {}", partitions.join(", ")),
                accounting.to_owned(),
            )]
        }
    };
    if let Some(note) = locks(cache) {
        rows.push(vec!["locks".to_owned(), "of this machine alone".to_owned(), note]);
    }
    rows
}

/// What is to be known of a file system whose locks other machines do not see.
fn locks(cache: &Path) -> Option<String> {
    let existing = cache.ancestors().find(|folder| folder.exists())?.canonicalize().ok()?;
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    are_local(&mounts, &existing).then(|| {
        format!(
            "the file system of `{}` is mounted so that locks hold on one machine: start `dynvis` on that one only",
            existing.display()
        )
    })
}

/// Whether the mount that holds a path keeps locks to itself though other machines mount it too.
fn are_local(mounts: &str, path: &Path) -> bool {
    let mut holder = ("", "", "");
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, place, kind, options, ..] = fields.as_slice() else {
            continue;
        };
        if path.starts_with(place) && place.len() >= holder.0.len() {
            holder = (place, kind, options);
        }
    }
    let (_, kind, options) = holder;
    let has = |wanted: &[&str]| options.split(',').any(|option| wanted.contains(&option));
    match kind {
        "nfs" | "nfs4" => has(&["nolock", "local_lock=all", "local_lock=flock"]),
        "lustre" => has(&["localflock", "noflock"]) || !has(&["flock"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_keep_locks_to_one_machine() {
        let mounts = "/dev/sda / ext4 rw 0 0\nserver:/a /home nfs4 rw,vers=4.2,local_lock=none 0 0\n\
                      server:/b /home/old nfs rw,nolock,local_lock=all 0 0\nmds:/l /work lustre rw,flock 0 0\n\
                      mds:/m /scratch lustre rw,localflock 0 0\n";
        let local = |path: &str| are_local(mounts, Path::new(path));
        let said = ["/tmp", "/home/me", "/home/old/me", "/work/x", "/scratch/x"].map(local);
        assert_eq!(said, [false, false, true, false, true]);
    }
}
