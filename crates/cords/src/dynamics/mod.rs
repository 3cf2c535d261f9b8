//! The network as a dynamical system: steady states, and what its linearisation there says of stability, growth and
//! noise.
//!
//! Areas that drive each other, directly or through others, are one component of a network. Nothing feeds back from one
//! component to another before it, so the Jacobian is block lower-triangular: its eigenvalues are those of the
//! components' own blocks, and steady states can be solved in the order of the components; in a published network every
//! area is one. Everything is matrix-free over [`LinearOperator`] and runs in f64; results do not depend on the number
//! of threads.

mod attractors;
mod classes;
mod conv_norm;
mod fixed_points;
mod flow;
mod initial_conditions;
mod krylov;
mod lyapunov;
mod network;
mod operator;
mod response;
mod schur;
mod singular;
mod solve;
mod spectrum;
mod steady;
mod union;
mod vectors;

pub use attractors::{Attractor, AttractorKind, AttractorOptions, Attractors};
pub use classes::{Separation, separation};
pub use conv_norm::{norm_bound, recurrent_norm_bound};
pub use fixed_points::{
    AreaFixedPoint, ExponentOptions, FillImage, FixedPoint, FixedPointOptions, FixedPoints, FluctuationMode,
    NoiseOptions, NonNormality, NonNormalityOptions, fixed_point, fixed_points,
};
pub use initial_conditions::{InitialConditionOptions, MonoStability};
pub use krylov::{Eigenpair, KrylovOptions, LeadingEigenvalues, Which, leading_eigenvalues, leading_eigenvalues_by};
pub use lyapunov::{Exponent, LyapunovOptions, Tangents, error_of_time_average, exponents, kaplan_yorke};
pub use network::NetworkJacobian;
pub use operator::{ActiveCoupling, AreaJacobian, Coupling, LinearOperator};
pub use response::{NoisySteps, Response, ResponseOptions, stationary_covariance};
pub use singular::{
    DENSE_NETWORK_UNITS, DENSE_UNITS, DepartureFromNormality, Estimate, Growth, Leading, departure_from_normality,
    growth, numerical_abscissa, singular_values, squared_eigenvalues, squared_norm,
};
pub(crate) use solve::Relaxation;
pub use solve::SteadyMethod;
pub use spectrum::{Mode, ModeVector, Spectrum, SpectrumOptions, Stability, area_spectrum, recurrent_spectrum};
pub use steady::{AreaSteadyState, SteadyOptions, SteadyState, settle_area, spontaneous_steady_state, steady_state};
pub use union::{NetworkSpectrum, ranks_in_union};
pub use vectors::save_vectors;
