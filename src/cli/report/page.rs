//! The page: its parts in order, within the size that it may have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dynvis_runner::table::Table;
use sha2::{Digest as _, Sha256};

use super::data_table::DataTable;
use super::html::{anchor, escape, markdown};
use super::pictures::pictures;
use super::results::results;
use super::runs::{causes, differences, facts, graph, hashes, parameters, stages, states};
use super::{Family, Runs};
use crate::cli::error::CommandError;
use crate::cli::registry;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The colours of pages, light and dark, as a part of a style sheet.
pub(in crate::cli) fn colours() -> &'static str {
    STYLE.split_once("\n* {").map_or(STYLE, |(colours, _)| colours)
}

/// Of the room that tables, figures and pictures share: parts of figures and of pictures; the rest is the tables'.
const FIGURES: usize = 3;
const PICTURES: usize = 5;
/// Rows of lists that are shown at first.
const LISTED: usize = 100;

/// A page with what is in it.
pub(super) struct Page {
    pub(super) html: String,
    pub(super) tables: usize,
    pub(super) figures: usize,
    pub(super) pictures: usize,
    /// How many of these are not or not all there.
    pub(super) left_out: usize,
}

/// The whole page in at most so many bytes, unless what stands in every page takes more.
pub(super) fn page(runs: &Runs<'_>, room: usize) -> Result<Page, CommandError> {
    let start = start(runs)?;
    let end = end(runs)?;
    let sections: Vec<[String; 2]> = runs.families.iter().map(|family| section(runs, family)).collect();
    let fixed = start.len() + end.len() + sections.iter().flatten().map(String::len).sum::<usize>();
    // A twentieth for what says that something is not there.
    let room = (room - room / 20).saturating_sub(fixed);
    let for_pictures = room / PICTURES;
    let results = results(runs, room - for_pictures, room / FIGURES)?;
    let pictures = pictures(runs, &results.figures, for_pictures);
    let mut html = start;
    for (place, [first, last]) in sections.iter().enumerate() {
        html += first;
        html += &results.figures[place];
        html += &pictures.html[place];
        if !results.tables[place].is_empty() {
            html += &format!("<h3>Tables</h3>\n{}", results.tables[place]);
        }
        html += last;
    }
    html += &end;
    Ok(Page {
        html,
        tables: results.count_tables,
        figures: results.count_figures,
        pictures: pictures.count,
        left_out: results.left_out + pictures.left_out,
    })
}

fn list(id: &str, name: &str, command: &str, table: &Table) -> String {
    let list = DataTable {
        id: id.to_owned(),
        name,
        command,
        room: usize::MAX,
        first: LISTED,
        is_open: true,
    };
    list.html(table)
}

/// Everything above the stages' results.
fn start(runs: &Runs<'_>) -> Result<String, CommandError> {
    let run = runs.last();
    let report = run.report.clone().unwrap_or_default();
    let title = report.title.clone().unwrap_or_else(|| run.pipeline.clone());
    let title = escape(&title);
    // A browser loads nothing for this page and runs nothing in it but its own script.
    let hash = STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'; base-uri 'none'; \
         form-action 'none'"
    );
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"generator\" content=\"dynvis {version}\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<a class=\"skip\" href=\"#results\">Skip to the results</a>\n<div class=\"frame\">\n{}\
         <main>\n<section id=\"overview\"><h1>{title}</h1>\n",
        contents(runs),
        version = env!("CARGO_PKG_VERSION"),
    );
    let ids: Vec<&str> = runs.sides.iter().map(|side| side.run.id.as_str()).collect();
    html += &format!(
        "<p class=\"soft\">Pipeline {}, {}. Made by <code>dynvis report {}</code>.</p>\n",
        escape(&run.pipeline),
        match ids.as_slice() {
            [one] => format!("run {}", escape(one)),
            several => format!("runs {}", escape(&several.join(" and "))),
        },
        escape(&runs.names())
    );
    if let Some(text) = &report.text {
        html += &format!("<div class=\"text\">{}</div>\n", markdown(text));
    }
    html += "</section>\n";
    if runs.are_two() {
        html += "<section id=\"changes\"><h2>What differs between the runs</h2>\n";
        let (causes, differences) = (causes(runs)?, differences(runs)?);
        let command = format!("dynvis diff {} --json", runs.names());
        for (id, name, table, none) in [
            (
                "changes",
                "what they were made from",
                causes,
                "Stages that both have were made from the same.",
            ),
            (
                "differences",
                "tables that differ",
                differences,
                "Tables that both have are equal.",
            ),
        ] {
            html += &match table.height() {
                0 => format!("<p>{none}</p>\n"),
                _ => list(id, name, &command, &table),
            };
        }
        html += "<p class=\"soft\">In figures, lines and markers tell the runs apart; tables have a column \
                 <code>run</code>.</p></section>\n";
    }
    html += &format!(
        "<section id=\"graph\"><h2>Stages</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" \
         aria-label=\"Graph of the stages\">{}</div>\n{}</section>\n<div id=\"results\"></div>\n",
        graph(runs),
        list(
            "stages",
            "what ran, and why",
            &format!("dynvis log {}", run.id),
            &stages(runs)?
        )
    );
    Ok(html)
}

/// Links to all parts.
fn contents(runs: &Runs<'_>) -> String {
    let mut links = String::new();
    let mut link = |place: &str, name: &str| {
        links += &format!("<li><a href=\"#{place}\">{}</a></li>", escape(name));
    };
    link("overview", "Overview");
    if runs.are_two() {
        link("changes", "Differences");
    }
    link("graph", "Stages");
    link("provenance", "Provenance");
    let parts = std::mem::take(&mut links);
    for family in &runs.families {
        links += &format!(
            "<li><a href=\"#stage-{}\">{}</a></li>",
            anchor(family.name),
            escape(family.name)
        );
    }
    format!("<nav aria-label=\"Parts\"><ul>{parts}</ul><p>Results</p><ul>{links}</ul></nav>\n")
}

/// What stands around the results of a family: before figures and behind tables.
fn section(runs: &Runs<'_>, family: &Family<'_>) -> [String; 2] {
    let texts = runs.last().report.as_ref().map(|report| &report.stages);
    let text = texts
        .and_then(|texts| texts.get(family.name))
        .map_or_else(String::new, |text| {
            format!("<div class=\"text\">{}</div>\n", markdown(text))
        });
    let members = family.members.iter().map(Vec::len).max().unwrap_or(0);
    let count = if members > 1 {
        format!(", {members} members")
    } else {
        String::new()
    };
    let summary = registry().kind(family.kind).map_or("", |kind| kind.summary());
    let first = format!(
        "<section id=\"stage-{}\"><h2>{}</h2>\n<p class=\"kind\">{}{count}: {}</p>\n{}{text}",
        anchor(family.name),
        escape(family.name),
        escape(family.kind),
        escape(summary),
        states(runs, family)
    );
    [first, format!("{}</section>\n", parameters(runs, family))]
}

/// Everything below the results.
fn end(runs: &Runs<'_>) -> Result<String, CommandError> {
    Ok(format!(
        "<section id=\"provenance\"><h2>Provenance</h2>\n{}{}</section>\n</main>\n</div>\n\
         <div id=\"tip\" role=\"status\" hidden></div>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        facts(runs),
        list(
            "hashes",
            "hashes of data and results",
            "dynvis runs --json",
            &hashes(runs)?
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::STYLE;
    use crate::figure::theme;

    /// On white, as printed, the page has the colours of figures in files.
    #[test]
    fn the_page_has_the_colours_of_the_theme() {
        let schemes: Vec<&str> = STYLE.split('{').filter(|block| block.contains("--paper:")).collect();
        for scheme in [schemes[0], schemes[2]] {
            for (number, colour) in theme::CATEGORIES.iter().enumerate() {
                assert!(
                    scheme.contains(&format!("--c{number}: {colour};")),
                    "{colour}: {scheme}"
                );
            }
            let ends = format!("--low: {}; --high: {};", theme::LOW, theme::HIGH);
            assert!(scheme.contains(&ends), "{ends}: {scheme}");
        }
    }

    /// Relative luminance of `#rrggbb` or `#rgb`, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let digits: Vec<u32> = colour.chars().skip(1).filter_map(|c| c.to_digit(16)).collect();
        let channels: Vec<f64> = match digits.len() {
            3 => digits.iter().map(|digit| f64::from(17 * digit)).collect(),
            _ => digits.chunks(2).map(|pair| f64::from(16 * pair[0] + pair[1])).collect(),
        };
        let linear = |channel: f64| match channel / 255.0 {
            dark if dark <= 0.04045 => dark / 12.92,
            light => ((light + 0.055) / 1.055).powf(2.4),
        };
        [0.2126, 0.7152, 0.0722]
            .iter()
            .zip(channels)
            .map(|(weight, channel)| weight * linear(channel))
            .sum()
    }

    /// Curves are told from the page in every one of its colour schemes, texts are read (WCAG 2: 3 to 1, 4.5 to 1).
    #[test]
    fn colours_keep_their_contrast() {
        let schemes: Vec<&str> = STYLE.split('{').filter(|block| block.contains("--paper:")).collect();
        assert_eq!(schemes.len(), 3, "light, dark, printed");
        for scheme in schemes {
            let colours = scheme.split("--").skip(1).filter_map(|entry| {
                let (name, rest) = entry.split_once(':')?;
                let colour = rest.trim().split([';', '}']).next()?.trim();
                colour.starts_with('#').then_some((name, colour))
            });
            let colours: Vec<(&str, &str)> = colours.collect();
            let paper = colours.iter().find(|(name, _)| *name == "paper").expect("a page").1;
            for (name, colour) in &colours {
                let least = match *name {
                    "paper" | "rule" | "raised" => continue,
                    "ink" | "soft" | "link" | "good" | "bad" | "odd" => 4.5,
                    _ => 3.0,
                };
                let [dark, light] = [luminance(colour), luminance(paper)].map(|light| light + 0.05);
                let contrast = (dark / light).max(light / dark);
                assert!(
                    contrast >= least,
                    "{name}: {colour} on {paper} has {contrast:.2}, not {least}"
                );
            }
        }
    }
}
