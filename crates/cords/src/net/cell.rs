//! How the units of an area follow their current.
//!
//! All units are leaky, r' = (1 - alpha) r + alpha phi(u), by one fused kernel of the device. What units can have
//! beside that is a [`Cell`]: hidden variables, how they move, and what they take from the current. It is written over
//! a few operations on maps and never sees a device, a number type, or where the current comes from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::Real;
use crate::device::Device;

/// The cell of an area's units.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CellKind {
    /// tau dr/dt = -r + phi(u): the published one.
    #[default]
    Leaky,
    /// The same with adaptation.
    Adapting(Adaptation),
    /// One's own. A model's file has its name alone: [`Model::load_with`](super::Model::load_with) reads it.
    #[serde(skip)]
    Own(OwnCell),
}

/// Adaptation (as in Vinken et al. 2020): tau_a da/dt = -a + beta r, and u - a in place of the current u.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// Time constant of the adaptation.
    #[cfg_attr(feature = "schema", schemars(extend("exclusiveMinimum" = 0.0, "x-unit" = "ms")))]
    pub tau_a_ms: f64,
    /// Strength of the adaptation.
    pub beta: f64,
    /// Whether strength and time constant are parameters: `beta.l` and `log_tau_a.l` of area l.
    #[serde(default)]
    pub trained: bool,
}

/// A cell that comes from outside, for [`CellKind::Own`]. Clones are equal, others are not.
#[derive(Clone)]
pub struct OwnCell {
    name: Arc<str>,
    cell: Arc<dyn Cell>,
}

impl OwnCell {
    /// To be given to areas, of one network or of several. Files and messages call it by its name, which is not empty
    /// and has no spaces.
    pub fn new(name: &str, cell: impl Cell + 'static) -> Self {
        Self {
            name: name.into(),
            cell: Arc::new(cell),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn cell(&self) -> &dyn Cell {
        &*self.cell
    }
}

impl std::fmt::Debug for OwnCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnCell").field(&self.name).finish()
    }
}

impl PartialEq for OwnCell {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.cell, &other.cell)
    }
}

impl CellKind {
    /// Its name in files and messages.
    pub fn name(&self) -> &str {
        match self {
            Self::Leaky => "leaky",
            Self::Adapting(_) => "adapting",
            Self::Own(own) => own.name(),
        }
    }

    /// What units have beside the leak, if anything.
    pub(crate) fn cell(&self) -> Option<Arc<dyn Cell>> {
        match self {
            Self::Leaky => None,
            Self::Adapting(adaptation) => Some(Arc::new(*adaptation)),
            Self::Own(own) => Some(own.cell.clone()),
        }
    }
}

/// A value of an area's cell that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct CellParameter {
    /// Its name; that of area l is `name.l`, a tensor of one value, among a network's parameters.
    pub name: String,
    /// Where training starts.
    pub first: f64,
    /// Whether it is the logarithm of a time constant in ms. Training does not let that fall below the Euler step.
    pub is_log_tau: bool,
}

impl CellParameter {
    /// Any number.
    pub fn new(name: &str, first: f64) -> Self {
        Self {
            name: name.to_owned(),
            first,
            is_log_tau: false,
        }
    }

    /// A time constant in ms, trained as its logarithm: the parameter is log(tau / ms).
    pub fn log_tau(name: &str, tau_ms: f64) -> Self {
        Self {
            is_log_tau: true,
            ..Self::new(name, tau_ms.ln())
        }
    }
}

/// A hidden variable h: tau dh/dt = -h + gain r, and u - h in place of the current u.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HiddenVariable {
    /// Its time constant in ms, at least the Euler step.
    pub tau_ms: f64,
    /// Its steady state over that of the activity.
    pub gain: f64,
}

/// What leaky units have beside their leak: hidden variables, one map `[channels, side, side]` each, that follow the
/// activity and change the current.
///
/// A step goes from state (r, h) to (r', h'). The cell computes h' and what it takes from the current u, both from r
/// and h; the leaky step then makes r' of r and u. Units do not see each other. All values are dimensionless, r = h = 0
/// at the start of a simulation. Backwards through time, all r and h of a trial are there again (computed anew or
/// rounded to bfloat16, where the training says so); nothing else is kept.
///
/// A cell whose hidden variables are linear says so by [`linearisation`](Self::linearisation), and need not say more:
/// its step and its adjoint follow. Other cells have those two of their own. They can be simulated and trained, but
/// `dynamics`, which needs the linearisation, does not take them: see
/// [`CordsNet::check_linear`](super::CordsNet::check_linear).
///
/// `parameters` below are the values of [`parameters`](Self::parameters), in their order. Gradients of a cell of one's
/// own should be held against finite differences, by [`CordsNetGradient`](crate::learn::CordsNetGradient) in `f64`.
pub trait Cell: Send + Sync {
    /// What is trained, with the values from which training starts; nothing unless a cell says otherwise.
    fn parameters(&self) -> Vec<CellParameter> {
        Vec::new()
    }

    /// Number of hidden variables: one unless a cell says otherwise.
    fn hidden(&self) -> usize {
        1
    }

    /// The hidden variables, where each is linear and takes itself from the current; `None` where that is not so.
    fn linearisation(&self, _parameters: &[f64]) -> Option<Vec<HiddenVariable>> {
        None
    }

    /// One Euler step of the hidden variables, and the change of the current: h' = (1 - alpha) h + alpha gain r with
    /// alpha = dt/tau, and u - h, of linear ones. A step of one's own writes every h'; the current stays where it is
    /// not written.
    fn step(&self, parameters: &[f64], maps: &mut dyn CellMaps<StepMap>) {
        for (k, HiddenVariable { tau_ms, gain }) in linear(self, parameters) {
            let alpha = maps.dt_ms() / tau_ms;
            maps.copy(StepMap::Hidden(k), StepMap::NextHidden(k));
            maps.scale(1.0 - alpha, StepMap::NextHidden(k));
            maps.add_scaled(alpha * gain, StepMap::Activity, StepMap::NextHidden(k));
            maps.add_scaled(-1.0, StepMap::Hidden(k), StepMap::Current);
        }
    }

    /// The adjoint of [`step`](Self::step), after that of the leaky step: adds to dL/dr what comes by h' and the
    /// current, and makes dL/dh of dL/dh'. A cell with parameters adds its share of their gradients first, by
    /// [`AdjointMaps::add_dot`]; [`linear_adjoint`] is the rest for linear hidden variables, and what a cell without an
    /// adjoint of its own has.
    fn adjoint(&self, parameters: &[f64], maps: &mut dyn AdjointMaps) {
        linear_adjoint(self, parameters, maps);
    }
}

/// The adjoint of a step of linear hidden variables, but for the parameters' gradients.
pub fn linear_adjoint<C: Cell + ?Sized>(cell: &C, parameters: &[f64], maps: &mut dyn AdjointMaps) {
    for (k, HiddenVariable { tau_ms, gain }) in linear(cell, parameters) {
        let alpha = maps.dt_ms() / tau_ms;
        maps.add_scaled(alpha * gain, AdjointMap::HiddenGradient(k), AdjointMap::Gradient);
        maps.scale(1.0 - alpha, AdjointMap::HiddenGradient(k));
        maps.add_scaled(-1.0, AdjointMap::CurrentGradient, AdjointMap::HiddenGradient(k));
    }
}

/// The hidden variables with their numbers, none of a cell that is not linear.
fn linear<C: Cell + ?Sized>(cell: &C, parameters: &[f64]) -> impl Iterator<Item = (usize, HiddenVariable)> {
    let variables = cell.linearisation(parameters).unwrap_or_default();
    variables.into_iter().enumerate()
}

/// Maps of an area at a step, all of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepMap {
    /// Activity r before the step; only to be read.
    Activity,
    /// A hidden variable before the step, by number; only to be read.
    Hidden(usize),
    /// The current u, which convolutions are added to later.
    Current,
    /// A hidden variable after the step, by number.
    NextHidden(usize),
}

/// Maps of an area on the way back over a step, all of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdjointMap {
    /// Activity r before the step; only to be read.
    Activity,
    /// A hidden variable before the step, by number; only to be read.
    Hidden(usize),
    /// dL/du of the step; only to be read.
    CurrentGradient,
    /// dL/dr before the step, which still lacks the cell's share.
    Gradient,
    /// dL/dh' of a hidden variable, by number, and at last its dL/dh.
    HiddenGradient(usize),
}

/// What a cell can do with the maps that `M` names, value by value.
///
/// # Panics
/// Where an operation writes a map that it reads or that is only to be read, and for the number of a hidden variable or
/// parameter that the cell does not have.
pub trait CellMaps<M> {
    /// The Euler step in ms.
    fn dt_ms(&self) -> f64;
    /// y = x.
    fn copy(&mut self, x: M, y: M);
    /// x *= factor.
    fn scale(&mut self, factor: f64, x: M);
    /// y += factor x.
    fn add_scaled(&mut self, factor: f64, x: M, y: M);
    /// z += factor x y.
    fn add_product(&mut self, factor: f64, x: M, y: M, z: M);
}

/// The same on the way back.
pub trait AdjointMaps: CellMaps<AdjointMap> {
    /// dL/dparameter += factor <x, y>, the sum over units and images; `parameter` is its number.
    fn add_dot(&mut self, factor: f64, x: AdjointMap, y: AdjointMap, parameter: usize);
}

impl Cell for Adaptation {
    fn parameters(&self) -> Vec<CellParameter> {
        if !self.trained {
            return Vec::new();
        }
        vec![
            CellParameter::log_tau("log_tau_a", self.tau_a_ms),
            CellParameter::new("beta", self.beta),
        ]
    }

    fn linearisation(&self, parameters: &[f64]) -> Option<Vec<HiddenVariable>> {
        let (tau_ms, gain) = match parameters {
            [log_tau_a, beta] => (log_tau_a.exp(), *beta),
            _ => (self.tau_a_ms, self.beta),
        };
        Some(vec![HiddenVariable { tau_ms, gain }])
    }

    /// a' = (1 - alpha) a + alpha beta r with alpha = dt/tau_a, whose derivative by log tau_a is -alpha.
    fn adjoint(&self, parameters: &[f64], maps: &mut dyn AdjointMaps) {
        if let [log_tau_a, beta] = parameters {
            let alpha = maps.dt_ms() / log_tau_a.exp();
            maps.add_dot(alpha, AdjointMap::HiddenGradient(0), AdjointMap::Activity, 1);
            maps.add_dot(-alpha * beta, AdjointMap::HiddenGradient(0), AdjointMap::Activity, 0);
            maps.add_dot(alpha, AdjointMap::HiddenGradient(0), AdjointMap::Hidden(0), 0);
        }
        linear_adjoint(self, parameters, maps);
    }
}

/// An area's cell with the present values of its parameters.
pub(crate) struct AreaCell {
    pub(crate) cell: Arc<dyn Cell>,
    parameters: Vec<f64>,
    dt_ms: f64,
}

/// What a step reads and writes, apart from the activity after it.
pub(crate) struct CellStep<'a, B> {
    /// State before the step.
    pub(crate) r: &'a B,
    pub(crate) hidden: &'a [B],
    /// The current but for what convolutions give.
    pub(crate) current: &'a mut B,
    pub(crate) next_hidden: &'a mut [B],
}

/// Gradients by a step's results, which become those by what it has read.
pub(crate) struct CellGradient<'a, B> {
    /// State before the step.
    pub(crate) r: &'a B,
    pub(crate) hidden: &'a [B],
    /// dL/du of this step.
    pub(crate) delta: &'a B,
    /// dL/dr before it but for the cell's share, and dL/dhidden after it.
    pub(crate) g: &'a mut B,
    pub(crate) g_hidden: &'a mut [B],
    /// Gradients of the cell's parameters, which are added to.
    pub(crate) parameters: &'a mut [B],
}

impl AreaCell {
    /// For steps of `dt_ms`, none of units that are leaky and nothing else.
    pub(crate) fn new(kind: &CellKind, dt_ms: f64) -> Option<Self> {
        let cell = kind.cell()?;
        let parameters = cell.parameters().iter().map(|parameter| parameter.first).collect();
        Some(Self {
            cell,
            parameters,
            dt_ms,
        })
    }

    /// Takes over trained parameters.
    pub(crate) fn set(&mut self, parameters: Vec<f64>) {
        self.parameters = parameters;
    }

    /// The hidden variables, where they are linear.
    pub(crate) fn linearisation(&self) -> Option<Vec<HiddenVariable>> {
        self.cell.linearisation(&self.parameters)
    }

    pub(crate) fn step<T: Real, D: Device<T>>(
        &self,
        device: &D,
        work: &mut D::Workspace,
        CellStep {
            r,
            hidden,
            current,
            next_hidden,
        }: CellStep<'_, D::Buffer>,
    ) {
        let mut bench = Bench {
            device,
            work,
            dt_ms: self.dt_ms,
            read: std::iter::once(r).chain(hidden).collect(),
            written: std::iter::once(current).chain(next_hidden).map(Some).collect(),
            parameters: &mut [],
        };
        self.cell.step(&self.parameters, &mut bench);
    }

    pub(crate) fn adjoint<T: Real, D: Device<T>>(
        &self,
        device: &D,
        work: &mut D::Workspace,
        CellGradient {
            r,
            hidden,
            delta,
            g,
            g_hidden,
            parameters,
        }: CellGradient<'_, D::Buffer>,
    ) {
        let mut bench = Bench {
            device,
            work,
            dt_ms: self.dt_ms,
            read: [r, delta].into_iter().chain(hidden).collect(),
            written: std::iter::once(g).chain(g_hidden).map(Some).collect(),
            parameters,
        };
        self.cell.adjoint(&self.parameters, &mut bench);
    }
}

/// The maps of one step on a device.
struct Bench<'a, T: Real, D: Device<T>> {
    device: &'a D,
    work: &'a mut D::Workspace,
    dt_ms: f64,
    /// r, on the way back dL/du, and hidden variables: last, so that a number too many finds nothing.
    read: Vec<&'a D::Buffer>,
    /// What hidden variables come after: the current, or dL/dr. None is the one that is being written.
    written: Vec<Option<&'a mut D::Buffer>>,
    parameters: &'a mut [D::Buffer],
}

/// Where a map is.
#[derive(Clone, Copy)]
enum Place {
    Read(usize),
    Written(usize),
}

/// A name of a map.
trait Placed: Copy {
    /// Its place.
    fn place(self) -> Place;
}

impl Placed for StepMap {
    fn place(self) -> Place {
        match self {
            Self::Activity => Place::Read(0),
            Self::Hidden(k) => Place::Read(1 + k),
            Self::Current => Place::Written(0),
            Self::NextHidden(k) => Place::Written(1 + k),
        }
    }
}

impl Placed for AdjointMap {
    fn place(self) -> Place {
        match self {
            Self::Activity => Place::Read(0),
            Self::CurrentGradient => Place::Read(1),
            Self::Hidden(k) => Place::Read(2 + k),
            Self::Gradient => Place::Written(0),
            Self::HiddenGradient(k) => Place::Written(1 + k),
        }
    }
}

/// A map by its name.
fn find<'b, B>(map: impl Placed, read: &'b [&'b B], written: &'b [Option<&'b mut B>]) -> &'b B {
    match map.place() {
        Place::Read(index) => read[index],
        Place::Written(index) => written[index]
            .as_deref()
            .expect("no operation of a cell writes a map that it reads"),
    }
}

impl<T: Real, D: Device<T>> Bench<'_, T, D> {
    fn get(&self, map: impl Placed) -> &D::Buffer {
        find(map, &self.read, &self.written)
    }

    fn change(&mut self, map: impl Placed, change: impl FnOnce(&Self, &mut D::Buffer)) {
        let Place::Written(index) = map.place() else {
            panic!("a cell writes to a map that is only to be read");
        };
        if let Some(buffer) = self.written[index].take() {
            change(self, buffer);
            self.written[index] = Some(buffer);
        }
    }
}

impl<M: Placed, T: Real, D: Device<T>> CellMaps<M> for Bench<'_, T, D> {
    fn dt_ms(&self) -> f64 {
        self.dt_ms
    }

    fn copy(&mut self, x: M, y: M) {
        self.change(y, |bench, y| bench.device.copy(bench.get(x), y));
    }

    fn scale(&mut self, factor: f64, x: M) {
        self.change(x, |bench, x| bench.device.scale(factor, x));
    }

    fn add_scaled(&mut self, factor: f64, x: M, y: M) {
        self.change(y, |bench, y| bench.device.add_scaled(factor, bench.get(x), y));
    }

    fn add_product(&mut self, factor: f64, x: M, y: M, z: M) {
        self.change(z, |bench, z| {
            bench.device.add_product(factor, bench.get(x), bench.get(y), z)
        });
    }
}

impl<T: Real, D: Device<T>> AdjointMaps for Bench<'_, T, D> {
    fn add_dot(&mut self, factor: f64, x: AdjointMap, y: AdjointMap, parameter: usize) {
        let Self {
            device,
            work,
            read,
            written,
            parameters,
            ..
        } = self;
        let (read, written) = (&**read, &**written);
        let [x, y] = [x, y].map(|map| find(map, read, written));
        device.add_dot(work, factor, x, y, &mut parameters[parameter]);
    }
}
