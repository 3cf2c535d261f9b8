//! Corruption errors (Hendrycks and Dietterich 2019): how much more a network errs on corrupted images, alone and
//! relative to a baseline, with intervals from resampled images.
//!
//! Of a corruption c, with E the share of wrong answers and sums over severities s:
//!
//! - corruption error: sum E(s, c) / sum E_baseline(s, c)
//! - relative corruption error: sum (E(s, c) - E(clean)) / sum (E_baseline(s, c) - E_baseline(clean))
//!
//! The mean corruption error (mCE) and the relative one are their means over the fifteen corruptions. Where a set has
//! no published baseline, as CIFAR-10-C, what is called mCE is the mean of E itself.
//!
//! Every corruption and severity shows the same images, so that answers are dependent: an image that is hard under one
//! is hard under others. Intervals therefore come from resampling images with all their versions at once, those of the
//! clean image and of the baseline's answers among them where the baseline is a network. They are over images; another
//! training of the network is other seeds.

use rayon::prelude::*;

use super::robustness::Estimate;
use crate::data::{Corruption, CorruptionCategory};
use crate::rng::{Purpose, Stream};

/// Answers to some images and to corrupted versions of them: whether each was right, none where it diverged.
#[derive(Clone, Debug)]
pub struct CorruptionAnswers<'a> {
    /// The images as they are.
    pub clean: &'a [Option<bool>],
    /// Each version that was shown, of the same images in the same order.
    pub versions: Vec<&'a [Option<bool>]>,
}

/// What corruption errors are relative to.
#[derive(Clone, Debug)]
pub enum Baseline<'a> {
    /// Nothing: there are errors, and no corruption errors.
    None,
    /// Published errors of AlexNet on all images of ImageNet-C ([`alexnet`]).
    AlexNet,
    /// Another network's answers to the same images.
    Answers(CorruptionAnswers<'a>),
}

/// How much a network errs under some corruptions, each mean or sum over the same severities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CorruptionError {
    /// Share of wrong answers, mean over severities; of several corruptions, mean over them.
    pub mean_error: Estimate,
    /// The same, less the share of wrong answers to clean images.
    pub increase: Estimate,
    /// Relative to the baseline; of several corruptions, mean over them.
    pub corruption_error: Estimate,
    /// Increase relative to the baseline's; of several corruptions, mean over them. None where the baseline does not
    /// err more on corrupted images.
    pub relative_corruption_error: Estimate,
}

/// Errors of a network under corruptions.
#[derive(Clone, Debug, PartialEq)]
pub struct CorruptionErrors {
    /// Share of wrong answers to the clean images.
    pub clean_error: Estimate,
    /// Every corruption that was shown.
    pub corruptions: Vec<(Corruption, CorruptionError)>,
    /// Every category of which a corruption was shown, with the number of these.
    pub categories: Vec<(CorruptionCategory, usize, CorruptionError)>,
    /// Over the fifteen corruptions: mean error, mCE and relative mCE. None unless all five severities of all of them
    /// were shown.
    pub mean: Option<CorruptionError>,
    /// What is missing of the fifteen at five severities.
    pub missing: Vec<(Corruption, u8)>,
    /// Images that diverged, clean or in any version. They have no answer there.
    pub diverged: usize,
}

/// AlexNet's published top-1 errors on the 50,000 images of ImageNet-C, severities 1 to 5, from the sheet with which
/// the authors compute mean corruption errors (github.com/hendrycks/robustness, "Calculating the mCE"). None of the
/// four extra corruptions, which enter no mean.
pub fn alexnet(corruption: Corruption) -> Option<[f64; 5]> {
    Some(match corruption {
        Corruption::GaussianNoise => [0.69528, 0.82542, 0.93554, 0.98138, 0.99452],
        Corruption::ShotNoise => [0.71224, 0.85108, 0.93574, 0.98182, 0.99146],
        Corruption::ImpulseNoise => [0.78374, 0.89808, 0.94870, 0.98720, 0.99548],
        Corruption::DefocusBlur => [0.65624, 0.73202, 0.85036, 0.91364, 0.94714],
        Corruption::GlassBlur => [0.64308, 0.75054, 0.88806, 0.91622, 0.93344],
        Corruption::MotionBlur => [0.58430, 0.70048, 0.82108, 0.89750, 0.92638],
        Corruption::ZoomBlur => [0.70008, 0.76992, 0.80784, 0.84198, 0.87198],
        Corruption::Snow => [0.71726, 0.88392, 0.86468, 0.91870, 0.94952],
        Corruption::Frost => [0.61390, 0.79734, 0.88790, 0.89942, 0.93430],
        Corruption::Fog => [0.67474, 0.76050, 0.84378, 0.87260, 0.94500],
        Corruption::Brightness => [0.45140, 0.48502, 0.54048, 0.62166, 0.72440],
        Corruption::Contrast => [0.64548, 0.76150, 0.88874, 0.97760, 0.99270],
        Corruption::ElasticTransform => [0.52596, 0.70116, 0.55686, 0.64076, 0.80554],
        Corruption::Pixelate => [0.52218, 0.54620, 0.73728, 0.87092, 0.91262],
        Corruption::JpegCompression => [0.51002, 0.54718, 0.57294, 0.65458, 0.74778],
        Corruption::SpeckleNoise | Corruption::GaussianBlur | Corruption::Spatter | Corruption::Saturate => {
            return None;
        }
    })
}

/// AlexNet's published top-1 error on ImageNet's validation images (the paper's table 1).
pub const ALEXNET_CLEAN_ERROR: f64 = 0.435;

/// Resamples of the images.
const RESAMPLES: u64 = 1000;

/// Answers as numbers that can be added up fast: they are counted once for every resample.
struct Counted {
    clean: Answers,
    versions: Vec<Answers>,
}

/// Of every image 1 or 0.
struct Answers {
    wrong: Vec<u8>,
    /// None where all are.
    answered: Option<Vec<u8>>,
}

impl Answers {
    fn of(right: &[Option<bool>]) -> Self {
        let is = |wanted: fn(&Option<bool>) -> bool| right.iter().map(|right| u8::from(wanted(right))).collect();
        Self {
            wrong: is(|right| *right == Some(false)),
            answered: right.contains(&None).then(|| is(Option::is_some)),
        }
    }

    /// Share of wrong answers, each counted so many times; NaN where there are none.
    fn error(&self, times: &[u32]) -> f64 {
        // No more than there are images, whose indices fit.
        let count = |which: &[u8]| -> u32 {
            which
                .iter()
                .zip(times)
                .map(|(which, times)| u32::from(*which) * times)
                .sum()
        };
        let answered = self.answered.as_ref();
        let all = answered.map_or_else(|| times.iter().sum(), |answered| count(answered));
        f64::from(count(&self.wrong)) / f64::from(all)
    }
}

impl Counted {
    fn of(answers: &CorruptionAnswers<'_>) -> Self {
        Self {
            clean: Answers::of(answers.clean),
            versions: answers.versions.iter().map(|right| Answers::of(right)).collect(),
        }
    }

    fn errors(&self, times: &[u32]) -> Errors {
        Errors {
            clean: self.clean.error(times),
            versions: self.versions.iter().map(|answers| answers.error(times)).collect(),
        }
    }
}

/// Shares of wrong answers; NaN where there are none.
struct Errors {
    clean: f64,
    versions: Vec<f64>,
}

/// The four numbers of a [`CorruptionError`], NaN where there is none.
type Numbers = [f64; 4];

/// All numbers of a [`CorruptionErrors`], in its order.
struct Measured {
    clean: f64,
    corruptions: Vec<Numbers>,
    categories: Vec<Numbers>,
    mean: Numbers,
}

/// Which corruption is shown in which versions.
struct Design {
    /// Every corruption with the severities and places of its versions.
    corruptions: Vec<(Corruption, Vec<(u8, usize)>)>,
    /// Every category with the places of its corruptions.
    categories: Vec<(CorruptionCategory, Vec<usize>)>,
    /// Places of those of the fifteen.
    fifteen: Vec<usize>,
}

impl Design {
    fn of(versions: &[(Corruption, u8)]) -> Self {
        let mut corruptions: Vec<(Corruption, Vec<(u8, usize)>)> = Vec::new();
        for (place, (corruption, severity)) in versions.iter().enumerate() {
            match corruptions.iter_mut().find(|(known, _)| known == corruption) {
                Some((_, found)) => found.push((*severity, place)),
                None => corruptions.push((*corruption, vec![(*severity, place)])),
            }
        }
        let places = |category: CorruptionCategory| -> Vec<usize> {
            let all = corruptions.iter().enumerate();
            all.filter(|(_, (corruption, _))| corruption.category() == category)
                .map(|(place, _)| place)
                .collect()
        };
        let categories = CorruptionCategory::FOUR.map(|category| (category, places(category)));
        let categories: Vec<_> = categories.into_iter().filter(|(_, of)| !of.is_empty()).collect();
        Self {
            fifteen: categories.iter().flat_map(|(_, places)| places.clone()).collect(),
            corruptions,
            categories,
        }
    }

    fn measure(
        &self,
        own: &Errors,
        baseline: Option<&dyn Fn(Corruption, u8, usize) -> f64>,
        base_clean: f64,
    ) -> Measured {
        let of = |(corruption, versions): &(Corruption, Vec<(u8, usize)>)| -> Numbers {
            let n = versions.len() as f64;
            let sum = versions.iter().map(|(_, place)| own.versions[*place]).sum::<f64>();
            let base = baseline.map_or(f64::NAN, |baseline| {
                versions
                    .iter()
                    .map(|(severity, place)| baseline(*corruption, *severity, *place))
                    .sum()
            });
            let (increase, base_increase) = (sum - n * own.clean, base - n * base_clean);
            // Of a baseline that never errs, or errs no more on corrupted images, no multiple says anything.
            let over = |value: f64, base: f64| if base > 0.0 { value / base } else { f64::NAN };
            [sum / n, increase / n, over(sum, base), over(increase, base_increase)]
        };
        let corruptions: Vec<Numbers> = self.corruptions.iter().map(of).collect();
        let mean = |places: &[usize]| -> Numbers {
            let sum = |which: usize| places.iter().map(|place| corruptions[*place][which]).sum::<f64>();
            [0, 1, 2, 3].map(|which| sum(which) / places.len() as f64)
        };
        Measured {
            clean: own.clean,
            categories: self.categories.iter().map(|(_, places)| mean(places)).collect(),
            mean: mean(&self.fifteen),
            corruptions,
        }
    }
}

impl Measured {
    fn numbers(&self) -> Vec<f64> {
        let parts = self.corruptions.iter().chain(&self.categories).chain([&self.mean]);
        [self.clean].into_iter().chain(parts.flatten().copied()).collect()
    }
}

/// Errors under corruptions from answers to versions of the same images; `versions` says which corruption and severity
/// each is. Intervals hold 95 % of 1000 resamples of the images, which are the same for every network of as many images
/// and one seed.
///
/// None without images, or where numbers of versions or images do not agree.
pub fn corruption_errors(
    versions: &[(Corruption, u8)],
    own: &CorruptionAnswers<'_>,
    baseline: &Baseline<'_>,
    seed: u64,
) -> Option<CorruptionErrors> {
    let images = own.clean.len();
    let agrees = |answers: &CorruptionAnswers<'_>| {
        let all = answers.versions.iter().chain([&answers.clean]);
        answers.versions.len() == versions.len() && all.into_iter().all(|right| right.len() == images)
    };
    let base_agrees = match baseline {
        Baseline::Answers(answers) => agrees(answers),
        Baseline::None | Baseline::AlexNet => true,
    };
    let known = |(_, severity): &(Corruption, u8)| Corruption::SEVERITIES.contains(severity);
    if images == 0 || !agrees(own) || !base_agrees || !versions.iter().all(known) {
        return None;
    }
    let design = Design::of(versions);
    let counted = Counted::of(own);
    let base = match baseline {
        Baseline::Answers(answers) => Some(Counted::of(answers)),
        Baseline::None | Baseline::AlexNet => None,
    };
    let measure = |times: &[u32]| -> Measured {
        let own = counted.errors(times);
        match (baseline, &base) {
            (_, Some(base)) => {
                let base = base.errors(times);
                let error = |_: Corruption, _: u8, place: usize| base.versions[place];
                design.measure(&own, Some(&error), base.clean)
            }
            (Baseline::AlexNet, None) => {
                let error = |corruption: Corruption, severity: u8, _: usize| {
                    alexnet(corruption).map_or(f64::NAN, |errors| errors[usize::from(severity) - 1])
                };
                design.measure(&own, Some(&error), ALEXNET_CLEAN_ERROR)
            }
            _ => design.measure(&own, None, f64::NAN),
        }
    };
    let here = measure(&vec![1; images]);
    let resampled: Vec<Vec<f64>> = (0..RESAMPLES)
        .into_par_iter()
        .map(|resample| {
            let mut stream = Stream::new(seed, Purpose::Bootstrap, resample, 0, 0, 0);
            let mut times = vec![0u32; images];
            for _ in 0..images {
                times[stream.below(images as u64) as usize] += 1;
            }
            measure(&times).numbers()
        })
        .collect();
    let estimates = here.numbers().into_iter().enumerate().map(|(place, value)| {
        let mut drawn: Vec<f64> = resampled.iter().map(|numbers| numbers[place]).collect();
        drawn.sort_by(f64::total_cmp);
        let end = |share: f64| drawn[(share * (drawn.len() - 1) as f64).round() as usize];
        // Where a resample has no such number, the others say too little of how it varies.
        let is_known = drawn.iter().all(|value| value.is_finite());
        Estimate {
            value: Some(value).filter(|value| value.is_finite()),
            interval: [0.025, 0.975].map(|share| is_known.then(|| end(share))),
        }
    });
    let estimates: Vec<Estimate> = estimates.collect();
    let (clean_error, rest) = (estimates[0], &estimates[1..]);
    let mut errors = rest.chunks_exact(4).map(|numbers| CorruptionError {
        mean_error: numbers[0],
        increase: numbers[1],
        corruption_error: numbers[2],
        relative_corruption_error: numbers[3],
    });
    let corruptions = design.corruptions.iter().map(|(corruption, _)| *corruption);
    let corruptions: Vec<_> = corruptions.zip(errors.by_ref()).collect();
    let categories = design.categories.iter().zip(errors.by_ref());
    let categories = categories.map(|((category, places), errors)| (*category, places.len(), errors));
    let categories: Vec<_> = categories.collect();
    let all = Corruption::FIFTEEN
        .iter()
        .flat_map(|c| Corruption::SEVERITIES.map(|severity| (*c, severity)));
    let missing: Vec<_> = all.filter(|version| !versions.contains(version)).collect();
    let has_diverged = |image: &usize| {
        let all = own.versions.iter().chain([&own.clean]);
        all.into_iter().any(|right| right[*image].is_none())
    };
    Some(CorruptionErrors {
        clean_error,
        corruptions,
        categories,
        mean: errors.next().filter(|_| missing.is_empty()),
        missing,
        diverged: (0..images).filter(has_diverged).count(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(text: &str) -> Vec<Option<bool>> {
        let answer = |c| match c {
            '1' => Some(true),
            '0' => Some(false),
            _ => None,
        };
        text.chars().map(answer).collect()
    }

    /// Answers to ten images, of which so many are wrong: the first ones.
    fn wrong(count: usize) -> Vec<Option<bool>> {
        (0..10).map(|image| Some(image >= count)).collect()
    }

    fn value(estimate: Estimate) -> f64 {
        estimate.value.expect("a number")
    }

    fn all() -> Vec<(Corruption, u8)> {
        let severities = |corruption: Corruption| Corruption::SEVERITIES.map(|severity| (corruption, severity));
        Corruption::FIFTEEN.into_iter().flat_map(severities).collect()
    }

    #[test]
    fn corruption_errors_by_hand() {
        // Two corruptions at two severities of ten images: 2 wrong clean; 4 and 6; 3 and 9. The baseline: 1; 5 and 5; 4
        // and 8.
        let versions = [
            (Corruption::GaussianNoise, 1),
            (Corruption::GaussianNoise, 3),
            (Corruption::Fog, 1),
            (Corruption::Fog, 3),
        ];
        let (clean, shown) = (wrong(2), [4, 6, 3, 9].map(wrong));
        let (base_clean, base_shown) = (wrong(1), [5, 5, 4, 8].map(wrong));
        let own = CorruptionAnswers {
            clean: &clean,
            versions: shown.iter().map(Vec::as_slice).collect(),
        };
        let base = CorruptionAnswers {
            clean: &base_clean,
            versions: base_shown.iter().map(Vec::as_slice).collect(),
        };
        let found = corruption_errors(&versions, &own, &Baseline::Answers(base), 0).expect("answers");
        assert_eq!(value(found.clean_error), 0.2);
        let numbers = |error: &CorruptionError| {
            [
                error.mean_error,
                error.increase,
                error.corruption_error,
                error.relative_corruption_error,
            ]
            .map(value)
        };
        let close = |found: [f64; 4], expected: [f64; 4]| {
            let differ = found.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-12);
            assert!(!differ, "{found:?} against {expected:?}");
        };
        // (0.4 + 0.6)/2; less 0.2; 1.0/1.0; (0.2 + 0.4)/(0.4 + 0.4).
        close(numbers(&found.corruptions[0].1), [0.5, 0.3, 1.0, 0.75]);
        // (0.3 + 0.9)/2; less 0.2; 1.2/1.2; (0.1 + 0.7)/(0.3 + 0.7).
        close(numbers(&found.corruptions[1].1), [0.6, 0.4, 1.0, 0.8]);
        let categories: Vec<_> = found
            .categories
            .iter()
            .map(|(category, n, _)| (*category, *n))
            .collect();
        assert_eq!(
            categories,
            [(CorruptionCategory::Noise, 1), (CorruptionCategory::Weather, 1)]
        );
        close(numbers(&found.categories[1].2), [0.6, 0.4, 1.0, 0.8]);
        // 13 corruptions, and three severities of two.
        assert_eq!((found.mean, found.missing.len()), (None, 13 * 5 + 2 * 3));
        assert_eq!(found.missing[0], (Corruption::GaussianNoise, 2));
        let without = corruption_errors(&versions, &own, &Baseline::None, 0).expect("answers");
        let (_, error) = &without.corruptions[0];
        assert_eq!((value(error.mean_error), error.corruption_error.value), (0.5, None));
        assert_eq!(error.corruption_error.interval, [None; 2]);
    }

    #[test]
    fn a_network_as_its_own_baseline_has_errors_of_one() {
        let versions = all();
        let clean = wrong(2);
        let shown: Vec<_> = versions
            .iter()
            .map(|(_, severity)| wrong(2 + usize::from(*severity)))
            .collect();
        let own = CorruptionAnswers {
            clean: &clean,
            versions: shown.iter().map(Vec::as_slice).collect(),
        };
        let found = corruption_errors(&versions, &own, &Baseline::Answers(own.clone()), 0).expect("answers");
        let mean = found.mean.expect("all are there");
        assert!((value(mean.mean_error) - 0.5).abs() < 1e-12 && (value(mean.increase) - 0.3).abs() < 1e-12);
        assert!((value(mean.corruption_error) - 1.0).abs() < 1e-12);
        assert!((value(mean.relative_corruption_error) - 1.0).abs() < 1e-12);
        // The baseline's errors are resampled with the network's own, so that the ratio does not vary.
        let [low, high] = mean.corruption_error.interval.map(|end| end.expect("an end"));
        assert!((low - 1.0).abs() < 1e-12 && (high - 1.0).abs() < 1e-12, "{low} {high}");
        let [low, high] = mean.mean_error.interval.map(|end| end.expect("an end"));
        assert!(low < 0.5 && 0.5 < high, "{low} {high}");
    }

    /// Table 1 of the paper: of ResNet-50 an error of 23.9 %, corruption errors in %, and an mCE of 76.7.
    #[test]
    fn published_corruption_errors_follow_from_published_errors() {
        const RESNET: [f64; 15] = [
            80.0, 82.0, 83.0, 75.0, 89.0, 78.0, 80.0, 78.0, 75.0, 66.0, 57.0, 71.0, 85.0, 77.0, 77.0,
        ];
        // Means over severities, with which mean corruption errors are usually computed.
        const MEANS: [f64; 15] = [
            0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572, 0.819324,
            0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
        ];
        let versions = all();
        let design = Design::of(&versions);
        let base = |corruption: Corruption, severity: u8, _: usize| {
            alexnet(corruption).expect("one of the fifteen")[usize::from(severity) - 1]
        };
        for (corruption, mean) in Corruption::FIFTEEN.into_iter().zip(MEANS) {
            let sum: f64 = alexnet(corruption).expect("one of the fifteen").iter().sum();
            assert!((sum / 5.0 - mean).abs() < 1e-9, "{corruption:?}");
        }
        // Errors whose means over severities give the corruption errors.
        let error = |(corruption, _): &(Corruption, u8)| {
            let place = Corruption::FIFTEEN.iter().position(|c| c == corruption).expect("there");
            RESNET[place] / 100.0 * MEANS[place]
        };
        let errors = Errors {
            clean: 0.239,
            versions: versions.iter().map(error).collect(),
        };
        let found = design.measure(&errors, Some(&base), ALEXNET_CLEAN_ERROR);
        for (numbers, expected) in found.corruptions.iter().zip(RESNET) {
            assert!((numbers[2] - expected / 100.0).abs() < 1e-9);
        }
        // The corruption errors are rounded to whole percents: their mean is right to half of one.
        assert!((found.mean[2] - 0.767).abs() < 0.005, "{}", found.mean[2]);
        // AlexNet itself.
        let itself = Errors {
            clean: ALEXNET_CLEAN_ERROR,
            versions: versions.iter().map(|(c, severity)| base(*c, *severity, 0)).collect(),
        };
        let found = design.measure(&itself, Some(&base), ALEXNET_CLEAN_ERROR);
        assert!((found.mean[2] - 1.0).abs() < 1e-12 && (found.mean[3] - 1.0).abs() < 1e-12);
    }

    #[test]
    fn images_that_diverged_have_no_answer_and_all_of_them_no_error() {
        let versions = [(Corruption::Snow, 1), (Corruption::Snow, 2), (Corruption::Spatter, 1)];
        let (clean, one, two, lost) = (right("1110"), right("1-00"), right("10--"), right("----"));
        let own = CorruptionAnswers {
            clean: &clean,
            versions: vec![&one, &two, &lost],
        };
        let found = corruption_errors(&versions, &own, &Baseline::None, 0).expect("answers");
        // (2/3 + 1/2)/2.
        let snow = found.corruptions[0].1;
        assert!((value(snow.mean_error) - 7.0 / 12.0).abs() < 1e-12);
        // Some resamples hold only images that diverged under severity 2.
        assert_eq!(snow.mean_error.interval, [None; 2]);
        assert_eq!(found.corruptions[1].1.mean_error.value, None);
        // The extra corruption is in no category.
        assert_eq!((found.categories.len(), found.diverged), (1, 4));
        assert_eq!(
            corruption_errors(&versions[..2], &own, &Baseline::None, 0),
            None,
            "one version too many"
        );
    }

    /// As wide as the mean over dependent versions varies: an image that is wrong under one corruption is wrong under
    /// others.
    #[test]
    fn intervals_are_those_of_images_and_not_of_versions() {
        const IMAGES: usize = 400;
        let versions = all();
        let mut stream = Stream::new(1, Purpose::Probe, 0, 0, 0, 0);
        // The same answers in all 75 versions.
        let answers: Vec<Option<bool>> = (0..IMAGES).map(|_| Some(stream.uniform() < 0.5)).collect();
        let own = CorruptionAnswers {
            clean: &answers,
            versions: versions.iter().map(|_| answers.as_slice()).collect(),
        };
        let mean = corruption_errors(&versions, &own, &Baseline::None, 0)
            .expect("answers")
            .mean;
        let [low, high] = mean.expect("all").mean_error.interval.map(|end| end.expect("an end"));
        // 2 x 1.96 standard errors of a share of a half among 400; of 30,000 independent answers it would be 0.011.
        let expected = 2.0 * 1.96 * 0.5 / (IMAGES as f64).sqrt();
        assert!(((high - low) / expected - 1.0).abs() < 0.15, "{low} to {high}");
    }
}
