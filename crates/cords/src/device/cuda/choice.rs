//! Which of cuDNN's algorithms computes a convolution.

use std::ffi::c_int;

use super::bindings::{Performance, cudnn};
use super::hardware::{Precision, Settings};
use crate::device::DeviceError;

/// Bytes of scratch memory that a convolution takes, unless no algorithm computes it from so few.
pub(super) const SCRATCH: usize = 1 << 30;

/// `CUDNN_STATUS_BAD_PARAM`, as cuDNN itself would say.
pub(super) const NOT_PREPARED: Status = Status(2000);

/// A status of cuDNN other than success. A number, as libraries know more of them than their headers here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(c_int);

impl Status {
    pub(super) fn of(code: c_int) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self(code)) }
    }

    /// `CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED` and `..._DEVICE_ALLOCATION_FAILED`.
    fn is_want_of_memory(self) -> bool {
        matches!(self.0, 4003 | 4004)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The thousands are the same in every version from 9 on.
        let class = match self.0 / 1000 {
            1 => "the library cannot work",
            2 => "bad parameter",
            3 => "not supported",
            4 => "internal error",
            5 => "execution failed",
            _ => "unknown",
        };
        write!(f, "cuDNN's status {} ({class})", self.0)
    }
}

/// Which of cuDNN's proposals is used.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// Algorithms that may be used, best first, and behind them those that want much scratch memory, the least first.
    proposals: Vec<Proposal>,
    /// How many of them do not want much.
    fitting: usize,
    /// The one in use where results take another's place, and where they are added. Those before it have failed.
    place: [usize; 2],
    /// What became of those that have failed.
    failures: Vec<Status>,
}

/// One of cuDNN's proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) algorithm: c_int,
    pub(super) scratch: usize,
    pub(super) math: c_int,
}

impl Choice {
    /// Of proposals, the fastest first, those that the settings allow; `math` is what was asked for.
    pub(super) fn of(proposed: &[Performance], settings: &Settings, math: c_int) -> Self {
        let allowed = |proposal: &&Performance| {
            proposal.status == 0
                && (proposal.determinism == cudnn::DETERMINISTIC || !settings.deterministic)
                && (settings.precision != Precision::Float32 || proposal.math == math)
        };
        let proposals = proposed.iter().filter(allowed).map(|proposal| Proposal {
            algorithm: proposal.algorithm,
            scratch: proposal.memory,
            math: proposal.math,
        });
        let (mut proposals, mut large): (Vec<_>, Vec<_>) = proposals.partition(|proposal| proposal.scratch <= SCRATCH);
        let fitting = proposals.len();
        large.sort_by_key(|proposal| proposal.scratch);
        proposals.extend(large);
        Self {
            proposals,
            fitting,
            ..Self::default()
        }
    }

    /// `use_of`: 0 where results take another's place, 1 where they are added. What can be added in two steps takes no
    /// more scratch memory for one.
    pub(super) fn in_use(&self, use_of: usize) -> Option<Proposal> {
        let last = [self.proposals.len(), self.fitting][use_of];
        self.proposals[..last].get(self.place[use_of]).copied()
    }

    pub(super) fn pass_over(&mut self, use_of: usize, status: Status) {
        self.failures.push(status);
        self.place[use_of] += 1;
    }

    /// Why no proposal is left.
    pub(super) fn exhausted(&self, call: String) -> DeviceError {
        let wanted = self.proposals.iter().map(|proposal| proposal.scratch).max();
        let is_want_of_memory = self.failures.iter().any(|status| status.is_want_of_memory());
        // Fewer images at a time need less.
        if let Some(bytes) = wanted.filter(|_| is_want_of_memory) {
            return DeviceError::Memory { bytes: bytes as u64 };
        }
        let mut said: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        said.dedup();
        DeviceError::Failed {
            call,
            reason: if said.is_empty() {
                "cuDNN has no algorithm for it".to_owned()
            } else {
                format!(
                    "none of cuDNN's {} algorithms computes it: {}",
                    self.proposals.len(),
                    said.join(", ")
                )
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(algorithm: c_int, memory: usize) -> Performance {
        Performance {
            algorithm,
            memory,
            determinism: cudnn::DETERMINISTIC,
            math: cudnn::FMA_MATH,
            ..Performance::default()
        }
    }

    fn status(code: c_int) -> Status {
        Status::of(code).expect_err("no success")
    }

    fn settings() -> Settings {
        Settings {
            deterministic: true,
            ..Settings::default()
        }
    }

    #[test]
    fn only_what_the_settings_allow_is_chosen_from() {
        let proposed = [
            Performance {
                status: 3000,
                ..proposal(0, 0)
            },
            Performance {
                determinism: 0,
                ..proposal(1, 0)
            },
            Performance {
                math: cudnn::DEFAULT_MATH,
                ..proposal(2, 0)
            },
            proposal(3, SCRATCH + 2),
            proposal(4, SCRATCH + 1),
            proposal(5, SCRATCH),
            proposal(6, 0),
        ];
        let algorithms = |settings: &Settings| {
            let choice = Choice::of(&proposed, settings, cudnn::FMA_MATH);
            assert_eq!(choice.fitting, choice.proposals.len() - 2);
            choice
                .proposals
                .iter()
                .map(|proposal| proposal.algorithm)
                .collect::<Vec<_>>()
        };
        assert_eq!(algorithms(&settings()), [5, 6, 4, 3]);
        let free = Settings {
            deterministic: false,
            ..settings()
        };
        assert_eq!(algorithms(&free), [1, 5, 6, 4, 3]);
        let tf32 = Settings {
            precision: Precision::Tf32,
            ..settings()
        };
        assert_eq!(algorithms(&tf32), [2, 5, 6, 4, 3]);
    }

    /// Whatever status an algorithm fails with, known or not, the next one's turn has come; and one that cannot add may
    /// still compute.
    #[test]
    fn every_failure_leads_to_the_next_proposal() {
        for code in [2000, 2003, 3000, 3001, 3002, 3003, 3007, 3999, 4000, 5001, 77, -1] {
            let mut choice = Choice::of(&[proposal(3, 0), proposal(8, 16)], &settings(), cudnn::FMA_MATH);
            let algorithm = |choice: &Choice, use_of| choice.in_use(use_of).map(|proposal| proposal.algorithm);
            let status = status(code);
            choice.pass_over(1, status);
            assert_eq!([algorithm(&choice, 0), algorithm(&choice, 1)], [Some(3), Some(8)]);
            choice.pass_over(1, status);
            assert_eq!([algorithm(&choice, 0), algorithm(&choice, 1)], [Some(3), None]);
            choice.pass_over(0, status);
            choice.pass_over(0, status);
            assert_eq!(algorithm(&choice, 0), None);
            let error = choice.exhausted("this".to_owned()).to_string();
            assert!(
                error.starts_with("this failed: none of cuDNN's 2 algorithms computes it"),
                "{error}"
            );
            assert!(error.contains(&format!("status {code} ")), "{error}");
        }
        assert_eq!(Status::of(0), Ok(()));
    }

    /// Much scratch memory is taken where nothing else is left, and not for what can be added in two steps.
    #[test]
    fn much_scratch_memory_is_the_last_resort() {
        let mut choice = Choice::of(
            &[proposal(4, SCRATCH + 5), proposal(3, 100)],
            &settings(),
            cudnn::FMA_MATH,
        );
        let algorithm = |choice: &Choice, use_of| choice.in_use(use_of).map(|proposal| proposal.algorithm);
        assert_eq!([algorithm(&choice, 0), algorithm(&choice, 1)], [Some(3), Some(3)]);
        choice.pass_over(0, status(3000));
        choice.pass_over(1, status(3000));
        assert_eq!([algorithm(&choice, 0), algorithm(&choice, 1)], [Some(4), None]);
    }

    #[test]
    fn where_memory_is_wanting_fewer_images_are_tried() {
        let mut choice = Choice::of(&[proposal(3, 100)], &settings(), cudnn::FMA_MATH);
        choice.pass_over(0, status(4004));
        assert_eq!(choice.exhausted(String::new()), DeviceError::Memory { bytes: 100 });
        let none = Choice::of(&[], &settings(), cudnn::FMA_MATH);
        assert!(none.exhausted(String::new()).to_string().contains("no algorithm"));
    }
}
