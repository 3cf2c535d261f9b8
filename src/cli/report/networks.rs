//! Drawings of the networks whose models a run holds, each architecture of a stage once.

use cords::net::Outline;

use super::html::escape;
use super::{Family, Runs};
use crate::figure::network::{Network, network};
use crate::figure::panel::Look;
use crate::stage::{MODEL, outline_name};

/// A network of a family.
pub(super) struct Found {
    pub(super) title: String,
    pub(super) caption: String,
    outline: Outline,
}

impl Found {
    pub(super) fn drawn(&self, look: Look) -> Network {
        network(look, &self.outline.architecture, taus(&self.outline))
    }

    /// As a figure of the page.
    pub(super) fn html(&self) -> String {
        let drawn = self.drawn(Look::Page);
        let (width, height) = (drawn.width, drawn.height);
        format!(
            "<figure class=\"network\"><figcaption><h3>{title}</h3><p>{}</p></figcaption>\n<div class=\"scroll\" \
             tabindex=\"0\" role=\"region\" aria-label=\"{title}\"><svg role=\"img\" width=\"{width:.0}\" \
             height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\" aria-label=\"{title}\">{}</svg></div></figure>\n",
            escape(&self.caption),
            drawn.inside,
            title = escape(&self.title),
        )
    }
}

/// The networks of a family's models. Files that are gone or are no models are passed over: their stages say so.
pub(super) fn networks(runs: &Runs<'_>, family: &Family<'_>) -> Vec<Found> {
    let mut found: Vec<(Found, Vec<&str>)> = Vec::new();
    for stage in family.all() {
        for output in stage.outputs.iter().filter(|output| output.artifact == MODEL) {
            let file = runs.store.object(&output.content).join("model.safetensors");
            let Ok(outline) = Outline::read(&file) else { continue };
            let same = found.iter_mut().find(|(known, _)| {
                known.outline.architecture.description() == outline.architecture.description()
                    && taus(&known.outline) == taus(&outline)
            });
            match same {
                Some((_, members)) if members.contains(&stage.name.as_str()) => {}
                Some((_, members)) => members.push(&stage.name),
                None => found.push((
                    Found {
                        title: format!("The network {}", outline_name(&outline)),
                        caption: String::new(),
                        outline,
                    },
                    vec![&stage.name],
                )),
            }
        }
    }
    let several = found.len() > 1;
    let told = |(mut found, members): (Found, Vec<&str>)| {
        let mut said = match found.outline.euler {
            Some(_) => "Areas with their maps and time constants.".to_owned(),
            None => "Without dynamics: every convolution is applied once, recurrent ones too.".to_owned(),
        };
        if several {
            const NAMED: usize = 6;
            let names: Vec<&str> = members.iter().copied().take(NAMED).collect();
            let more = members.len().saturating_sub(NAMED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            said += &format!(" Of {}{more}.", names.join(", "));
        }
        found.caption = said;
        found
    };
    found.into_iter().map(told).collect()
}

/// Time constants of the areas, or one for all; none of a CNN.
fn taus(outline: &Outline) -> &[f64] {
    outline.euler.as_ref().map_or(&[], |euler| &euler.tau_ms)
}
