//! History of a device's dirty page tracking, built call by call.

use super::thinned::SampledSeries;
use crate::{
    event::{CallOutcome, FeatureDetail, VfioEvent},
    report::document::{DirtyLog, DirtyReport},
};

/// Most reports of a log in a document.
const SERIES: usize = 1024;

/// All logs of a device, from the first DMA_LOGGING_START to the last stop.
#[derive(Clone, Debug, Default)]
pub(super) struct DirtyHistory {
    logs: Vec<(DirtyLog, SampledSeries<DirtyReport>)>,
}

impl DirtyHistory {
    pub(super) const fn len(&self) -> usize {
        self.logs.len()
    }

    pub(super) fn start_log(
        &mut self,
        event: &VfioEvent,
        detail: Option<&FeatureDetail>,
        outcome: CallOutcome,
    ) {
        let mut log = DirtyLog {
            start_ns: event.start_ns,
            start_duration_ns: event.duration_ns.unwrap_or(0),
            // A log that did not start need not be stopped.
            stop_ns: (!outcome.is_ok()).then_some(event.end_ns),
            stop_duration_ns: None,
            page_size_bytes: None,
            granted_page_size_bytes: None,
            ranges: None,
            span_bytes: None,
            reports: 0,
            reports_failed: 0,
            reports_ns: 0,
            dirty_pages: 0,
            reports_uncounted: 0,
            series: Vec::new(),
            outcome,
        };
        if let Some(FeatureDetail::LogStart {
            page_size_bytes,
            granted_page_size_bytes,
            ranges,
            span_bytes,
            ..
        }) = detail
        {
            log.page_size_bytes = *page_size_bytes;
            log.granted_page_size_bytes = *granted_page_size_bytes;
            log.ranges = *ranges;
            log.span_bytes = *span_bytes;
        }
        self.logs.push((log, SampledSeries::new(SERIES)));
    }

    pub(super) fn stop_log(&mut self, at_ns: u64, took_ns: Option<u64>) {
        if let Some((log, _)) = self.logs.last_mut().filter(|(log, _)| log.stop_ns.is_none()) {
            log.stop_ns = Some(at_ns);
            log.stop_duration_ns = took_ns;
        }
    }

    pub(super) fn add_report(
        &mut self,
        event: &VfioEvent,
        detail: Option<&FeatureDetail>,
        outcome: CallOutcome,
    ) {
        // The start of the log was not seen, so there is no log to which the report could belong.
        let Some((log, series)) = self.logs.last_mut() else { return };
        let duration_ns = event.duration_ns.unwrap_or(0);
        let dirty_pages = match detail {
            Some(FeatureDetail::LogReport { dirty_pages, .. }) => *dirty_pages,
            _ => None,
        };
        log.reports += 1;
        log.reports_failed += u64::from(!outcome.is_ok());
        log.reports_ns = log.reports_ns.saturating_add(duration_ns);
        log.dirty_pages = log.dirty_pages.saturating_add(dirty_pages.unwrap_or(0));
        log.reports_uncounted += u64::from(outcome.is_ok() && dirty_pages.is_none());
        series.push(DirtyReport { at_ns: event.end_ns, duration_ns, dirty_pages });
    }

    pub(super) fn document(&self) -> Vec<DirtyLog> {
        let document = |(log, series): &(DirtyLog, SampledSeries<DirtyReport>)| DirtyLog {
            series: series.points().copied().collect(),
            ..log.clone()
        };
        self.logs.iter().map(document).collect()
    }
}
