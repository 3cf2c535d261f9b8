//! What a network is apart from its weights: sizes, strides and time constants.
//!
//! A validated architecture has consistent sides, so later code may rely on every area having at least one unit.

use serde::{Deserialize, Serialize};

use super::NetError;

/// Sizes of a CordsNet or of its CNN twin.
///
/// `image -> inp_conv 7x7/2 -> average pool 3x3/2 -> area 0 -> area 1 -> ...`; areas 2k and 2k+1 share width and side.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Channels of the image.
    pub in_channels: usize,
    /// Height and width of the image in pixels.
    pub image_side: usize,
    /// Channels of the input layer, then of each area.
    pub channels: Vec<usize>,
    /// Stride of each area's feed-forward convolution.
    pub strides: Vec<usize>,
    /// Number of classes of the readout.
    pub classes: usize,
}

/// Side of a convolution's or pool's output.
pub(crate) fn out_side(side: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (side + 2 * padding).saturating_sub(kernel) / stride.max(1) + usize::from(side + 2 * padding >= kernel)
}

impl Architecture {
    /// Channels of the published networks' input layer, then of each area.
    pub const PUBLISHED_CHANNELS: [usize; 9] = [64, 64, 64, 128, 128, 256, 256, 512, 512];
    /// Stride of each of their areas' feed-forward convolution.
    pub const PUBLISHED_STRIDES: [usize; 8] = [1, 1, 2, 1, 2, 1, 2, 1];

    /// The published CordsNet-R{2,4,6,8}.
    ///
    /// # Errors
    /// [`NetError::Areas`] where `areas` is not 2, 4, 6 or 8; [`NetError::Size`] where a size is 0.
    pub fn published(areas: usize, in_channels: usize, image_side: usize, classes: usize) -> Result<Self, NetError> {
        if !matches!(areas, 2 | 4 | 6 | 8) {
            return Err(NetError::Areas { areas });
        }
        let architecture = Self {
            in_channels,
            image_side,
            channels: Self::PUBLISHED_CHANNELS[..=areas].to_vec(),
            strides: Self::PUBLISHED_STRIDES[..areas].to_vec(),
            classes,
        };
        architecture.validate()?;
        Ok(architecture)
    }

    /// Checks that the sizes make a network.
    ///
    /// # Errors
    /// The first thing found wrong: the number of areas, a zero or huge size, areas of a pair that differ,
    /// or a shortcut that misses its target's side.
    pub fn validate(&self) -> Result<(), NetError> {
        /// Larger sizes are typing errors; products of a few of them still fit an index.
        const LARGEST: usize = 1 << 16;
        let areas = self.strides.len();
        if !matches!(areas, 2 | 4 | 6 | 8) {
            return Err(NetError::Areas { areas });
        }
        if self.channels.len() != areas + 1 {
            return Err(NetError::Channels {
                channels: self.channels.len(),
                strides: areas,
            });
        }
        let named = [
            ("in_channels", self.in_channels),
            ("image_side", self.image_side),
            ("classes", self.classes),
        ];
        let channels = self.channels.iter().map(|c| ("a channel count", *c));
        let strides = self.strides.iter().map(|s| ("a stride", *s));
        for (what, value) in named.into_iter().chain(channels).chain(strides) {
            if !(1..=LARGEST).contains(&value) {
                return Err(NetError::Size {
                    what: what.to_owned(),
                    value,
                });
            }
        }
        let sides = self.sides();
        if self.channels[0] != self.channels[1] || sides[0] != self.inp_side() {
            return Err(NetError::InputLayer {
                inp_channels: self.channels[0],
                inp_side: self.inp_side(),
                channels: self.channels[1],
                side: sides[0],
            });
        }
        for first in (0..areas).step_by(2) {
            let second = first + 1;
            if self.channels[first + 1] != self.channels[second + 1] || sides[first] != sides[second] {
                return Err(NetError::Pair {
                    first,
                    second,
                    first_channels: self.channels[first + 1],
                    first_side: sides[first],
                    second_channels: self.channels[second + 1],
                    second_side: sides[second],
                });
            }
        }
        for area in (3..areas).step_by(2) {
            let shortcut = out_side(sides[area - 2], 1, 2, 0);
            if shortcut != sides[area - 1] {
                return Err(NetError::Shortcut {
                    area,
                    side: sides[area - 1],
                    shortcut,
                });
            }
        }
        Ok(())
    }

    /// Number of areas, the input layer not counted.
    pub fn areas(&self) -> usize {
        self.strides.len()
    }

    /// Side of the input convolution's output.
    pub(crate) fn conv_side(&self) -> usize {
        out_side(self.image_side, 7, 2, 3)
    }

    /// Side of `inp`, the maps that area 0 reads.
    pub(crate) fn inp_side(&self) -> usize {
        out_side(self.conv_side(), 3, 2, 1)
    }

    /// Side of each area's maps.
    pub fn sides(&self) -> Vec<usize> {
        let mut side = self.inp_side();
        self.strides
            .iter()
            .map(|stride| {
                side = out_side(side, 3, *stride, 1);
                side
            })
            .collect()
    }

    /// Units of area `area`: channels x side x side.
    pub fn area_units(&self, area: usize) -> usize {
        let side = self.sides()[area];
        self.channels[area + 1] * side * side
    }

    /// Units of all areas together.
    pub fn units(&self) -> usize {
        (0..self.areas()).map(|area| self.area_units(area)).sum()
    }

    /// Values of one image: `in_channels` x `image_side`^2.
    pub fn image_len(&self) -> usize {
        self.in_channels * self.image_side * self.image_side
    }
}

/// Step and time constants of the Euler scheme, alpha = dt / tau.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Euler {
    /// Euler step dt in ms.
    pub dt_ms: f64,
    /// Time constant in ms: one for all areas, or one for each.
    pub tau_ms: Vec<f64>,
}

impl Euler {
    /// One time constant for all areas.
    pub fn new(dt_ms: f64, tau_ms: f64) -> Self {
        Self {
            dt_ms,
            tau_ms: vec![tau_ms],
        }
    }

    /// The published setting: dt = 2 ms, tau = 10 ms, alpha = 0.2.
    pub fn published() -> Self {
        Self::new(2.0, 10.0)
    }

    /// Checks 0 < dt <= tau and that there is one time constant or one per area.
    ///
    /// # Errors
    /// [`NetError::TimeConstants`].
    pub fn validate(&self, areas: usize) -> Result<(), NetError> {
        let count = self.tau_ms.len() == 1 || self.tau_ms.len() == areas;
        // Not above tau: with alpha <= 1 activity under ReLU stays non-negative, which the sources rely on.
        let steps = self.dt_ms > 0.0 && self.tau_ms.iter().all(|tau| tau.is_finite() && self.dt_ms <= *tau);
        if count && steps {
            Ok(())
        } else {
            Err(NetError::TimeConstants {
                dt_ms: self.dt_ms,
                tau_ms: self.tau_ms.clone(),
                areas,
            })
        }
    }

    /// alpha = dt / tau of an area.
    pub fn alpha(&self, area: usize) -> f64 {
        let tau = self.tau_ms.get(area).or(self.tau_ms.first());
        self.dt_ms / tau.copied().unwrap_or(self.dt_ms)
    }

    /// The number of steps nearest to a duration in ms; [`unfit`](Self::unfit) tells where that is another duration.
    pub fn steps(&self, ms: f64) -> usize {
        (ms / self.dt_ms).round().max(0.0) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_sizes() {
        let r8 = Architecture::published(8, 3, 224, 1000).expect("published sizes are valid");
        assert_eq!(r8.sides(), [56, 56, 28, 28, 14, 14, 7, 7]);
        assert_eq!(r8.units(), 752_640);
        for (areas, units) in [(2, 401_408), (4, 602_112), (6, 702_464)] {
            let net = Architecture::published(areas, 3, 224, 10).expect("published sizes are valid");
            assert_eq!(net.units(), units);
        }
    }

    #[test]
    fn wrong_sizes_are_named() {
        assert!(matches!(
            Architecture::published(3, 3, 224, 10),
            Err(NetError::Areas { areas: 3 })
        ));
        let good = Architecture::published(4, 3, 32, 10).expect("valid");
        let check = |change: &dyn Fn(&mut Architecture)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.validate()
        };
        assert!(matches!(check(&|a| a.classes = 0), Err(NetError::Size { .. })));
        assert!(matches!(check(&|a| a.channels[2] = 9), Err(NetError::Pair { .. })));
        assert!(matches!(
            check(&|a| a.channels[0] = 9),
            Err(NetError::InputLayer { .. })
        ));
        assert!(matches!(check(&|a| a.strides[0] = 2), Err(NetError::InputLayer { .. })));
        assert!(matches!(check(&|a| a.strides[1] = 2), Err(NetError::Pair { .. })));
        assert!(matches!(check(&|a| a.strides[2] = 1), Err(NetError::Shortcut { .. })));
        assert!(matches!(check(&|a| a.strides[3] = 0), Err(NetError::Size { .. })));
        assert!(matches!(
            check(&|a| {
                a.channels.pop();
            }),
            Err(NetError::Channels { .. })
        ));
    }

    #[test]
    fn time_constants() {
        assert!(Euler::new(2.0, 10.0).validate(4).is_ok());
        for bad in [Euler::new(0.0, 10.0), Euler::new(11.0, 10.0), Euler::new(2.0, f64::NAN)] {
            assert!(bad.validate(4).is_err(), "{bad:?}");
        }
        let each = Euler {
            dt_ms: 2.0,
            tau_ms: vec![10.0, 20.0],
        };
        assert!(each.validate(4).is_err());
        assert!(each.validate(2).is_ok());
        assert_eq!((each.alpha(0), each.alpha(1)), (0.2, 0.1));
        assert_eq!(each.steps(200.0), 100);
    }
}
