//! Tests of one report as TAP, JUnit, text and JSON.

use super::{junit, tap, text::ExerciseText};
use crate::{
    event::{CallOutcome, DriverFinding, Errno, FindingSeverity, MigFlags, MigState},
    exercise::UntracedReason,
    exercise::{
        DriverStep, EndState, ExerciseArc, ExerciseReport, ExerciseStage, ExerciseStep, ExerciseVerdict,
        ExercisedDevice, RecoveredDevice, SCHEMA_ID, TracingStatus, exercise_schema, json,
    },
    units::schema_check::TestSchema,
};

fn finding() -> DriverFinding {
    DriverFinding {
        code: "hisi_acc/stop-mailbox".into(),
        severity: FindingSeverity::Error,
        step: Some("stop queues".into()),
        errno: Some("EIO".into()),
        text: "The mailbox <answered> with an error.".to_owned(),
        check: "dmesg".into(),
    }
}

fn step() -> ExerciseStep {
    ExerciseStep {
        nr: 1,
        device: "0000:75:00.1".to_owned(),
        asked: "set STOP_COPY".to_owned(),
        outcome: CallOutcome::Failed(Errno(5)),
        as_expected: false,
        duration_ns: 1_200_000,
        bytes: None,
        calls: None,
        state: Some(MigState::RUNNING),
        note: None,
        arcs: vec![ExerciseArc {
            from: MigState::RUNNING,
            to: Some(MigState::STOP),
            duration_ns: Some(900_000),
            outcome: CallOutcome::Failed(Errno(5)),
        }],
        driver_steps: vec![DriverStep {
            name: "stop queues".to_owned(),
            detail: Some("0xe".to_owned()),
            duration_ns: None,
            outcome: CallOutcome::Failed(Errno(5)),
        }],
        findings: vec![finding()],
    }
}

fn stage(plan: &'static str, name: &str, verdict: ExerciseVerdict, why: Option<&str>) -> ExerciseStage {
    let steps = if verdict == ExerciseVerdict::Failed { vec![step()] } else { Vec::new() };
    ExerciseStage {
        plan,
        name: name.to_owned(),
        verdict,
        why: why.map(str::to_owned),
        findings: Vec::new(),
        notes: Vec::new(),
        steps,
        duration_ns: 2_000_000,
    }
}

fn report() -> ExerciseReport {
    let mut report = ExerciseReport {
        schema: SCHEMA_ID,
        version: "0.1.0",
        kernel: "6.12".to_owned(),
        plans: vec!["save", "matrix", "io-test"],
        devices: vec![ExercisedDevice {
            device: "0000:75:00.1".to_owned(),
            driver: Some("hisi_acc_vfio_pci".to_owned()),
            via: "group",
            migration_flags: MigFlags(5),
            reset: true,
        }],
        tracing: TracingStatus { on: true, requests: 5, unseen: 1, ..TracingStatus::default() },
        recovered: vec![RecoveredDevice {
            device: "0000:75:00.1".to_owned(),
            closed_in: None,
            opened_in: MigState::RESUMING,
            by: "reset",
            danger: None,
        }],
        stages: vec![
            stage("save", "save", ExerciseVerdict::Failed, Some("set STOP_COPY failed with EIO")),
            stage("matrix", "RUNNING to STOP # 1", ExerciseVerdict::Passed, None),
            stage("matrix", "STOP to RUNNING", ExerciseVerdict::Warned, Some("odd & \"new\"")),
            stage("io-test", "io-test", ExerciseVerdict::Skipped, Some("not known for this driver")),
        ],
        end: vec![EndState {
            device: "0000:75:00.1".to_owned(),
            state: Some(MigState::RUNNING),
            reset: true,
        }],
        stopped: None,
        first_failure: None,
        verdict: ExerciseVerdict::Skipped,
    };
    report.judge();
    report
}

#[test]
fn the_worst_stage_and_the_end_make_the_verdict() {
    let mut report = report();
    assert_eq!(report.verdict, ExerciseVerdict::Failed);
    let failure = report.first_failure.clone().unwrap();
    assert_eq!((failure.stage.as_str(), failure.step, failure.findings.len()), ("save", Some(1), 1));
    report.stages.remove(0);
    report.judge();
    assert_eq!((report.verdict, report.first_failure.is_none()), (ExerciseVerdict::Warned, true));
    report.end[0].state = Some(MigState::RESUMING);
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Failed);
}

#[test]
fn a_run_that_the_tracer_has_not_seen_does_not_pass() {
    let mut report = report();
    report.stages.retain(|stage| stage.verdict == ExerciseVerdict::Passed);
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Passed, "one request of five is no reason");
    assert!(ExerciseText::default().summary(&report).contains("of 1 of 5 requests no arc was seen"));
    report.tracing.unseen = 5;
    report.tracing.untraced_reason = UntracedReason::Known("kprobes are switched off".to_owned());
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Warned, "results were judged, as without a tracer");
    let summary = ExerciseText::default().summary(&report);
    assert!(summary.contains("none of 5 requests was traced: kprobes are switched off"), "{summary}");
    assert!(!summary.contains("container") && !junit(&report).contains("<error"), "{summary}");
    assert!(tap(&report).contains("\nok 2 - traced\n"), "{}", tap(&report));
    report.tracing.untraced_reason = UntracedReason::OwnPidUnknown;
    report.tracing.lost = 7;
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Warned);
    assert!(
        ExerciseText::default().summary(&report).contains("was traced: 7 records were lost"),
        "whoever it was"
    );
    assert!(ExerciseText::default().summary(&report).contains("the tracer lost 7 records"));
    report.tracing.lost = 0;
    assert!(!ExerciseText::default().summary(&report).contains("lost"));
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Failed);
    let said = "could not be checked: none of 5 requests was traced";
    assert!(ExerciseText::default().summary(&report).contains(said));
    assert!(
        tap(&report).contains("1..2\n") && tap(&report).contains("not ok 2 - traced\n"),
        "{}",
        tap(&report)
    );
    assert!(junit(&report).contains(&format!("name=\"traced\"><error message=\"{said}")));
    report.tracing = TracingStatus { on: false, ..report.tracing };
    report.judge();
    assert_eq!(report.verdict, ExerciseVerdict::Passed, "who did without a tracer knows it");
}

#[test]
fn json_is_as_its_schema_says() {
    let schema = TestSchema::parse(&exercise_schema().to_string()).unwrap();
    let text = json(&report()).unwrap();
    schema.check_text(&text).unwrap();
    assert!(text.contains("\"schema\": \"vfio-trace.exercise/1\""));
    for (from, to) in [
        ("\"save\"", "\"safe\""),
        ("\"group\"", "\"groups\""),
        ("\"by\": \"reset\"", "\"by\": \"luck\""),
        ("\"RESUMING\"", "\"Resuming\""),
        ("\"nr\": 1", "\"nr\": 0"),
        ("\"EIO\"", "\"eio\""),
        ("\"hisi_acc/stop-mailbox\"", "\"stop mailbox\""),
        ("\"skipped\"", "\"forgotten\""),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(schema.check_text(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn a_test_point_per_stage() {
    let text = tap(&report());
    let points: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(
        points,
        [
            "TAP version 14",
            "1..4",
            "not ok 1 - save",
            "ok 2 - matrix: RUNNING to STOP \\# 1",
            "ok 3 - matrix: STOP to RUNNING",
            "ok 4 - io-test # SKIP not known for this driver",
        ]
    );
    assert!(text.contains("  message: \"set STOP_COPY failed with EIO\"\n"), "{text}");
}

#[test]
fn a_test_case_per_stage() {
    let text = junit(&report());
    assert_eq!(text.matches("<testcase ").count(), 4);
    assert_eq!(text.matches("<testsuite ").count(), 3);
    assert!(
        text.contains("<failure message=\"set STOP_COPY failed with EIO\">step 1, set STOP_COPY"),
        "{text}"
    );
    assert!(text.contains("The mailbox &lt;answered&gt; with"), "{text}");
    assert!(text.contains("warning: odd &amp; &quot;new&quot;"), "{text}");
    assert!(text.contains("tests=\"2\" failures=\"0\" errors=\"0\" skipped=\"0\""), "{text}");
}

#[test]
fn text_tells_steps_verdicts_and_the_first_failure() {
    let report = report();
    let mut text = ExerciseText::default();
    let step = text.step(&report.stages[0].steps[0]);
    assert!(step.starts_with("    1  75:00.1   set STOP_COPY           1.20 ms  EIO\n"), "{step}");
    assert!(step.contains("RUNNING → STOP") && step.contains("stop queues 0xe"), "{step}");
    let summary = text.summary(&report);
    assert!(summary.contains("first failure: save, step 1: set STOP_COPY failed with EIO"), "{summary}");
    assert!(summary.contains("0000:75:00.1 is RUNNING and closed, after a reset"), "{summary}");
    assert!(summary.contains("matrix    warned  1 of 2 passed, 1 of 2 warned"), "{summary}");
    let head = text.head(&report.devices, &report.tracing, &report.recovered);
    assert!(head.contains("left in RESUMING by an earlier user"), "{head}");
}

#[test]
fn names_cannot_hurt_a_terminal() {
    use crate::units::visible::tests::{HOSTILE, harms};
    let name = || HOSTILE.to_owned();
    let mut report = report();
    report.devices[0].device = name();
    report.devices[0].driver = Some(name());
    report.tracing.reason = Some(name());
    report.recovered[0].device = name();
    report.recovered[0].danger = Some("avoided");
    for stage in &mut report.stages {
        (stage.name, stage.why, stage.notes) = (name(), Some(name()), vec![name()]);
        for step in &mut stage.steps {
            (step.device, step.asked, step.note) = (name(), name(), Some(name()));
            step.driver_steps[0].name = name();
            step.driver_steps[0].detail = Some(name());
            step.findings[0] = DriverFinding {
                code: name().into(),
                step: Some(name().into()),
                errno: Some(name().into()),
                text: name(),
                check: name().into(),
                ..finding()
            };
        }
    }
    report.end[0].device = name();
    report.stopped = Some(name());
    report.judge();
    let mut text = ExerciseText::default();
    let mut all = text.head(&report.devices, &report.tracing, &report.recovered);
    for stage in &report.stages {
        stage.steps.iter().for_each(|step| all.push_str(&text.step(step)));
        all.push_str(&text.end(stage));
    }
    all.push_str(&text.summary(&report));
    all.push_str(&json(&report).unwrap());
    let (tap, junit) = (tap(&report), junit(&report));
    assert_eq!(tap.matches("\nFORGED").count() + junit.matches("\nFORGED").count(), 0, "{tap}{junit}");
    // Every line is a test point, its YAML, the plan or a bail-out.
    let known = |line: &str| {
        ["TAP version 14", "1..", "ok ", "not ok ", "  ", "Bail out! "]
            .iter()
            .any(|begin| line.starts_with(begin))
    };
    assert!(tap.lines().all(known), "{tap}");
    all.push_str(&tap);
    all.push_str(&junit);
    assert!(!all.chars().any(|c| harms(c) && c != '\n'), "{all:?}");
    assert!(!all.lines().any(|line| line.trim_start().starts_with("FORGED")), "{all}");
}
