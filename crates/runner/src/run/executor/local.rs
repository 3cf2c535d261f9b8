//! Workers as processes beside the tool.

use std::process::Child;

use rustix::process::{Pid, Signal};
use wait4::Wait4;

use super::{End, Executor, Order, Told, Worker};
use crate::run::worker;

/// Starts them.
pub(in crate::run) struct Local;

impl Executor for Local {
    fn start(&mut self, order: Order<'_>) -> std::io::Result<Box<dyn Worker>> {
        let Order { spec, tell, .. } = order;
        let child = worker::start(
            &spec,
            &order.place.join("spec.json"),
            &order.log,
            &spec.gpus.join(","),
            &order.locks,
            move |message| tell(message.map_or(Told::Ended, Told::Said)),
        )?;
        Ok(Box::new(Process(child)))
    }
}

struct Process(Child);

impl Worker for Process {
    fn signal(&self, signal: Signal) {
        signal_group(&self.0, signal);
    }

    fn end(self: Box<Self>) -> std::io::Result<End> {
        let child = self.0;
        let ended = child.wait4()?;
        Ok(End {
            how: Ok(ended.status),
            cpu_seconds: (ended.rusage.utime + ended.rusage.stime).as_secs_f64(),
            peak_bytes: ended.rusage.maxrss,
            job: None,
        })
    }

    fn leave(&self) -> bool {
        false
    }
}

/// To a worker and all that it started.
pub(super) fn signal_group(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended in this moment; then there is nothing to end.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}
