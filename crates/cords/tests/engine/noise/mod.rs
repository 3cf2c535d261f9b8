//! Noise: what draws depend on and how levels scale (`pixels`); evaluation against direct computation (`evaluation`),
//! what perturbations change (`perturbed`), networks that overflow (`diverged`), corrupted images of published sets
//! (`corruptions`).

mod corruptions;
mod diverged;
mod evaluation;
mod nets;
mod perturbed;
mod pixels;
