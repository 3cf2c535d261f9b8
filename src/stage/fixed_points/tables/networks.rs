//! What is said of a network and an area, whatever the image.

use super::super::Network;
use super::{InArea, ModelKeys};
use dynvis_runner::table::Row;

/// Leading eigenvalues of each area's recurrent convolution W itself, without activation function
#[derive(Row)]
#[table(name = "convolutions")]
pub(in crate::stage::fixed_points) struct Convolution<'a> {
    #[column(flatten)]
    keys: InArea<ModelKeys<'a>>,
    /// magnitude, or real: by real part
    #[column(key)]
    order: &'static str,
    /// Rank, from 0
    #[column(key)]
    rank: usize,
    /// Real part
    #[column(absolute = 1e-7, relative = 1e-6)]
    real: f64,
    /// Imaginary part
    #[column(absolute = 1e-7, relative = 1e-6)]
    imaginary: f64,
    /// Magnitude
    #[column(absolute = 1e-7, relative = 1e-6)]
    magnitude: f64,
    /// |W v - kappa v| for the unit eigenvector v
    #[column(absolute = 1e-6)]
    residual: f64,
    /// Whether all of them reached the tolerance
    converged: bool,
}

impl<'a> Convolution<'a> {
    pub(in crate::stage::fixed_points) fn rows(networks: &'a [Network]) -> Vec<Self> {
        let mut rows = Vec::new();
        for network in networks {
            for (area, found) in network.convolutions.iter().enumerate() {
                for (order, leading) in ["magnitude", "real"].into_iter().zip(found) {
                    rows.extend(leading.pairs.iter().enumerate().map(|(rank, pair)| Convolution {
                        keys: network.in_area(area),
                        order,
                        rank,
                        real: pair.value.re,
                        // Eigenvalues are real or come in pairs: an imaginary part smaller than the error is 0.
                        imaginary: match pair.value.im.abs() <= pair.residual {
                            true => 0.0,
                            false => pair.value.im,
                        },
                        magnitude: pair.value.norm(),
                        residual: pair.residual,
                        converged: leading.converged,
                    }));
                }
            }
        }
        rows
    }
}

/// How the steady states of images lie in each area, and how well classes are told apart from them
#[derive(Row)]
#[table(name = "classes")]
pub(in crate::stage::fixed_points) struct Classes<'a> {
    #[column(flatten)]
    keys: InArea<ModelKeys<'a>>,
    /// Mean distance between steady states of a class
    #[column(absolute = 1e-6, relative = 1e-6)]
    within: Option<f64>,
    /// Mean distance between those of different classes
    #[column(absolute = 1e-6, relative = 1e-6)]
    between: Option<f64>,
    /// between over within
    #[column(absolute = 1e-6, relative = 1e-6)]
    ratio: Option<f64>,
    /// Images whose class a linear readout (ridge) names rightly when it is fitted to all others; chance is 1 / classes
    readout: Option<f64>,
    /// Images that the network's own readout names rightly at its steady states
    own_readout: Option<f64>,
    /// Images that settled
    images: usize,
    /// Classes that they are of
    classes: usize,
}

impl<'a> Classes<'a> {
    pub(in crate::stage::fixed_points) fn rows(networks: &'a [Network]) -> impl Iterator<Item = Self> {
        networks.iter().flat_map(|network| {
            let separations = network.separations.iter().enumerate();
            separations.map(|(area, separation)| {
                let within = separation.within.filter(|within| *within > 0.0);
                Classes {
                    keys: network.in_area(area),
                    within: separation.within,
                    between: separation.between,
                    ratio: within.zip(separation.between).map(|(within, between)| between / within),
                    readout: separation.readout,
                    own_readout: network.answers,
                    images: separation.images,
                    classes: separation.classes,
                }
            })
        })
    }
}
