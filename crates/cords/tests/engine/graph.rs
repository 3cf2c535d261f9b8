//! Networks that are not the published ones: simulation against the equations written out in plain loops, gradients
//! against finite differences, and dynamics of areas that drive each other against dense matrices.

use cords::data::MemoryImages;
use cords::device::{Cpu, Interpolation, Phi};
use cords::dynamics::{
    AreaJacobian, ExponentOptions, FixedPointOptions, LinearOperator, LyapunovOptions, NetworkJacobian,
    NetworkSpectrum, SpectrumOptions, SteadyMethod, SteadyOptions, area_spectrum, fixed_point,
    spontaneous_steady_state, steady_state,
};
use cords::learn::{
    Batch, CordsNetGradient, Data, DirectConfig, Fit, HistoryPrecision, Initialisation, Memory, Objective,
    OptimiserKind, OptimiserSettings, Schedule, Training, logspace,
};
use cords::net::{
    Adaptation, AdjointMap, AdjointMaps, Architecture, Cell, CellKind, CellMaps, CellParameter, CordsNet, Euler, Graph,
    HiddenVariable, Input, Model, ModelInfo, Origin, OwnCell, Parameters, Preset, Projection, State, StepMap, Via,
};
use cords::rng::{Purpose, Stream};

use crate::support::{Fixture, assert_close};

fn normal(n: usize, seed: u64) -> Vec<f64> {
    let mut stream = Stream::new(seed, Purpose::Probe, 0, 0, 0, 0);
    (0..n).map(|_| stream.normal()).collect()
}

/// Sizes of all presets here: odd sides, so that nothing is a whole multiple.
fn architecture() -> Architecture {
    Architecture {
        in_channels: 2,
        image_side: 25,
        channels: vec![3, 4, 4, 5, 5],
        strides: vec![1, 1, 2, 1],
        classes: 3,
    }
}

/// Areas that are not in the order of the loop that they form, kernels of three sizes, a shortcut from the image, an
/// enlargement that is no whole multiple, two projections to one area, time constants of their own.
const STREAMS: &str = r#"{
    "in_channels": 2, "image_side": 25, "classes": 3, "input_channels": 3,
    "areas": [
        {"name": "late", "channels": 5, "side": 4, "tau_ms": 20.0},
        {"name": "coarse", "channels": 4, "side": 4, "tau_ms": 25.0},
        {"name": "fine", "channels": 4, "side": 7,
         "cell": {"adapting": {"tau_a_ms": 30.0, "beta": 0.7, "trained": true}}},
        {"name": "middle", "channels": 6, "side": 4},
        {"name": "end", "channels": 5, "side": 4, "tau_ms": 8.0,
         "cell": {"adapting": {"tau_a_ms": 50.0, "beta": 0.4}}}
    ],
    "projections": [
        {"name": "coarse.in", "to": "coarse", "from": ["image"], "kernel": 5, "stride": 2},
        {"name": "coarse.rec", "to": "coarse", "from": ["coarse"]},
        {"name": "fine.in", "to": "fine", "from": ["image"]},
        {"name": "fine.rec", "to": "fine", "from": ["fine"], "kernel": 5},
        {"name": "fine.back", "to": "fine", "from": [{"from": "late", "upsample": "bilinear"}]},
        {"name": "middle.in", "to": "middle", "from": ["fine"], "stride": 2},
        {"name": "middle.side", "to": "middle", "from": ["coarse"], "kernel": 1},
        {"name": "middle.rec", "to": "middle", "from": ["middle"]},
        {"name": "late.in", "to": "late", "stride": 2, "kernel": 1,
         "from": [{"from": "middle", "upsample": "nearest"}, {"from": "fine", "shortcut": {"name": "late.skip", "kernel": 1, "stride": 1}}]},
        {"name": "end.in", "to": "end", "from": [
            {"from": "late", "upsample": "nearest"},
            {"from": "coarse", "shortcut": {"name": "end.skip"}},
            {"from": "image", "shortcut": {"name": "end.image", "stride": 2}}]}
    ],
    "readout": ["late", "end"]
}"#;

fn streams() -> Graph {
    serde_json::from_str(STREAMS).unwrap_or_else(|error| panic!("{error}"))
}

/// Adaptation by the square of the activity, tau da/dt = -a + r^2, and u - beta a in place of u; by tau in ms.
struct Quadratic(f64);

impl Cell for Quadratic {
    fn parameters(&self) -> Vec<CellParameter> {
        vec![CellParameter::new("beta", 0.8)]
    }

    fn step(&self, beta: &[f64], maps: &mut dyn CellMaps<StepMap>) {
        let alpha = maps.dt_ms() / self.0;
        maps.copy(StepMap::Hidden(0), StepMap::NextHidden(0));
        maps.scale(1.0 - alpha, StepMap::NextHidden(0));
        maps.add_product(alpha, StepMap::Activity, StepMap::Activity, StepMap::NextHidden(0));
        maps.add_scaled(-beta[0], StepMap::Hidden(0), StepMap::Current);
    }

    fn adjoint(&self, beta: &[f64], maps: &mut dyn AdjointMaps) {
        let (alpha, g) = (maps.dt_ms() / self.0, AdjointMap::HiddenGradient(0));
        maps.add_dot(-1.0, AdjointMap::CurrentGradient, AdjointMap::Hidden(0), 0);
        maps.add_product(2.0 * alpha, g, AdjointMap::Activity, AdjointMap::Gradient);
        maps.scale(1.0 - alpha, g);
        maps.add_scaled(-beta[0], AdjointMap::CurrentGradient, g);
    }
}

/// `streams` with a cell of one's own in one of its areas.
fn with_cell(area: usize, name: &str, cell: impl Cell + 'static) -> Graph {
    let mut description = streams().description().clone();
    description.areas[area].cell = CellKind::Own(OwnCell::new(name, cell));
    Graph::new(description).expect("valid")
}

fn networks() -> Vec<(String, Graph)> {
    let presets = [
        Preset::Published,
        Preset::Feedback,
        Preset::Feedforward,
        Preset::Blt,
        Preset::CornetRt,
    ];
    let mut networks: Vec<(String, Graph)> = presets
        .iter()
        .map(|preset| (format!("{preset:?}"), architecture().preset(*preset).expect("valid")))
        .collect();
    networks.push(("streams".to_owned(), streams()));
    let mut description = streams().description().clone();
    for (number, is_one) in [(0, false), (1, true), (4, false)] {
        let area = &mut description.areas[number];
        (area.trains_tau, area.tau_per_channel) = (true, !is_one);
    }
    let trained = Graph::new(description).expect("valid");
    networks.push(("trained time constants".to_owned(), trained));
    networks
}

/// Weights of a size at which activity stays small, biases that are not 0, and channels that differ in time constants.
fn parameters(graph: &Graph, seed: u64) -> Parameters<f64> {
    let initialisation = Initialisation {
        feedforward: 0.8,
        recurrent: 0.6,
        ..Initialisation::default()
    };
    let mut parameters: Parameters<f64> = initialisation.cordsnet(graph, seed).cast();
    for area in 0..graph.areas() {
        let bias = parameters.get_mut(&format!("conv_bias.{area}")).expect("a bias");
        bias.data = normal(bias.data.len(), 100 + seed + area as u64)
            .iter()
            .map(|b| 0.3 * b)
            .collect();
        let log_taus = parameters.get_mut(&format!("log_tau.{area}"));
        for (channel, log_tau) in log_taus.into_iter().flat_map(|tensor| &mut tensor.data).enumerate() {
            *log_tau += 0.2 * channel as f64;
        }
    }
    parameters
}

// ------------------------------------------------------------------------------------------- the equations, written out

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

#[test]
fn operators_of_every_graph_are_adjoint() {
    for (name, graph) in networks() {
        let net = CordsNet::new(&graph, &parameters(&graph, 2), &Euler::published(), Phi::Relu).expect("a network");
        let image = normal(graph.image_len(), 4);
        let inp = net.embed(&image, 1);
        let mut state = net.zeros(1);
        net.run(&mut state, Input::Constant(&inp), 5, &mut |_, _| {});
        let whole = NetworkJacobian::at(&net, &state, &inp);
        let components = graph.components().iter();
        let blocks: Vec<_> = components
            .map(|areas| AreaJacobian::of_component(&net, areas, &state, &inp))
            .collect();
        let operators = blocks.iter().map(|block| block as &dyn LinearOperator);
        for operator in operators.chain([&whole as &dyn LinearOperator]) {
            let n = operator.dim();
            let (x, y) = (normal(n, 5), normal(n, 6));
            let (mut ax, mut aty) = (vec![0.0; n], vec![0.0; n]);
            operator.apply(&x, &mut ax);
            operator.apply_transpose(&y, &mut aty);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let (left, right) = (dot(&y, &ax), dot(&aty, &x));
            assert!(
                (left - right).abs() < 1e-11 * dot(&y, &y).sqrt() * dot(&ax, &ax).sqrt(),
                "{name}"
            );
        }
        for (areas, block) in graph.components().iter().zip(&blocks) {
            // The block is the whole's, on the component's units.
            let (mut x, mut out) = (vec![0.0; whole.dim()], vec![0.0; whole.dim()]);
            let part = normal(block.dim(), 7);
            let mut expected = vec![0.0; block.dim()];
            block.apply(&part, &mut expected);
            // Hidden variables follow after all activities, in the order of the areas.
            let adapts = |area: &usize| graph.area(*area).cell != CellKind::Leaky;
            let mut end = graph.units();
            let mut hidden = vec![0..0; graph.areas()];
            for area in (0..graph.areas()).filter(adapts) {
                hidden[area] = end..end + graph.area_units(area);
                end = hidden[area].end;
            }
            let activities = areas.iter().flat_map(|area| whole.range(*area));
            let units: Vec<usize> = activities
                .chain(areas.iter().flat_map(|area| hidden[*area].clone()))
                .collect();
            units.iter().zip(&part).for_each(|(unit, part)| x[*unit] = *part);
            whole.apply(&x, &mut out);
            for (unit, expected) in units.iter().zip(&expected) {
                assert!((out[*unit] - expected).abs() < 1e-12, "{name}");
            }
        }
    }
}

/// Of the step's derivative, 1 + dt J, by central differences, along activity that is not 0.
#[test]
fn the_linearisation_is_that_of_steps_and_steady_states_are_theirs() {
    let euler = Euler::published();
    for (name, graph) in networks() {
        let net = CordsNet::new(&graph, &parameters(&graph, 2), &euler, Phi::Relu).expect("a network");
        let inp = net.embed(&normal(graph.image_len(), 4), 1);
        let mut state = net.zeros(1);
        net.run(&mut state, Input::Constant(&inp), 5, &mut |_, _| {});
        let jacobian = NetworkJacobian::at(&net, &state, &inp);
        let values = |state: &State<f64>| [state.areas.concat(), state.hidden.concat()].concat();
        let mut x = normal(jacobian.dim(), 5);
        let activity = values(&state);
        for (x, r) in x.iter_mut().zip(&activity).take(graph.units()) {
            *x = if *r > 0.0 { *x } else { 0.0 };
        }
        const STEP: f64 = 1e-7;
        let stepped = |factor: f64| {
            let mut moved = state.clone();
            let units = moved.areas.iter_mut().chain(&mut moved.hidden).flatten();
            units.zip(&x).for_each(|(unit, x)| *unit += factor * x);
            net.step(&mut moved, &inp);
            values(&moved)
        };
        let mut jx = vec![0.0; x.len()];
        jacobian.apply(&x, &mut jx);
        for (unit, (up, down)) in stepped(STEP).iter().zip(&stepped(-STEP)).enumerate() {
            let found = (up - down) / (2.0 * STEP);
            let expected = x[unit] + euler.dt_ms * jx[unit];
            assert!(
                (found - expected).abs() < 1e-6,
                "{name}, unit {unit}: {found} {expected}"
            );
        }
        let options = SteadyOptions {
            tolerance: 1e-10,
            ..SteadyOptions::default()
        };
        let steady = spontaneous_steady_state(&net, &options, &mut |_, _| {});
        if steady.converged() {
            let mut state = steady.state.clone();
            net.step(&mut state, &net.blank(1));
            for (found, expected) in values(&state).iter().zip(&values(&steady.state)) {
                assert!((found - expected).abs() < 1e-9, "{name}");
            }
        }
    }
}

/// Central differences of the objective along single parameters, in float64; the trial starts from r = 0, so that no
/// parameter moves its start.
#[test]
fn gradients_of_every_graph_equal_finite_differences() {
    let objective = Objective {
        spontaneous_steps: 0,
        stimulus_steps: 5,
        after_steps: 3,
        ramp: logspace(-1.0, 0.0, 3),
        return_weight: 0.5,
        return_window: 2,
    };
    let own = (
        "a cell of one's own".to_owned(),
        with_cell(3, "quadratic", Quadratic(30.0)),
    );
    for (name, graph) in networks().into_iter().chain([own]) {
        let start = parameters(&graph, 7);
        let (images, labels) = (normal(graph.image_len() * 2, 8), [1, 0]);
        let batch = Batch {
            images: &images,
            labels: &labels,
        };
        for phi in [Phi::Relu, Phi::LeakyRelu(0.3)] {
            let with = |memory| {
                let euler = Euler::new(2.0, 10.0);
                let precision = HistoryPrecision::Float32;
                CordsNetGradient::new(&Cpu, &graph, &start, &euler, phi, &objective)
                    .expect("a network")
                    .keeping(memory, precision)
            };
            let mut gradient = with(Memory::Unlimited);
            let found = gradient.run(batch, &[]).expect("a batch").gradients;
            let sparse = with(Memory::Every(2)).run(batch, &[]).expect("a batch").gradients;
            assert!(sparse == found, "{name}, {phi:?}: checkpoints leave no trace");
            for (parameter, values) in found.iter() {
                let size = values.data.iter().map(|g| g.abs()).fold(0.0, f64::max);
                assert!(size > 0.0, "{name}, {phi:?}: {parameter} matters");
                let place = values.data.len() / 3;
                let mut loss = |change: f64| {
                    let mut moved = start.clone();
                    moved.get_mut(parameter).expect("a parameter").data[place] += change;
                    gradient.set_parameters(&moved).expect("the same network");
                    gradient.run(batch, &[]).expect("a batch").loss.loss
                };
                const STEP: f64 = 1e-6;
                let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
                let error = (difference - values.data[place]).abs() / size;
                assert!(
                    error < 1e-4,
                    "{name}, {phi:?}: {parameter}[{place}] {difference} {}",
                    values.data[place]
                );
            }
        }
    }
}

/// Rounded activity does not tell the sign of currents there.
#[test]
fn channels_with_time_constants_take_no_bfloat16() {
    let (_, graph) = networks().pop().expect("networks");
    let objective = Objective {
        spontaneous_steps: 1,
        stimulus_steps: 3,
        after_steps: 0,
        ramp: vec![1.0],
        return_weight: 0.0,
        return_window: 0,
    };
    let (start, euler) = (parameters(&graph, 7), Euler::published());
    let gradient = CordsNetGradient::new(&Cpu, &graph, &start, &euler, Phi::Relu, &objective).expect("a network");
    let images = normal(graph.image_len(), 8);
    let batch = Batch {
        images: &images,
        labels: &[1],
    };
    let mut gradient = gradient.keeping(Memory::Unlimited, HistoryPrecision::Bfloat16);
    let refused = gradient.run(batch, &[]).expect_err("refused").to_string();
    assert!(
        refused.contains("bfloat16") && refused.contains("area late"),
        "{refused}"
    );
    // They are parameters.
    let mut description = graph.description().clone();
    description.areas[0].trains_tau = false;
    let refused = Graph::new(description).expect_err("refused").to_string();
    assert!(
        refused.contains("area late") && refused.contains("trains_tau"),
        "{refused}"
    );
}

#[test]
fn a_model_of_any_graph_goes_through_its_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, graph) in networks() {
        let model = Model::CordsNet {
            parameters: parameters(&graph, 1).cast(),
            architecture: graph,
            euler: Euler::published(),
            phi: Phi::Relu,
            info: ModelInfo::default(),
        };
        let path = folder.path().join(format!("{name}.safetensors"));
        model.save(&path).expect("saved");
        assert_eq!(Model::load(&path).expect("loaded"), model, "{name}");
    }
}

#[test]
fn a_file_names_a_cell_of_ones_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("own.safetensors");
    let graph = with_cell(3, "quadratic", Quadratic(30.0));
    let CellKind::Own(cell) = graph.area(3).cell.clone() else {
        panic!("it was given");
    };
    let model = Model::CordsNet {
        parameters: parameters(&graph, 1).cast(),
        architecture: graph,
        euler: Euler::published(),
        phi: Phi::Relu,
        info: ModelInfo::default(),
    };
    model.save(&path).expect("saved");
    let refused = Model::load(&path).expect_err("the cell is not known").to_string();
    for part in ["area middle", "`quadratic`", "Model::load_with"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert_eq!(Model::load_with(&path, &[cell]).expect("loaded"), model);
    // It has no linearisation.
    let net = model.cordsnet().expect("a network");
    let refused = net.check_linear().expect_err("not linear").to_string();
    assert!(refused.contains("area middle has cells `quadratic`"), "{refused}");
}

/// Adaptation as if it were another's.
struct Twin(Adaptation);

impl Cell for Twin {
    fn parameters(&self) -> Vec<CellParameter> {
        self.0.parameters()
    }

    fn linearisation(&self, parameters: &[f64]) -> Option<Vec<HiddenVariable>> {
        self.0.linearisation(parameters)
    }

    fn adjoint(&self, parameters: &[f64], maps: &mut dyn AdjointMaps) {
        self.0.adjoint(parameters, maps);
    }
}

#[test]
fn a_cell_of_ones_own_has_the_bits_of_the_crates() {
    let graph = streams();
    let CellKind::Adapting(adaptation) = graph.area(2).cell else {
        panic!("it adapts");
    };
    let own = with_cell(2, "twin", Twin(adaptation));
    let found = [&graph, &own].map(|graph| {
        let (parameters, euler) = (parameters(graph, 5), Euler::published());
        let net = CordsNet::new(graph, &parameters, &euler, Phi::Relu).expect("a network");
        net.check_linear().expect("linear");
        let steady = spontaneous_steady_state(&net, &SteadyOptions::default(), &mut |_, _| {});
        let objective = Objective {
            spontaneous_steps: 4,
            stimulus_steps: 5,
            after_steps: 3,
            ramp: logspace(-1.0, 0.0, 3),
            return_weight: 0.5,
            return_window: 2,
        };
        let (images, labels) = (normal(graph.image_len() * 2, 8), [1, 0]);
        let batch = Batch {
            images: &images,
            labels: &labels,
        };
        let gradient = CordsNetGradient::new(&Cpu, graph, &parameters, &euler, Phi::Relu, &objective);
        let gradient = gradient.and_then(|mut gradient| gradient.run(batch, &[]));
        (steady.state, gradient.expect("a batch").gradients)
    });
    assert!(found[0].1.get("log_tau_a.2").is_some());
    assert!(found[0] == found[1]);
}

#[test]
fn cells_of_ones_own_are_checked() {
    struct Named(&'static str, f64);
    impl Cell for Named {
        fn parameters(&self) -> Vec<CellParameter> {
            vec![CellParameter::new(self.0, self.1)]
        }
    }
    let refused = |name: &str, cell: Named| {
        let mut description = streams().description().clone();
        description.areas[3].cell = CellKind::Own(OwnCell::new(name, cell));
        Graph::new(description).expect_err("refused").to_string()
    };
    for (said, part) in [
        (refused("two words", Named("a", 1.0)), "no spaces"),
        (
            refused("cell", Named("log_tau", 1.0)),
            "a parameter cannot be named `log_tau`",
        ),
        (refused("cell", Named("a", f64::NAN)), "parameter `a` starts from NaN"),
    ] {
        assert!(said.contains(part) && said.contains("area middle"), "{said}");
    }
}

/// Weight decay pushes everything towards 0, logarithms of time constants too.
#[test]
fn trained_time_constants_stay_at_the_step_at_least() {
    let euler = Euler::new(5.0, 10.0);
    let mut description = architecture().graph().expect("valid").description().clone();
    for area in &mut description.areas {
        (area.tau_ms, area.trains_tau) = (Some(5.2), true);
    }
    description.areas[1].cell = CellKind::Adapting(Adaptation {
        tau_a_ms: 5.2,
        beta: 0.3,
        trained: true,
    });
    let graph = Graph::new(description).expect("valid");
    let values = normal(12 * graph.image_len(), 9)
        .iter()
        .map(|value| *value as f32)
        .collect();
    let labels = (0..12).map(|image| image % 3).collect();
    let images = MemoryImages::new([2, 25], 3, values, labels).expect("images");
    let config = DirectConfig {
        spontaneous_ms: 20.0,
        stimulus_ms: 40.0,
        after_ms: 20.0,
        readout_window_ms: 20.0,
        return_window_ms: 10.0,
        // Activity returns sooner where time constants are shorter.
        return_weight: 1e3,
        fit: Fit {
            epochs: 3,
            batch: 4,
            optimiser: OptimiserSettings::new(OptimiserKind::Adam, 0.0),
            learning_rate: 0.1,
            schedule: Schedule::Constant,
            warm_up: None,
            ..Fit::default()
        },
        ..DirectConfig::default()
    };
    let data = Data {
        train: &images,
        validation: &images,
    };
    let trained = Training::new(&graph, &config, &data)
        .euler(&euler)
        .run(&Cpu)
        .expect("trained");
    assert!(trained.epochs.iter().all(|epoch| epoch.loss.is_finite()));
    // One step of the optimiser is longer than the way from 5.2 ms to the Euler step.
    let names = ["log_tau.0", "log_tau.1", "log_tau.2", "log_tau.3", "log_tau_a.1"];
    let taus = names.map(|name| f64::from(trained.parameters.get(name).expect("trained").data[0]).exp());
    assert!(taus.iter().all(|tau| *tau >= 5.0), "{taus:?} ms");
    assert!(taus.iter().any(|tau| *tau < 5.01), "{taus:?} ms");
    let net = CordsNet::new(&graph, &trained.parameters, &euler, Phi::Relu).expect("a network");
    assert!(net.euler().tau_ms.iter().all(|tau| *tau >= 5.0));
    // Below the step they are refused, whoever has trained them.
    for name in ["log_tau.2", "log_tau_a.1"] {
        let mut parameters = trained.parameters.clone();
        parameters.get_mut(name).expect("trained").data[0] = 1.2;
        let refused = CordsNet::new(&graph, &parameters, &euler, Phi::Relu);
        let refused = refused.err().expect("too fast").to_string();
        assert!(
            refused.contains(name) && refused.contains("Euler step of 5 ms"),
            "{refused}"
        );
    }
}

/// J by columns.
fn dense(operator: &dyn LinearOperator) -> Vec<Vec<f64>> {
    let n = operator.dim();
    let column = |j: usize| {
        let (mut unit, mut out) = (vec![0.0; n], vec![0.0; n]);
        unit[j] = 1.0;
        operator.apply(&unit, &mut out);
        out
    };
    (0..n).map(column).collect()
}

/// Steady states by each method are steady under the network's own steps; the Jacobian is the derivative of a step;
/// its leading modes solve the dense eigenvalue problem; exponents at the steady state are log |1 + dt lambda| / dt.
#[test]
fn areas_that_drive_each_other_are_one_system() {
    let euler = Euler::published();
    for name in ["Feedback", "Blt", "streams"] {
        let graph = networks()
            .into_iter()
            .find(|(found, _)| found == name)
            .expect("there")
            .1;
        let net = CordsNet::new(&graph, &parameters(&graph, 9), &euler, Phi::Relu).expect("a network");
        let inp = net.embed(&normal(graph.image_len(), 10), 1);
        let mut states = Vec::new();
        for method in [
            SteadyMethod::Simulation,
            SteadyMethod::Anderson,
            SteadyMethod::NewtonKrylov,
        ] {
            let options = SteadyOptions {
                tolerance: 1e-12,
                method,
                ..SteadyOptions::default()
            };
            let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
            let steady = steady_state(&net, &inp, &spontaneous, &options, &mut |_, _| {});
            assert!(
                spontaneous.converged() && steady.converged(),
                "{name}, {method:?}: {:?}",
                steady.areas
            );
            let mut next = steady.state.clone();
            net.step(&mut next, &inp);
            for (a, b) in next.areas.iter().flatten().zip(steady.state.areas.iter().flatten()) {
                assert!((a - b).abs() < 1e-11, "{name}, {method:?}: it stays");
            }
            states.push(steady.state);
        }
        for other in &states[1..] {
            for (a, b) in states[0].areas.iter().flatten().zip(other.areas.iter().flatten()) {
                assert!((a - b).abs() < 1e-10, "{name}: one steady state");
            }
        }
        let state = &states[0];
        // Between kinks a step is linear: its difference quotient is exact but for rounding.
        let whole = NetworkJacobian::at(&net, state, &inp);
        let matrix = dense(&whole);
        let dt = net.euler().dt_ms;
        for (j, column) in matrix.iter().enumerate().step_by(37) {
            const STEP: f64 = 1e-7;
            let moved = |change: f64| {
                let mut moved = state.clone();
                let mut values = moved.areas.iter_mut().chain(&mut moved.hidden).flatten();
                *values.nth(j).expect("a unit") += change;
                net.step(&mut moved, &inp);
                moved
                    .areas
                    .into_iter()
                    .chain(moved.hidden)
                    .flatten()
                    .collect::<Vec<f64>>()
            };
            let (up, still) = (moved(STEP), moved(0.0));
            let active = state
                .areas
                .iter()
                .chain(&state.hidden)
                .flatten()
                .nth(j)
                .is_some_and(|value| *value > 1e-6);
            for (i, entry) in column.iter().enumerate().filter(|_| active) {
                let expected = f64::from(u8::from(i == j)) + dt * entry;
                assert!(
                    ((up[i] - still[i]) / STEP - expected).abs() < 1e-5,
                    "{name}: column {j}, row {i}"
                );
            }
        }
        let components = graph.components();
        assert!(components.iter().any(|areas| areas.len() > 1));
        let options = SpectrumOptions::default();
        let spectra: Vec<_> = components
            .iter()
            .map(|areas| {
                let jacobian = AreaJacobian::of_component(&net, areas, state, &inp);
                area_spectrum(&jacobian, dt, &options, &mut |_, _| {})
            })
            .collect();
        for (areas, spectrum) in components.iter().zip(&spectra) {
            assert!(spectrum.converged, "{name}, {areas:?}");
            for mode in &spectrum.modes {
                assert!(mode.residual_per_ms < 1e-8, "{name}, {areas:?}: {mode:?}");
            }
        }
        let firsts = components.iter().map(|areas| areas[0]).zip(spectra.iter().map(Some));
        let network = NetworkSpectrum::of(firsts, dt).expect("converged");
        assert!(network.stable, "{name}: {network:?}");
        let exponents = ExponentOptions {
            noise: vec![0.0],
            lyapunov: LyapunovOptions {
                count: 1,
                burn_in: 4000,
                steps: 1000,
                ..LyapunovOptions::default()
            },
        };
        let options = FixedPointOptions {
            exponents: Some(exponents),
            ..FixedPointOptions::default()
        };
        let (_, point) = fixed_point(&net, None, &[], &options, &|| {});
        for (area, found) in point.areas.iter().enumerate() {
            let component = components.iter().find(|areas| areas.contains(&area)).expect("one");
            assert_eq!(found.component, component[0]);
            let exponents = found.exponents.as_ref().expect("asked for");
            assert_eq!(exponents[0].is_empty(), component[0] != area);
        }
    }
}

/// Steady states, the Jacobian, its leading modes and the stationary covariance against PyTorch and dense algebra in
/// float64, of networks with feedback and with adaptation.
#[test]
fn fixture_dynamics_of_graphs() {
    for name in ["feedback_dynamics", "adapting_dynamics", "oscillating_dynamics"] {
        let fixture = Fixture::open(&format!("{name}.safetensors"));
        let graph = fixture.architecture();
        let euler = Euler::new(fixture.number("dt_ms"), fixture.number("tau_ms"));
        let net = CordsNet::new(&graph, &fixture.parameters::<f64>("param."), &euler, Phi::Relu).expect("a network");
        let images = fixture.tensor("images").data;
        let states = fixture.tensor("steady.0").shape[0];
        for (index, image) in images.chunks(graph.image_len()).enumerate() {
            let inp = net.embed(image, 1);
            let mut state = net.zeros(1);
            let row = |tensor: &str| {
                let values = fixture.tensor(tensor).data;
                values[index * values.len() / states..][..values.len() / states].to_vec()
            };
            let mut hidden = 0;
            for area in 0..graph.areas() {
                state.areas[area] = row(&format!("steady.{area}"));
                if fixture.has(&format!("steady_adaptation.{area}")) {
                    state.hidden[hidden] = row(&format!("steady_adaptation.{area}"));
                    hidden += 1;
                }
            }
            let mut next = state.clone();
            net.step(&mut next, &inp);
            let values = |state: &State<f64>| -> Vec<f64> {
                state.areas.iter().chain(&state.hidden).flatten().copied().collect()
            };
            let moved = values(&next)
                .iter()
                .zip(values(&state))
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f64::max);
            assert!(moved < 1e-10, "{name}, state {index} is steady: {moved:e}");

            let whole = NetworkJacobian::at(&net, &state, &inp);
            let of = |what: &str| fixture.tensor(&format!("jacobian.{index}.{what}")).data;
            let probes = of("probes");
            for (probe, (product, transposed)) in probes.chunks(whole.dim()).zip(
                of("product")
                    .chunks(whole.dim())
                    .zip(of("transposed_product").chunks(whole.dim())),
            ) {
                let mut out = vec![0.0; whole.dim()];
                whole.apply(probe, &mut out);
                assert_close(&format!("{name}: J v"), &out, product, 1e-10);
                whole.apply_transpose(probe, &mut out);
                assert_close(&format!("{name}: J^T v"), &out, transposed, 1e-10);
            }
            let eigenvalues = of("eigenvalues");
            let conditions = of("eigenvalue_condition");
            let options = SpectrumOptions {
                modes: 8,
                ..SpectrumOptions::default()
            };
            assert_eq!(graph.components().len(), 1);
            let jacobian = AreaJacobian::of_component(&net, &graph.components()[0], &state, &inp);
            let spectrum = area_spectrum(&jacobian, euler.dt_ms, &options, &mut |_, _| {});
            assert!(spectrum.converged, "{name}, state {index}");
            for (rank, mode) in spectrum.modes.iter().enumerate().take(8) {
                let (re, im) = (eigenvalues[2 * rank], eigenvalues[2 * rank + 1].abs());
                let error = (mode.real_per_ms - re).hypot(mode.imaginary_per_ms.abs() - im);
                assert!(
                    error < 1e-8 * conditions[rank].max(1.0),
                    "{name}, state {index}: {mode:?} is {re} {im}"
                );
            }
            assert_eq!(spectrum.stable, Some(eigenvalues[0] < 0.0), "{name}");
        }
        if name == "oscillating_dynamics" {
            continue;
        }
        // The engine finds the states by itself.
        for method in [SteadyMethod::Simulation, SteadyMethod::NewtonKrylov] {
            let options = SteadyOptions {
                tolerance: 1e-13,
                joint_steps: 2000,
                method,
                ..SteadyOptions::default()
            };
            let spontaneous = spontaneous_steady_state(&net, &options, &mut |_, _| {});
            let image = &images[images.len() - graph.image_len()..];
            let steady = steady_state(&net, &net.embed(image, 1), &spontaneous, &options, &mut |_, _| {});
            for (area, found) in steady.state.areas.iter().enumerate() {
                let expected = fixture.tensor(&format!("steady.{area}")).data;
                let expected = &expected[expected.len() - found.len()..];
                let largest = found
                    .iter()
                    .zip(expected)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0, f64::max);
                assert!(largest < 1e-10, "{name}, {method:?}, area {area}: {largest:e}");
            }
        }
    }
}
