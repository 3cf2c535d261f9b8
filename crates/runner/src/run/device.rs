//! Which device a run takes, and which GPUs its stages may have.

use super::RunError;
use super::resources::Gpu;
use crate::kind::{Device, GpuDriver, GpuError};

impl Device {
    /// That there is the GPU that was asked for, if one was.
    ///
    /// # Errors
    /// [`RunError::Device`] where there is none.
    pub fn require(self, driver: &dyn GpuDriver) -> Result<(), RunError> {
        // Nothing of a GPU is touched.
        let Self::Cuda(ordinal) = self else { return Ok(()) };
        let reason = match driver.count() {
            Ok(count) if ordinal < count => return Ok(()),
            Ok(0) => "the driver finds no GPU".to_owned(),
            Ok(count) => format!("GPUs are counted from 0 to {}", count - 1),
            Err(error) => error.to_string(),
        };
        Err(RunError::Device {
            device: self.to_string(),
            reason,
        })
    }

    /// The GPUs that stages may have: every one that can be used for [`Device::Auto`], the one that was asked for, or
    /// none. `passed_over` hears of those that are there and cannot be used.
    ///
    /// # Errors
    /// As [`require`](Self::require).
    pub(super) fn gpus(self, driver: &dyn GpuDriver, mut passed_over: impl FnMut(&str)) -> Result<Vec<Gpu>, RunError> {
        self.require(driver)?;
        let ordinals: Vec<usize> = match self {
            Self::Cpu => Vec::new(),
            Self::Cuda(ordinal) => vec![ordinal],
            Self::Auto => {
                let count = driver.count().unwrap_or_else(|error| {
                    if let GpuError::Unusable(reason) = error {
                        passed_over(&format!("no GPU can be used: {reason}"));
                    }
                    0
                });
                let works = |(ordinal, tried): (usize, Result<(), String>)| match tried {
                    Ok(()) => Some(ordinal),
                    Err(reason) => {
                        passed_over(&format!("GPU {ordinal} cannot be used: {reason}"));
                        None
                    }
                };
                try_out(driver, count)
                    .into_iter()
                    .enumerate()
                    .filter_map(works)
                    .collect()
            }
        };
        let visible = std::env::var("CUDA_VISIBLE_DEVICES").ok();
        let gpu = |ordinal| {
            let memory = driver.total_memory(ordinal).map_err(|reason| RunError::Device {
                device: Self::Cuda(ordinal).to_string(),
                reason,
            })?;
            let id = id(visible.as_deref(), ordinal);
            Ok(Gpu { id, ordinal, memory })
        };
        ordinals.into_iter().map(gpu).collect()
    }
}

/// All GPUs are tried out side by side: each takes a moment, and a machine may have many.
fn try_out(driver: &dyn GpuDriver, count: usize) -> Vec<Result<(), String>> {
    std::thread::scope(|scope| {
        let start = |ordinal| scope.spawn(move || driver.try_out(ordinal));
        let started: Vec<_> = (0..count).map(start).collect();
        let end = |tried: std::thread::ScopedJoinHandle<'_, Result<(), String>>| {
            tried
                .join()
                .unwrap_or_else(|_| Err("it could not be tried out".to_owned()))
        };
        started.into_iter().map(end).collect()
    })
}

/// How a process that this one starts finds the GPU that is the `ordinal`-th here.
fn id(visible: Option<&str>, ordinal: usize) -> String {
    let named = visible.and_then(|list| list.split(',').nth(ordinal)).map(str::trim);
    match named.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => ordinal.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many GPUs or why there are none, of which some do not work.
    struct Fake(Result<usize, GpuError>, &'static [usize]);

    impl GpuDriver for Fake {
        fn count(&self) -> Result<usize, GpuError> {
            self.0.clone()
        }
        fn try_out(&self, ordinal: usize) -> Result<(), String> {
            if self.1.contains(&ordinal) {
                return Err("it is broken".to_owned());
            }
            Ok(())
        }
        fn total_memory(&self, _: usize) -> Result<u64, String> {
            Ok(1 << 30)
        }
        fn name(&self, _: usize) -> Option<String> {
            None
        }
        fn version(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn auto_passes_over_what_cannot_be_used_and_says_so() {
        let absent = || Err(GpuError::Absent("no driver".to_owned()));
        let unusable = || Err(GpuError::Unusable("error 3".to_owned()));
        let broken = "GPU 0 cannot be used: it is broken";
        let cases: [(Fake, &[usize], &[&str]); 6] = [
            (Fake(Ok(2), &[]), &[0, 1], &[]),
            (Fake(Ok(2), &[0]), &[1], &[broken]),
            (Fake(Ok(1), &[0]), &[], &[broken]),
            (Fake(Ok(0), &[]), &[], &[]),
            // Most machines have none, and need not hear of it.
            (Fake(absent(), &[]), &[], &[]),
            (Fake(unusable(), &[]), &[], &["no GPU can be used: error 3"]),
        ];
        for (driver, expected, lines) in &cases {
            let mut said = Vec::new();
            let gpus = Device::Auto
                .gpus(driver, |line| said.push(line.to_owned()))
                .expect("it goes on");
            assert_eq!(gpus.iter().map(|gpu| gpu.ordinal).collect::<Vec<_>>(), *expected);
            assert_eq!(said, *lines);
            let cpu = Device::Cpu.gpus(driver, |line| panic!("{line}"));
            assert_eq!(cpu.expect("nothing is asked for"), []);
        }
        // One that was asked for is not passed over: its stages fail.
        let asked = Device::Cuda(0).gpus(&Fake(Ok(2), &[0]), |line| panic!("{line}"));
        assert_eq!(asked.expect("it is there").len(), 1);
        for (driver, reason) in [
            (Fake(Ok(0), &[]), "the driver finds no GPU"),
            (Fake(Ok(2), &[]), "GPUs are counted from 0 to 1"),
            (Fake(absent(), &[]), "no driver"),
            (Fake(unusable(), &[]), "error 3"),
        ] {
            let error = Device::Cuda(2).require(&driver).expect_err("it is not there");
            assert_eq!(error.to_string(), format!("`cuda:2` cannot be used: {reason}"));
        }
    }

    #[test]
    fn ids_are_those_of_the_environment() {
        assert_eq!(id(None, 1), "1");
        assert_eq!(id(Some("2, GPU-5f"), 0), "2");
        assert_eq!(id(Some("2, GPU-5f"), 1), "GPU-5f");
        assert_eq!(id(Some(""), 0), "0");
    }
}
