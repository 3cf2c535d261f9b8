//! Simulated neurons: the area, the latency and the ceiling that were put in come out again.

use std::path::Path;

use cords::neural::{
    ActivityFile, Correlations, FeatureMatrix, Features, FitOptions, PlsRule, Recordings, Regression, Reordered,
    SimulatedRegion, SimulationOptions, SplitOptions, Truth, When, fit_each, fit_once, fit_shared, median, paired,
    shuffle_splits, simulate, summarise,
};
use cords::rng::{Purpose, Stream};
use faer::Mat;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const IMAGES: usize = 150;
const TIMES: usize = 7;
const UNITS: usize = 30;

/// Three areas of independent activity that changes over time with a correlation of 0.6 from one recorded time to the next.
fn write_activity(path: &Path) {
    let area = |number: u64| -> Vec<f32> {
        let mut values = vec![0.0f32; IMAGES * TIMES * UNITS];
        for image in 0..IMAGES {
            let mut fresh = vec![0.0f32; TIMES * UNITS];
            Stream::new(5, Purpose::Probe, image as u64, number as u32, 0, 0).normal_fill(&mut fresh);
            for time in 0..TIMES {
                for unit in 0..UNITS {
                    let place = (image * TIMES + time) * UNITS + unit;
                    let before = if time == 0 { 0.0 } else { values[place - UNITS] };
                    values[place] = 0.6 * before + 0.8 * fresh[time * UNITS + unit];
                }
            }
        }
        values
    };
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let areas: Vec<Vec<u8>> = (0..3).map(|number| bytes(&area(number))).collect();
    let times: Vec<u8> = (0..TIMES).flat_map(|t| (10.0 * t as f64).to_le_bytes()).collect();
    // Indices in another order than the ids of stimuli sort in.
    let images: Vec<u8> = (0..IMAGES as i64).rev().flat_map(|i| (2 * i).to_le_bytes()).collect();
    let labels: Vec<u8> = (0..IMAGES as i64).flat_map(|i| (i % 5).to_le_bytes()).collect();
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).expect("a tensor");
    let mut tensors = vec![
        ("times".to_owned(), view(Dtype::F64, &[TIMES], &times)),
        ("images".to_owned(), view(Dtype::I64, &[IMAGES], &images)),
        ("labels".to_owned(), view(Dtype::I64, &[IMAGES], &labels)),
    ];
    for (number, area) in areas.iter().enumerate() {
        tensors.push((
            format!("area.{number}"),
            view(Dtype::F32, &[IMAGES, TIMES, UNITS], area),
        ));
    }
    safetensors::serialize_to_file(tensors, None, path).expect("a file");
}

struct Study {
    _folder: tempfile::TempDir,
    activity: ActivityFile,
    recordings: Recordings,
    truth: Vec<Truth>,
    /// Row of each stimulus in the activity.
    rows: Vec<usize>,
}

fn study(noise: f64, repetitions: usize) -> Study {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("activity.safetensors");
    write_activity(&path);
    let activity = ActivityFile::open(&path).expect("activity");
    let options = SimulationOptions {
        regions: vec![SimulatedRegion {
            name: "IT".into(),
            area: 1,
            latency_ms: 20.0,
            neurons: 12,
        }],
        bins_ms: (2..6).map(|i| [10.0 * f64::from(i), 10.0 * f64::from(i + 1)]).collect(),
        repetitions,
        noise,
        seed: 3,
    };
    let (recordings, truth) = simulate(&activity, &options).expect("recordings");
    let rows = recordings
        .stimuli
        .iter()
        .map(|id| {
            activity
                .images()
                .iter()
                .position(|image| image.to_string() == *id)
                .expect("recorded")
        })
        .collect();
    Study {
        _folder: folder,
        activity,
        recordings,
        truth,
        rows,
    }
}

fn options(regression: Regression) -> FitOptions {
    let splits = SplitOptions {
        splits: 6,
        train: 0.8,
        seed: 1,
    };
    FitOptions {
        regression,
        principal_components: None,
        splits: shuffle_splits(IMAGES, &splits).expect("splits"),
    }
}

fn pls(components: usize) -> Regression {
    Regression::Pls {
        components,
        rule: PlsRule::Sklearn,
        scale: false,
    }
}

fn score(r: &Correlations) -> f64 {
    summarise(r, None, &(0..r[0].len()).collect::<Vec<_>>())
        .r
        .expect("it varies")
}

#[test]
fn the_right_area_and_latency_win_and_a_shuffle_is_at_nothing() {
    let study = study(0.5, 8);
    let responses: Vec<Mat<f64>> = (0..4).map(|bin| study.recordings.means(bin)).collect();
    // [area][time][bin]
    let of = |area: usize, time: usize| {
        let features = study
            .activity
            .features(area, study.rows.clone(), When::Mean(vec![time]))
            .expect("recorded");
        fit_each(&features, &responses, &options(pls(10))).expect("fits")
    };
    for bin in 0..4 {
        let all: Vec<((usize, usize), f64)> = (0..3)
            .flat_map(|area| (0..TIMES).map(move |time| (area, time)))
            .map(|(area, time)| ((area, time), score(&of(area, time)[bin])))
            .collect();
        let best = all.iter().max_by(|a, b| a.1.total_cmp(&b.1)).expect("some");
        // Bin `bin` starts at 20 + 10 bin, less the latency of 20 ms: recorded time `bin`.
        assert_eq!(best.0, (1, bin), "bin {bin}: {all:?}");
        // 150 images x 30 units leave 25 of noise variance to 100 of signal: r is near its bound.
        assert!(best.1 > 0.85, "bin {bin}: {}", best.1);
        for ((area, time), r) in &all {
            // A tenth of 1 / sqrt(30 test images), the spread of one r, over 12 neurons and 6 splits.
            assert!(*area == 1 || r.abs() < 0.2, "area {area} time {time}: {r}");
        }
    }
    let features = study
        .activity
        .features(1, study.rows.clone(), When::Mean(vec![2]))
        .expect("recorded");
    let order = Stream::new(1, Purpose::Control, 0, 0, 0, 0).permutation(IMAGES);
    let shuffled = Reordered {
        features: &features,
        order: order.into_iter().map(|i| i as usize).collect(),
    };
    let control = fit_each(&shuffled, &responses, &options(pls(10))).expect("fits");
    let own = of(1, 2);
    assert!(score(&control[2]).abs() < 0.15, "{}", score(&control[2]));
    let compared = paired(&own[2], &control[2], &(0..12).collect::<Vec<_>>()).expect("both");
    assert_eq!((compared.neurons, compared.better), (12, 1.0));
    assert!(compared.difference > 5.0 * compared.error.expect("12 neurons"));
}

/// The estimate of the ceiling is the truth within four standard errors of its own.
#[test]
fn the_ceiling_is_recovered() {
    let study = study(2.0, 8);
    let halvings = SplitOptions {
        splits: 20,
        train: 0.5,
        seed: 1,
    };
    for bin in 0..4 {
        let found = study
            .recordings
            .reliability(bin, &halvings)
            .expect("halves")
            .expect("repetitions");
        let estimates: Vec<f64> = found
            .iter()
            .map(|n| n.iter().flatten().sum::<f64>() / n.len() as f64)
            .collect();
        let truth: Vec<f64> = study
            .truth
            .iter()
            .filter(|t| t.bin == bin)
            .map(Truth::reliability)
            .collect();
        assert!(truth.iter().all(|r| *r > 0.4 && *r < 0.85), "{truth:?}");
        for (estimate, truth) in estimates.iter().zip(&truth) {
            // A correlation of n pairs has standard error (1 - r^2) / sqrt(n), and 2r/(1+r) the derivative 2/(1+r)^2.
            let half = truth / (2.0 - truth);
            let error = (1.0 - half * half) / (IMAGES as f64).sqrt() * 2.0 / (1.0 + half).powi(2);
            assert!(
                (estimate - truth).abs() < 4.0 * error,
                "bin {bin}: {estimate} for {truth}"
            );
        }
        let difference = median(estimates).expect("some") - median(truth).expect("some");
        assert!(difference.abs() < 0.06, "bin {bin}: {difference}");
    }
}

#[test]
fn ways_to_share_weights_agree_where_they_must() {
    let study = study(0.5, 4);
    let features = |time: usize| {
        study
            .activity
            .features(1, study.rows.clone(), When::Mean(vec![time]))
            .expect("recorded")
    };
    let responses: Vec<Mat<f64>> = (0..4).map(|bin| study.recordings.means(bin)).collect();
    for regression in [
        pls(5),
        Regression::Ridge { alpha: 3.0 },
        Regression::RidgeCv {
            alphas: vec![0.1, 10.0, 1e3],
        },
    ] {
        let options = options(regression);
        let close = |a: &Correlations, b: &Correlations| {
            a.iter()
                .flatten()
                .zip(b.iter().flatten())
                .all(|(a, b)| (a - b).abs() < 1e-9)
        };
        let each = fit_each(&features(1), &responses[1..2], &options).expect("fits");
        // One bin has its weights for itself.
        let shared = fit_shared(&[&features(1)], &responses[1..2], &options).expect("fits");
        assert!(close(&each[0], &shared[0]), "{:?}", options.regression);
        // Weights of a window applied to the same activity are the fit to it.
        let (one, three) = (features(1), features(3));
        let applied: [&dyn Features; 2] = [&one, &three];
        let once = fit_once(&one, &responses[1], &applied, &responses, &options).expect("fits");
        assert!(close(&each[0], &once[0][1]), "{:?}", options.regression);
        // Two steps later activity has a correlation of 0.36, and so have its predictions.
        assert!(score(&once[1][1]) < score(&once[0][1]) - 0.2);
        assert!(
            score(&once[1][3]) > score(&once[1][1]),
            "the same weights at their own latency"
        );
        // The same relation in all bins: one fit has four times as many images.
        let all: Vec<_> = (0..4).map(features).collect();
        let all: Vec<&dyn Features> = all.iter().map(|f| f as &dyn Features).collect();
        let shared = fit_shared(&all, &responses, &options).expect("fits");
        assert!(score(&shared[1]) > score(&each[0]) - 0.02);
    }
}

#[test]
fn reductions_keep_what_they_must() {
    let study = study(0.5, 4);
    let features = study
        .activity
        .features(1, study.rows.clone(), When::Mean(vec![1]))
        .expect("recorded");
    let responses = [study.recordings.means(1)];
    // All principal components are all features.
    let mut reduced = options(Regression::Ridge { alpha: 3.0 });
    let full = fit_each(&features, &responses, &reduced).expect("fits");
    reduced.principal_components = Some(UNITS);
    let all = fit_each(&features, &responses, &reduced).expect("fits");
    assert!(
        all[0]
            .iter()
            .flatten()
            .zip(full[0].iter().flatten())
            .all(|(a, b)| (a - b).abs() < 1e-9)
    );
    reduced.principal_components = Some(3);
    let few = fit_each(&features, &responses, &reduced).expect("fits");
    assert!(score(&few[0]) < score(&full[0]) - 0.1);
    // A projection keeps squared lengths on average: 4,000 dimensions, each entry of variance 1 / 4,000.
    let row = |set: &dyn Features, s: usize| {
        let mut out = vec![0.0; set.len()];
        set.read(s, 0..set.len(), &mut out).expect("read");
        out
    };
    let projected = FeatureMatrix::projected(&features, 4000, 1).expect("projected");
    for s in [0, 70, 149] {
        let length = |v: Vec<f64>| v.iter().map(|v| v * v).sum::<f64>();
        let ratio = length(row(&projected, s)) / length(row(&features, s));
        // Standard deviation sqrt(2 / 4000) and a little for the sparseness: five of them.
        assert!((ratio - 1.0).abs() < 0.2, "{ratio}");
    }
    let again = FeatureMatrix::projected(&features, 4000, 1).expect("projected");
    assert_eq!(row(&again, 7), row(&projected, 7));
    let other = FeatureMatrix::projected(&features, 4000, 2).expect("projected");
    assert_ne!(row(&other, 7), row(&projected, 7));
}

/// A neuron that is a copy of a unit is found, and predicted by it.
#[test]
fn neuron_to_neuron_finds_the_unit() {
    let study = study(0.5, 4);
    let features = study
        .activity
        .features(2, study.rows.clone(), When::Mean(vec![3]))
        .expect("recorded");
    let mut row = vec![0.0; UNITS];
    let copies = Mat::from_fn(IMAGES, 2, |s, n| {
        features.read(s, 0..UNITS, &mut row).expect("read");
        if n == 0 {
            5.0 - 2.0 * row[4]
        } else {
            3.0 * row[17] + 1.0
        }
    });
    let found = fit_each(&features, &[copies], &options(Regression::NeuronToNeuron)).expect("fits");
    for split in &found[0] {
        assert!((split[1] - 1.0).abs() < 1e-12, "the unit itself");
        // The published rule takes the largest correlation, not the largest square: a negative copy is not found.
        assert!(split[0].abs() < 0.6, "{}", split[0]);
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let study = study(0.5, 4);
    let responses: Vec<Mat<f64>> = (0..2).map(|bin| study.recordings.means(bin)).collect();
    let with = |threads: usize, regression: &Regression| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let features = study
                .activity
                .features(0, study.rows.clone(), When::Mean(vec![1, 2]))
                .expect("recorded");
            fit_each(&features, &responses, &options(regression.clone())).expect("fits")
        })
    };
    for regression in [
        pls(8),
        Regression::RidgeCv {
            alphas: vec![1.0, 10.0],
        },
        Regression::NeuronToNeuron,
    ] {
        assert_eq!(with(1, &regression), with(3, &regression), "{regression:?}");
    }
}

#[test]
fn what_cannot_be_fitted_is_named() {
    let study = study(0.5, 4);
    let features = study
        .activity
        .features(0, study.rows.clone(), When::Mean(vec![1]))
        .expect("recorded");
    let responses = [study.recordings.means(0)];
    let message = |options: &FitOptions| {
        let result = fit_each(&features, &responses, options);
        result.expect_err("it cannot be fitted").to_string()
    };
    assert!(message(&options(pls(121))).contains("121 components of 120"));
    assert!(message(&options(Regression::Ridge { alpha: 0.0 })).contains("alpha"));
    let mut overlapping = options(pls(3));
    let shared = overlapping.splits[0].train[0];
    overlapping.splits[0].test.push(shared);
    assert!(message(&overlapping).contains("both parts"));
    assert!(study.activity.features(7, vec![0], When::Mean(vec![0])).is_err());
    assert!(study.activity.features(0, vec![0], When::Mean(vec![TIMES])).is_err());
    assert!(study.activity.features(0, vec![IMAGES], When::Mean(vec![0])).is_err());
}
