//! Figures of result tables: a description says which columns are drawn and how, a pure function makes curves of a
//! table, and one way of drawing serves the report's page, SVG, PDF and PNG.
//!
//! A figure is a function of its table, so the two cannot disagree, and a figure can be drawn anew of any result that
//! is stored, however old. Decisions: `docs/design/figures.md`.

mod coded;
mod content;
pub(crate) mod description;
mod files;
mod font;
pub(crate) mod kinds;
pub(crate) mod markup;
pub(crate) mod network;
pub(crate) mod panel;
mod paper;
mod points;
pub(crate) mod scale;
pub(crate) mod theme;

pub(crate) use description::{Content, Figure, Mark, Palette, Stored};
pub(crate) use files::{Drawn, draw, draw_network};
