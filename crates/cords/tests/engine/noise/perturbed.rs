//! What perturbations change: gains by their definition, silenced units, noisy weights.

use cords::data::Split;
use cords::net::{CordsNet, Input, Model};
use cords::noise::*;
use cords::rng::{Purpose, Stream};

use super::nets::*;
use super::pixels::noise;

/// Gains from their definition, with activity from a run of the network itself.
#[test]
fn gains_are_what_their_definition_says() {
    let (set, _dir) = digits();
    let model = cordsnet(&set);
    let images = set.split(Split::Test);
    let held = options(
        &RECURRENT[..1],
        &[(NoisePresentation::Static, 0.3), (NoisePresentation::Static, 0.0)],
    );
    let results = run(&model, &set, &held);
    let net: CordsNet<f32> = model.cordsnet().expect("valid");
    let noise = PixelNoise {
        seed: 11,
        ..noise(NoisePresentation::Static, 0.3, 2.0)
    };
    let [mut dx, mut x, mut dr, mut r] = [[0.0f64; 2]; 4];
    for &i in images {
        let mut clean = vec![0.0; 256];
        set.fill_unit(i as usize, &mut clean).expect("a sound image");
        let mut noisy = vec![0.0; 256];
        FrameSequence::new(noise, 16, u64::from(i)).frame(&clean, 0, &mut noisy);
        let [clean, noisy] = [clean, noisy].map(|mut pixels| {
            set.normalise(&mut pixels);
            let mut state = net.spontaneous(10);
            net.run(&mut state, Input::Constant(&net.embed(&pixels, 1)), 15, &mut |_, _| {});
            (pixels, state)
        });
        let squares = |a: &[f32], b: &[f32]| -> (f64, f64) {
            let change = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            (change, b.iter().map(|b| f64::from(*b).powi(2)).sum())
        };
        let (change, whole) = squares(&noisy.0, &clean.0);
        (dx[0], x[0]) = (dx[0] + change, x[0] + whole);
        for area in 0..2 {
            let (change, whole) = squares(&noisy.1.areas[area], &clean.1.areas[area]);
            (dr[area], r[area]) = (dr[area] + change, r[area] + whole);
        }
    }
    for area in 0..2 {
        let found = results[0].areas[area];
        let change = dr[area] / r[area];
        // float32 activity in groups of other sizes.
        assert!(
            (found.change.expect("finite") / change - 1.0).abs() < 1e-4,
            "{found:?} {change}"
        );
        let gain = change / (dx[0] / x[0]);
        assert!(
            (found.gain.expect("noisy") / gain - 1.0).abs() < 1e-4,
            "{found:?} {gain}"
        );
        assert_eq!(results[1].areas[area].change, Some(0.0));
        assert_eq!(results[1].areas[area].gain, None);
    }
}

#[test]
fn silenced_units_are_silent_and_grow_in_number() {
    let (set, _dir) = digits();
    let (cordsnet, cnn) = (cordsnet(&set), cnn(&set));
    let levels = [0.0, 0.2, 0.5, 1.0];
    let conditions: Vec<Condition> = levels.map(|level| condition(Perturbation::Silencing, level)).to_vec();
    for (model, observers) in [(&cordsnet, &RECURRENT[..]), (&cnn, &FEEDFORWARD[..])] {
        let options = EvaluationOptions {
            conditions: conditions.clone(),
            ..options(observers, &[])
        };
        let results = run(model, &set, &options);
        // A CNN is seen in one way only.
        let expected = if observers.len() == 2 { 8 } else { 4 };
        assert_eq!(results.len(), expected);
        for results in results.chunks(4) {
            for (result, level) in results.iter().zip(levels) {
                // 512 units: a standard error of at most 0.022, bound 5 of them; none and all are exact.
                let bound = if level == 0.0 || level == 1.0 { 0.0 } else { 0.11 };
                assert!(
                    (result.achieved - level).abs() <= bound,
                    "{} at {level}",
                    result.achieved
                );
            }
            // Nothing is left of the activity, so all of it has changed.
            for area in &results[3].areas {
                assert!((area.change.expect("finite") - 1.0).abs() < 1e-6, "{area:?}");
            }
            let changes = results.iter().map(|result| result.areas[0].change.expect("finite"));
            assert!(changes.is_sorted(), "{results:?}");
        }
        let clean = EvaluationOptions {
            conditions: vec![gaussian(NoisePresentation::Static, 0.0)],
            ..options.clone()
        };
        assert_eq!(run(model, &set, &clean)[0].cross_entropy, results[0].cross_entropy);
        // Only in the area that is named, and in what reads it.
        let second = EvaluationOptions {
            areas: Some(vec![1]),
            conditions: vec![condition(Perturbation::Silencing, 1.0)],
            ..options
        };
        let areas = &run(model, &set, &second)[0].areas;
        // A CNN's batch norms are folded for it, which rounds.
        assert!(areas[0].change.expect("finite") < 1e-10, "{areas:?}");
        assert!((areas[1].change.expect("finite") - 1.0).abs() < 1e-6);
    }
}

#[test]
fn noise_on_weights_multiplies_each_of_them() {
    let (set, _dir) = digits();
    for model in [cordsnet(&set), cnn(&set)] {
        let observer = match &model {
            Model::CordsNet { .. } => Observer::Cordsnet,
            Model::Cnn { .. } => Observer::CnnFirstFrame,
        };
        let options = EvaluationOptions {
            conditions: [0.1, 0.4].map(|level| condition(Perturbation::Weights, level)).to_vec(),
            areas: Some(vec![1]),
            ..options(&[observer], &[])
        };
        let results = run(&model, &set, &options);
        // The same by hand: effective weights w = g v/|v| of area 1, each times 1 + level xi.
        let (Model::CordsNet { parameters, .. } | Model::Cnn { parameters, .. }) = &model;
        let mut noisy = parameters.clone();
        let mut squares = 0.0;
        for (part, module) in ["area_conv.1", "area_area.1"].into_iter().enumerate() {
            let name = |which: &str| format!("{module}.parametrizations.weight.{which}");
            let (g, v) = (
                parameters.get(&name("original0")).expect("there").data.clone(),
                parameters.get(&name("original1")).expect("there").data.clone(),
            );
            let patch = v.len() / g.len();
            let mut xi = vec![0.0f32; v.len()];
            Stream::new(11, Purpose::WeightNoise, part as u64, 0, 0, 1).normal_fill(&mut xi);
            squares += xi.iter().map(|xi| f64::from(*xi).powi(2)).sum::<f64>() / v.len() as f64 / 2.0;
            let mut weights: Vec<f32> = Vec::new();
            for (row, v) in v.chunks(patch).enumerate() {
                let norm = v.iter().map(|v| v * v).sum::<f32>().sqrt();
                weights.extend(
                    v.iter()
                        .zip(&xi[row * patch..])
                        .map(|(v, xi)| g[row] * v / norm * (1.0 + 0.4 * xi)),
                );
            }
            let norms = weights
                .chunks(patch)
                .map(|w| w.iter().map(|w| w * w).sum::<f32>().sqrt())
                .collect();
            noisy.get_mut(&name("original1")).expect("there").data = weights;
            noisy.get_mut(&name("original0")).expect("there").data = norms;
        }
        let mut by_hand = model.clone();
        match &mut by_hand {
            Model::CordsNet { parameters, .. } | Model::Cnn { parameters, .. } => *parameters = noisy,
        }
        let clean = EvaluationOptions {
            conditions: vec![gaussian(NoisePresentation::Static, 0.0)],
            ..options
        };
        let expected = run(&by_hand, &set, &clean)[0].cross_entropy.expect("finite");
        let found = results[1].cross_entropy.expect("finite");
        assert!((found / expected - 1.0).abs() < 1e-4, "{found} against {expected}");
        assert!(
            (results[1].achieved - 0.4 * squares.sqrt()).abs() < 1e-6,
            "{}",
            results[1].achieved
        );
        assert_ne!(results[0].cross_entropy, results[1].cross_entropy);
    }
}
