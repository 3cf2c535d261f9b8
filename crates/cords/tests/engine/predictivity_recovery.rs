//! Simulated neurons: the area, the latency and the ceiling that were put in come out again.

use std::path::Path;

use cords::neural::{
    ActivityFile, Correlations, FeatureMatrix, Features, FitOptions, Limits, PlsRule, PredictionQuality, Recordings,
    Regression, Reordered, SimulatedRegion, SimulationOptions, Split, SplitOptions, Truth, When, estimate_latency,
    fit_each, fit_once, fit_shared, half_rise, median, paired, shuffle_splits, simulate, summarise, test_variances,
    variance_explained,
};
use cords::rng::{Purpose, Stream};
use faer::Mat;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

const IMAGES: usize = 150;
const TIMES: usize = 7;
const UNITS: usize = 30;

/// Three areas of independent activity that changes over time with a correlation of 0.6 from one recorded time to the
/// next.
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

fn score(found: &PredictionQuality) -> f64 {
    summarise(found, Limits::default(), &(0..found.r[0].len()).collect::<Vec<_>>())
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
    let compared = paired(&own[2].r, &control[2].r, &(0..12).collect::<Vec<_>>()).expect("both");
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

/// Explained variance of predictions with a known error: those that are off the noiseless responses by a tenth of their
/// variance explain nine tenths of what can be explained, however noisy the responses are.
#[test]
fn the_explained_share_of_explainable_variance_is_recovered() {
    // Half of the variance of single presentations is noise, whose mean over 8 has an eighth of that.
    let (noise, repetitions) = (1.0, 8);
    let study = study(noise, repetitions);
    let silent = self::study(0.0, 1);
    let everything = FitOptions {
        splits: vec![Split {
            train: vec![0, 1],
            test: (0..IMAGES).collect(),
        }],
        ..options(pls(1))
    };
    for bin in 0..4 {
        let signal = silent.recordings.means(bin);
        let responses = study.recordings.means(bin);
        let variances = test_variances(&study.recordings, bin, &everything.splits).expect("repetitions");
        for truth in study.truth.iter().filter(|truth| truth.bin == bin) {
            let neuron = truth.neuron;
            let mut stream = Stream::new(9, Purpose::Probe, neuron as u64, bin as u32, 0, 0);
            let errors: Vec<f64> = (0..IMAGES)
                .map(|_| (0.1 * truth.signal).sqrt() * stream.normal())
                .collect();
            let explained = |prediction: &dyn Fn(usize) -> f64| {
                let squares = (0..IMAGES).map(|s| (prediction(s) - responses[(s, neuron)]).powi(2));
                let mut squared_error = vec![f64::NAN; study.recordings.neurons.len()];
                squared_error[neuron] = squares.sum::<f64>() / IMAGES as f64;
                let found = PredictionQuality {
                    r: Vec::new(),
                    squared_error: Some(vec![squared_error]),
                };
                variance_explained(&found, &variances, neuron).expect("repetitions")
            };
            let mean = (0..IMAGES).map(|s| responses[(s, neuron)]).sum::<f64>() / IMAGES as f64;
            let found = [
                explained(&|s| signal[(s, neuron)]),
                explained(&|s| signal[(s, neuron)] + errors[s]),
                explained(&|_| mean),
            ];
            // Over 150 images with 8 presentations each: errors of the estimated noise and of the product of error and
            // noise are of the order of sqrt(2 / 1050) and sqrt(0.1 x 4 / 8 / 150), and the drawn errors' variance is
            // off by 0.1 sqrt(2 / 150): five times their sum.
            for (found, expected) in found.iter().zip([1.0, 0.9, 0.0]) {
                let feve = found.feve.expect("it varies");
                let of_signal = noise * noise / truth.signal;
                let bound = 5.0 * (0.044 * of_signal / repetitions as f64 + 0.019 * of_signal.sqrt() + 0.012);
                assert!(
                    (feve - expected).abs() < bound,
                    "bin {bin}, neuron {neuron}: {feve} for {expected}"
                );
                let share = truth.signal / (truth.signal + noise * noise);
                assert!(
                    (found.explainable - share).abs() < 0.15,
                    "{} for {share}",
                    found.explainable
                );
            }
            // The mean is the best constant: it explains nothing but for the loss of a degree of freedom.
            assert!(found[2].feve.expect("it varies").abs() < 0.02, "{found:?}");
        }
    }
    // As the formula stands, presentation by presentation.
    let (bin, neuron) = (1, 3);
    let splits = &options(pls(1)).splits[..1];
    let variances = test_variances(&study.recordings, bin, splits).expect("repetitions");
    let test = &splits[0].test;
    let response = |s: usize, r: usize| study.recordings.response(s, r, neuron, bin);
    let singles = || test.iter().flat_map(|s| (0..repetitions).map(move |r| (*s, r)));
    let count = (test.len() * repetitions) as f64;
    let mean = singles().map(|(s, r)| response(s, r)).sum::<f64>() / count;
    let total = singles().map(|(s, r)| (response(s, r) - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let prediction = |s: usize| 0.01 * s as f64;
    let error = singles()
        .map(|(s, r)| (response(s, r) - prediction(s)).powi(2))
        .sum::<f64>()
        / count;
    let means = study.recordings.means(bin);
    let noises = singles().map(|(s, r)| (response(s, r) - means[(s, neuron)]).powi(2));
    let noise = noises.sum::<f64>() / (count - test.len() as f64);
    let squares = test.iter().map(|s| (prediction(*s) - means[(*s, neuron)]).powi(2));
    let found = PredictionQuality {
        r: Vec::new(),
        squared_error: Some(vec![vec![squares.sum::<f64>() / test.len() as f64; 12]]),
    };
    let found = variance_explained(&found, &variances, neuron).expect("repetitions");
    let expected = 1.0 - (error - noise) / (total - noise);
    assert!(
        (found.feve.expect("it varies") - expected).abs() < 1e-10,
        "{found:?} for {expected}"
    );
    assert_eq!(
        test_variances(&silent.recordings, bin, splits),
        None,
        "one presentation has no noise"
    );
}

/// Fits to noisy responses explain nearly all that can be explained in the right area, and nothing in another.
#[test]
fn fits_explain_what_can_be_explained() {
    let study = study(1.0, 8);
    let responses = [study.recordings.means(1)];
    let options = options(Regression::Ridge { alpha: 10.0 });
    let variances = test_variances(&study.recordings, 1, &options.splits).expect("repetitions");
    let limits = Limits {
        variances: Some(&variances),
        ..Limits::default()
    };
    let of = |area: usize| {
        let features = study
            .activity
            .features(area, study.rows.clone(), When::Mean(vec![1]))
            .expect("recorded");
        let found = fit_each(&features, &responses, &options).expect("fits").remove(0);
        summarise(&found, limits, &(0..12).collect::<Vec<_>>())
    };
    let (own, other) = (of(1), of(0));
    assert_eq!(own.feve_neurons, Some(12));
    // 120 images for 30 weights leave 30 / 90 of the noise's eighth as error.
    let feve = own.feve.expect("repetitions");
    assert!((0.85..1.0).contains(&feve), "{feve}");
    assert!(other.feve.expect("repetitions") < 0.05, "{other:?}");
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
        assert!(close(&each[0].r, &shared[0].r), "{:?}", options.regression);
        // Weights of a window applied to the same activity are the fit to it.
        let (one, three) = (features(1), features(3));
        let applied: [&dyn Features; 2] = [&one, &three];
        let once = fit_once(&one, &responses[1], &applied, &responses, &options).expect("fits");
        assert!(close(&each[0].r, &once[0][1].r), "{:?}", options.regression);
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
            .r
            .iter()
            .flatten()
            .zip(full[0].r.iter().flatten())
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
    for split in &found[0].r {
        assert!((split[1] - 1.0).abs() < 1e-12, "the unit itself");
        // The published rule takes the largest correlation, not the largest square: a negative copy is not found.
        assert!(split[0].abs() < 0.6, "{}", split[0]);
    }
    assert_eq!(found[0].squared_error, None, "a unit is not on the scale of responses");
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

/// Scores `[latency][neuron]` of simulated neurons that respond 20 ms after the activity, at latencies of 0 to 40 ms.
fn scores_by_latency(activity: &ActivityFile, noise: f64, seed: u64) -> Vec<Vec<f64>> {
    const USED: usize = 60;
    let simulation = SimulationOptions {
        regions: vec![SimulatedRegion {
            name: "IT".into(),
            area: 1,
            latency_ms: 20.0,
            neurons: 12,
        }],
        bins_ms: vec![[40.0, 50.0], [50.0, 60.0]],
        repetitions: 2,
        noise,
        seed,
    };
    let (recordings, _) = simulate(activity, &simulation).expect("recordings");
    let rows: Vec<usize> = recordings.stimuli[..USED]
        .iter()
        .map(|id| {
            activity
                .images()
                .iter()
                .position(|image| image.to_string() == *id)
                .expect("recorded")
        })
        .collect();
    let responses: Vec<Mat<f64>> = (0..2)
        .map(|bin| {
            let means = recordings.means(bin);
            Mat::from_fn(USED, 12, |s, n| means[(s, n)])
        })
        .collect();
    let splits = SplitOptions {
        splits: 3,
        train: 0.7,
        seed: 1,
    };
    let options = FitOptions {
        regression: Regression::Ridge { alpha: 30.0 },
        principal_components: None,
        splits: shuffle_splits(USED, &splits).expect("splits"),
    };
    (0..5)
        .map(|step| {
            let of_bins: Vec<PredictionQuality> = (0..2)
                .map(|bin| {
                    let features = activity
                        .features(1, rows.clone(), When::Mean(vec![4 + bin - step]))
                        .expect("recorded");
                    fit_each(&features, &responses[bin..=bin], &options)
                        .expect("fits")
                        .remove(0)
                })
                .collect();
            let of_neuron = |n: usize| {
                let all: Vec<f64> = of_bins
                    .iter()
                    .flat_map(|found| found.r.iter().map(|split| split[n]))
                    .collect();
                all.iter().sum::<f64>() / all.len() as f64
            };
            (0..12).map(of_neuron).collect()
        })
        .collect()
}

/// The interval of a latency holds the truth in at least 95 of 100 simulated experiments, whatever the noise, less what
/// chance takes off (3 standard deviations of 100 draws: 6); with little noise it says so, and with much noise others
/// are tied.
#[test]
fn the_interval_of_a_latency_covers_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("activity.safetensors");
    write_activity(&path);
    let activity = ActivityFile::open(&path).expect("activity");
    let latencies: Vec<f64> = (0..5).map(|step| 10.0 * f64::from(step)).collect();
    let of = |noise: f64| -> (usize, f64, f64) {
        let (mut covered, mut width, mut tied) = (0, 0.0, 0.0);
        for seed in 0..100 {
            let found = estimate_latency(&latencies, &scores_by_latency(&activity, noise, seed), 1).expect("scores");
            let [low, high] = found.latency.ends.expect("12 neurons");
            covered += usize::from(low <= 20.0 && 20.0 <= high);
            width += 0.01 * (high - low);
            tied += 0.01 * found.tied.iter().filter(|tied| **tied).count() as f64;
        }
        (covered, width, tied)
    };
    let all = [1.0, 4.0, 8.0].map(of);
    assert!(all.iter().all(|(covered, ..)| *covered >= 89), "{all:?}");
    let [quiet, _, loud] = all;
    assert!(quiet.1 < 5.0 && quiet.2 < 1.3, "{all:?}");
    assert!(loud.1 > 15.0 && loud.2 > 1.8, "{all:?}");
}

/// The time at which the reliability of responses reaches half of its largest value, beside that of a large population,
/// in at least 90 of 100 simulated experiments. Tables state no interval of it: percentiles over resampled neurons held
/// it in 87 of 100, not in 95.
#[test]
fn onsets_are_found_within_a_bin() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("activity.safetensors");
    // Activity that is the same for all images until 20 ms and rises until 50 ms.
    let times: Vec<f64> = (0..8).map(|t| 10.0 * f64::from(t)).collect();
    let rise = [0.0, 0.0, 0.0, 0.3, 0.7, 1.0, 1.0, 1.0];
    let (images, units) = (60, 20);
    let mut values = Vec::new();
    for image in 0..images {
        let mut own = vec![0.0f32; units];
        Stream::new(8, Purpose::Probe, image, 0, 0, 0).normal_fill(&mut own);
        values.extend(rise.iter().flat_map(|r| own.iter().map(move |v| v * r)));
    }
    let bytes = |values: &mut dyn Iterator<Item = [u8; 8]>| values.flatten().collect::<Vec<u8>>();
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let [times_raw, ids] = [
        bytes(&mut times.iter().map(|t| t.to_le_bytes())),
        bytes(&mut (0..images as i64).map(i64::to_le_bytes)),
    ];
    let view = |dtype, shape: &[usize], data| TensorView::new(dtype, shape.to_vec(), data).expect("a tensor");
    let images = images as usize;
    let tensors = vec![
        ("times".to_owned(), view(Dtype::F64, &[times.len()], &times_raw)),
        ("images".to_owned(), view(Dtype::I64, &[images], &ids)),
        ("labels".to_owned(), view(Dtype::I64, &[images], &ids)),
        (
            "area.0".to_owned(),
            view(Dtype::F32, &[images, times.len(), units], &data),
        ),
    ];
    safetensors::serialize_to_file(tensors, None, &path).expect("a file");
    let activity = ActivityFile::open(&path).expect("activity");
    let centres: Vec<f64> = (0..9).map(|b| 10.0 * f64::from(b) + 5.0).collect();
    let simulated = |neurons: usize, noise: f64, seed: u64| {
        let options = SimulationOptions {
            regions: vec![SimulatedRegion {
                name: "V4".into(),
                area: 0,
                latency_ms: 20.0,
                neurons,
            }],
            bins_ms: centres.iter().map(|c| [c - 5.0, c + 5.0]).collect(),
            repetitions: 6,
            noise,
            seed,
        };
        simulate(&activity, &options).expect("recordings")
    };
    for noise in [1.0, 3.0] {
        // Of a large population, by the truth.
        let (_, truth) = simulated(300, noise, 1000);
        let curve: Vec<Vec<f64>> = (0..9)
            .map(|b| truth.iter().filter(|t| t.bin == b).map(Truth::reliability).collect())
            .collect();
        let expected = half_rise(&centres, &curve, 0.1).expect("it rises");
        assert!((40.0..75.0).contains(&expected), "{expected}");
        let mut near = 0;
        for seed in 0..100 {
            let (recordings, _) = simulated(15, noise, seed);
            let halvings = SplitOptions {
                splits: 10,
                train: 0.5,
                seed: 1,
            };
            let values: Vec<Vec<f64>> = (0..9)
                .map(|bin| {
                    let found = recordings
                        .reliability(bin, &halvings)
                        .expect("halves")
                        .expect("repetitions");
                    found
                        .iter()
                        .map(|n| n.iter().flatten().sum::<f64>() / n.len() as f64)
                        .collect()
                })
                .collect();
            let found = half_rise(&centres, &values, 0.1).expect("it rises");
            near += usize::from((found - expected).abs() <= 10.0);
        }
        assert!(
            near >= 90,
            "noise {noise}: {near} of 100 are within a bin of {expected}"
        );
    }
}
