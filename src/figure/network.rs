//! A drawing of a network: its areas from left to right as activity first reaches them, forward projections above,
//! feedback below, recurrent connections as loops.

use cords::net::{Graph, Origin, Via};

use super::font;
use super::markup::escape;
use super::panel::Look;

/// Sizes in pixels: boxes, and room between them.
const WIDTH: f64 = 104.0;
const HEIGHT: f64 = 58.0;
const GAP: f64 = 34.0;
const MARGIN: f64 = 10.0;
/// How much higher an arc is for every box that it passes, and at most.
const LANE: f64 = 17.0;
const HIGHEST: f64 = 120.0;
/// Height of a loop, and of a row of the legend.
const LOOP: f64 = 24.0;
const ROW: f64 = 19.0;
/// Length of an arrow's tip.
const TIP: f64 = 6.0;

/// Kinds of connections, in the order of the legend, with their class and what they are.
const KINDS: [(&str, &str); 5] = [
    ("flow", "forward: a convolution of the sum of what is joined"),
    ("flow-shortcut", "forward, through a shortcut convolution of its own"),
    ("loop", "recurrent convolution"),
    ("back", "feedback"),
    ("back-upsampled", "feedback, enlarged to the area's side"),
];

struct Edge {
    from: usize,
    to: usize,
    kind: usize,
    says: String,
}

/// A box: its name, and what stands below it.
struct Station {
    name: String,
    lines: Vec<String>,
}

/// What a drawing is made of.
struct Drawing {
    stations: Vec<Station>,
    edges: Vec<Edge>,
}

/// A drawing as SVG elements, with its size in pixels.
pub(crate) struct Network {
    pub(crate) inside: String,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// Draws a network. `taus_ms`: the time constants of areas that have none of their own, one for each or one for all;
/// none without dynamics.
pub(crate) fn network(look: Look, graph: &Graph, taus_ms: &[f64]) -> Network {
    let Drawing { stations, edges } = drawing(graph, taus_ms);
    let reach = |edge: &Edge| edge.from.abs_diff(edge.to);
    let tallest = |is_above: bool| {
        let own = edges.iter().filter(|edge| is_arc(edge) && (edge.kind < 2) == is_above);
        own.map(|edge| (LANE * reach(edge) as f64).min(HIGHEST))
            .fold(0.0, f64::max)
    };
    let has_loops = edges.iter().any(|edge| edge.kind == 2);
    let above = tallest(true).max(if has_loops { LOOP } else { 0.0 });
    let below = tallest(false);
    let top = MARGIN + above;
    let left = |station: usize| MARGIN + station as f64 * (WIDTH + GAP);
    let mut out = String::new();
    for edge in &edges {
        let (from, to) = (left(edge.from), left(edge.to));
        let middle = top + 0.5 * HEIGHT;
        // Where the line ends, and which way it goes there.
        let (d, end, way) = match edge.kind {
            2 => {
                let (a, b) = (from + 0.32 * WIDTH, from + 0.68 * WIDTH);
                let d = format!(
                    "M{a:.1},{top:.1}C{a:.1},{y:.1} {b:.1},{y:.1} {b:.1},{:.1}",
                    top - TIP,
                    y = top - LOOP * 1.3
                );
                (d, (b, top), Way::Down)
            }
            _ if !is_arc(edge) => {
                let d = format!("M{:.1},{middle:.1}H{:.1}", from + WIDTH, to - TIP);
                (d, (to, middle), Way::Right)
            }
            kind => {
                let lane = (LANE * reach(edge) as f64).min(HIGHEST) * 1.3;
                let (start, turn, tip, way) = match kind < 2 {
                    true => (top, top - lane, top - TIP, Way::Down),
                    false => (top + HEIGHT, top + HEIGHT + lane, top + HEIGHT + TIP, Way::Up),
                };
                // Where arcs leave and arrive side by side.
                let (a, b) = match kind < 2 {
                    true => (from + 0.8 * WIDTH, to + 0.2 * WIDTH),
                    false => (from + 0.3 * WIDTH, to + 0.7 * WIDTH),
                };
                let d = format!("M{a:.1},{start:.1}C{a:.1},{turn:.1} {b:.1},{turn:.1} {b:.1},{tip:.1}");
                (d, (b, if kind < 2 { top } else { top + HEIGHT }), way)
            }
        };
        let (class, _) = KINDS[edge.kind];
        out += &format!(
            "<path {} d=\"{d}\"><title>{}</title></path>{}",
            look.class(class),
            escape(&edge.says),
            tip(look, end, way)
        );
    }
    for (place, station) in stations.iter().enumerate() {
        out += &format!(
            "<rect {} x=\"{:.1}\" y=\"{top:.1}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>",
            look.class("box"),
            left(place)
        );
        let middle = left(place) + 0.5 * WIDTH;
        out += &look.text(
            "box-name",
            middle,
            top + 18.0,
            &font::cut(&station.name, 12.5, WIDTH - 8.0),
        );
        for (line, text) in station.lines.iter().enumerate() {
            let y = top + 34.0 + 14.0 * line as f64;
            out += &look.text("box-text", middle, y, &font::cut(text, 11.0, WIDTH - 6.0));
        }
    }
    let mut y = top + HEIGHT + below + 12.0;
    for (kind, (class, what)) in KINDS.iter().enumerate() {
        if edges.iter().any(|edge| edge.kind == kind) {
            y += ROW;
            out += &look.path(class, &format!("M{MARGIN:.1},{:.1}h24", y - 4.0));
            out += &tip(look, (MARGIN + 30.0, y - 4.0), Way::Right);
            out += &look.text("beside", MARGIN + 42.0, y, what);
        }
    }
    Network {
        inside: out,
        width: left(stations.len()) - GAP + MARGIN,
        height: y + MARGIN,
    }
}

/// Which way a line ends.
#[derive(Clone, Copy)]
enum Way {
    Right,
    Down,
    Up,
}

/// The tip of an arrow that ends at a place. A shape of its own: markers of SVG are read badly by other programs.
fn tip(look: Look, (x, y): (f64, f64), way: Way) -> String {
    let (length, half) = (TIP + 1.0, 3.4);
    let d = match way {
        Way::Right => format!("M{x:.1},{y:.1}l-{length},-{half}v{}Z", 2.0 * half),
        Way::Down => format!("M{x:.1},{y:.1}l-{half},-{length}h{}Z", 2.0 * half),
        Way::Up => format!("M{x:.1},{y:.1}l-{half},{length}h{}Z", 2.0 * half),
    };
    look.path("tip", &d)
}

/// Whether a connection goes around boxes: neighbours are joined straight.
fn is_arc(edge: &Edge) -> bool {
    edge.kind != 2 && (edge.kind > 2 || edge.to != edge.from + 1)
}

fn drawing(graph: &Graph, taus_ms: &[f64]) -> Drawing {
    let description = graph.description();
    let mut stations = vec![
        Station {
            name: "image".to_owned(),
            lines: vec![format!(
                "{} \u{d7} {}\u{b2}",
                description.in_channels, description.image_side
            )],
        },
        Station {
            name: "input layer".to_owned(),
            lines: vec![
                format!("{} channels", description.input_channels),
                "7\u{d7}7, then pool".to_owned(),
            ],
        },
    ];
    for (number, area) in description.areas.iter().enumerate() {
        let mut lines = vec![format!("{} \u{d7} {}\u{b2}", area.channels, area.side)];
        if let Some(tau) = area.tau_ms.or_else(|| taus_ms.get(number).or(taus_ms.first()).copied()) {
            let trained = if area.trains_tau { ", trained" } else { "" };
            lines.push(format!("\u{3c4} {} ms{trained}", super::scale::number(tau)));
        }
        stations.push(Station {
            name: match area.name.chars().all(|letter| letter.is_ascii_digit()) {
                // Areas of published networks are called by their numbers.
                true => format!("area {}", area.name),
                false => area.name.clone(),
            },
            lines,
        });
    }
    let last = stations.len();
    stations.push(Station {
        name: "readout".to_owned(),
        lines: vec![format!("{} classes", description.classes)],
    });
    let mut edges = vec![Edge {
        from: 0,
        to: 1,
        kind: 0,
        says: "7x7 convolution of stride 2, average pool 3x3 of stride 2".to_owned(),
    }];
    for projection in &description.projections {
        let kernel = &projection.kernel;
        let conv =
            |name: &str, side: usize, stride: usize| format!("{name}: {side}x{side} convolution, stride {stride}");
        let to = projection.to + 2;
        for source in &projection.sources {
            let from = match source.from {
                Origin::Image => 1,
                Origin::Area(area) => area + 2,
            };
            let kind = match (&source.via, from) {
                (Via::Direct, from) if from == to && projection.sources.len() == 1 => 2,
                (Via::Upsampled(_), _) => 4,
                (_, from) if from >= to => 3,
                (Via::Shortcut(_), _) => 1,
                (Via::Direct, _) => 0,
            };
            let mut says = conv(&kernel.name, kernel.kernel, kernel.stride);
            if let Via::Shortcut(own) = &source.via {
                says += &format!(", of {}", conv(&own.name, own.kernel, own.stride));
            }
            edges.push(Edge { from, to, kind, says });
        }
    }
    for area in &description.readout {
        let says = "mean of the rectified activity over each plane, then linear".to_owned();
        edges.push(Edge {
            from: area + 2,
            to: last,
            kind: 0,
            says,
        });
    }
    Drawing { stations, edges }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cords::net::{Architecture, Preset};

    fn kinds(preset: Preset, areas: usize) -> [usize; 5] {
        let published = Architecture {
            in_channels: 3,
            image_side: 64,
            channels: Architecture::published_channels(areas, 8),
            strides: Architecture::published_strides(areas),
            classes: 10,
        };
        let graph = published.preset(preset).expect("a network");
        let drawing = drawing(&graph, &[10.0]);
        std::array::from_fn(|kind| drawing.edges.iter().filter(|edge| edge.kind == kind).count())
    }

    #[test]
    fn connections_are_of_the_kind_that_they_are() {
        // Image, two areas in a row, their loops; what skips an area; both of the last pair are read out.
        let [forward, shortcut, recurrent, back, upsampled] = kinds(Preset::Published, 4);
        assert_eq!([recurrent, back, upsampled], [4, 0, 0]);
        assert!(forward > shortcut && shortcut > 0, "{forward} {shortcut}");
        let [.., recurrent, _, upsampled] = kinds(Preset::Feedback, 4);
        assert_eq!(recurrent, 4);
        assert!(upsampled > 0);
        let [_, _, recurrent, back, upsampled] = kinds(Preset::Feedforward, 4);
        assert_eq!([recurrent, back, upsampled], [0, 0, 0]);
    }
}
