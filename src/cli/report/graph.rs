//! The graph of stages as SVG: a matrix is one box with its count, producers stand above what they feed.

use std::collections::BTreeMap;

use super::html::{anchor, escape};

/// Sizes in pixels.
const WIDTH: f64 = 172.0;
const HEIGHT: f64 = 58.0;
const BESIDE: f64 = 20.0;
const BELOW: f64 = 46.0;
/// Room of an edge that passes a row of boxes.
const LANE: f64 = 18.0;
const MARGIN: f64 = 8.0;
/// Letters for which there is room.
const LETTERS: usize = 21;

/// A stage with all members of its matrix.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) members: usize,
    /// What became of them, `3 cached, 1 ran`, and the gravest of it as a word of the page's style.
    pub(super) outcome: String,
    pub(super) state: &'static str,
    /// How long they took together, as people say it.
    pub(super) took: String,
    /// Stages that it reads.
    pub(super) inputs: Vec<String>,
}

/// Something in a row: a box, or where an edge passes.
struct Spot {
    node: Option<usize>,
    /// Rank in its row, then its middle in pixels.
    x: f64,
}

/// Boxes in rows from top to bottom, and edges between them.
pub(super) fn svg(nodes: &[Node]) -> String {
    let place: BTreeMap<&str, usize> = nodes
        .iter()
        .enumerate()
        .map(|(i, node)| (node.name.as_str(), i))
        .collect();
    let inputs: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            node.inputs
                .iter()
                .filter_map(|name| place.get(name.as_str()).copied())
                .collect()
        })
        .collect();
    let rows = rows(&inputs);
    let (mut layers, chains) = lanes(&inputs, &rows);
    order(&mut layers, &chains);
    let widths: Vec<f64> = layers
        .iter()
        .map(|layer| layer.iter().map(|spot| width(spot) + BESIDE).sum())
        .collect();
    let total = widths.iter().copied().fold(0.0, f64::max) - BESIDE + 2.0 * MARGIN;
    for (layer, own) in layers.iter_mut().zip(&widths) {
        let mut left = 0.5 * (total - (own - BESIDE));
        let mut places: Vec<usize> = (0..layer.len()).collect();
        places.sort_by(|a, b| layer[*a].x.total_cmp(&layer[*b].x));
        for place in places {
            let spot = &mut layer[place];
            spot.x = left + 0.5 * width(spot);
            left += width(spot) + BESIDE;
        }
    }
    let height = layers.len() as f64 * (HEIGHT + BELOW) - BELOW + 2.0 * MARGIN;
    let top = |row: usize| MARGIN + row as f64 * (HEIGHT + BELOW);
    let mut out = format!(
        "<svg class=\"graph\" width=\"{total:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {total:.0} {height:.0}\" \
         role=\"group\" aria-label=\"Graph of {} stages\">\n",
        nodes.len()
    );
    for chain in &chains {
        let mut d = String::new();
        for pair in chain.windows(2) {
            let [(row, from), (next, to)] = pair else { continue };
            let (x0, x1) = (layers[*row][*from].x, layers[*next][*to].x);
            let (y0, y1) = (top(*row) + HEIGHT, top(*next));
            let middle = 0.5 * (y0 + y1);
            if d.is_empty() {
                d = format!("M{x0:.1},{y0:.1}");
            } else {
                // Straight through the row that it passes.
                d += &format!("L{x0:.1},{y0:.1}");
            }
            d += &format!("C{x0:.1},{middle:.1} {x1:.1},{middle:.1} {x1:.1},{y1:.1}");
        }
        out += &format!("<path class=\"edge\" d=\"{d}\"/>\n");
    }
    for (row, layer) in layers.iter().enumerate() {
        for spot in layer {
            if let Some(node) = spot.node {
                out += &boxed(&nodes[node], spot.x - 0.5 * WIDTH, top(row));
            }
        }
    }
    out + "</svg>\n"
}

fn width(spot: &Spot) -> f64 {
    if spot.node.is_some() { WIDTH } else { LANE }
}

fn boxed(node: &Node, x: f64, y: f64) -> String {
    let count = if node.members > 1 {
        format!(" \u{d7}{}", node.members)
    } else {
        String::new()
    };
    let room = LETTERS - count.chars().count();
    let short = |text: &str, room: usize| match text.char_indices().nth(room) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    };
    let line = |n: f64, class: &str, text: &str| {
        format!(
            "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 10.0,
            y + 4.0 + 15.5 * n,
            escape(text)
        )
    };
    let outcome = [node.outcome.as_str(), node.took.as_str()];
    let outcome: Vec<&str> = outcome.into_iter().filter(|part| !part.is_empty()).collect();
    format!(
        "<a href=\"#stage-{}\"><title>{}</title><rect class=\"node {}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" rx=\"6\"/>{}{}{}</a>\n",
        anchor(&node.name),
        escape(&format!("{}{count} ({}): {}", node.name, node.kind, outcome.join(", "))),
        node.state,
        line(1.0, "node-name", &(short(&node.name, room) + &count)),
        line(2.0, "node-kind", &short(&node.kind, LETTERS + 4)),
        line(3.0, "node-kind", &short(&outcome.join(", "), LETTERS + 5)),
    )
}

/// The row of each node: one below the lowest of its inputs.
fn rows(inputs: &[Vec<usize>]) -> Vec<usize> {
    let mut rows = vec![0; inputs.len()];
    // Stages come in no certain order; there is no cycle, so that this ends.
    for _ in 0..inputs.len() {
        let before = rows.clone();
        for (node, own) in inputs.iter().enumerate() {
            rows[node] = own
                .iter()
                .filter(|input| **input != node)
                .map(|input| rows[*input] + 1)
                .max()
                .unwrap_or(0);
        }
        if rows == before {
            break;
        }
    }
    rows
}

/// An edge as the spots that it goes through: row and place in the row.
type Chain = Vec<(usize, usize)>;

/// Spots of all rows, and edges through them.
fn lanes(inputs: &[Vec<usize>], rows: &[usize]) -> (Vec<Vec<Spot>>, Vec<Chain>) {
    let depth = rows.iter().max().map_or(0, |row| row + 1);
    let mut layers: Vec<Vec<Spot>> = (0..depth).map(|_| Vec::new()).collect();
    let mut of_node = vec![0; rows.len()];
    for (node, row) in rows.iter().enumerate() {
        of_node[node] = layers[*row].len();
        layers[*row].push(Spot {
            node: Some(node),
            x: 0.0,
        });
    }
    let mut chains = Vec::new();
    for (node, own) in inputs.iter().enumerate() {
        for &input in own.iter().filter(|input| rows[**input] < rows[node]) {
            let mut chain = vec![(rows[input], of_node[input])];
            let between = layers.iter_mut().enumerate().take(rows[node]).skip(rows[input] + 1);
            for (row, layer) in between {
                layer.push(Spot { node: None, x: 0.0 });
                chain.push((row, layer.len() - 1));
            }
            chain.push((rows[node], of_node[node]));
            chains.push(chain);
        }
    }
    (layers, chains)
}

/// Puts spots near those that they are connected with, so that few edges cross; the chains follow.
fn order(layers: &mut [Vec<Spot>], chains: &[Chain]) {
    const SWEEPS: usize = 8;
    // Place of each spot in its row, which the chains name by its first place.
    let mut at: Vec<Vec<f64>> = layers
        .iter()
        .map(|layer| (0..layer.len()).map(|place| place as f64).collect())
        .collect();
    for sweep in 0..SWEEPS {
        let is_down = sweep % 2 == 0;
        let order: Vec<usize> = if is_down {
            (0..layers.len()).collect()
        } else {
            (0..layers.len()).rev().collect()
        };
        for row in order {
            let mut sums = vec![(0.0, 0.0); layers[row].len()];
            for pair in chains.iter().flat_map(|chain| chain.windows(2)) {
                let (own, other) = if is_down {
                    (pair[1], pair[0])
                } else {
                    (pair[0], pair[1])
                };
                if own.0 == row {
                    let share = match layers[other.0].len() {
                        1 => 0.5,
                        count => at[other.0][other.1] / (count - 1) as f64,
                    };
                    sums[own.1].0 += share;
                    sums[own.1].1 += 1.0;
                }
            }
            let scale = (layers[row].len().max(2) - 1) as f64;
            let wanted = |place: usize| match sums[place] {
                (_, 0.0) => at[row][place] / scale,
                (sum, count) => sum / count,
            };
            let mut places: Vec<usize> = (0..layers[row].len()).collect();
            places.sort_by(|a, b| wanted(*a).total_cmp(&wanted(*b)));
            for (rank, place) in places.into_iter().enumerate() {
                at[row][place] = rank as f64;
            }
        }
    }
    for (layer, ranks) in layers.iter_mut().zip(&at) {
        // Positions on the page follow the ranks, places in the chains stay.
        for (spot, rank) in layer.iter_mut().zip(ranks) {
            spot.x = *rank;
        }
    }
}
