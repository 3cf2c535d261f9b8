//! Linear operators given by their products, and the linearisation of one area in that form.

use crate::net::{CordsNet, State};

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

/// Jacobian of tau dr/dt = -r + phi(u), u = W r + b + drive, of one area at one state: J = (-I + D W) / tau in 1/ms,
/// with D = diag phi'(u).
pub struct AreaJacobian<'a> {
    net: &'a CordsNet<f64>,
    area: usize,
    derivative: Vec<f64>,
    tau_ms: f64,
}

impl<'a> AreaJacobian<'a> {
    /// At the state of one image; `inp` is its embedding (see [`CordsNet::embed`]), zeros for no input.
    /// The derivative at u = 0 is phi's from below.
    pub fn at(net: &'a CordsNet<f64>, area: usize, state: &State<f64>, inp: &[f64]) -> Self {
        let drive = net.drive(area, state, inp);
        let recurrent = net.recurrent(area, &state.areas[area], 1);
        let slope = net.phi().slope();
        let current = recurrent
            .iter()
            .zip(&drive)
            .zip(net.bias(area))
            .map(|((w, drive), b)| w + drive + b);
        let derivative = current.map(|u| if u > 0.0 { 1.0 } else { slope }).collect();
        Self::with_derivative(net, area, derivative)
    }

    /// With phi'(u) of every unit given, `[channels, side, side]`.
    ///
    /// # Panics
    /// If there is not one value per unit.
    pub fn with_derivative(net: &'a CordsNet<f64>, area: usize, derivative: Vec<f64>) -> Self {
        assert_eq!(
            derivative.len(),
            net.area_shape(area).iter().product::<usize>(),
            "one value per unit"
        );
        let euler = net.euler();
        Self {
            net,
            area,
            derivative,
            tau_ms: euler.dt_ms / euler.alpha(area),
        }
    }

    /// phi'(u) of every unit, `[channels, side, side]`.
    pub fn derivative(&self) -> &[f64] {
        &self.derivative
    }

    /// Time constant of the area in ms.
    pub fn tau_ms(&self) -> f64 {
        self.tau_ms
    }

    /// The recurrent coupling among the units whose derivative is not 0. A unit with derivative 0 has a row of J that
    /// is -1/tau on the diagonal and 0 elsewhere: it contributes the eigenvalue -1/tau exactly, and the eigenvalues of
    /// the rest are those of the rest's own block.
    pub fn coupling(&self) -> ActiveCoupling<'_> {
        let units = self.derivative.iter().enumerate();
        ActiveCoupling {
            jacobian: self,
            active: units.filter(|(_, d)| **d != 0.0).map(|(unit, _)| unit).collect(),
        }
    }
}

impl LinearOperator for AreaJacobian<'_> {
    fn dim(&self) -> usize {
        self.derivative.len()
    }

    fn apply(&self, x: &[f64], out: &mut [f64]) {
        let coupled = self.net.recurrent(self.area, x, 1);
        for (((out, x), coupled), derivative) in out.iter_mut().zip(x).zip(&coupled).zip(&self.derivative) {
            *out = (derivative * coupled - x) / self.tau_ms;
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let scaled: Vec<f64> = x
            .iter()
            .zip(&self.derivative)
            .map(|(x, derivative)| x * derivative)
            .collect();
        let coupled = self.net.recurrent_transpose(self.area, &scaled, 1);
        for ((out, x), coupled) in out.iter_mut().zip(x).zip(&coupled) {
            *out = (coupled - x) / self.tau_ms;
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

/// D W restricted to the active units of an area, rows and columns alike. Dimensionless. Its eigenvalues and zeros for
/// the silent units are those of D W; its singular values and norms are not.
pub struct ActiveCoupling<'a> {
    jacobian: &'a AreaJacobian<'a>,
    active: Vec<usize>,
}

impl ActiveCoupling<'_> {
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
        let AreaJacobian {
            net, area, derivative, ..
        } = self.jacobian;
        let coupled = net.recurrent(*area, &self.scatter(x), 1);
        for (out, unit) in out.iter_mut().zip(&self.active) {
            *out = derivative[*unit] * coupled[*unit];
        }
    }

    fn apply_transpose(&self, x: &[f64], out: &mut [f64]) {
        let AreaJacobian {
            net, area, derivative, ..
        } = self.jacobian;
        let mut scaled = self.scatter(x);
        scaled
            .iter_mut()
            .zip(derivative)
            .for_each(|(x, derivative)| *x *= derivative);
        let coupled = net.recurrent_transpose(*area, &scaled, 1);
        for (out, unit) in out.iter_mut().zip(&self.active) {
            *out = coupled[*unit];
        }
    }
}
