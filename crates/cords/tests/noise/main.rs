//! Noise: what draws depend on and how levels scale (`pixels`); evaluation against direct computation (`evaluation`).

mod evaluation;
mod pixels;
