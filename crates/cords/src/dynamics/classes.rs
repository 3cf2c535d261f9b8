//! How the steady states of images lie: within and between classes, and how well a linear readout tells classes apart.

use std::ops::Range;

use faer::Mat;

use crate::neural::{Features, Gram, NeuralError, RidgePath};

/// How one area's steady states lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Separation {
    /// Mean distance between steady states of two images of one class; none without such a pair.
    pub within: Option<f64>,
    /// Mean distance between those of two classes.
    pub between: Option<f64>,
    /// Fraction of images whose class a linear readout names rightly when it is fitted to all others: ridge regression
    /// onto classes, less what each class's share alone would predict, with the penalty that predicts left-out images
    /// best. None with fewer than two classes of two images.
    pub readout: Option<f64>,
    /// Number of images with a steady state.
    pub images: usize,
    /// Number of classes that the images are of.
    pub classes: usize,
}

/// Penalties tried, as shares of the mean square of a centred state.
const PENALTIES: [f64; 9] = [1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

/// Separation of `states`, one per image, by `labels`.
///
/// # Errors
/// [`NeuralError::Numerics`] where a decomposition does not converge, [`NeuralError::Option`] where a state is not
/// finite.
pub fn separation(states: &[&[f32]], labels: &[u32]) -> Result<Separation, NeuralError> {
    let n = states.len();
    let mut present = labels.to_vec();
    present.sort_unstable();
    present.dedup();
    let mut found = Separation {
        within: None,
        between: None,
        readout: None,
        images: n,
        classes: present.len(),
    };
    if n == 0 {
        return Ok(found);
    }
    let all: Vec<usize> = (0..n).collect();
    // Centring moves all states alike, so distances stay.
    let gram = Gram::new(&States(states))?.centred(&all, &[]).train;
    let distance = |i: usize, j: usize| (gram[(i, i)] + gram[(j, j)] - 2.0 * gram[(i, j)]).max(0.0).sqrt();
    let mean = |same: bool| {
        let pairs = (0..n).flat_map(|i| (0..i).map(move |j| (i, j)));
        let of = pairs.filter(|(i, j)| (labels[*i] == labels[*j]) == same);
        let (sum, count) = of.fold((0.0, 0.0), |(sum, count), (i, j)| (sum + distance(i, j), count + 1.0));
        (count > 0.0).then(|| sum / count)
    };
    (found.within, found.between) = (mean(true), mean(false));
    found.readout = readout(&gram, labels)?;
    Ok(found)
}

/// States as features of their images.
struct States<'a>(&'a [&'a [f32]]);

impl Features for States<'_> {
    fn stimuli(&self) -> usize {
        self.0.len()
    }

    fn len(&self) -> usize {
        self.0.first().map_or(0, |state| state.len())
    }

    fn read(&self, stimulus: usize, range: Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        let state = &self.0[stimulus][range];
        out.iter_mut().zip(state).for_each(|(out, r)| *out = f64::from(*r));
        Ok(())
    }
}

fn readout(gram: &Mat<f64>, labels: &[u32]) -> Result<Option<f64>, NeuralError> {
    let n = labels.len();
    let classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|label| counts[*label as usize] += 1);
    // What is left of a class of one image cannot be learnt.
    if counts.iter().filter(|count| **count > 1).count() < 2 {
        return Ok(None);
    }
    let size = (0..n).map(|i| gram[(i, i)]).sum::<f64>() / n as f64;
    if !(size.is_finite() && size > 0.0) {
        return Ok(None);
    }
    let of_class = |i: usize, class: usize| f64::from(u8::from(labels[i] as usize == class));
    let targets = Mat::from_fn(n, classes, of_class);
    let path = RidgePath::new(gram.as_ref())?;
    let alphas = PENALTIES.map(|penalty| penalty * size);
    let (_, left_out) = path.left_out(targets.as_ref(), &alphas)?;
    let named = |i: usize| {
        // The image's own class is rarer among the others, which a prediction shows that knows nothing else.
        let share = |class: usize| (counts[class] as f64 - of_class(i, class)) / (n - 1) as f64;
        let told = |class: usize| left_out[(i, class)] - share(class);
        (0..classes).max_by(|a, b| told(*a).total_cmp(&told(*b)))
    };
    let right = (0..n).filter(|i| named(*i) == Some(labels[*i] as usize)).count();
    Ok(Some(right as f64 / n as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn distances_by_hand() {
        let states: [&[f32]; 4] = [&[0.0, 0.0], &[3.0, 4.0], &[0.0, 1.0], &[3.0, 5.0]];
        let found = separation(&states, &[0, 0, 1, 1]).expect("small");
        // Within: 5 and 5. Between: 1, sqrt(34), sqrt(18), 1.
        assert!((found.within.expect("pairs") - 5.0).abs() < 1e-12);
        let between = (2.0 + 34f64.sqrt() + 18f64.sqrt()) / 4.0;
        assert!((found.between.expect("pairs") - between).abs() < 1e-12, "{found:?}");
        let alone = separation(&states[..1], &[0]).expect("small");
        assert_eq!((alone.within, alone.between, alone.readout), (None, None, None));
        let nothing = separation(&[], &[]).expect("nothing");
        assert_eq!((nothing.within, nothing.between, nothing.readout), (None, None, None));
    }

    #[test]
    fn a_readout_tells_what_can_be_told() {
        let state = |image: usize, class: usize, signal: f32| {
            let mut state = vec![0.0f32; 40];
            Stream::new(1, Purpose::Probe, image as u64, 0, 0, 0).normal_fill(&mut state);
            state[class] += signal;
            state
        };
        let of = |signal: f32| {
            let labels: Vec<u32> = (0..90).map(|image| image % 3).collect();
            let states: Vec<Vec<f32>> = (0..90).map(|image| state(image, image % 3, signal)).collect();
            let states: Vec<&[f32]> = states.iter().map(Vec::as_slice).collect();
            separation(&states, &labels).expect("small").readout.expect("classes")
        };
        assert!(of(12.0) > 0.98, "{}", of(12.0));
        // Noise alone: a third is guessed rightly, with a standard error of 0.05; bound 4 of them.
        assert!((of(0.0) - 1.0 / 3.0).abs() < 0.2, "{}", of(0.0));
    }
}
