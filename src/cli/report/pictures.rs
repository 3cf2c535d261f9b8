//! Stored pictures in a page: as they are, since a picture in an `img` element runs nothing and loads nothing.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dynvis_runner::kind::Artifact;

use super::draw::left_out;
use super::html::escape;
use super::results::stored_figure;
use super::{Family, Runs};
use crate::cli::wording::{first_names, shell_word, size};
use crate::figure::kinds::stands_for;

/// Pictures of all families.
pub(super) struct Pictures {
    /// For each family.
    pub(super) html: Vec<String>,
    pub(super) count: usize,
    pub(super) left_out: usize,
}

/// A picture of a stage.
pub(crate) struct Picture {
    /// Its file.
    pub(crate) path: PathBuf,
    /// The file's name within the output.
    pub(crate) name: String,
}

/// The type of a picture that browsers show, by its file's ending.
fn media_type(path: &Path) -> Option<&'static str> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "svg" => Some("image/svg+xml"),
        "png" => Some("image/png"),
        "jpg" | "jpeg" => Some("image/jpeg"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

/// The pictures of an output's folder in order of their names.
pub(crate) fn pictures_in(folder: &Path) -> Vec<Picture> {
    let mut found = Vec::new();
    collect(folder, "", &mut found);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn collect(folder: &Path, prefix: &str, found: &mut Vec<Picture>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, &format!("{name}/"), found),
            Ok(kind) if kind.is_file() && media_type(&path).is_some() => found.push(Picture { path, name }),
            _ => {}
        }
    }
}

/// Pictures of the last run, as far as there is room: of those that are there as SVG and as PNG the former, and none in
/// whose place a figure stands. `figures`: those of each family.
pub(super) fn pictures(runs: &Runs<'_>, figures: &[String], room: usize) -> Pictures {
    let mut out = Pictures {
        html: Vec::new(),
        count: 0,
        left_out: 0,
    };
    let mut used = 0;
    for (family, figures) in runs.families.iter().zip(figures) {
        out.html.push(of_family(
            runs,
            family,
            figures,
            room,
            &mut used,
            &mut out.count,
            &mut out.left_out,
        ));
    }
    out
}

fn of_family(
    runs: &Runs<'_>,
    family: &Family<'_>,
    figures: &str,
    room: usize,
    used: &mut usize,
    count: &mut usize,
    missing: &mut usize,
) -> String {
    let mut html = String::new();
    let mut too_large: Vec<String> = Vec::new();
    let mut bytes_left_out = 0;
    for (side, members) in family.members.iter().enumerate() {
        let run = &runs.sides[side].run;
        for stage in members {
            for output in stage.outputs.iter().filter(|output| output.artifact == Artifact::FILES) {
                let is_in_both =
                    side == 0 && runs.are_two() && family.members[1].iter().any(|other| other.outputs.contains(output));
                if is_in_both || stored_figure(runs.store, &output.content).is_some() {
                    continue;
                }
                let all = pictures_in(&runs.store.object(&output.content));
                for picture in &all {
                    let stem = picture.name.strip_suffix(".png").map(|stem| format!("{stem}.svg"));
                    let is_twice = stem.is_some_and(|svg| all.iter().any(|other| other.name == svg));
                    if is_twice || (!figures.is_empty() && stands_for(family.kind, &picture.name)) {
                        continue;
                    }
                    *count += 1;
                    let mut name = format!("{}/{}", stage.name, picture.name);
                    if runs.are_two() {
                        name = format!("{name} ({})", run.id);
                    }
                    let length = std::fs::metadata(&picture.path).map_or(0, |metadata| metadata.len());
                    let encoded = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(4) / 3;
                    if used.saturating_add(encoded) > room {
                        bytes_left_out += length;
                        too_large.push(name);
                        continue;
                    }
                    let (Ok(bytes), Some(kind)) = (dynvis_base::files::read(&picture.path), media_type(&picture.path))
                    else {
                        too_large.push(name);
                        continue;
                    };
                    *used += encoded;
                    html += &format!(
                        "<figure><img loading=\"lazy\" alt=\"{name}\" src=\"data:{kind};base64,{}\"><figcaption>{name}\
                         </figcaption></figure>\n",
                        STANDARD.encode(bytes),
                        name = escape(&name)
                    );
                }
            }
        }
    }
    *missing += too_large.len();
    let mut out = String::new();
    if !html.is_empty() {
        out += &format!("<h3>Pictures</h3>\n<div class=\"pictures\">\n{html}</div>\n");
    }
    if !too_large.is_empty() {
        out += &left_out(&format!(
            "No room for {} pictures ({}): {}. All of them: dynvis export --pictures FOLDER {}",
            too_large.len(),
            size(bytes_left_out),
            first_names(too_large.iter().map(String::as_str)),
            shell_word(runs.last().id.as_str())
        ));
    }
    out
}
