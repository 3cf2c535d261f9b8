//! Linear operators given by their products, and the linearisation of one area in that form.

use std::ops::Range;

use crate::net::{CordsNet, State, spread};

/// A square real matrix known by its products with vectors.
pub trait LinearOperator: Sync {
    /// Number of rows, which is that of columns.
    fn dim(&self) -> usize;
    /// out = A x.
    fn apply(&self, x: &[f64], out: &mut [f64]);
    /// out = A^T x.
    fn apply_transpose(&self, x: &[f64], out: &mut [f64]);
}

/// The matrix itself, column by column: for small operators.
pub(super) fn dense(operator: &dyn LinearOperator) -> faer::Mat<f64> {
    let n = operator.dim();
    let mut matrix = faer::Mat::<f64>::zeros(n, n);
    for_each_column(operator, |j, column| {
        column.iter().enumerate().for_each(|(i, value)| matrix[(i, j)] = *value);
    });
    matrix
}

/// Calls `keep` with each column's number and values, by a product for each.
pub(super) fn for_each_column(operator: &dyn LinearOperator, mut keep: impl FnMut(usize, &[f64])) {
    let n = operator.dim();
    let (mut unit, mut column) = (vec![0.0; n], vec![0.0; n]);
    for j in 0..n {
        unit[j] = 1.0;
        operator.apply(&unit, &mut column);
        unit[j] = 0.0;
        keep(j, &column);
    }
}

/// Jacobian of tau dr/dt = -r + phi(u), u = W r + b + drive, at one state: J = (-I + D W) / tau in 1/ms, with
/// D = diag phi'(u). Of one area, W being its recurrent convolution, or of areas that drive each other, one after the
/// other, with all that connects them. Hidden variables of their cells (tau_h dh/dt = -h + gain r, u - h in place of u)
/// follow after the activities, as units whose phi' is 1.
pub struct AreaJacobian<'a> {
    net: &'a CordsNet<f64>,
    areas: Vec<usize>,
    derivative: Vec<f64>,
    /// Of areas that drive each other: derivative of max(r, 0), as their activity is rectified on its way.
    passes: Vec<f64>,
    blocks: Vec<Block>,
    /// The smallest time constant.
    tau_ms: f64,
}

impl<'a> AreaJacobian<'a> {
    /// At the state of one image; `inp` is its embedding (see [`CordsNet::embed`]), zeros for no input.
    /// The derivative at u = 0 is phi's from below.
    pub fn at(net: &'a CordsNet<f64>, area: usize, state: &State<f64>, inp: &[f64]) -> Self {
        Self::with_derivative(net, area, derivative(net, area, state, inp))
    }

    /// With phi'(u) of every unit given, `[channels, side, side]`.
    ///
    /// # Panics
    /// If there is not one value per unit.
    pub fn with_derivative(net: &'a CordsNet<f64>, area: usize, derivative: Vec<f64>) -> Self {
        Self::of(net, vec![area], derivative, Vec::new())
    }

    /// Of the areas of one component (see [`Graph::components`](crate::net::Graph::components)) as one system.
    pub fn of_component(net: &'a CordsNet<f64>, areas: &[usize], state: &State<f64>, inp: &[f64]) -> Self {
        let derivatives = areas
            .iter()
            .flat_map(|area| derivative(net, *area, state, inp))
            .collect();
        let passes = |area: &usize| state.areas[*area].iter().map(|r| f64::from(u8::from(*r > 0.0)));
        let passes = if net.is_coupled(areas) {
            areas.iter().flat_map(passes).collect()
        } else {
            Vec::new()
        };
        Self::of(net, areas.to_vec(), derivatives, passes)
    }

    fn of(net: &'a CordsNet<f64>, areas: Vec<usize>, mut derivative: Vec<f64>, passes: Vec<f64>) -> Self {
        let units = areas.iter().map(|area| net.architecture().area_units(*area));
        assert_eq!(derivative.len(), units.sum::<usize>(), "one value per unit");
        let blocks = blocks(net, &areas);
        derivative.resize(blocks.last().map_or(0, |block| block.range.end), 1.0);
        Self {
            net,
            areas,
            derivative,
            passes,
            tau_ms: blocks
                .iter()
                .flat_map(|block| &block.taus_ms)
                .copied()
                .fold(f64::INFINITY, f64::min),
            blocks,
        }
    }

    /// phi'(u) of every unit, `[channels, side, side]` area by area.
    pub fn derivative(&self) -> &[f64] {
        &self.derivative
    }

    /// Time constant in ms; of several the smallest.
    pub fn tau_ms(&self) -> f64 {
        self.tau_ms
    }

    /// Time constant in ms; of several the largest.
    pub fn largest_tau_ms(&self) -> f64 {
        let taus = self.blocks.iter().flat_map(|block| &block.taus_ms);
        taus.copied().fold(self.tau_ms, f64::max)
    }

    /// Time constant of each unit in ms.
    pub fn unit_tau_ms(&self) -> Vec<f64> {
        self.blocks.iter().flat_map(Block::unit_taus_ms).collect()
    }

    /// The coupling I + tau J, which of units with one time constant is D W, among the units whose derivative is not 0.
    /// A unit with derivative 0 has a row of J that is -1/tau on the diagonal and 0 elsewhere: it contributes the
    /// eigenvalue -1/tau exactly, and the eigenvalues of the rest are those of the rest's own block. Where units differ
    /// in their time constants, all are among them.
    pub fn coupling(&self) -> ActiveCoupling<'_> {
        let uniform = self.is_uniform();
        let units = self.derivative.iter().enumerate();
        ActiveCoupling {
            jacobian: self,
            active: units
                .filter(|(_, d)| **d != 0.0 || !uniform)
                .map(|(unit, _)| unit)
                .collect(),
        }
    }

    /// Whether all units have one time constant.
    pub(super) fn is_uniform(&self) -> bool {
        let mut taus = self.blocks.iter().flat_map(|block| &block.taus_ms);
        taus.all(|tau_ms| *tau_ms == self.tau_ms)
    }

    /// x *= phi'(u) tau/tau_unit.
    fn scale(&self, x: &mut [f64]) {
        for block in &self.blocks {
            let range = block.range.clone();
            let units = x[range.clone()].iter_mut().zip(&self.derivative[range]);
            for ((x, derivative), tau_ms) in units.zip(block.unit_taus_ms()) {
                let share = self.tau_ms / tau_ms;
                *x *= derivative * share;
            }
        }
    }

    /// W x, to which rectification at the state belongs.
    fn coupled(&self, x: &[f64]) -> Vec<f64> {
        let passed = |range: Range<usize>| match self.passes.get(range.clone()) {
            Some(passes) => x[range].iter().zip(passes).map(|(x, passes)| x * passes).collect(),
            None => x[range].to_vec(),
        };
        coupled_areas(self.net, &self.areas, x, &passed)
    }

    /// Its transpose.
    fn coupled_transpose(&self, y: &[f64]) -> Vec<f64> {
        let mut out = vec![0.0; y.len()];
        let activities = || self.blocks.iter().filter(|block| block.gain.is_none());
        for block in activities() {
            let own = self.net.recurrent_transpose(block.area, &y[block.range.clone()], 1);
            out[block.range.clone()].copy_from_slice(&own);
        }
        if !self.passes.is_empty() {
            for block in activities() {
                self.net
                    .projected_transpose(block.area, &y[block.range.clone()], 1, &mut |from, part| {
                        let Some(range) = activities()
                            .find(|block| block.area == from)
                            .map(|block| block.range.clone())
                        else {
                            return;
                        };
                        let passes = &self.passes[range.clone()];
                        for ((out, part), passes) in out[range].iter_mut().zip(part).zip(passes) {
                            *out += passes * part;
                        }
                    });
            }
        }
        for block in &self.blocks {
            let Some(gain) = block.gain else { continue };
            let Some(own) = activities().find(|own| own.area == block.area) else {
                continue;
            };
            for (unit, hidden) in own.range.clone().zip(block.range.clone()) {
                out[unit] += gain * y[hidden];
                out[hidden] -= y[unit];
            }
        }
        out
    }
}

/// phi'(u) of an area's units.
pub(super) fn derivative(net: &CordsNet<f64>, area: usize, state: &State<f64>, inp: &[f64]) -> Vec<f64> {
    let drive = net.drive(area, state, inp);
    let recurrent = net.recurrent(area, &state.areas[area], 1);
    let slope = net.phi().slope();
    let current = recurrent
        .iter()
        .zip(&drive)
        .zip(net.bias(area))
        .map(|((w, drive), b)| w + drive + b);
    let mut current: Vec<f64> = current.collect();
    for hidden in &state.hidden[net.hidden(area).1] {
        current.iter_mut().zip(hidden).for_each(|(u, h)| *u -= h);
    }
    current.into_iter().map(|u| if u > 0.0 { 1.0 } else { slope }).collect()
}

/// The units of an area in a vector, or a hidden variable of theirs.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) area: usize,
    pub(super) range: Range<usize>,
    /// Time constants of equal parts of the range: of all of it, or of channels.
    pub(super) taus_ms: Vec<f64>,
    /// dt/tau likewise.
    pub(super) alphas: Vec<f64>,
    /// Of a hidden variable: what the activity is multiplied with that it follows.
    pub(super) gain: Option<f64>,
}

impl Block {
    /// Time constant of each unit.
    pub(super) fn unit_taus_ms(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        spread(&self.taus_ms, self.range.len())
    }

    /// dt/tau of each unit.
    pub(super) fn unit_alphas(&self) -> impl Iterator<Item = f64> + Clone + '_ {
        spread(&self.alphas, self.range.len())
    }
}

/// Activities of some areas one after the other, then their hidden variables.
pub(super) fn blocks(net: &CordsNet<f64>, areas: &[usize]) -> Vec<Block> {
    let mut end = 0;
    let mut block = |area: usize, taus_ms: Vec<f64>, alphas: Vec<f64>, gain: Option<f64>| {
        let first = end;
        end += net.architecture().area_units(area);
        Block {
            area,
            range: first..end,
            taus_ms,
            alphas,
            gain,
        }
    };
    let mut blocks: Vec<Block> = areas
        .iter()
        .map(|area| block(*area, net.area_taus_ms(*area), net.area_alphas(*area), None))
        .collect();
    let dt_ms = net.euler().dt_ms;
    for area in areas {
        let hidden = net.hidden(*area).0.into_iter();
        blocks.extend(hidden.map(|h| block(*area, vec![h.tau_ms], vec![dt_ms / h.tau_ms], Some(h.gain))));
    }
    blocks
}

/// Where the units of some areas lie in a vector that has them one after the other.
pub(super) fn ranges(net: &CordsNet<f64>, areas: &[usize]) -> Vec<(usize, Range<usize>)> {
    let blocks = blocks(net, areas).into_iter().filter(|block| block.gain.is_none());
    blocks.map(|block| (block.area, block.range)).collect()
}

/// Values of a state as such a vector.
pub(super) fn state_vector(net: &CordsNet<f64>, areas: &[usize], state: &State<f64>) -> Vec<f64> {
    let activities = areas.iter().flat_map(|area| &state.areas[*area]);
    let hidden = areas
        .iter()
        .flat_map(|area| &state.hidden[net.hidden(*area).1])
        .flatten();
    activities.chain(hidden).copied().collect()
}

/// What x, activity of some areas and perhaps their hidden variables, gives to the areas' own currents: recurrent
/// convolutions, of areas that drive each other also projections, whose sources are what `passed` makes of the activity
/// in a range of x, and hidden variables. These follow what they are given, too.
pub(super) fn coupled_areas(
    net: &CordsNet<f64>,
    areas: &[usize],
    x: &[f64],
    passed: &dyn Fn(Range<usize>) -> Vec<f64>,
) -> Vec<f64> {
    let blocks = blocks(net, areas);
    let activity = |area: usize| blocks.iter().find(|block| block.area == area && block.gain.is_none());
    let is_coupled = net.is_coupled(areas);
    let mut out = Vec::with_capacity(x.len());
    for block in blocks.iter().filter(|block| block.range.end <= x.len()) {
        if let (Some(gain), Some(own)) = (block.gain, activity(block.area)) {
            let (before, from) = (block.range.start, own.range.clone());
            out.extend(x[from.clone()].iter().map(|r| gain * r));
            for (unit, h) in from.zip(&x[before..]) {
                out[unit] -= h;
            }
            continue;
        }
        let mut coupled = net.recurrent(block.area, &x[block.range.clone()], 1);
        if is_coupled {
            let source = |from: usize| match activity(from) {
                Some(block) => passed(block.range.clone()),
                None => vec![0.0; net.architecture().area_units(from)],
            };
            if let Some(projected) = net.projected(block.area, &source, 1) {
                coupled
                    .iter_mut()
                    .zip(&projected)
                    .for_each(|(coupled, projected)| *coupled += projected);
            }
        }
        out.extend(coupled);
    }
    out
}

impl LinearOperator for AreaJacobian<'_> {
    fn dim(&self) -> usize {
        self.derivative.len()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let coupled = self.coupled(x);
        for block in &self.blocks {
            let range = block.range.clone();
            let units = x[range.clone()].iter().zip(&coupled[range.clone()]);
            let units = units.zip(&self.derivative[range.clone()]).zip(block.unit_taus_ms());
            for (out, (((x, coupled), derivative), tau_ms)) in out[range].iter_mut().zip(units) {
                *out = (derivative * coupled - x) / tau_ms;
            }
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let mut scaled = x.to_vec();
        self.scale(&mut scaled);
        let coupled = self.coupled_transpose(&scaled);
        for block in &self.blocks {
            let range = block.range.clone();
            let units = x[range.clone()].iter().zip(&coupled[range.clone()]);
            let units = units.zip(block.unit_taus_ms());
            for (out, ((x, coupled), tau_ms)) in out[range].iter_mut().zip(units) {
                let share = self.tau_ms / tau_ms;
                *out = (coupled - x * share) / self.tau_ms;
            }
        }
    }
}

/// The dimensionless coupling K = I + T J of a Jacobian J = T^-1 (-I + K), T the diagonal of the units' time constants.
/// Of an area it is D W over all its units: silent units have rows of zeros, but their columns, through which their
/// activity would drive others, stay. (Singular values and norms need them; eigenvalues do not, see
/// [`AreaJacobian::coupling`].)
pub struct Coupling<'a> {
    jacobian: &'a dyn LinearOperator,
    tau_ms: Vec<f64>,
}

impl<'a> Coupling<'a> {
    /// Of a Jacobian in 1/ms whose units have these time constants in ms.
    ///
    /// # Panics
    /// If there is not one time constant per unit.
    pub fn of(jacobian: &'a dyn LinearOperator, tau_ms: Vec<f64>) -> Self {
        assert_eq!(tau_ms.len(), jacobian.dim(), "one time constant per unit");
        Self { jacobian, tau_ms }
    }
}

impl LinearOperator for Coupling<'_> {
    fn dim(&self) -> usize {
        self.tau_ms.len()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        self.jacobian.apply(x, out);
        for ((out, x), tau) in out.iter_mut().zip(x).zip(&self.tau_ms) {
            *out = x + tau * *out;
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let scaled: Vec<f64> = x.iter().zip(&self.tau_ms).map(|(x, tau)| x * tau).collect();
        self.jacobian.apply_transpose(&scaled, out);
        out.iter_mut().zip(x).for_each(|(out, x)| *out += x);
    }
}

/// The coupling of an area's Jacobian restricted to its active units, rows and columns alike. Dimensionless. Its
/// eigenvalues and zeros for the silent units are those of the whole coupling; its singular values and norms are not.
pub struct ActiveCoupling<'a> {
    jacobian: &'a AreaJacobian<'a>,
    active: Vec<usize>,
}

impl ActiveCoupling<'_> {
    /// Where time constants differ, all units are active: from D W x to (I + tau J) x, tau/tau_unit scaling it here or
    /// before.
    fn add_leak(&self, x: &[f64], out: &mut [f64], scales: bool) {
        let jacobian = self.jacobian;
        if jacobian.is_uniform() {
            return;
        }
        for block in &jacobian.blocks {
            let range = block.range.clone();
            let units = out[range.clone()].iter_mut().zip(&x[range]);
            for ((out, x), tau_ms) in units.zip(block.unit_taus_ms()) {
                let share = jacobian.tau_ms / tau_ms;
                *out = if scales { share * *out } else { *out } + (1.0 - share) * x;
            }
        }
    }

    /// A vector over the active units as one over all units of the area, 0 elsewhere.
    pub fn scatter(&self, x: &[f64]) -> Vec<f64> {
        let mut full = vec![0.0; self.jacobian.dim()];
        for (unit, x) in self.active.iter().zip(x) {
            full[*unit] = *x;
        }
        full
    }
}

impl LinearOperator for ActiveCoupling<'_> {
    fn dim(&self) -> usize {
        self.active.len()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let jacobian = self.jacobian;
        let coupled = jacobian.coupled(&self.scatter(x));
        for (out, unit) in out.iter_mut().zip(&self.active) {
            *out = jacobian.derivative[*unit] * coupled[*unit];
        }
        self.add_leak(x, out, true);
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let mut scaled = self.scatter(x);
        self.jacobian.scale(&mut scaled);
        let coupled = self.jacobian.coupled_transpose(&scaled);
        for (out, unit) in out.iter_mut().zip(&self.active) {
            *out = coupled[*unit];
        }
        self.add_leak(x, out, false);
    }
}
