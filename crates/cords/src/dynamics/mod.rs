//! The network as a dynamical system: steady states and the spectra of its linearisation, area by area.
//!
//! There is no feedback between areas, so the Jacobian is block lower-triangular: its eigenvalues are those of the
//! areas' own blocks, and steady states can be solved in the order of the areas. Everything is matrix-free over
//! [`LinearOperator`] and runs in f64; results do not depend on the number of threads.

mod fixed_points;
mod krylov;
mod operator;
mod schur;
mod spectrum;
mod steady;

pub use fixed_points::{AreaFixedPoint, FixedPoint, FixedPointOptions, fixed_point, fixed_points};
pub use krylov::{Eigenpair, KrylovOptions, LeadingEigenvalues, Which, leading_eigenvalues};
pub use operator::{ActiveCoupling, AreaJacobian, LinearOperator};
pub use spectrum::{Mode, Spectrum, SpectrumOptions, area_spectrum};
pub use steady::{AreaSteadyState, SteadyOptions, SteadyState, settle_area, spontaneous_steady_state, steady_state};
