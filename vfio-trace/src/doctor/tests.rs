//! Tests of the report as a whole, on made-up hosts.

use super::*;
use crate::{
    kernel::{KernelFacts, KprobeSupport, VfioCore, caps::CapSet, source::testing::TestRoot},
    output::{doctor_json, doctor_text},
    units::schema_check::TestSchema,
    units::visible::tests::{HOSTILE, harms},
};

const DOC: &str = include_str!("../../../docs/doctor.md");
const ROOT: &str = "CapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\n";

/// Makes a host with kprobes and BPF, without vfio.
fn host() -> TestRoot {
    let root = TestRoot::new();
    root.write("proc/self/status", ROOT)
        .write("proc/self/uid_map", "0 0 4294967295\n")
        .write("proc/sys/kernel/unprivileged_bpf_disabled", "2\n")
        .write("proc/modules", "")
        .write("proc/kallsyms", "ffffffff81000000 T _text\n")
        .write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
        .write("sys/bus/event_source/devices/software/type", "1\n")
        .write("sys/bus/event_source/devices/kprobe/type", "8\n");
    root
}

/// Removes a folder, as if the kernel lacked it or nothing were mounted there.
fn take_away(root: &TestRoot, folder: &str) {
    std::fs::remove_dir_all(root.path().join(folder)).unwrap();
}

const KPROBES: &str = "sys/bus/event_source/devices/kprobe";

/// Returns the facts of a made-up host, with this result of an attempt.
pub(super) fn facts_of(root: &TestRoot, attempt: ProbeAttempt) -> DoctorFacts {
    let files = root.files();
    DoctorFacts::read(&files, KernelFacts::read(&files), attempt, InventoryAttempt::NotTried(None))
}

fn report(root: &TestRoot, attempt: ProbeAttempt) -> DoctorReport {
    examine(&facts_of(root, attempt))
}

/// Returns an attempt without any problem.
pub(super) fn works() -> ProbeAttempt {
    ProbeAttempt::Done(AttemptResult::default())
}

fn status(report: &DoctorReport, id: &str) -> CheckStatus {
    report.findings.iter().find(|finding| finding.id == id).unwrap().status
}

fn code(root: &TestRoot, attempt: ProbeAttempt) -> u8 {
    report(root, attempt).exit_code
}

#[test]
fn a_host_that_only_lacks_btf_and_vfio_is_ready() {
    let report = report(&host(), works());
    assert_eq!((report.verdict, report.exit_code), (CheckVerdict::Ready, 0));
    assert_eq!(status(&report, "lockdown"), CheckStatus::Ok);
    assert_eq!(status(&report, "btf-vmlinux"), CheckStatus::Degraded);
    assert_eq!(status(&report, "vfio-core"), CheckStatus::Unknown);
    let btf = report.findings.iter().find(|finding| finding.id == "btf-vmlinux").unwrap();
    assert!(btf.costs.as_ref().unwrap().starts_with("argument-only mode"));
    let mut sections: Vec<CheckSection> = report.findings.iter().map(|finding| finding.section).collect();
    assert!(sections.is_sorted());
    sections.dedup();
    assert_eq!(sections.len(), 6);
}

#[test]
fn what_nobody_can_do_comes_before_what_this_process_may_not() {
    let none = || ProbeAttempt::NotTried("it takes CAP_BPF".to_owned());
    let root = host();
    root.write("proc/self/status", "CapEff:\t0000000000000000\n");
    assert_eq!(code(&root, none()), 3);
    take_away(&root, KPROBES);
    assert_eq!(code(&root, none()), 4);

    let root = host();
    root.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    assert_eq!(code(&root, none()), 4);
    let root = host();
    root.remove("proc/sys/kernel/unprivileged_bpf_disabled");
    assert_eq!(code(&root, none()), 4);
    assert_eq!(code(&host(), ProbeAttempt::NoMaps("Function not implemented".to_owned())), 4);
    let root = host();
    root.write("proc/self/uid_map", "0 1000 1\n");
    let report = report(&root, none());
    assert_eq!((report.exit_code, status(&report, "user-namespace")), (3, CheckStatus::Missing));
}

#[test]
fn a_probe_refused_for_want_of_cap_sys_admin_is_told_once() {
    let root = host();
    root.write("proc/sys/kernel/perf_event_paranoid", "3\n");
    // CAP_PERFMON and CAP_BPF
    root.write("proc/self/status", "CapEff:\t000000c000000000\n");
    let denied = ProbeAttempt::Done(AttemptResult { denied: true, ..AttemptResult::default() });
    let report = report(&root, denied);
    assert_eq!((report.exit_code, status(&report, "cap-sys-admin")), (3, CheckStatus::Missing));
    root.write("proc/sys/kernel/perf_event_paranoid", "2\n");
    assert_eq!(code(&root, works()), 0);
}

#[test]
fn kprobes_that_are_switched_off_are_noticed() {
    let root = host();
    root.write("sys/kernel/debug/kprobes/enabled", "0\n");
    let report = report(&root, works());
    assert_eq!(
        (report.exit_code, status(&report, "kprobes")),
        (4, CheckStatus::Missing),
        "nothing is traced"
    );
}

#[test]
fn where_nothing_can_be_probed_nobody_is_told_to_wait() {
    let without = host();
    take_away(&without, KPROBES);
    let off = host();
    off.write("sys/kernel/debug/kprobes/enabled", "0\n");
    let locked = host();
    locked.write("sys/kernel/security/lockdown", "none integrity [confidentiality]\n");
    for (root, waits) in [(host(), true), (without, false), (off, false), (locked, false)] {
        let report = report(&root, works());
        let text = doctor_text(&report, false);
        assert_eq!(text.contains("tail waits for it"), waits, "{text}");
        assert_eq!(text.contains("no tracing"), !waits, "{text}");
    }
}

#[test]
fn where_a_capability_may_be_missing_it_is_not_said_that_tracing_works() {
    let root = host();
    root.write("proc/sys/kernel/perf_event_paranoid", "3\n");
    // CAP_PERFMON and CAP_BPF
    root.write("proc/self/status", "CapEff:\t000000c000000000\n");
    let report = report(&root, works());
    assert_eq!((report.exit_code, status(&report, "cap-sys-admin")), (0, CheckStatus::Unknown));
    let text = doctor_text(&report, false);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("whether tracing is permitted here is not known"), "{last}");
}

#[test]
fn only_devices_that_cannot_migrate_give_exit_code_1() {
    let root = host();
    root.write("sys/devices/pci0/0000:5e:00.0/vendor", "0x8086\n")
        .write("sys/bus/pci/drivers/vfio-pci/x", "")
        .link("sys/devices/pci0/0000:5e:00.0/subsystem", "../../../bus/pci")
        .link("sys/devices/pci0/0000:5e:00.0/driver", "../../../bus/pci/drivers/vfio-pci")
        .link("sys/class/vfio-dev/vfio0/device", "../../../devices/pci0/0000:5e:00.0");
    let report = report(&root, works());
    assert_eq!((report.verdict, report.exit_code), (CheckVerdict::NoDeviceMigrates, 1));
}

#[test]
fn without_sysfs_nothing_is_said_to_be_missing() {
    let root = host();
    take_away(&root, "sys");
    let report = report(&root, works());
    assert_eq!((report.verdict, report.exit_code), (CheckVerdict::NotPermitted, 3));
    for id in ["kprobes", "lockdown", "device"] {
        assert_eq!(status(&report, id), CheckStatus::Unknown, "{id}");
    }
    let text = doctor_text(&report, false);
    for word in
        ["CONFIG_", "built without", "no device is bound", "this kernel cannot be traced", "securityfs"]
    {
        assert!(!text.contains(word), "{word}: {text}");
    }
}

#[test]
fn without_proc_nothing_is_said_to_be_missing() {
    let root = host();
    take_away(&root, "proc");
    let facts = facts_of(&root, ProbeAttempt::NotTried("it takes CAP_BPF".to_owned()));
    // On a host of its own the kernel tells the capabilities.
    let root_caps = CapSet::parse_status(ROOT).unwrap();
    for caps in [CapSet::default(), root_caps] {
        let mut facts = facts_of(&root, ProbeAttempt::NotTried("it takes CAP_BPF".to_owned()));
        facts.kernel.caps = caps;
        let report = examine(&facts);
        for id in ["user-namespace", "bpf", "kernel-addresses", "migration-driver", "vfio-core"] {
            assert_eq!(status(&report, id), CheckStatus::Unknown, "{id}");
        }
        let text = doctor_text(&report, false);
        for word in ["CONFIG_BPF", "the first one", "not needed", "kptr_restrict", "is not loaded", " shown"]
        {
            assert!(!text.contains(word), "{word}: {text}");
        }
    }
    assert_eq!((facts.has_bpf, facts.first_user_namespace), (None, None));
    let root = host();
    root.remove("proc/self/uid_map");
    assert_eq!(facts_of(&root, works()).first_user_namespace, Some(true), "a kernel without user namespaces");
}

/// Makes hosts that together bring out every check.
fn odd_hosts() -> Vec<DoctorFacts> {
    let not_tried = || ProbeAttempt::NotTried("it takes CAP_BPF".to_owned());
    let mut all = vec![facts_of(&host(), works()), facts_of(&host(), not_tried())];
    let machine = crate::kernel::inventory::tests::machine();
    all.push(facts_of(&machine, ProbeAttempt::NoMaps("no".to_owned())));
    let refused =
        AttemptResult { refused: vec![(Role::Read, "no".to_owned())], probes: Vec::new(), denied: true };
    all.push(DoctorFacts {
        first_user_namespace: Some(false),
        inventory: InventoryAttempt::Failed("no".to_owned()),
        ..facts_of(&machine, ProbeAttempt::Done(refused))
    });
    for facts in &mut all {
        facts.kernel.vfio = VfioCore::Module;
    }
    all.push(facts_of(&host(), works()));
    all
}

#[test]
fn the_document_is_as_its_schema_says() {
    let schema = TestSchema::parse(&doctor_schema().to_string()).unwrap();
    for facts in odd_hosts() {
        let text = doctor_json(&examine(&facts)).unwrap();
        schema.check_text(&text).unwrap();
        for (from, to) in [
            ("\"ok\"", "\"fine\""),
            ("\"privileges\"", "\"rights\""),
            ("vfio-trace.doctor/1", "vfio-trace.doctor/2"),
            ("\"subject\"", "\"object\""),
            ("\"cap-bpf\"", "\"CAP_BPF\""),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(schema.check_text(&text.replacen(from, to, 1)).is_err(), "{to}");
        }
    }
    for verdict in CheckVerdict::ALL {
        let name = serde_json::to_value(verdict).unwrap();
        assert!(DOC.contains(&format!("| {} | `{}` |", verdict.exit_code(), name.as_str().unwrap())));
    }
}

#[test]
fn every_check_is_of_the_table_and_in_the_manual() {
    for facts in odd_hosts() {
        for group in &CHECKS {
            for check in (group.make)(&facts) {
                assert!(group.lists(&check), "{check:?}");
            }
        }
    }
    for id in CHECKS.iter().flat_map(|group| group.ids) {
        assert!(DOC.contains(&format!("`{id}`")), "docs/doctor.md has no {id}");
    }
    assert!(CHECKS.is_sorted_by_key(|group| group.section), "the report is by section");
}

/// Checks with made-up facts, one thing wrong at a time: a check is a function of the facts and of nothing else.
#[test]
fn each_fact_shows_in_its_check() {
    let said = |change: &dyn Fn(&mut DoctorFacts), id: &str| {
        let mut facts = facts_of(&host(), works());
        change(&mut facts);
        let report = examine(&facts);
        let check = report.findings.into_iter().find(|check| check.id == id).unwrap();
        (check.status, check.blocks)
    };
    let (missing, support) = (CheckStatus::Missing, Some(CheckBlocker::Support));
    assert_eq!(said(&|_| (), "kprobes"), (CheckStatus::Ok, None));
    assert_eq!(said(&|facts| facts.kprobe_support = KprobeSupport::Absent, "kprobes"), (missing, support));
    assert_eq!(said(&|facts| facts.kprobes_off = true, "kprobes"), (missing, support));
    assert_eq!(said(&|facts| facts.attempt = ProbeAttempt::NoMaps(String::new()), "bpf"), (missing, support));
    let permission = Some(CheckBlocker::Permission);
    assert_eq!(
        said(&|facts| facts.first_user_namespace = Some(false), "user-namespace"),
        (missing, permission)
    );
    assert_eq!(said(&|facts| facts.sysfs_readable = false, "device").0, CheckStatus::Unknown);
    let failed = |facts: &mut DoctorFacts| {
        facts.kernel.vfio = VfioCore::Module;
        facts.inventory = InventoryAttempt::Failed(String::new());
    };
    assert_eq!(said(&failed, "probe-inventory").0, missing);
    assert_eq!(
        said(&|facts| facts.kernel.vfio = VfioCore::Module, "probe-inventory").0,
        CheckStatus::Unknown
    );
}

/// Checks that names cannot send control characters to a terminal: any driver can choose names of devices, drivers and
/// modules, which are folders, links and lines in /proc and sysfs.
#[test]
fn nothing_in_proc_or_sysfs_hurts_a_terminal() {
    let line = HOSTILE.replace(['\n', '\r'], "");
    for name in [HOSTILE, "\u{1b}]0;x\u{7}", "\u{202e}gnp", "a\n FORGED"] {
        let root = host();
        let device = format!("sys/devices/pci0/{name}");
        root.write(&format!("{device}/vendor"), name)
            .write(&format!("sys/bus/{name}/drivers/{name}/x"), "")
            .link(&format!("{device}/subsystem"), &format!("../../../bus/{name}"))
            .link(&format!("{device}/driver"), &format!("../../../bus/{name}/drivers/{name}"))
            .link(&format!("{device}/iommu_group"), &format!("../../../kernel/iommu_groups/{name}"))
            .link("sys/class/vfio-dev/vfio0/device", &format!("../../../devices/pci0/{name}"))
            .write("proc/modules", format!("{line} 16384 1 vfio, Live 0x0\nvfio 16384 1 {line}, Live 0x0\n"))
            .write(
                "proc/kallsyms",
                format!("ffffffff81000000 T _text\nffffffffc0000000 t {line}\t[{line}]\n"),
            )
            .write("proc/sys/kernel/osrelease", name)
            .write("proc/sys/kernel/perf_event_paranoid", name)
            .write("sys/kernel/security/lockdown", format!("none [{name}]"))
            .write(&format!("sys/module/{line}/version"), name);
        for attempt in
            [works(), ProbeAttempt::NotTried(name.to_owned()), ProbeAttempt::NoMaps(name.to_owned())]
        {
            let report = report(&root, attempt);
            let devices = report.findings.iter().filter(|finding| finding.section == CheckSection::Devices);
            assert!(devices.count() > 0);
            for text in [doctor_text(&report, false), doctor_json(&report).unwrap()] {
                assert!(!text.chars().any(|c| harms(c) && c != '\n'), "{text:?}");
                assert!(!text.lines().any(|line| line.trim_start().starts_with("FORGED")), "{text}");
            }
        }
    }
}
