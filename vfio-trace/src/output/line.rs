//! What a line of text says about an event, by kind: its subject, its details, its result.

use super::{
    devices::NOT_OPEN,
    layout::{CellStyle, TextCell},
};
use crate::event::{
    CallOutcome, DataClose, DataDirection, DataIo, DriverCall, Errno, EventData, FeatureCall, FeatureDetail,
    FindingSeverity, MigState, ReadEnd, RequestOrigin, SetState, VfioEvent,
};
use crate::units::human;

/// The parts of a line that depend on the kind.
pub(super) struct EventCells {
    pub(super) subject: TextCell,
    pub(super) detail: TextCell,
    pub(super) result: TextCell,
}

impl EventCells {
    pub(super) fn of(event: &VfioEvent, color: bool) -> Self {
        let data = &event.data;
        let mut words = Self {
            subject: TextCell::new(color),
            detail: TextCell::new(color),
            result: TextCell::new(color),
        };
        words.fill(event);
        if let Some(outcome) = data.outcome() {
            words.result(data, outcome);
        }
        words
    }

    fn fill(&mut self, event: &VfioEvent) {
        match &event.data {
            EventData::Device(device) => {
                self.subject.plain(event.driver().unwrap_or("?"));
                if device.may_be_fresh() {
                    self.more(NOT_OPEN);
                } else if device.migration != Some(false) {
                    self.state("state ", device.state);
                }
                if let Some(count) = device.open_count.filter(|&count| count > 0) {
                    self.more(&format!("{count} open"));
                }
                match device.migration {
                    Some(false) => self.more("no migration"),
                    _ => self.more(&known(device.migration_flags.map(|flags| flags.to_string()))),
                }
                self.more(match device.dirty_tracking {
                    Some(true) => "dirty tracking",
                    Some(false) => "no dirty tracking",
                    None => "dirty tracking not known",
                });
            },
            EventData::Held(holder) => _ = self.subject.plain(&format!("fd {}", holder.fd)),
            EventData::Open(open) => {
                self.openers(open.open_count, "open");
                if open.state.is_some() {
                    self.state("state ", open.state);
                }
            },
            EventData::Close(close) => {
                self.openers(close.open_count.map(|count| count.saturating_sub(1)), "left");
            },
            EventData::Arc(arc) => {
                state(&mut self.subject, arc.from);
                match arc.to {
                    Some(to) => state(self.subject.plain(" → "), to),
                    None => _ = self.subject.add(CellStyle::Error, " ↛"),
                }
                state(self.detail.plain("target "), arc.target);
            },
            EventData::Desync(desync) => {
                state(&mut self.subject, desync.found);
                self.state("expected ", Some(desync.expected));
                self.more(&format!("shown by {}", desync.cause.name()));
            },
            EventData::SetState(request) => self.set_state(request),
            EventData::GetState(request) => {
                match request.state {
                    Some(got) => state(&mut self.subject, got),
                    None => _ = self.subject.plain("?"),
                }
                self.via(request.via);
            },
            EventData::DataSize(request) => {
                self.subject.plain(&known(request.stop_copy_bytes.map(human::bytes)));
                self.via(request.via);
            },
            EventData::PrecopyInfo(info) => {
                if let (Some(initial), Some(dirty)) = (info.initial_bytes, info.dirty_bytes) {
                    self.subject.plain(&format!(
                        "{} initial, {} dirty",
                        human::bytes(initial),
                        human::bytes(dirty)
                    ));
                }
                self.session(info.session);
                if let Some(flags) = info.flags.filter(|&flags| flags != 0) {
                    self.more(&format!("flags {flags:#x}"));
                }
            },
            EventData::DataIoctl(call) => {
                self.subject.plain(&format!("ioctl {:#x}", call.cmd));
                self.session(call.session);
            },
            EventData::Read(io) | EventData::Write(io) => self.io(io),
            EventData::DataClose(close) => self.data_close(close),
            EventData::Feature(call) => self.feature(call),
            EventData::Reset(reset) => {
                if let Some(led_to) = reset.state {
                    state(&mut self.subject, led_to);
                }
            },
            EventData::PciReset(reset) => {
                self.subject.plain(reset.method.map_or("reset", |_| "FLR"));
                if reset.state.is_some() {
                    self.state("state ", reset.state);
                }
            },
            EventData::Step(step) => self.step(step),
            EventData::Image(image) => {
                self.subject.plain(&image.layout.name);
                self.more(&format!("at {}", image.moment.name()));
                self.session(image.session);
                if !image.complete {
                    self.more("not all readable");
                }
            },
            EventData::Finding(finding) => {
                let style = match finding.severity {
                    FindingSeverity::Error => CellStyle::Error,
                    FindingSeverity::Warning => CellStyle::Bold,
                    FindingSeverity::Info => CellStyle::Plain,
                };
                self.subject.add(style, &finding.code);
                if let Some(step) = &finding.step {
                    self.more(&format!("{step}:"));
                    self.detail.plain(" ");
                }
                self.detail.plain(&finding.text).plain(" Check: ").plain(&finding.check);
                self.result.plain(finding.errno.as_deref().unwrap_or_else(|| finding.severity.name()));
            },
            EventData::ProbeGap(gap) => {
                let name = gap.module.as_deref().unwrap_or("kernel");
                self.subject.add(CellStyle::Error, "not probed ").plain(&human::clean(name));
                let functions: Vec<&str> =
                    gap.functions.iter().map(|function| function.function.as_str()).collect();
                self.more(&human::clean(&functions.join(", ")));
                self.more(gap.why.text());
                if !gap.from_exact {
                    self.more("at most this long");
                }
                if gap.until_mono_ns.is_none() {
                    self.more("not probed yet");
                }
            },
            EventData::Register(_) | EventData::Unregister {} => {},
        }
    }

    /// Adds to the details, after a comma.
    fn more(&mut self, text: &str) {
        if self.detail.width() > 0 {
            self.detail.plain(", ");
        }
        self.detail.plain(text);
    }

    /// Adds a state to the details.
    fn state(&mut self, what: &str, value: Option<MigState>) {
        self.more(what);
        match value {
            Some(value) => state(&mut self.detail, value),
            None => _ = self.detail.plain("unknown"),
        }
    }

    fn via(&mut self, via: RequestOrigin) {
        if via == RequestOrigin::Driver {
            self.more("not by ioctl");
        }
    }

    fn session(&mut self, session: Option<u32>) {
        if let Some(session) = session {
            self.more(&format!("session {session}"));
        }
    }

    fn openers(&mut self, count: Option<u32>, what: &str) {
        if let Some(count) = count {
            self.subject.plain(&format!("{count} {what}"));
        }
    }

    fn set_state(&mut self, request: &SetState) {
        state(&mut self.subject, request.target);
        self.more(&human::count(request.arcs.into(), "arc"));
        if let Some(fd) = request.data_fd {
            self.more(&format!("fd {fd}"));
        }
        self.session(request.session);
        self.via(request.via);
    }

    fn io(&mut self, io: &DataIo) {
        self.subject.plain(&match (io.dry, io.bytes) {
            (Some(ReadEnd::End), _) => "end of data".to_owned(),
            (Some(ReadEnd::ForNow), _) if io.outcome.errno() == Some(Errno::ENOMSG) => {
                "no data for now".to_owned()
            },
            (Some(ReadEnd::ForNow), _) => "nothing for now".to_owned(),
            (None, Some(bytes)) => human::bytes(bytes),
            (None, None) => "nothing".to_owned(),
        });
        if let Some(offset) = io.offset_bytes {
            self.subject.plain(&format!(" @ {offset}"));
        }
        self.more(&format!("of {}", human::bytes(io.requested_bytes)));
        self.session(io.session);
        if io.ended {
            self.more("after its end");
        }
    }

    fn data_close(&mut self, close: &DataClose) {
        self.subject.plain(&close.session.map_or_else(String::new, |nr| format!("session {nr}")));
        if let Some(direction) = close.direction {
            self.subject.plain(&format!(" ({})", direction.name()));
        }
        let (bytes, calls, noun) = match close.direction {
            Some(DataDirection::Resume) => (close.written_bytes, close.writes, "write"),
            _ => (close.read_bytes, close.reads, "read"),
        };
        self.more(&format!("{} in {}", human::bytes(bytes), human::count(calls, noun)));
        if close.failed > 0 {
            self.detail.plain(", ").add(CellStyle::Error, &format!("{} failed", close.failed));
        }
        if close.partial {
            self.more("start not seen");
        }
        if let Some(missed) = close.missed_bytes.filter(|&missed| missed > 0) {
            self.more(&format!("{} not seen", human::bytes(missed)));
        }
        if !close.ended && !close.partial {
            self.more("still active");
        }
    }

    fn feature(&mut self, call: &FeatureCall) {
        match (call.op, call.feature) {
            (Some(op), Some(feature)) => self.subject.plain(&format!("{} {feature}", op.name())),
            _ => self.subject.plain("?"),
        };
        match &call.detail {
            None => {},
            Some(FeatureDetail::Migration { migration_flags }) => self.more(&migration_flags.to_string()),
            Some(FeatureDetail::LogStart {
                page_size_bytes,
                granted_page_size_bytes,
                ranges,
                iova_ranges,
                span_bytes,
            }) => {
                self.more(&ranges.map_or_else(|| "? ranges".to_owned(), |n| human::count(n.into(), "range")));
                for range in iova_ranges.iter().flatten() {
                    self.more(&format!("{} @ {:#x}", human::bytes(range.length_bytes), range.iova));
                }
                if let Some(span) = span_bytes.filter(|_| ranges.is_some_and(|ranges| ranges > 1)) {
                    self.more(&format!("span {}", human::bytes(span)));
                }
                self.more(&format!("page {}", known(page_size_bytes.map(human::bytes))));
                if let Some(granted) =
                    granted_page_size_bytes.filter(|granted| Some(*granted) != *page_size_bytes)
                {
                    self.more(&format!("granted {}", human::bytes(granted)));
                }
            },
            Some(FeatureDetail::LogReport { iova, length_bytes, page_size_bytes, dirty_pages }) => {
                if let Some(dirty) = dirty_pages {
                    self.more(&human::count(*dirty, "dirty page"));
                }
                let iova = known(iova.map(|iova| format!("{iova:#x}")));
                self.more(&format!("{} @ {iova}", known(length_bytes.map(human::bytes))));
                self.more(&format!("page {}", known(page_size_bytes.map(human::bytes))));
            },
        }
    }

    fn step(&mut self, step: &DriverCall) {
        let function = step.function.as_deref().unwrap_or("?");
        match &step.step {
            Some(name) => {
                self.subject.plain(name);
                self.more(function);
            },
            None => _ = self.subject.plain(function),
        }
        if let Some(detail) = &step.detail {
            self.more(detail);
        }
        if let Some(arc) = step.arc {
            self.more("in ");
            state(&mut self.detail, arc.from);
            state(self.detail.plain(" → "), arc.to);
        }
        if let Some(returned) = step.returned {
            self.more(&format!("returned {returned}"));
        }
    }

    fn result(&mut self, data: &EventData, outcome: CallOutcome) {
        match outcome {
            CallOutcome::Ok => _ = self.result.plain("ok"),
            // A function that tells nothing of how it ended.
            CallOutcome::Unknown if matches!(data, EventData::Step(_)) => {},
            CallOutcome::Unknown => _ = self.result.plain("unknown"),
            // Every PRE_COPY ends like this; red would cry wolf.
            CallOutcome::Failed(errno) if matches!(data, EventData::Read(io) | EventData::Write(io) if io.dry.is_some()) =>
            {
                self.result.add(CellStyle::Dim, &errno.name());
            },
            CallOutcome::Failed(errno) => _ = self.result.add(CellStyle::Error, &errno.name()),
            CallOutcome::Refused(errno) => _ = self.result.add(CellStyle::Error, &format!("refused {errno}")),
        }
        let driver_call = match data {
            EventData::SetState(request) => request.driver_call,
            EventData::GetState(request) => request.driver_call,
            EventData::DataSize(request) => request.driver_call,
            _ => None,
        };
        if let Some(driver) = driver_call.filter(|&driver| driver != outcome) {
            let said = driver.errno().map_or_else(|| driver.name().into(), Errno::name);
            self.result.plain(&format!(" (driver: {said})"));
        }
    }
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "?".to_owned())
}

fn state(cell: &mut TextCell, state: MigState) {
    let style =
        if state == MigState::ERROR || !state.is_valid() { CellStyle::Error } else { CellStyle::State };
    cell.add(style, &state.to_string());
}
