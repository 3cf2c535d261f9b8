//! Steady states, spectra and everything else of the dynamics against float64 reference values, and their laws on whole
//! networks.

mod attractors;
mod nets;
mod states;
mod toolkit;
