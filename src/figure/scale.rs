//! Axes: where a value stands, and what is written beside the ticks.

/// An axis over a range of values.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    pub(crate) is_log: bool,
    /// Values with their labels, ascending.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis over values, with a margin at both ends. Values that are not finite, and on a logarithmic axis those
    /// not above 0, count for nothing. `fixed`: ends in place of those of the values.
    pub(crate) fn of(values: impl Iterator<Item = f64>, is_log: bool, fixed: Option<[f64; 2]>) -> Self {
        let usable = values.filter(|value| value.is_finite() && (!is_log || *value > 0.0));
        let mut is_whole = fixed.is_none();
        let ends = usable.fold(None, |ends: Option<[f64; 2]>, value| {
            is_whole &= value.fract() == 0.0;
            Some(ends.map_or([value; 2], |[low, high]| [low.min(value), high.max(value)]))
        });
        let is_whole = is_whole && ends.is_some();
        let [low, high] = fixed.or(ends).unwrap_or(if is_log { [1.0, 10.0] } else { [0.0, 1.0] });
        match is_log {
            true => Self::log(low, high),
            false => Self::linear(low, high, is_whole),
        }
    }

    /// `is_whole`: whether all values are whole numbers, between which there are no ticks.
    fn linear(low: f64, high: f64, is_whole: bool) -> Self {
        let (low, high) = match high > low {
            true => (low, high),
            // One value: something around it.
            false => (low - 0.5 * low.abs().max(1.0), low + 0.5 * low.abs().max(1.0)),
        };
        let least = (high - low) / 5.0;
        let step = nice_step(if is_whole { least.max(1.0) } else { least });
        let decimals = usize::try_from((-step.log10()).ceil().max(0.0) as i64)
            .unwrap_or(0)
            .min(12);
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let label = |tick: f64| match tick.abs() >= 1e5 || (tick != 0.0 && tick.abs() < 1e-4) {
            true => number(tick),
            false => signed(&format!("{:.decimals$}", tick + 0.0)),
        };
        let ticks = (first..=last.min(first + 20)).map(|place| {
            let tick = place as f64 * step;
            (tick, label(tick))
        });
        let margin = 0.04 * (high - low);
        Self {
            low: low - margin,
            high: high + margin,
            is_log: false,
            ticks: ticks.collect(),
        }
    }

    fn log(low: f64, high: f64) -> Self {
        let (low, high) = match high > low {
            true => (low, high),
            false => (low / 2.0, low * 2.0),
        };
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let within = |tick: &f64| *tick >= low * 0.999 && *tick <= high * 1.001;
        let every = ((last - first) / 5).max(1);
        let decades: Vec<f64> = (first..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .map(|power| 10f64.powi(power))
            .filter(within)
            .collect();
        let told = |ticks: Vec<f64>| ticks.into_iter().map(|tick| (tick, number(tick))).collect();
        let fine = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        let fine: Vec<f64> = fine.filter(within).collect();
        let ticks = match (decades.len(), fine.len()) {
            (2.., _) => decades.into_iter().map(|tick| (tick, power_of_ten(tick))).collect(),
            (_, 2..) => told(fine),
            // So short a piece of the axis is nearly linear.
            _ => {
                let step = nice_step((high - low) / 4.0);
                let places = (low / step).ceil() as i64..=(high / step).floor() as i64;
                told(places.map(|place| place as f64 * step).collect())
            }
        };
        let margin = (high / low).powf(0.04);
        Self {
            low: low / margin,
            high: high * margin,
            is_log: true,
            ticks,
        }
    }

    /// Where a value stands, from 0 at the low end to 1 at the high one; beyond these outside of the axis.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let map = |value: f64| if self.is_log { value.max(1e-300).log10() } else { value };
        (map(value) - map(self.low)) / (map(self.high) - map(self.low))
    }
}

/// 1, 2 or 5 times a power of ten, at least so large.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .into_iter()
        .map(|digit| digit * power)
        .find(|step| *step >= least * 0.999)
        .unwrap_or(10.0 * power)
}

/// A number as people read it, of six digits at most, with a true minus sign.
pub(crate) fn number(value: f64) -> String {
    signed(&dynvis_runner::table::significant(value, 6))
}

fn signed(text: &str) -> String {
    text.replace('-', "\u{2212}")
}

/// `10⁻²`.
fn power_of_ten(value: f64) -> String {
    let power = value.log10().round() as i32;
    let raised = |c: char| match c {
        '-' => '\u{207b}',
        '1' => '\u{b9}',
        '2' => '\u{b2}',
        '3' => '\u{b3}',
        digit => char::from_u32(0x2070 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit),
    };
    match power {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        power => format!("10{}", power.to_string().chars().map(raised).collect::<String>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let axis = Axis::of([0.0, 1.0, 0.3].into_iter(), false, None);
        assert_eq!(labels(&axis), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        let axis = Axis::of([1.0, 3.0].into_iter(), false, None);
        assert_eq!(labels(&axis), ["1", "2", "3"]);
        let axis = Axis::of([5.0, 100.0].into_iter(), false, None);
        assert_eq!(labels(&axis), ["20", "40", "60", "80", "100"]);
        let axis = Axis::of([-0.021, 0.013].into_iter(), false, None);
        assert_eq!(labels(&axis), ["\u{2212}0.02", "\u{2212}0.01", "0.00", "0.01"]);
        assert!((axis.place(axis.low)).abs() < 1e-12 && (axis.place(axis.high) - 1.0).abs() < 1e-12);
        let axis = Axis::of([0.003, 40.0, 0.0, f64::NAN].into_iter(), true, None);
        assert_eq!(labels(&axis), ["10\u{207b}\u{b2}", "10\u{207b}\u{b9}", "1", "10"]);
        let axis = Axis::of([2.0, 7.0].into_iter(), true, None);
        assert_eq!(labels(&axis), ["2", "5"]);
        let axis = Axis::of([0.21, 0.29].into_iter(), true, None);
        assert_eq!(labels(&axis), ["0.22", "0.24", "0.26", "0.28"]);
    }

    #[test]
    fn one_value_and_none_have_an_axis_too() {
        for values in [vec![], vec![3.0], vec![0.0], vec![f64::INFINITY]] {
            for is_log in [false, true] {
                let axis = Axis::of(values.iter().copied(), is_log, None);
                assert!(axis.high > axis.low && !axis.ticks.is_empty(), "{values:?}: {axis:?}");
            }
        }
    }
}
