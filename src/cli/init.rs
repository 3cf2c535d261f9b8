//! `dynvis init`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::error::CommandError;
use super::tables::simple_table;
use super::ui::Ui;
use super::wording::shell_word;

/// Make a project from a template: a pipeline with comments, and the folders that it needs
///
/// No file that is there is changed.
#[derive(clap::Args)]
pub(crate) struct InitArgs {
    /// The template; `--list` says which there are
    #[arg(default_value = "quickstart", value_parser = clap::builder::PossibleValuesParser::new(names()))]
    template: String,
    /// Folder of the new project
    #[arg(long, default_value = ".", value_hint = clap::ValueHint::DirPath)]
    folder: PathBuf,
    /// List the templates and make nothing
    #[arg(long)]
    list: bool,
}

/// What a project starts from.
struct Template {
    name: &'static str,
    about: &'static str,
    /// Paths in the project and texts; the first is the pipeline.
    files: &'static [(&'static str, &'static str)],
}

const TEMPLATES: [Template; 4] = [
    Template {
        name: "quickstart",
        about: "handwritten digits, which are part of dynvis: a small CordsNet and its CNN twin, noise, steady states",
        files: &[(
            "pipelines/quickstart.yaml",
            include_str!("../../pipelines/quickstart.yaml"),
        )],
    },
    Template {
        name: "images",
        about: "images of your own, in one folder a class: training, accuracy, noise, activity",
        files: &[
            ("pipelines/images.yaml", include_str!("../../templates/images.yaml")),
            ("data/images/README.md", include_str!("../../templates/images.md")),
        ],
    },
    Template {
        name: "recordings",
        about: "recordings of neurons and the images that were shown: how well a network predicts the neurons",
        files: &[
            (
                "pipelines/recordings.yaml",
                include_str!("../../templates/recordings.yaml"),
            ),
            ("data/README.md", include_str!("../../templates/recordings.md")),
        ],
    },
    Template {
        name: "cognitive",
        about: "cognitive tasks on handwritten digits, learned by association areas above a CordsNet",
        files: &[(
            "pipelines/cognitive.yaml",
            include_str!("../../pipelines/cognitive.yaml"),
        )],
    },
];

/// What every project has.
const COMMON: [(&str, &str); 2] = [
    ("stages/README.md", include_str!("../../templates/stages.md")),
    (".gitignore", "/cache/\n"),
];

fn names() -> [&'static str; TEMPLATES.len()] {
    std::array::from_fn(|at| TEMPLATES[at].name)
}

pub(crate) fn init(ui: &mut Ui, args: &InitArgs) -> Result<u8, CommandError> {
    if args.list {
        let row = |t: &Template| vec![t.name.to_owned(), t.about.to_owned()];
        let rows = TEMPLATES.iter().map(row).collect();
        ui.out(&simple_table(&["template", "what it is"], rows, ui.width()))?;
        return Ok(0);
    }
    let Some(template) = TEMPLATES.iter().find(|t| t.name == args.template) else {
        // clap has refused it already.
        return Err(CommandError::user(format!("no template `{}`", args.template)));
    };
    for (path, text) in template.files.iter().chain(&COMMON) {
        let is_new = write_new(&args.folder.join(path), text).map_err(|source| CommandError::Io {
            action: format!("cannot write {}", args.folder.join(path).display()),
            source,
        })?;
        let what = if is_new {
            "made"
        } else {
            "is there already, left as it is:"
        };
        ui.status(&format!("{what} {}", args.folder.join(path).display()));
    }
    let (pipeline, _) = template.files[0];
    ui.status("");
    if args.folder != Path::new(".") {
        ui.status(&format!("  cd {}", shell_word(&args.folder.to_string_lossy())));
    }
    ui.status(&format!(
        "  dynvis plan {pipeline}    says what it does, and which data it waits for"
    ));
    ui.status(&format!("  dynvis run {pipeline}"));
    Ok(0)
}

/// Writes a file unless something is there; whether it did.
fn write_new(path: &Path, text: &str) -> std::io::Result<bool> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    match fs_err::OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).map(|()| true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}
