//! Formats the report of `doctor`: grouped text for people, one JSON document for programs (docs/schema/doctor-1.json).

use super::layout::{CellStyle, TextCell};
use crate::{
    doctor::{Check, CheckSection, CheckStatus, CheckVerdict, DoctorReport},
    units::{
        human,
        width::{column, columns},
    },
};

/// Formats the report as one JSON document, with a newline.
///
/// # Errors
///
/// None with these types; only serde's interface returns them.
pub fn doctor_json(report: &DoctorReport) -> serde_json::Result<String> {
    let mut text = crate::units::visible::json_pretty(report)?;
    text.push('\n');
    Ok(text)
}

impl CheckSection {
    const fn title(self) -> &'static str {
        match self {
            Self::Privileges => "privileges",
            Self::Kernel => "kernel",
            Self::Types => "types (BTF)",
            Self::Drivers => "migration drivers",
            Self::Probes => "probes",
            Self::Devices => "devices",
        }
    }
}

impl CheckStatus {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }

    const fn style(self) -> CellStyle {
        match self {
            Self::Ok => CellStyle::Dim,
            Self::Degraded | Self::Unknown => CellStyle::State,
            Self::Missing => CellStyle::Error,
        }
    }
}

impl CheckVerdict {
    /// Returns the verdict as a sentence. `whole`: all checks are ok; `open`: it is not known if the kernel permits
    /// tracing.
    const fn text(self, whole: bool, open: bool) -> &'static str {
        match self {
            Self::Ready | Self::NoDeviceMigrates if open => {
                "whether tracing is permitted here is not known: it shows when a probe is attached"
            },
            Self::Ready if whole => "everything that tracing needs is there",
            Self::Ready => "tracing works, without what is not ok above",
            Self::NoDeviceMigrates => "tracing works, but no device of this host can migrate",
            Self::NotPermitted => "this process may not trace",
            Self::NotSupported => "this kernel cannot be traced",
        }
    }
}

/// Widest column of subjects, in characters. A longer subject pushes its line to the right.
const MAX_SUBJECT: usize = 40;
/// Width at which explanations are broken; commands are never broken.
const WIDTH: usize = 110;
const STATUS_WIDTH: usize = 8;
/// Indent of continuation lines, which start below the subject.
const INDENT: &str = "            ";

/// Formats the report for people: sections with aligned lines, each followed by its costs and advice; the verdict comes
/// last.
pub fn doctor_text(report: &DoctorReport, color: bool) -> String {
    let mut text = format!(
        "vfio-trace {} on Linux {} {}\n",
        report.version,
        human::clean(report.kernel.as_deref().unwrap_or("?")),
        human::clean(&report.machine)
    );
    let mut section = None;
    for finding in &report.findings {
        if section != Some(finding.section) {
            section = Some(finding.section);
            text.push('\n');
            push(&mut text, &TextCell::of(color, CellStyle::Bold, finding.section.title()));
        }
        let same = report.findings.iter().filter(|other| other.section == finding.section);
        let widest = column(same.map(|other| columns(&human::clean(&other.subject))), MAX_SUBJECT);
        line(&mut text, finding, widest, color);
    }
    let count = |status| report.findings.iter().filter(|finding| finding.status == status).count();
    text.push('\n');
    let mut verdict = TextCell::new(color);
    let style = if report.verdict == CheckVerdict::Ready { CellStyle::Bold } else { CellStyle::Error };
    let whole = count(CheckStatus::Ok) == report.findings.len();
    let is_open = |finding: &Check| finding.id == "cap-sys-admin" && finding.status == CheckStatus::Unknown;
    verdict.add(style, report.verdict.text(whole, report.findings.iter().any(is_open)));
    let counts = [CheckStatus::Ok, CheckStatus::Degraded, CheckStatus::Missing, CheckStatus::Unknown]
        .map(|status| format!("{} {}", count(status), status.name()));
    verdict.plain(&format!(": {}", counts.join(", ")));
    push(&mut text, &verdict);
    text
}

fn push(text: &mut String, cell: &TextCell) {
    cell.left(0, text);
    text.push('\n');
}

fn line(text: &mut String, finding: &Check, subject_width: usize, color: bool) {
    text.push_str("  ");
    TextCell::of(color, finding.status.style(), finding.status.name()).left(STATUS_WIDTH, text);
    text.push_str("  ");
    TextCell::of(color, CellStyle::Plain, &human::clean(&finding.subject)).left(subject_width, text);
    text.push_str("  ");
    wrapped(text, &finding.what, INDENT.len() + subject_width + 2);
    for (name, more, breaks) in [("costs: ", &finding.costs, true), ("do:    ", &finding.todo, false)] {
        if let Some(more) = more {
            text.push_str(INDENT);
            TextCell::of(color, CellStyle::Dim, name).left(0, text);
            if breaks {
                wrapped(text, more, INDENT.len() + name.len());
            } else {
                text.push_str(&human::clean(more));
                text.push('\n');
            }
        }
    }
}

/// Appends words, broken at the width; the following lines start below the first.
fn wrapped(text: &mut String, words: &str, indent: usize) {
    let mut at = indent;
    for word in human::clean(words).split(' ') {
        let width = columns(word);
        if at > indent {
            if at + 1 + width > WIDTH {
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', indent));
                at = indent;
            } else {
                text.push(' ');
                at += 1;
            }
        }
        text.push_str(word);
        at += width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> DoctorReport {
        DoctorReport {
            schema: crate::doctor::DOCTOR_SCHEMA,
            version: "0.1.0",
            kernel: Some("6.12.0".to_owned()),
            machine: "x86_64".to_owned(),
            verdict: CheckVerdict::NotPermitted,
            exit_code: 3,
            findings: vec![
                Check::ok(CheckSection::Privileges, "capability", "CAP_BPF", "held"),
                Check::ok(CheckSection::Privileges, "capability", "CAP_PERFMON", "not held")
                    .with_status(CheckStatus::Missing)
                    .costs("no kprobes")
                    .todo("run it as root")
                    .blocks(crate::doctor::CheckBlocker::Permission),
                Check::ok(CheckSection::Devices, "device", "a\u{1b}[31m", "can migrate"),
                Check::ok(CheckSection::Devices, "device", "b", "cannot migrate"),
            ],
        }
    }

    #[test]
    fn text_is_aligned_and_cannot_hurt_a_terminal() {
        let text = doctor_text(&report(), false);
        assert_eq!(
            text,
            "vfio-trace 0.1.0 on Linux 6.12.0 x86_64\n\
             \n\
             privileges\n\
             \x20 ok        CAP_BPF      held\n\
             \x20 missing   CAP_PERFMON  not held\n\
             \x20           costs: no kprobes\n\
             \x20           do:    run it as root\n\
             \n\
             devices\n\
             \x20 ok        a\\x1b[31m  can migrate\n\
             \x20 ok        b          cannot migrate\n\
             \n\
             this process may not trace: 3 ok, 0 degraded, 1 missing, 0 unknown\n"
        );
        assert!(doctor_text(&report(), true).contains("\u{1b}[31mmissing"));
    }

    /// Checks all statuses and verdicts together: the last line says that all is there only if all is.
    #[test]
    fn the_last_line_does_not_contradict_the_list() {
        const ALL: [CheckStatus; 4] =
            [CheckStatus::Ok, CheckStatus::Degraded, CheckStatus::Missing, CheckStatus::Unknown];
        for verdict in [
            CheckVerdict::Ready,
            CheckVerdict::NoDeviceMigrates,
            CheckVerdict::NotPermitted,
            CheckVerdict::NotSupported,
        ] {
            for (one, other) in ALL.iter().flat_map(|one| ALL.map(|other| (*one, other))) {
                let finding =
                    |status| Check::ok(CheckSection::Probes, "probe-read", "f", "what").with_status(status);
                let report =
                    DoctorReport { verdict, findings: vec![finding(one), finding(other)], ..report() };
                let text = doctor_text(&report, false);
                let last = text.lines().last().unwrap();
                let whole = (one, other) == (CheckStatus::Ok, CheckStatus::Ok);
                assert_eq!(last.contains("everything"), verdict == CheckVerdict::Ready && whole, "{text}");
                assert_eq!(last.contains("not ok above"), verdict == CheckVerdict::Ready && !whole, "{text}");
                let works = matches!(verdict, CheckVerdict::Ready | CheckVerdict::NoDeviceMigrates);
                assert_eq!(last.contains("tracing works") || last.contains("everything"), works, "{text}");
            }
        }
    }

    #[test]
    fn json_has_all_fields_always() {
        let document: serde_json::Value = serde_json::from_str(&doctor_json(&report()).unwrap()).unwrap();
        assert_eq!(document["schema"], "vfio-trace.doctor/1");
        assert_eq!(document["verdict"], "not_permitted");
        assert_eq!(document["findings"][0]["do"], serde_json::Value::Null);
        assert_eq!(document["findings"][1]["blocks"], "permission");
        assert_eq!(document["findings"][1]["section"], "privileges");
    }
}
