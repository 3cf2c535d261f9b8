//! The equations of a network, written out in plain loops over single values, and the engine against them.

use cords::device::{Interpolation, Phi};
use cords::net::{CellKind, CordsNet, Euler, Graph, Input, Origin, Parameters, Projection, Via};

use super::{networks, normal, parameters};

/// `[channels, side, side]` of one image.
#[derive(Clone)]
struct Plane {
    channels: usize,
    side: usize,
    values: Vec<f64>,
}

impl Plane {
    fn zeros(channels: usize, side: usize) -> Self {
        Self {
            channels,
            side,
            values: vec![0.0; channels * side * side],
        }
    }

    fn at(&self, channel: usize, y: isize, x: isize) -> f64 {
        let inside = |p: isize| (0..self.side as isize).contains(&p);
        if inside(y) && inside(x) {
            self.values[(channel * self.side + y as usize) * self.side + x as usize]
        } else {
            0.0
        }
    }

    fn map(&self, f: impl Fn(f64) -> f64) -> Self {
        Self {
            values: self.values.iter().map(|v| f(*v)).collect(),
            ..*self
        }
    }

    /// Times a factor of its own in each channel, or one for all.
    fn times(mut self, factors: &[f64]) -> Self {
        let each = self.values.len() / factors.len();
        for (values, factor) in self.values.chunks_mut(each).zip(factors) {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        self
    }

    fn plus(mut self, other: &Self) -> Self {
        assert_eq!((self.channels, self.side), (other.channels, other.side));
        self.values.iter_mut().zip(&other.values).for_each(|(a, b)| *a += b);
        self
    }

    /// A convolution w = g v/|v| with (kernel - 1)/2 zeros around.
    fn convolved(&self, parameters: &Parameters<f64>, name: &str, stride: usize) -> Self {
        let part = |i: usize| {
            let name = format!("{name}.parametrizations.weight.original{i}");
            parameters.get(&name).unwrap_or_else(|| panic!("no {name}"))
        };
        let (g, v) = (part(0), part(1));
        let [outputs, inputs, kernel, _] = v.shape[..] else {
            panic!("{name}")
        };
        assert_eq!(inputs, self.channels, "{name}");
        let padding = (kernel - 1) / 2;
        let mut out = Self::zeros(outputs, (self.side + 2 * padding - kernel) / stride + 1);
        for (o, row) in v.data.chunks(inputs * kernel * kernel).enumerate() {
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            for (y, x) in (0..out.side).flat_map(|y| (0..out.side).map(move |x| (y, x))) {
                let mut sum = 0.0;
                for (index, v) in row.iter().enumerate() {
                    let (i, ky, kx) = (index / kernel / kernel, index / kernel % kernel, index % kernel);
                    let place = |p: usize, k: usize| (p * stride + k) as isize - padding as isize;
                    sum += v * self.at(i, place(y, ky), place(x, kx));
                }
                out.values[(o * out.side + y) * out.side + x] = g.data[o] * sum / length;
            }
        }
        out
    }

    fn enlarged(&self, side: usize, interpolation: Interpolation) -> Self {
        let mut out = Self::zeros(self.channels, side);
        let ratio = self.side as f64 / side as f64;
        for index in 0..out.values.len() {
            let (channel, y, x) = (index / side / side, index / side % side, index % side);
            out.values[index] = match interpolation {
                Interpolation::Nearest => {
                    let place = |p: usize| (p * self.side / side) as isize;
                    self.at(channel, place(y), place(x))
                }
                Interpolation::Bilinear => {
                    let place = |p: usize| ((p as f64 + 0.5) * ratio - 0.5).clamp(0.0, self.side as f64 - 1.0);
                    let (y, x) = (place(y), place(x));
                    let corners = [(0, 0), (0, 1), (1, 0), (1, 1)];
                    let weight = |at: f64, i: isize| if i == 0 { 1.0 - at.fract() } else { at.fract() };
                    let term = |(i, j): (isize, isize)| {
                        weight(y, i) * weight(x, j) * self.at(channel, y as isize + i, x as isize + j)
                    };
                    corners.into_iter().map(term).sum()
                }
            };
        }
        out
    }
}

/// The input layer of one image.
fn embedded(graph: &Graph, parameters: &Parameters<f64>, image: &[f64]) -> Plane {
    let image = Plane {
        channels: graph.in_channels(),
        side: graph.image_side(),
        values: image.to_vec(),
    };
    let convolved = image.convolved(parameters, "inp_conv", 2);
    let mut out = Plane::zeros(convolved.channels, convolved.side.div_ceil(2));
    for index in 0..out.values.len() {
        let (channel, y, x) = (
            index / out.side / out.side,
            index / out.side % out.side,
            index % out.side,
        );
        let window = (0..9).map(|k| convolved.at(channel, (2 * y + k / 3) as isize - 1, (2 * x + k % 3) as isize - 1));
        out.values[index] = window.sum::<f64>() / 9.0;
    }
    out
}

/// tau_a and beta of an area that adapts.
fn adaptation(graph: &Graph, parameters: &Parameters<f64>, area: usize) -> Option<(f64, f64)> {
    let CellKind::Adapting(adaptation) = graph.area(area).cell else {
        return None;
    };
    let trained = |name: &str| parameters.get(&format!("{name}.{area}")).map(|tensor| tensor.data[0]);
    let tau = trained("log_tau_a").map_or(adaptation.tau_a_ms, f64::exp);
    Some((tau, trained("beta").unwrap_or(adaptation.beta)))
}

/// One step of all areas: activity, and adaptation of all areas, 0 where they do not adapt.
fn stepped(
    graph: &Graph,
    parameters: &Parameters<f64>,
    (euler, slope): (&Euler, f64),
    (state, adapted): &(Vec<Plane>, Vec<Plane>),
    inp: Option<&Plane>,
) -> (Vec<Plane>, Vec<Plane>) {
    let description = graph.description();
    let current = |to: usize, projection: &Projection| {
        let own = |area: usize| Origin::Area(area) == projection.sources[0].from && area == to;
        let recurrent = projection.sources.len() == 1 && own(to) && projection.sources[0].via == Via::Direct;
        let plain = projection.sources.iter().map(|source| {
            let plane = match source.from {
                Origin::Image => inp.cloned().unwrap_or_else(|| {
                    let seen = embedded(graph, parameters, &vec![0.0; graph.image_len()]);
                    seen.map(|_| 0.0)
                }),
                Origin::Area(area) if recurrent => state[area].clone(),
                Origin::Area(area) => state[area].map(|r| r.max(0.0)),
            };
            match &source.via {
                Via::Direct => (plane, None),
                Via::Shortcut(kernel) => (plane.convolved(parameters, &kernel.name, kernel.stride), None),
                Via::Upsampled(interpolation) => (plane, Some(*interpolation)),
            }
        });
        let plain: Vec<(Plane, Option<Interpolation>)> = plain.collect();
        let side = plain
            .iter()
            .find(|(_, enlarged)| enlarged.is_none())
            .map(|(plane, _)| plane.side);
        let side = side.unwrap_or(description.areas[to].side * projection.kernel.stride);
        let brought = plain.into_iter().map(|(plane, enlarged)| match enlarged {
            Some(interpolation) => plane.enlarged(side, interpolation),
            None => plane,
        });
        let sum = brought.reduce(|sum, plane| sum.plus(&plane)).expect("sources");
        sum.convolved(parameters, &projection.kernel.name, projection.kernel.stride)
    };
    let next = (0..graph.areas()).map(|area| {
        let bias = parameters.get(&format!("conv_bias.{area}")).expect("a bias");
        let mut u = Plane {
            values: bias.data.clone(),
            ..state[area].clone()
        };
        for projection in description
            .projections
            .iter()
            .filter(|projection| projection.to == area)
        {
            u = u.plus(&current(area, projection));
        }
        let alphas: Vec<f64> = match parameters.get(&format!("log_tau.{area}")) {
            Some(log_tau) => log_tau.data.iter().map(|log_tau| euler.dt_ms / log_tau.exp()).collect(),
            None => vec![euler.dt_ms / graph.area(area).tau_ms.unwrap_or(euler.tau_ms[0])],
        };
        let keep: Vec<f64> = alphas.iter().map(|alpha| 1.0 - alpha).collect();
        let u = u.plus(&adapted[area].map(|a| -a));
        let phi = u.map(|u| if u > 0.0 { u } else { slope * u });
        state[area].clone().times(&keep).plus(&phi.times(&alphas))
    });
    let next_adapted = (0..graph.areas()).map(|area| match adaptation(graph, parameters, area) {
        Some((tau, beta)) => {
            let alpha = euler.dt_ms / tau;
            adapted[area]
                .map(|a| (1.0 - alpha) * a)
                .plus(&state[area].map(|r| alpha * beta * r))
        }
        None => adapted[area].clone(),
    });
    (next.collect(), next_adapted.collect())
}

#[test]
fn every_graph_runs_as_its_equations_say() {
    let euler = Euler::new(2.0, 10.0);
    for (name, graph) in networks() {
        for (phi, slope) in [(Phi::Relu, 0.0), (Phi::LeakyRelu(0.3), 0.3)] {
            let parameters = parameters(&graph, 1);
            let net = CordsNet::new(&graph, &parameters, &euler, phi).expect("a network");
            let batch = 2;
            let images = normal(graph.image_len() * batch, 3);
            let inp = net.embed(&images, batch);
            let mut state = net.zeros(batch);
            net.run(&mut state, Input::Blank, 3, &mut |_, _| {});
            net.run(&mut state, Input::Constant(&inp), 4, &mut |_, _| {});
            let drives: Vec<Vec<f64>> = (0..graph.areas()).map(|area| net.drive(area, &state, &inp)).collect();
            let recurrent = |area: usize| net.recurrent(area, &state.areas[area], batch);
            let logits = net.logits(&state);
            for (image, pixels) in images.chunks(graph.image_len()).enumerate() {
                let seen = embedded(&graph, &parameters, pixels);
                let zero = |area: usize| Plane::zeros(graph.area(area).channels, graph.area(area).side);
                let zeros: Vec<Plane> = (0..graph.areas()).map(zero).collect();
                let mut found = (zeros.clone(), zeros);
                for step in 0..7 {
                    let inp = (step >= 3).then_some(&seen);
                    found = stepped(&graph, &parameters, (&euler, slope), &found, inp);
                }
                let planes = &found.0;
                for (area, plane) in planes.iter().enumerate() {
                    let units = plane.values.len();
                    let found = &state.areas[area][image * units..][..units];
                    let largest = found
                        .iter()
                        .zip(&plane.values)
                        .map(|(a, b)| (a - b).abs())
                        .fold(0.0, f64::max);
                    assert!(largest < 1e-12, "{name}, {phi:?}, area {area}: {largest:e}");
                    assert!(
                        found.iter().any(|r| r.abs() > 1e-3),
                        "{name}, area {area} does something"
                    );
                }
                // Another step, from its parts.
                let (next, _) = stepped(&graph, &parameters, (&euler, slope), &found, Some(&seen));
                for (area, next) in next.iter().enumerate() {
                    let units = next.values.len();
                    let taus = net.area_taus_ms(area);
                    let (recurrent, bias) = (recurrent(area), net.bias(area));
                    for (unit, bias) in bias.iter().enumerate() {
                        let place = image * units + unit;
                        let u = recurrent[place] + drives[area][place] + bias - found.1[area].values[unit];
                        let phi = if u > 0.0 { u } else { slope * u };
                        let alpha = euler.dt_ms / taus[unit * taus.len() / units];
                        let expected = (1.0 - alpha) * state.areas[area][place] + alpha * phi;
                        assert!(
                            (next.values[unit] - expected).abs() < 1e-12,
                            "{name}, {phi:?}, area {area}"
                        );
                    }
                }
                let (weight, bias) = (
                    [
                        "out_fc.parametrizations.weight.original0",
                        "out_fc.parametrizations.weight.original1",
                    ]
                    .map(|name| &parameters.get(name).expect("the readout").data),
                    &parameters.get("out_fc.bias").expect("the readout").data,
                );
                let channels = weight[1].len() / graph.classes();
                let mut pooled = vec![0.0; channels];
                for area in &graph.description().readout {
                    let plane = &planes[*area];
                    for (pooled, values) in pooled.iter_mut().zip(plane.values.chunks(plane.side * plane.side)) {
                        *pooled += values.iter().map(|r| r.max(0.0)).sum::<f64>() / values.len() as f64;
                    }
                }
                for class in 0..graph.classes() {
                    let row = &weight[1][class * channels..][..channels];
                    let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let dot: f64 = row.iter().zip(&pooled).map(|(v, p)| v * p).sum();
                    let expected = bias[class] + weight[0][class] * dot / length;
                    let found = logits[image * graph.classes() + class];
                    assert!((found - expected).abs() < 1e-12, "{name}: logits");
                }
            }
        }
    }
}
