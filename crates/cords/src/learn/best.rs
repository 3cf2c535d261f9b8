//! Which epoch of a training is the best by validation, and when no better one is waited for.

use serde::{Deserialize, Serialize};

use super::{EpochRecord, Fit};

/// Which epoch's weights a training gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// those of the last epoch
    #[default]
    Last,
    /// those of the best epoch by `best_by`, of equals the first
    Best,
}

/// What makes an epoch better than another, on the validation images. An epoch without an answer to any of them is
/// worse than all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BestBy {
    /// a larger share of images that are classified rightly
    #[default]
    Accuracy,
    /// a smaller cross-entropy
    CrossEntropy,
}

impl BestBy {
    /// Larger is better.
    fn score(self, record: &EpochRecord) -> f64 {
        let score = match self {
            Self::Accuracy => record.validation_accuracy,
            Self::CrossEntropy => -record.validation_loss,
        };
        if score.is_nan() { f64::NEG_INFINITY } else { score }
    }
}

impl Fit {
    /// The place of the best of these epochs; of equals the first.
    fn best(&self, records: &[EpochRecord]) -> Option<usize> {
        let mut best: Option<(usize, f64)> = None;
        for (place, record) in records.iter().enumerate() {
            let score = self.best_by.score(record);
            if best.is_none_or(|(_, so_far)| score > so_far) {
                best = Some((place, score));
            }
        }
        best.map(|(place, _)| place)
    }

    /// The epoch, from 0, whose weights a training with these records gives; `None` before the first has ended.
    pub fn kept(&self, records: &[EpochRecord]) -> Option<usize> {
        match self.keep {
            Keep::Last => records.len().checked_sub(1),
            Keep::Best => self.best(records),
        }
    }

    /// Whether so many epochs in a row were no better than one before them that no further is trained.
    pub(crate) fn is_over(&self, records: &[EpochRecord]) -> bool {
        let since = self.best(records).map(|best| records.len() - 1 - best);
        self.early_stop
            .zip(since)
            .is_some_and(|(patience, since)| since >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(accuracies: &[f64]) -> Vec<EpochRecord> {
        let record = |(epoch, accuracy): (usize, &f64)| EpochRecord {
            epoch,
            validation_accuracy: *accuracy,
            validation_loss: 1.0 - accuracy / 2.0,
            ..EpochRecord::default()
        };
        accuracies.iter().enumerate().map(record).collect()
    }

    fn fit(keep: Keep, early_stop: Option<usize>) -> Fit {
        Fit {
            keep,
            early_stop,
            ..Fit::default()
        }
    }

    #[test]
    fn the_first_of_the_best_epochs_is_kept() {
        let all = records(&[f64::NAN, 0.5, 0.75, 0.75, 0.25]);
        assert_eq!(fit(Keep::Last, None).kept(&all), Some(4));
        assert_eq!(fit(Keep::Best, None).kept(&all), Some(2));
        let by_entropy = Fit {
            best_by: BestBy::CrossEntropy,
            ..fit(Keep::Best, None)
        };
        assert_eq!(by_entropy.kept(&all), Some(2));
        assert_eq!(
            fit(Keep::Best, None).kept(&all[..1]),
            Some(0),
            "nothing is better than nothing"
        );
        assert_eq!(fit(Keep::Best, None).kept(&[]), None);
    }

    #[test]
    fn a_training_is_over_after_so_many_epochs_without_a_better_one() {
        let accuracies = [0.5, 0.25, 0.75, 0.75, 0.5, f64::NAN];
        let over = |patience| {
            let fit = fit(Keep::Last, patience);
            (0..=accuracies.len()).find(|count| fit.is_over(&records(&accuracies[..*count])))
        };
        assert_eq!(over(Some(1)), Some(2));
        assert_eq!(over(Some(2)), Some(5));
        assert_eq!(over(Some(3)), Some(6));
        assert_eq!(over(Some(4)), None);
        assert_eq!(over(None), None);
    }
}
