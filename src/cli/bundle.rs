//! `dynvis bundle` and `dynvis open`: one run in one file, and back.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use dynvis_runner::kind::Artifact;
use dynvis_runner::store::{Health, Parcel, RunRecord, RunStage, RunStatus, Store};

use super::error::CommandError;
use super::export_all::{What, write_all};
use super::files::cannot_write;
use super::ui::Ui;
use super::wording::{first_names, shell_word, size};
use super::{completions, find_run, make_store, open_store, project_here, registry};
use crate::remote::bundle::{Bundle, Contents, Source, write};
use crate::stage::MODEL;

/// Write one run to one file: tables, pictures, models, the pipeline and where it all comes from
///
/// For a colleague or a paper's supplement: a ZIP archive whose README says what is what, of use without dynvis.
/// `dynvis open` takes its results into a cache. Made twice of the same run, it has the same bytes.
#[derive(clap::Args)]
pub(crate) struct BundleArgs {
    /// The run: `@` (last run), `@-1`, a run's id or its first letters
    #[arg(default_value = "@", value_name = "RUN", add = completions::runs())]
    run: String,
    /// The file to write [default: the pipeline's name and the run's id, with `.dynvis.zip`]
    #[arg(long, short, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    out: Option<PathBuf>,
    /// Leave out sets of images, activity and other results that are neither tables, models nor files (pictures, what a
    /// `command` writes): `run` computes them again where it needs them
    #[arg(long)]
    without_data: bool,
}

/// Take a bundle's results into the cache, for `show`, `diff`, `report`, `export` and `run`
///
/// Every byte is held against its hash first; a damaged bundle changes nothing.
#[derive(clap::Args)]
pub(crate) struct OpenArgs {
    /// The file that `bundle` wrote
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Say what it holds, and take nothing
    #[arg(long)]
    list: bool,
}

pub(crate) fn bundle(ui: &mut Ui, cache: Option<&Path>, args: &BundleArgs) -> Result<u8, CommandError> {
    let project = project_here();
    let mut store = open_store(cache, &project)?;
    let (folder_of_run, run) = find_run(ui, &store, &args.run)?;
    if run.status == RunStatus::Running {
        return Err(CommandError::hinted(
            format!(
                "run {} goes on or was killed, and only what is at its end makes a bundle",
                run.id
            ),
            "run it again; what was finished is kept",
        ));
    }
    let out = args.out.clone().unwrap_or_else(|| {
        PathBuf::from(format!(
            "{}-{}.dynvis.zip",
            super::export::file_name(&run.pipeline),
            run.id
        ))
    });
    // So that nothing goes while it is read.
    let _hold = store.hold()?;
    let is_light = |artifact: &Artifact| [Artifact::TABLE, Artifact::FILES, MODEL].contains(artifact);
    let mut results = Vec::new();
    let (mut damaged, mut heavy) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for stage in &run.stages {
        let Some(key) = stage.key.as_ref().filter(|key| seen.insert((*key).clone())) else {
            continue;
        };
        if args.without_data && !stage.outputs.iter().all(|output| is_light(&output.artifact)) {
            heavy.push(stage.name.as_str());
            continue;
        }
        match store.parcel(key, registry().version()) {
            Some((parcel, files)) => {
                let files = files.into_iter().map(|(file, path)| (file.hash, path)).collect();
                results.push((parcel, files));
            }
            None => damaged.push(stage.name.as_str()),
        }
    }
    if !damaged.is_empty() {
        return Err(CommandError::hinted(
            format!("results of run {} are not whole: {}", run.id, first_names(damaged)),
            format!(
                "`dynvis run {}` computes them again",
                shell_word(&run.path.display().to_string())
            ),
        ));
    }
    let scratch = tempfile::tempdir().map_err(cannot_write(&out))?;
    let what = What {
        tables: true,
        pictures: true,
        models: true,
    };
    write_all(ui, &store, &folder_of_run, &run, what, scratch.path())?;
    let mut named = BTreeMap::new();
    collect(scratch.path(), "", &mut named).map_err(cannot_write(&out))?;
    let texts = pipeline_texts(&folder_of_run, &run, &project);
    let has_pipeline = !texts.is_empty();
    named.extend(texts);
    let readme = readme(&run, &named, &heavy, &results);
    let contents = Contents {
        run: &run,
        readme,
        named,
        results,
    };
    let bytes = write(&out, contents).map_err(cannot_write(&out))?;
    if !heavy.is_empty() {
        ui.status(&format!("left out: {}", first_names(heavy)));
    }
    if !has_pipeline {
        ui.status("the pipeline's file is not known any more and not in it");
    }
    ui.status(&format!("wrote {} ({}): run {}", out.display(), size(bytes), run.id));
    ui.status(&format!(
        "elsewhere: dynvis open {}",
        shell_word(&out.display().to_string())
    ));
    Ok(0)
}

/// Files below a folder, by their paths within.
fn collect(folder: &Path, prefix: &str, named: &mut BTreeMap<String, Source>) -> std::io::Result<()> {
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), &format!("{name}/"), named)?,
            false => {
                named.insert(name, Source::File(entry.path()));
            }
        }
    }
    Ok(())
}

/// The pipeline and its presets as the run read them; of an older run the file as it is now.
fn pipeline_texts(folder_of_run: &Path, run: &RunRecord, project: &Path) -> BTreeMap<String, Source> {
    let mut found = BTreeMap::new();
    // What is no folder has no files.
    let _ = collect(&folder_of_run.join("pipeline"), "pipeline/", &mut found);
    // The path in a record of somebody else may lead anywhere.
    if found.is_empty() && run.pulled.is_none() {
        let paths = [run.path.clone(), project.join(&run.path)];
        let file = paths.into_iter().find(|path| path.is_file());
        found.extend(file.map(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (format!("pipeline/{name}"), Source::File(file))
        }));
    }
    found
}

fn readme(
    run: &RunRecord,
    named: &BTreeMap<String, Source>,
    heavy: &[&str],
    results: &[(Parcel, Vec<(dynvis_runner::key::ContentHash, PathBuf)>)],
) -> String {
    let count = |prefix: &str, ending: &str| {
        let of = named
            .keys()
            .filter(|name| name.starts_with(prefix) && name.ends_with(ending));
        of.count()
    };
    let mut text = format!(
        "Results of one run of dynvis {}\n\n\
         pipeline   {}\n\
         run        {}\n\
         started    {}\n\
         computed on {}\n",
        run.dynvis_version, run.pipeline, run.id, run.started_at, run.host
    );
    if !run.arguments.is_empty() {
        let typed: Vec<String> = run.arguments.iter().map(|word| shell_word(word).into_owned()).collect();
        text += &format!("typed      {}\n", typed.join(" "));
    }
    if let Some(pulled) = &run.pulled {
        text += &format!("came from  {}\n", pulled.from);
    }
    if let Some(git) = &run.git {
        let changed = if git.is_dirty {
            ", with changes that were not committed"
        } else {
            ""
        };
        text += &format!("git        {}{changed}\n", git.revision);
    }
    text += &format!(
        "\nWhat is here\n\n\
         tables/    {} tables, each as CSV (any program reads it) and as Parquet (with types, keys and units)\n\
         pictures/  {} pictures and figures; figures.md has their captions\n\
         models/    {} models: safetensors files, weights under their published names; the network's description is in \
         the header\n\
         pipeline/  the pipeline, where it is known, and presets that it names, without what was typed beside it (above)\n\
         dynvis/    what dynvis needs to take the results up: run.json is the run's record (stages, parameters' keys, \
         versions, times, machine), results/ has a description of each result with the hashes of its files, blobs/ \
         files that are not among those above\n\
         sha256.txt checksums of all other files: `sha256sum -c sha256.txt`\n",
        count("tables/", ".csv"),
        count("pictures/", ".png"),
        count("models/", ".safetensors"),
    );
    if !heavy.is_empty() {
        text += &format!(
            "\nNot here as results that dynvis takes up, since they are data that can be computed again: {}\n\
             (their tables, where they have some, are in tables/)\n",
            heavy.join(", ")
        );
    }
    text += &format!(
        "\nWith dynvis\n\n    dynvis open FILE\n    dynvis show {}\n\n\
         takes the {} results into a cache and shows them.\n",
        run.id,
        results.len()
    );
    text += "\nStages\n\n";
    for stage in &run.stages {
        let key = stage.key.as_ref().map_or("no result", |key| key.short());
        text += &format!("{}  {}  {key}\n", stage.name, stage.kind);
    }
    text
}

pub(crate) fn open(ui: &mut Ui, cache: Option<&Path>, args: &OpenArgs) -> Result<u8, CommandError> {
    let unusable = |reason: String| {
        CommandError::hinted(
            format!("{}: {reason}", args.file.display()),
            "nothing was changed; if it came over a network, fetch it again, else ask for another copy",
        )
    };
    let bundle = Bundle::open(&args.file).map_err(unusable)?;
    let bytes = bundle.verify().map_err(unusable)?;
    let texts = bundle.pipeline_files().map_err(unusable)?;
    let run = bundle.run();
    let there = bundle.keys().count();
    ui.status(&format!(
        "run {} of {}, started {} on {} with dynvis {}: {there} results, {}",
        run.id,
        run.pipeline,
        run.started_at,
        run.host,
        run.dynvis_version,
        size(bytes)
    ));
    if args.list {
        for stage in &run.stages {
            ui.out(&format!("{}\t{}\n", stage.name, stage.kind))?;
        }
        return Ok(0);
    }
    let mut store = make_store(cache, &project_here())?;
    let mut came = super::pull::of_run(ui, &mut store, &bundle, run)?;
    // What the bundle was made without is said below.
    came.forget_missing();
    ui.status(&format!(
        "{}, into {}",
        came.said(&args.file.display().to_string()),
        store.root().display()
    ));
    came.said_of_run().iter().for_each(|text| ui.status(text));
    keep_texts(&store, run, &texts)?;
    let id = &run.id;
    ui.status(&format!(
        "next: `dynvis show {id}` lists its tables, `dynvis report {id}` makes a page, `dynvis diff {id} @` compares"
    ));
    let is_missing = |stage: &&RunStage| {
        let key = stage.key.as_ref();
        key.is_some_and(|key| store.health(key) != Health::Intact)
    };
    let missing: Vec<&str> = run
        .stages
        .iter()
        .filter(is_missing)
        .map(|stage| stage.name.as_str())
        .collect();
    if !missing.is_empty() {
        ui.status(&format!(
            "not in the bundle, which was made without data, and computed again by `run`: {}",
            first_names(missing)
        ));
    }
    // What was left out on purpose is no failure.
    Ok(u8::from(came.said_of_run().is_some()))
}

/// The pipeline's texts beside the run's record, as a run here has them.
fn keep_texts(store: &Store, run: &RunRecord, texts: &[(String, String)]) -> Result<(), CommandError> {
    let (folder, _) = store.find_run(run.id.as_str())?;
    for (name, text) in texts {
        let path = folder.join("pipeline").join(name);
        if !path.exists() {
            super::files::write(&path, text.as_bytes())?;
        }
    }
    Ok(())
}
