//! Result tables of `fixed_points`, and the keys that they share.

mod attractors;
mod exponents;
mod networks;
mod noise;
mod non_normality;
mod states;

pub(super) use attractors::Attractor;
pub(super) use exponents::Exponent;
pub(super) use networks::{Classes, Convolution};
pub(super) use noise::{Noise, NoiseMode, Power};
pub(super) use non_normality::{Growth, NetworkGrowth, NetworkSize, Size};
pub(super) use states::{Eigenvalue, NetworkState, Starts, State};

use super::{Network, NetworkFixedPoint};
use dynvis_runner::table::Row;

/// What belongs to a model.
#[derive(Clone, Copy, Row)]
pub(super) struct ModelKeys<'a> {
    /// The stage that gave the model
    #[column(key, slot = "models")]
    models: usize,
    /// Kind and number of areas
    #[column(key)]
    network: &'a str,
    /// Seed of the model's training
    #[column(key)]
    seed: i64,
}

/// What belongs to a steady state of the whole network.
#[derive(Clone, Copy, Row)]
struct StateKeys<'a> {
    #[column(flatten)]
    model: ModelKeys<'a>,
    /// Index in the dataset; -1 without input
    #[column(key)]
    image: i64,
}

/// What belongs to an area, of a network or at a steady state.
#[derive(Clone, Copy, Row)]
pub(super) struct InArea<K: Row> {
    #[column(flatten)]
    of: K,
    /// Area, from 0
    #[column(key)]
    area: usize,
}

impl NetworkFixedPoint {
    pub(super) fn in_network(&self, area: usize) -> InArea<ModelKeys<'_>> {
        let of = self.keys().model;
        InArea { of, area }
    }

    /// Numbers of the areas that drive each other, the first of which is `area`: that one alone where no other feeds
    /// back to it, none where another is the first.
    pub(super) fn together(&self, area: usize) -> Vec<String> {
        let areas = self.point.areas.iter().enumerate();
        let together = areas.filter(|(_, other)| other.component == area);
        together.map(|(other, _)| other.to_string()).collect()
    }

    fn keys(&self) -> StateKeys<'_> {
        StateKeys {
            model: ModelKeys {
                models: self.slot,
                network: &self.network,
                seed: self.seed as i64,
            },
            image: self.image,
        }
    }

    fn in_area(&self, area: usize) -> InArea<StateKeys<'_>> {
        let of = self.keys();
        InArea { of, area }
    }
}

impl Network {
    fn in_area(&self, area: usize) -> InArea<ModelKeys<'_>> {
        let of = ModelKeys {
            models: self.slot,
            network: &self.name,
            seed: self.seed as i64,
        };
        InArea { of, area }
    }
}
