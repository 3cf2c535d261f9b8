//! `dynvis presets`.

use super::registry;
use std::path::Path;

use super::error::CommandError;
use super::project_here;
use super::tables::simple_table;
use super::ui::Ui;
use dynvis_runner::pipeline::{Origin, Preset, preset_kind, preset_text, presets as all_presets, suggest};

/// List the presets that `use:` can name, those of the project and those of dynvis, or print one
///
/// A file `stages/NAME.yaml` of the project comes before a preset of dynvis with the same name.
#[derive(clap::Args)]
pub(crate) struct PresetsArgs {
    /// A preset, whose text is printed
    #[arg(add = super::completions::presets())]
    name: Option<String>,
}

pub(crate) fn presets(ui: &mut Ui, args: &PresetsArgs) -> Result<u8, CommandError> {
    let root = project_here();
    let all = all_presets(&root, registry());
    let place = |preset: &Preset| place(preset, &root);
    let text = |preset: &Preset| {
        preset_text(preset, registry()).map_err(|source| CommandError::Io {
            action: format!("cannot read preset `{}`", preset.name),
            source,
        })
    };
    let Some(name) = &args.name else {
        // A file that cannot be read is listed; printing it says why.
        let rows = all
            .iter()
            .map(|preset| {
                let about = text(preset).map_or_else(|_| String::new(), |text| first_sentence(&text));
                vec![preset.name.clone(), place(preset), about]
            })
            .collect();
        ui.out(&simple_table(&["preset", "from", "what it is"], rows, ui.width()))?;
        ui.status("`dynvis presets NAME` prints one; `use: NAME` in a stage takes it");
        return Ok(0);
    };
    let Some(preset) = all.iter().find(|preset| preset.name == *name) else {
        return Err(CommandError::hinted(
            format!("no preset `{name}`"),
            match suggest(name, all.iter().map(|preset| preset.name.as_str())) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`dynvis presets` lists them".into(),
            },
        ));
    };
    ui.status(&format!("{name}, from {}", place(preset)));
    ui.out(&text(preset)?)?;
    Ok(0)
}

/// Where a preset comes from.
fn place(preset: &Preset, root: &Path) -> String {
    match (&preset.origin, preset.hides_shipped) {
        (Origin::Shipped, _) => "dynvis".to_owned(),
        (Origin::Project(path), hides) => {
            let path = path.strip_prefix(root).unwrap_or(path).display();
            let hidden = if hides { ", in place of that of dynvis" } else { "" };
            format!("{path}{hidden}")
        }
    }
}

/// Name, place and purpose of the presets for a stage kind.
pub(super) fn presets_for(kind: &str) -> Vec<Vec<String>> {
    let root = project_here();
    let row = |preset: Preset| {
        let text = preset_text(&preset, registry()).ok()?;
        let about = first_sentence(&text);
        (preset_kind(&text)? == kind).then(|| vec![preset.name.clone(), place(&preset, &root), about])
    };
    all_presets(&root, registry()).into_iter().filter_map(row).collect()
}

/// The beginning of the comment at the top of a preset.
fn first_sentence(text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix('#'));
    let comment: Vec<&str> = comment.map(str::trim).collect();
    let comment = comment.join(" ");
    let end = comment.find(". ").unwrap_or(comment.len());
    comment[..end].trim_end_matches('.').to_owned()
}
