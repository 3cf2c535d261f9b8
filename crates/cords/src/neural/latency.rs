//! Latencies with intervals, by resampling neurons: the images are those that were shown, the neurons a sample. Onsets.

use crate::rng::{Purpose, Stream};
use crate::statistics::{normal_tail, student};

/// How often neurons are drawn anew.
const RESAMPLES: u64 = 2000;

/// What the ends of a 95 % interval leave out of the resampled values on either side. Resampling n values makes their
/// mean vary too little, by (n - 1) / n in variance, and takes that variance for known; the interval is widened to what
/// Student's distribution asks for (T. Hesterberg, The American Statistician 69, 371, 2015: the expanded percentile
/// interval).
fn tail(n: usize) -> f64 {
    let freedom = n as f64 - 1.0;
    normal_tail(student(freedom) * (n as f64 / freedom).sqrt())
}

/// An estimate and its 95 % interval; none with fewer than two neurons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The estimate from all neurons.
    pub value: f64,
    /// Ends of the interval, the lower first.
    pub ends: Option<[f64; 2]>,
}

/// Which latency predicts neurons best, and which others cannot be told from it.
#[derive(Clone, Debug, PartialEq)]
pub struct LatencyEstimate {
    /// The latency with the largest mean score, and the interval of the latencies that have it when neurons are drawn
    /// anew.
    pub latency: Interval,
    /// For each latency the mean over neurons of the best one's score less its own; 0 of the best one.
    pub behind: Vec<Interval>,
    /// For each latency whether the best one is not better beyond chance: the interval of `behind` reaches down to 0,
    /// or one neuron alone does not tell.
    pub tied: Vec<bool>,
}

/// Compares latencies by `scores[latency][neuron]`, paired by neuron; `None` where no neuron has a score at every one.
pub fn estimate_latency(latencies_ms: &[f64], scores: &[Vec<f64>], seed: u64) -> Option<LatencyEstimate> {
    let count = scores.iter().map(Vec::len).min()?;
    let neurons: Vec<usize> = (0..count)
        .filter(|n| scores.iter().all(|of| of[*n].is_finite()))
        .collect();
    if neurons.is_empty() {
        return None;
    }
    let mean = |of: &Vec<f64>, drawn: &[usize]| drawn.iter().map(|n| of[*n]).sum::<f64>() / drawn.len() as f64;
    let means = |drawn: &[usize]| -> Vec<f64> { scores.iter().map(|of| mean(of, drawn)).collect() };
    // The first of equal ones.
    let largest = |means: &[f64]| (1..means.len()).fold(0, |best, l| if means[l] > means[best] { l } else { best });
    let own = means(&neurons);
    let best = largest(&own);
    let mut chosen = Vec::new();
    let mut behind: Vec<Vec<f64>> = vec![Vec::new(); scores.len()];
    if neurons.len() > 1 {
        for_resamples(&neurons, seed, |drawn| {
            let drawn = means(drawn);
            chosen.push(latencies_ms[largest(&drawn)]);
            for (l, all) in behind.iter_mut().enumerate() {
                all.push(drawn[best] - drawn[l]);
            }
        });
    }
    let behind: Vec<Interval> = behind
        .into_iter()
        .zip(&own)
        .map(|(all, own_mean)| Interval {
            value: own[best] - own_mean,
            ends: ends(all, neurons.len()),
        })
        .collect();
    let tied = behind.iter().enumerate();
    Some(LatencyEstimate {
        latency: Interval {
            value: latencies_ms[best],
            ends: ends(chosen, neurons.len()),
        },
        tied: tied
            .map(|(l, b)| l == best || b.value <= 0.0 || b.ends.is_none_or(|[low, _]| low <= 0.0))
            .collect(),
        behind,
    })
}

/// When the mean over neurons of `values[time][neuron]` first reaches half of its largest value, on the line between
/// two times; `None` where it never is `least`, or is above half from the first time on. Values of a neuron that has
/// none at a time count as 0.
///
/// No interval: percentiles over resampled neurons hold the truth in fewer than 95 of 100 simulations.
pub fn half_rise(times_ms: &[f64], values: &[Vec<f64>], least: f64) -> Option<f64> {
    let count = values.iter().map(Vec::len).min().filter(|count| *count > 0)?;
    let value = |of: &Vec<f64>, n: usize| if of[n].is_finite() { of[n] } else { 0.0 };
    let means: Vec<f64> = values
        .iter()
        .map(|of| (0..count).map(|n| value(of, n)).sum::<f64>() / count as f64)
        .collect();
    crossing(times_ms, &means).filter(|_| means.iter().any(|mean| *mean >= least))
}

/// Where values first reach half of the largest of them; `None` where the first one does.
fn crossing(times_ms: &[f64], values: &[f64]) -> Option<f64> {
    let half = 0.5 * values.iter().copied().fold(0.0, f64::max);
    let place = values
        .iter()
        .position(|value| *value >= half)
        .filter(|place| *place > 0)?;
    let (before, after) = (values[place - 1], values[place]);
    let share = (half - before) / (after - before);
    Some(times_ms[place - 1] + share * (times_ms[place] - times_ms[place - 1]))
}

/// Hands over neurons drawn with replacement, as many as there are, again and again.
fn for_resamples(neurons: &[usize], seed: u64, mut with: impl FnMut(&[usize])) {
    let mut drawn = vec![0; neurons.len()];
    for resample in 0..RESAMPLES {
        let mut stream = Stream::new(seed, Purpose::Bootstrap, resample, 0, 0, 0);
        for place in &mut drawn {
            *place = neurons[stream.below(neurons.len() as u64) as usize];
        }
        with(&drawn);
    }
}

fn ends(mut values: Vec<f64>, neurons: usize) -> Option<[f64; 2]> {
    let last = values.len().checked_sub(1)?;
    values.sort_by(f64::total_cmp);
    let tail = (tail(neurons) * last as f64).floor() as usize;
    Some([values[tail], values[last - tail]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_of_a_thousandth_is_a_tie_unless_every_neuron_has_it() {
        let noise = |n: usize| 0.1 * ((n * 7 % 11) as f64 - 5.0) / 5.0;
        let plain: Vec<f64> = (0..20).map(|n| 0.5 + noise(n)).collect();
        let noisy: Vec<f64> = (0..20).map(|n| 0.501 + noise(n + 3)).collect();
        let worse: Vec<f64> = (0..20).map(|n| 0.2 + noise(n + 5)).collect();
        let found = estimate_latency(&[0.0, 10.0, 20.0], &[worse, plain.clone(), noisy], 1).expect("scores");
        assert_eq!(found.tied, [false, true, true], "{found:?}");
        let [low, high] = found.latency.ends.expect("20 neurons");
        assert_eq!((low, high), (10.0, 20.0));
        // A thousandth in every neuron is no tie.
        let better: Vec<f64> = plain.iter().map(|r| r + 0.001).collect();
        let found = estimate_latency(&[0.0, 10.0], &[plain.clone(), better], 1).expect("scores");
        assert_eq!((found.latency.value, found.tied), (10.0, vec![false, true]));
        // One neuron has no interval, and tells no latency from another.
        let found = estimate_latency(&[0.0, 10.0], &[vec![0.2], vec![0.5]], 1).expect("scores");
        assert_eq!((found.latency.value, found.tied), (10.0, vec![true, true]));
        let found = estimate_latency(&[0.0, 10.0], &[vec![0.5], vec![0.5]], 1).expect("scores");
        assert_eq!(
            (found.latency.value, found.latency.ends, found.tied),
            (0.0, None, vec![true, true])
        );
        assert_eq!(estimate_latency(&[0.0], &[vec![f64::NAN]], 1), None);
    }

    #[test]
    fn tails_are_those_of_students_distribution() {
        // Beyond 2.1448 sqrt(15 / 14) and, of very many, 1.96 deviations.
        assert!((tail(15) - 0.01321).abs() < 1e-4, "{}", tail(15));
        assert!((tail(1_000_000) - 0.025).abs() < 1e-5);
    }

    #[test]
    fn a_rise_is_found_on_the_line_between_two_times() {
        let values: Vec<Vec<f64>> = [0.0, 0.0, 0.2, 0.8, 0.8].map(|v| vec![v; 3]).to_vec();
        let times = [5.0, 15.0, 25.0, 35.0, 45.0];
        let found = half_rise(&times, &values, 0.1).expect("it rises");
        // 0.4 lies a third of the way from 0.2 to 0.8.
        assert!((found - (25.0 + 10.0 / 3.0)).abs() < 1e-12, "{found}");
        assert_eq!(half_rise(&times, &values, 0.9), None);
        assert_eq!(half_rise(&times, &vec![vec![0.5; 3]; 5], 0.1), None);
    }
}
