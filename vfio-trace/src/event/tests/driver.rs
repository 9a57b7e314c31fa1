//! Tests of records that driver plug-ins ask for (steps), and of resets by the PCI core.

use vfio_trace_common::wire::RESET_BY_FLR;

use crate::{
    event::{CallOutcome, EnclosingArc, Errno, EventData, MigState, fixture::*},
    kernel::ReturnKind,
};

#[test]
fn a_step_belongs_to_the_arc_around_it() {
    let returns = |returns| function_note(1, "hisi_qm_mb", returns);
    let script = RecordScript::new(0xd1)
        .note(returns(ReturnKind::Int))
        .next(RUNNING, STOP, STOP, 0)
        .step(2_000, 0, [1, 0xe, 0, 0, 0])
        .step(9_000, (-110i32).cast_unsigned().into(), [1, 4, 0, 0, 1])
        .note(returns(ReturnKind::Void))
        .step(1_000, 7, [0; 5])
        .on(0xd2)
        .note(returns(ReturnKind::Pointer))
        .step(1_000, (-12i64).cast_unsigned(), [0; 5])
        .step(1_000, 0xffff_8880_0000_0000, [0; 5]);
    let steps: Vec<_> = script
        .events()
        .into_iter()
        .filter_map(|event| match event.data {
            EventData::Step(step) => Some((step.arc, step.outcome, step.returned, step.args.len())),
            _ => None,
        })
        .collect();
    let arc = Some(EnclosingArc { from: MigState::RUNNING, to: MigState::STOP });
    assert_eq!(
        steps,
        [
            (arc, CallOutcome::Ok, None, 5),
            (arc, CallOutcome::Failed(Errno(110)), None, 5),
            (arc, CallOutcome::Unknown, None, 5),
            (None, CallOutcome::Failed(Errno(12)), None, 5),
            (None, CallOutcome::Ok, None, 5),
        ]
    );
}

#[test]
fn a_step_without_its_note_says_little() {
    let events = RecordScript::new(0xd1).step(1_000, 5, [1; 5]).events();
    let EventData::Step(step) = &events[0].data else { panic!("{events:?}") };
    assert_eq!((&step.function, step.outcome, step.args.len()), (&None, CallOutcome::Unknown, 0));
}

#[test]
fn a_reset_by_the_pci_core_makes_the_device_run() {
    let script = RecordScript::new(0xd1)
        .device(BDF, "hisi_acc_vfio_pci", 5)
        .set(&[RUNNING, PRE_COPY], 0xf1, 31)
        .pci_reset(0, RESET_BY_FLR)
        .get_state(RUNNING)
        .pci_reset(-110, 0);
    let events = script.events();
    let resets: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.data {
            EventData::PciReset(reset) => Some((reset.method, reset.state, reset.outcome)),
            _ => None,
        })
        .collect();
    assert_eq!(
        resets,
        [
            (Some("flr"), Some(MigState::RUNNING), CallOutcome::Ok),
            (None, None, CallOutcome::Failed(Errno(110)))
        ]
    );
    assert!(!events.iter().any(|event| matches!(event.data, EventData::Desync(_))), "{events:?}");
}
