//! Regressions, scores and splits against scikit-learn and SciPy.

use crate::support::{Fixture, assert_close};
use cords::neural::{
    Features, Gram, NeuralError, PlsRule, Principal, RidgePath, SplitOptions, pearson, pls, ridge, shuffle_splits,
    spearman_brown, stratified_splits,
};
use faer::Mat;

/// Features of stimuli that are held in memory.
struct Memory {
    stimuli: usize,
    values: Vec<f64>,
}

impl Features for Memory {
    fn stimuli(&self) -> usize {
        self.stimuli
    }

    fn len(&self) -> usize {
        self.values.len() / self.stimuli
    }

    fn read(&self, stimulus: usize, range: std::ops::Range<usize>, out: &mut [f64]) -> Result<(), NeuralError> {
        out.copy_from_slice(&self.values[stimulus * self.len()..][range]);
        Ok(())
    }
}

/// The reference data: features, a split and centred training responses.
struct Reference {
    fixture: Fixture,
    features: Memory,
    train: Vec<usize>,
    test: Vec<usize>,
    /// `[stimulus, neuron]`, mean over repetitions.
    responses: Mat<f64>,
    neurons: usize,
}

fn reference() -> Reference {
    let fixture = Fixture::open("predictivity.safetensors");
    let features = fixture.tensor("features");
    let repetitions = fixture.tensor("repetitions");
    let [count, stimuli, neurons] = repetitions.shape[..] else {
        panic!("three axes")
    };
    let responses = Mat::from_fn(stimuli, neurons, |s, n| {
        (0..count)
            .map(|r| repetitions.data[(r * stimuli + s) * neurons + n])
            .sum::<f64>()
            / count as f64
    });
    Reference {
        train: fixture.integers("train"),
        test: fixture.integers("test"),
        features: Memory {
            stimuli: features.shape[0],
            values: features.data,
        },
        responses,
        neurons,
        fixture,
    }
}

/// Dual coefficients from centred K and Y, then predictions `[test, neuron]` in row order.
fn predict(
    reference: &Reference,
    gram: &Gram,
    fit: impl Fn(&Mat<f64>, &Mat<f64>) -> Mat<f64>,
    scale: bool,
) -> Vec<f64> {
    let Reference {
        train,
        test,
        responses,
        neurons,
        ..
    } = reference;
    let centred = gram.centred(train, test);
    let n = train.len() as f64;
    let mean: Vec<f64> = (0..*neurons)
        .map(|j| train.iter().map(|i| responses[(*i, j)]).sum::<f64>() / n)
        .collect();
    let std = |j: usize| {
        let squares = train
            .iter()
            .map(|i| (responses[(*i, j)] - mean[j]).powi(2))
            .sum::<f64>();
        if scale { (squares / (n - 1.0)).sqrt() } else { 1.0 }
    };
    let y = Mat::from_fn(train.len(), *neurons, |i, j| {
        (responses[(train[i], j)] - mean[j]) / std(j)
    });
    let coefficients = fit(&centred.train, &y);
    let predicted = &centred.test * coefficients;
    (0..test.len())
        .flat_map(|i| (0..*neurons).map(move |j| (i, j)))
        .map(|(i, j)| predicted[(i, j)] * std(j) + mean[j])
        .collect()
}

#[test]
fn pls_is_scikit_learns() {
    let reference = reference();
    let plain = Gram::new(&reference.features).expect("features");
    let scaled = Gram::scaled(&reference.features, &reference.train).expect("features");
    for components in [3, 10, 25] {
        for (gram, suffix, scale) in [(&plain, "", false), (&scaled, "_scaled", true)] {
            let fit = |k: &Mat<f64>, y: &Mat<f64>| {
                pls(k.as_ref(), y.as_ref(), components, PlsRule::Sklearn)
                    .expect("a fit")
                    .coefficients
            };
            let found = predict(&reference, gram, fit, scale);
            let name = format!("pls{components}{suffix}.prediction");
            assert_close(&name, &found, &reference.fixture.tensor(&name).data, 1e-10);
        }
    }
}

#[test]
fn pearson_and_reliability_are_scipys() {
    let reference = reference();
    let predicted = reference.fixture.tensor("pls10.prediction").data;
    let r: Vec<f64> = (0..reference.neurons)
        .map(|j| {
            let found: Vec<f64> = predicted.iter().skip(j).step_by(reference.neurons).copied().collect();
            let expected: Vec<f64> = reference.test.iter().map(|i| reference.responses[(*i, j)]).collect();
            pearson(&found, &expected).expect("it varies")
        })
        .collect();
    assert_close("Pearson", &r, &reference.fixture.tensor("pls10.pearson").data, 1e-12);

    let repetitions = reference.fixture.tensor("repetitions");
    let (count, stimuli) = (repetitions.shape[0], repetitions.shape[1]);
    let half = |parity: usize, j: usize| -> Vec<f64> {
        let own: Vec<usize> = (0..count).filter(|r| r % 2 == parity).collect();
        let at = |r: usize, s: usize| repetitions.data[(r * stimuli + s) * reference.neurons + j];
        (0..stimuli)
            .map(|s| own.iter().map(|r| at(*r, s)).sum::<f64>() / own.len() as f64)
            .collect()
    };
    let halves: Vec<f64> = (0..reference.neurons)
        .map(|j| pearson(&half(0, j), &half(1, j)).expect("it varies"))
        .collect();
    let expected = |name: &str| reference.fixture.tensor(name).data;
    assert_close("halves", &halves, &expected("reliability.split_half"), 1e-12);
    let corrected: Vec<f64> = halves.iter().map(|r| spearman_brown(*r)).collect();
    assert_close("corrected", &corrected, &expected("reliability.spearman_brown"), 1e-12);
}

#[test]
fn ridge_is_scikit_learns() {
    let reference = reference();
    let gram = Gram::new(&reference.features).expect("features");
    for (alpha, name) in [(0.1, "ridge0.1.prediction"), (10.0, "ridge10.0.prediction")] {
        let expected = reference.fixture.tensor(name).data;
        let direct = |k: &Mat<f64>, y: &Mat<f64>| ridge(k.as_ref(), y.as_ref(), alpha).expect("a fit");
        assert_close(name, &predict(&reference, &gram, direct, false), &expected, 1e-10);
        let path = |k: &Mat<f64>, y: &Mat<f64>| {
            let path = RidgePath::new(k.as_ref()).expect("a decomposition");
            path.best(y.as_ref(), &[alpha]).expect("one penalty").1
        };
        assert_close(name, &predict(&reference, &gram, path, false), &expected, 1e-10);
    }
}

/// The penalty that leaves the smallest error where each stimulus is predicted from a fit to all others.
#[test]
fn the_chosen_penalty_predicts_left_out_stimuli_best() {
    let reference = reference();
    let gram = Gram::new(&reference.features).expect("features");
    let train = &reference.train[..40];
    let alphas = [0.01, 1.0, 100.0, 1e4, 1e6];
    let fit_without = |alpha: f64, out: usize| -> f64 {
        let others: Vec<usize> = train.iter().copied().filter(|i| *i != out).collect();
        let centred = gram.centred(&others, &[out]);
        let n = others.len() as f64;
        let mean = |j: usize| others.iter().map(|i| reference.responses[(*i, j)]).sum::<f64>() / n;
        let y = Mat::from_fn(others.len(), reference.neurons, |i, j| {
            reference.responses[(others[i], j)] - mean(j)
        });
        let predicted = &centred.test * ridge(centred.train.as_ref(), y.as_ref(), alpha).expect("a fit");
        (0..reference.neurons)
            .map(|j| (predicted[(0, j)] + mean(j) - reference.responses[(out, j)]).powi(2))
            .sum()
    };
    let errors = alphas.map(|alpha| train.iter().map(|out| fit_without(alpha, *out)).sum::<f64>());
    let best = (0..alphas.len())
        .min_by(|a, b| errors[*a].total_cmp(&errors[*b]))
        .expect("five");
    assert!(
        best > 0 && best < alphas.len() - 1,
        "the choice is not trivial: {errors:?}"
    );
    let centred = gram.centred(train, &[]);
    let n = train.len() as f64;
    let mean = |j: usize| train.iter().map(|i| reference.responses[(*i, j)]).sum::<f64>() / n;
    let y = Mat::from_fn(train.len(), reference.neurons, |i, j| {
        reference.responses[(train[i], j)] - mean(j)
    });
    let path = RidgePath::new(centred.train.as_ref()).expect("a decomposition");
    let (alpha, _) = path.best(y.as_ref(), &alphas).expect("five penalties");
    assert_eq!(alpha, alphas[best], "{errors:?}");
}

/// With as many components as dimensions, PLS of either rule is least squares.
#[test]
fn all_components_are_least_squares() {
    let reference = reference();
    let few = 6;
    let features = Memory {
        stimuli: reference.features.stimuli,
        values: reference
            .features
            .values
            .chunks_exact(reference.features.len())
            .flat_map(|row| row[..few].to_vec())
            .collect(),
    };
    let gram = Gram::new(&features).expect("features");
    // Through the normal equations of the six features.
    let mean: Vec<f64> = (0..few)
        .map(|f| {
            reference
                .train
                .iter()
                .map(|i| features.values[i * few + f])
                .sum::<f64>()
                / reference.train.len() as f64
        })
        .collect();
    let centred = |rows: &[usize]| Mat::from_fn(rows.len(), few, |i, f| features.values[rows[i] * few + f] - mean[f]);
    let (x, x_test) = (centred(&reference.train), centred(&reference.test));
    let targets = Mat::from_fn(reference.train.len(), reference.neurons, |i, j| {
        reference.responses[(reference.train[i], j)]
    });
    let (squares, right) = (x.transpose() * &x, x.transpose() * &targets);
    let weights = faer::linalg::solvers::Solve::solve(&squares.partial_piv_lu(), &right);
    let predicted = x_test * weights;
    let least_squares: Vec<f64> = (0..reference.test.len())
        .flat_map(|i| (0..reference.neurons).map(move |j| (i, j)))
        .map(|(i, j)| {
            let mean = (0..targets.nrows()).map(|i| targets[(i, j)]).sum::<f64>() / targets.nrows() as f64;
            predicted[(i, j)] + mean
        })
        .collect();
    for rule in [PlsRule::Sklearn, PlsRule::Converged] {
        let fit = |k: &Mat<f64>, y: &Mat<f64>| pls(k.as_ref(), y.as_ref(), few, rule).expect("a fit").coefficients;
        assert_close(
            "least squares",
            &predict(&reference, &gram, fit, false),
            &least_squares,
            1e-10,
        );
        let principal = |k: &Mat<f64>, y: &Mat<f64>| {
            let principal = Principal::new(k.as_ref(), few).expect("a decomposition");
            principal.lift(fit(&principal.kernel(), y).as_ref())
        };
        assert_close(
            "all principal components",
            &predict(&reference, &gram, principal, false),
            &least_squares,
            1e-10,
        );
    }
}

#[test]
fn splits_are_scikit_learns_index_for_index() {
    let path = Fixture::path("splits.json");
    let cases: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("the reference splits")).expect("JSON");
    for case in cases.as_array().expect("a list") {
        let labels: Vec<String> = serde_json::from_value(case["labels"].clone()).expect("labels");
        let options = SplitOptions {
            splits: case["splits"].as_u64().expect("a number") as usize,
            train: case["train"].as_f64().expect("a number"),
            seed: case["seed"].as_u64().expect("a number") as u32,
        };
        let found = match case["stratified"].as_bool() {
            Some(true) => stratified_splits(&labels, &options),
            _ => shuffle_splits(labels.len(), &options),
        };
        let found: Vec<serde_json::Value> = found
            .expect("splits")
            .iter()
            .map(|split| serde_json::json!({ "train": split.train, "test": split.test }))
            .collect();
        assert_eq!(serde_json::Value::Array(found), case["expected"], "{}", case["name"]);
    }
}

#[test]
fn splits_that_cannot_be_made_are_named() {
    let options = SplitOptions {
        splits: 10,
        train: 0.9,
        seed: 1,
    };
    let classes: Vec<String> = ["a", "a", "b"].map(str::to_owned).to_vec();
    let message = stratified_splits(&classes, &options)
        .expect_err("one of class b")
        .to_string();
    assert!(message.contains("class `b`"), "{message}");
    assert!(shuffle_splits(1, &options).is_err());
    assert!(shuffle_splits(10, &SplitOptions { train: 1.0, ..options }).is_err());
    assert!(shuffle_splits(10, &SplitOptions { splits: 0, ..options }).is_err());
}

/// Blocks, tiles and threads: sizes beyond one of each.
#[test]
fn a_gram_matrix_is_the_product_whatever_the_threads() {
    let (n, p) = (300, 16_000);
    let value = |i: usize, f: usize| ((i * 7919 + f * 104_729) % 1009) as f64 / 1009.0 + 3.0;
    let features = Memory {
        stimuli: n,
        values: (0..n * p).map(|k| value(k / p, k % p)).collect(),
    };
    let gram = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool");
        pool.install(|| {
            let gram = Gram::new(&features).expect("features");
            let train: Vec<usize> = (0..n).step_by(2).collect();
            gram.centred(&train, &[1, 299])
        })
    };
    let (one, three) = (gram(1), gram(3));
    assert_eq!(one.train, three.train);
    assert_eq!(one.test, three.test);
    let train: Vec<usize> = (0..n).step_by(2).collect();
    let mean: Vec<f64> = (0..p)
        .map(|f| train.iter().map(|i| value(*i, f)).sum::<f64>() / train.len() as f64)
        .collect();
    let product = |a: usize, b: usize| {
        (0..p)
            .map(|f| (value(a, f) - mean[f]) * (value(b, f) - mean[f]))
            .sum::<f64>()
    };
    for (i, j) in [(0, 0), (3, 149), (140, 2), (149, 149)] {
        // 16,000 products of up to 0.25 in float64.
        assert!((one.train[(i, j)] - product(train[i], train[j])).abs() < 1e-9);
    }
    for (row, stimulus) in [(0, 1), (1, 299)] {
        assert!((one.test[(row, 70)] - product(stimulus, train[70])).abs() < 1e-9);
    }
}
