//! Moves the times of a device or session to another clock.

use super::{DataSession, TracedDevice};

/// Something that has times.
pub(crate) trait TimeFields {
    /// Passes each of its times to `change`; durations are not times.
    fn each_time(&mut self, change: &mut impl FnMut(&mut u64));
}

impl TimeFields for TracedDevice {
    fn each_time(&mut self, change: &mut impl FnMut(&mut u64)) {
        for span in &mut self.states {
            change(&mut span.start_ns);
            change(&mut span.end_ns);
        }
        for arc in &mut self.arcs {
            change(&mut arc.start_ns);
            change(&mut arc.end_ns);
        }
        for request in &mut self.requests {
            change(&mut request.start_ns);
            change(&mut request.end_ns);
        }
        for step in &mut self.steps {
            change(&mut step.start_ns);
            change(&mut step.end_ns);
        }
        for mark in &mut self.marks {
            change(&mut mark.at_ns);
        }
        for size in &mut self.sizes {
            change(&mut size.at_ns);
        }
        for log in &mut self.dirty_logs {
            change(&mut log.start_ns);
            log.stop_ns.iter_mut().for_each(&mut *change);
            for report in &mut log.series {
                change(&mut report.at_ns);
            }
        }
    }
}

impl TimeFields for DataSession {
    fn each_time(&mut self, change: &mut impl FnMut(&mut u64)) {
        change(&mut self.start_ns);
        change(&mut self.end_ns);
        for part in &mut self.parts {
            change(&mut part.first_ns);
            change(&mut part.last_ns);
        }
        for sample in &mut self.series {
            change(&mut sample.at_ns);
        }
        for sample in &mut self.precopy_info {
            change(&mut sample.at_ns);
        }
    }
}
