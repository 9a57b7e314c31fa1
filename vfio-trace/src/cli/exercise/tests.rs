//! What may be asked for together.

use clap::Parser as _;

use super::*;
use crate::kernel::Bus;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

pub(super) fn args(words: &[&str]) -> Args {
    Line::try_parse_from([&["exercise"], words].concat()).unwrap().args
}

fn device(name: &str, driver: &str) -> VfioDevice {
    VfioDevice {
        name: name.to_owned(),
        vfio: None,
        group: Some(1),
        cdev: false,
        driver: Some(driver.to_owned()),
        module: None,
        bus: Bus::Mdev,
        is_vf: false,
        pci_id: None,
        pci_class: None,
        sysfs: PathBuf::new(),
    }
}

fn checked(words: &[&str], driver: &str, to: Option<&str>) -> Result<Vec<(Plan, String)>, u8> {
    let args = args(words);
    let plans: Vec<Plan> = args.plans.iter().flat_map(|asked| asked.plans(to.is_some())).collect();
    let second = to.map(|driver| device("second", driver));
    check(&args, &plans, &device("first", driver), second.as_ref()).map_err(|error| error.code)
}

#[test]
fn plans_by_name() {
    let plans = |words: &[&str]| -> Vec<&str> {
        args(words).plans.iter().flat_map(|asked| asked.plans(false)).map(Plan::name).collect()
    };
    assert_eq!(plans(&["dev"]), ["save", "resume"]);
    assert_eq!(plans(&["dev", "--plan", "io-test", "--plan", "faults,save"]), ["io-test", "faults", "save"]);
    assert_eq!(plans(&["dev", "--plan", "all"]).len(), Plan::ALL.len() - 1);
    Line::try_parse_from(["exercise", "dev", "--plan", "nothing"]).unwrap_err();
    Line::try_parse_from(["exercise", "dev", "--json", "--tap"]).unwrap_err();
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
    assert_eq!(left_out.iter().map(|(plan, _)| *plan).collect::<Vec<_>>(), [Plan::Faults]);
    assert_eq!(checked(&["dev", "--plan", "all", "--force"], hisi, None), Ok(vec![]));
}

#[test]
fn only_mount_is_told_that_somebody_has_it() {
    assert_eq!([told(IN_USE, false), told(IN_USE, true)], [NOT_PERMITTED, IN_USE]);
    assert_eq!([told(NOT_PERMITTED, true), told(USAGE, false)], [NOT_PERMITTED, USAGE]);
    assert!(args(&["dev", "--tell-in-use"]).tell_in_use);
}
