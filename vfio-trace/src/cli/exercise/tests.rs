//! Tests of options that may be given together, and of refusals.

use clap::Parser as _;

use super::*;
use crate::kernel::{DeviceBus, source::testing::TestRoot};

#[derive(Debug, clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    args: ExerciseArgs,
}

pub(super) fn args(words: &[&str]) -> ExerciseArgs {
    CommandLine::try_parse_from([&["exercise"], words].concat()).unwrap().args
}

fn device(name: &str, driver: &str) -> VfioDevice {
    VfioDevice {
        name: name.to_owned(),
        vfio: None,
        group: Some(1),
        cdev: false,
        driver: Some(driver.to_owned()),
        module: None,
        bus: DeviceBus::Mdev,
        is_vf: false,
        pci_id: None,
        pci_class: None,
        sysfs: PathBuf::new(),
    }
}

fn checked(words: &[&str], driver: &str, to: Option<&str>) -> Result<Vec<(ExercisePlan, String)>, u8> {
    let args = args(words);
    let plans: Vec<ExercisePlan> = args.plans.iter().flat_map(|asked| asked.plans(to.is_some())).collect();
    let second = to.map(|driver| device("second", driver));
    check(&args, &plans, &device("first", driver), second.as_ref()).map_err(|error| error.code)
}

#[test]
fn plans_by_name() {
    let plans = |words: &[&str]| -> Vec<&str> {
        args(words).plans.iter().flat_map(|asked| asked.plans(false)).map(ExercisePlan::name).collect()
    };
    assert_eq!(plans(&["dev"]), ["save", "resume"]);
    assert_eq!(plans(&["dev", "--plan", "io-test", "--plan", "faults,save"]), ["io-test", "faults", "save"]);
    assert_eq!(plans(&["dev", "--plan", "all"]).len(), ExercisePlan::ALL.len() - 1);
    CommandLine::try_parse_from(["exercise", "dev", "--plan", "nothing"]).unwrap_err();
    CommandLine::try_parse_from(["exercise", "dev", "--json", "--tap"]).unwrap_err();
}

#[test]
fn what_cannot_be_is_refused() {
    assert_eq!(checked(&["dev", "--plan", "full"], "mtty", None), Err(USAGE));
    assert_eq!(checked(&["dev", "--plan", "full"], "mtty", Some("quayside")), Err(USAGE));
    assert_eq!(checked(&["dev", "--plan", "full"], "mtty", Some("mtty")), Ok(vec![]));
    assert_eq!(checked(&["dev", "--plan", "resume", "--out", "x"], "mtty", None), Err(USAGE));
}

#[test]
fn what_is_dangerous_wants_force() {
    let hisi = "hisi_acc_vfio_pci";
    assert_eq!(checked(&["dev", "--plan", "faults"], "mtty", None), Ok(vec![]));
    assert_eq!(checked(&["dev", "--plan", "faults"], hisi, None), Err(USAGE));
    assert_eq!(checked(&["dev", "--plan", "faults", "--force"], hisi, None), Ok(vec![]));
    let left_out = checked(&["dev", "--plan", "all"], hisi, None).unwrap();
    assert_eq!(left_out.iter().map(|(plan, _)| *plan).collect::<Vec<_>>(), [ExercisePlan::Faults]);
    assert_eq!(checked(&["dev", "--plan", "all", "--force"], hisi, None), Ok(vec![]));
}

#[test]
fn a_signal_before_the_start_opens_nothing() {
    let task = ExerciseTask {
        plans: vec![ExercisePlan::Save],
        left_out: Vec::new(),
        count: 1,
        keeper: None,
        image: None,
        wrong: None,
        tracing_off_reason: None,
        kernel: KernelVersion::read(&TestRoot::new().files()),
        force: false,
    };
    let first = ExerciseCandidate { device: device("dev", "mtty"), closed_in: None, idle: true };
    let (line, stop) = (args(&["dev"]), AtomicBool::new(true));
    let done = exercise::exercise(task, first, None, None, &mut ExerciseDisplay::new(&line), &stop);
    assert!(matches!(done, Err(BeginError::Stopped)), "{:?}", done.err());
}

#[test]
fn only_mount_is_told_that_somebody_has_it() {
    assert_eq!([told(IN_USE, false), told(IN_USE, true)], [NOT_PERMITTED, IN_USE]);
    assert_eq!([told(NOT_PERMITTED, true), told(USAGE, false)], [NOT_PERMITTED, USAGE]);
    assert!(args(&["dev", "--tell-in-use"]).tell_in_use);
}

#[test]
fn who_is_asked_hears_only_what_may_come_of_it() {
    let said = |words: &[&str], release: &str, flags: Option<u64>| {
        let args = args(&[&["dev"], words].concat());
        let plans: Vec<ExercisePlan> = args.plans.iter().flat_map(|asked| asked.plans(false)).collect();
        let kernel = KernelVersion { release: release.to_owned(), version: String::new() };
        dangers(&args, &plans, &kernel, flags.map(MigFlags)).join("\n")
    };
    let hangs = |words: &[&str], release, flags| said(words, release, flags).contains("loops for ever");
    let (matrix, all) = (["--plan", "matrix", "--force"], ["--plan", "all", "--force"]);
    for flags in [Some(5), Some(7), None] {
        assert!(hangs(&matrix, "6.12.50", flags) && hangs(&all, "6.8.0-45-generic", flags), "{flags:?}");
        assert!(!hangs(&matrix, "6.12.117", flags), "a kernel that is known to be mended");
        assert!(!hangs(&matrix[..2], "6.12.50", flags), "without --force it is not asked for");
        assert!(!hangs(&["--plan", "save,stress,precopy,faults", "--force"], "6.12.50", flags));
    }
    assert!(!hangs(&matrix, "6.12.50", Some(3)), "a device without PRE_COPY");
    assert!(hangs(&matrix, "6.1.9", Some(7)) && !hangs(&matrix, "6.1.9", None), "older than PRE_COPY");
    let (lost, read) = ("does now is lost", "opened, read and closed");
    let (reads, loads) =
        (said(&["--plan", "io-test"], "7.3.4", None), said(&["--plan", "io-test,save"], "7.3.4", None));
    assert!(reads.contains(read) && !reads.contains(lost), "{reads}");
    assert!(!loads.contains(read) && loads.contains(lost), "{loads}");
}
