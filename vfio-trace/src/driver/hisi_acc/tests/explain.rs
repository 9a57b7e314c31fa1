//! Tests of the explanations: the findings that follow from events.

use super::*;

type HisiFindingKey<'a> = (&'a str, &'a str, &'a str);

#[track_caller]
fn expect(fed: &mut PluginHarness, wanted: &[HisiFindingKey<'_>]) {
    let found = fed.found();
    let found: Vec<HisiFindingKey<'_>> =
        found.iter().map(|(code, step, errno)| (code.as_str(), step.as_str(), errno.as_str())).collect();
    assert_eq!(found, wanted);
}

/// Feeds the steps of an arc that failed with `errno`, and compares the findings with the expected ones.
#[track_caller]
fn failing(
    from: S,
    to: S,
    errno: u32,
    steps: impl IntoIterator<Item = EventData>,
    wanted: &[HisiFindingKey<'_>],
) {
    let mut fed = fed();
    fed.feed(steps).feed([arc(from, to, errno)]);
    expect(&mut fed, wanted);
}

const PAUSED: HisiFindingKey<'_> = ("hisi_acc/queues-paused", "stop queues", "-");

#[test]
fn stopping_fails() {
    let stop = |errno, wanted| {
        failing(
            S::RUNNING,
            S::STOP,
            errno,
            [mailbox(0xe, 0, errno)],
            &[("hisi_acc/stop-mailbox", "stop queues", wanted)],
        );
    };
    stop(EIO, "EIO");
    stop(ETIMEDOUT, "ETIMEDOUT");
    stop(EBUSY, "EBUSY");
    stop(EINVAL, "EINVAL");
    // The wait for the answer fails first, and says less than the command that waits.
    failing(
        S::PRE_COPY,
        S::STOP_COPY,
        EIO,
        [step("hisi_qm_wait_mb_ready", ETIMEDOUT, &[]), mailbox(0xe, 0, EIO)],
        &[("hisi_acc/stop-mailbox", "stop queues", "EIO")],
    );
    let paused = || mailbox(0xe, 0, 0);
    let interrupt = ("hisi_acc/interrupt-pending", "check interrupts", "EBUSY");
    failing(S::RUNNING, S::STOP, EBUSY, [paused()], &[interrupt, PAUSED]);
    failing(S::PRE_COPY, S::STOP_COPY, EBUSY, [paused()], &[interrupt, PAUSED]);
    let cache = |errno| ("hisi_acc/cache-writeback", "write cache back", errno);
    failing(S::RUNNING, S::STOP, EINVAL, [paused()], &[cache("EINVAL"), PAUSED]);
    failing(S::RUNNING, S::STOP, ETIMEDOUT, [paused()], &[cache("ETIMEDOUT"), PAUSED]);
}

#[test]
fn stopping_fails_where_functions_are_kept() {
    let inner = |function, errno| {
        [mailbox(0xe, 0, 0), step(function, errno, &[]), step("hisi_acc_vf_stop_device", errno, &[])]
    };
    let interrupt = ("hisi_acc/interrupt-pending", "check interrupts", "EBUSY");
    failing(S::RUNNING, S::STOP, EBUSY, inner("hisi_acc_check_int_state", EBUSY), &[interrupt, PAUSED]);
    let cache = ("hisi_acc/cache-writeback", "write cache back", "EINVAL");
    failing(S::RUNNING, S::STOP, EINVAL, inner("vf_qm_cache_wb", EINVAL), &[cache, PAUSED]);
}

#[test]
fn a_cause_is_not_told_by_the_errno_alone() {
    // The command to stop was not seen: it may have failed with any of these.
    for (errno, name) in [(EBUSY, "EBUSY"), (EINVAL, "EINVAL"), (ETIMEDOUT, "ETIMEDOUT")] {
        failing(S::RUNNING, S::STOP, errno, [], &[("hisi_acc/step-unknown", "stop", name)]);
        let kept = [step("hisi_acc_vf_stop_device", errno, &[])];
        failing(S::RUNNING, S::STOP, errno, kept, &[("hisi_acc/step-unknown", "stop", name)]);
    }
    failing(
        S::RUNNING,
        S::STOP,
        EIO,
        [mailbox(0xe, 0, 0)],
        &[("hisi_acc/step-unknown", "stop", "EIO"), PAUSED],
    );
}

#[test]
fn a_command_that_was_not_sent_was_not_answered_either() {
    let said = |errno, waits: &[u32]| {
        let mut fed = fed();
        fed.feed(waits.iter().map(|errno| step("hisi_qm_wait_mb_ready", *errno, &[])));
        fed.feed([mailbox(0xe, 0, errno), arc(S::RUNNING, S::STOP, errno)]);
        let texts = fed.texts();
        assert_eq!(texts.len(), 1, "{texts:?}");
        texts[0].trim_end_matches(" when the driver asked the VF to pause its queues.").to_owned()
    };
    let busy = "The mailbox was still busy, so that no command was sent,";
    // Both tries of a stuck mailbox, as in Linux 7 and as in Linux 6.
    assert_eq!(said(ETIMEDOUT, &[0]), "The mailbox did not answer in time");
    assert_eq!(said(ETIMEDOUT, &[ETIMEDOUT]), busy);
    assert_eq!(said(ETIMEDOUT, &[0, ETIMEDOUT]), "The mailbox did not answer in time");
    assert_eq!(said(EBUSY, &[ETIMEDOUT]), busy);
    assert_eq!(said(EBUSY, &[]), busy);
    // Without the wait, both are possible.
    assert_eq!(said(ETIMEDOUT, &[]), "The mailbox was not free, or did not answer in time,");
    assert_eq!(said(EIO, &[0, 0]), "The mailbox answered with an error status");
    assert!(said(EIO, &[]).contains(", or the device's errors kept it"));
}

#[test]
fn another_try_may_stop_what_could_not_be() {
    let mut fed = fed();
    fed.feed([mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, EINVAL)]);
    assert_eq!(fed.texts().len(), 2);
    let errno = crate::event::Errno(EINVAL);
    let mut device = super::super::device::HisiDevice::default();
    device.apply(&mut PluginHarness::new(&HisiAccPlugin).take(mailbox(0xe, 0, 0)));
    for finding in super::super::explain::arc(&device, S::RUNNING, S::STOP, errno) {
        assert!(!finding.check.contains("until a reset"), "{finding:?}");
    }
    fed.feed([mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, 0), arc(S::STOP, S::RUNNING, 0)]);
    assert_eq!(fed.texts(), [""; 0]);
}

#[test]
fn queues_are_paused_until_something_starts_them() {
    let mut fed = fed();
    fed.feed([mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, 0), arc(S::STOP, S::RUNNING, 0)]);
    fed.feed([mailbox(0xe, 0, EIO), arc(S::RUNNING, S::STOP, EIO)]);
    assert_eq!(fed.codes(), ["hisi_acc/stop-mailbox"]);
    fed.feed([mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, EBUSY)]);
    assert_eq!(fed.codes(), ["hisi_acc/interrupt-pending", "hisi_acc/queues-paused"]);
    for starts in [reset(), pci_reset(), open()] {
        fed.feed([mailbox(0xe, 0, 0), starts, arc(S::RUNNING, S::STOP, EBUSY)]);
        assert_eq!(fed.codes(), ["hisi_acc/interrupt-pending"]);
    }
}

#[test]
fn saving_fails() {
    let pre_copy = |steps: Vec<EventData>, wanted: &[HisiFindingKey<'_>]| {
        failing(S::PRE_COPY, S::STOP_COPY, EINVAL, steps, wanted);
    };
    let sqc = ("hisi_acc/save-mailbox", "save SQC address", "EIO");
    pre_copy(vec![mailbox(0xe, 0, 0), mailbox(4, 1, EIO)], &[sqc, PAUSED]);
    // Linux 7: struct hisi_qm *, u64 *, command, queue
    let read = step("hisi_qm_mb_read", EIO, &[1, 2, 4, 0, 0]);
    pre_copy(vec![mailbox(0xe, 0, 0), read], &[sqc, PAUSED]);
    let cqc = ("hisi_acc/save-mailbox", "save CQC address", "EIO");
    pre_copy(
        vec![mailbox(0xe, 0, 0), mailbox(4, 1, 0), mailbox(5, 1, EIO), step("vf_qm_state_save", EINVAL, &[])],
        &[cqc, PAUSED],
    );
    // No step has failed, and access to registers cannot fail: the reason is not known.
    let unknown = |step| ("hisi_acc/step-unknown", step, "EINVAL");
    pre_copy(vec![mailbox(0xe, 0, 0), mailbox(4, 1, 0)], &[unknown("save"), PAUSED]);
    pre_copy(vec![mailbox(0xe, 0, 0)], &[unknown("stop"), PAUSED]);
    pre_copy(vec![mailbox(0xe, 0, 0), step("qm_wait_dev_not_ready", 0, &[])], &[unknown("save"), PAUSED]);
    pre_copy(
        vec![mailbox(0xe, 0, 0), step("vf_qm_read_data", EIO, &[])],
        &[("hisi_acc/step-unknown", "save", "EIO"), PAUSED],
    );
    pre_copy(
        vec![mailbox(0xe, 0, 0), step("hisi_qm_wait_mb_ready", ETIMEDOUT, &[])],
        &[("hisi_acc/step-unknown", "stop", "ETIMEDOUT"), PAUSED],
    );
    // It may also be the wait of a command that was not seen.
    pre_copy(
        vec![step("hisi_qm_wait_mb_ready", ETIMEDOUT, &[])],
        &[("hisi_acc/step-unknown", "stop", "ETIMEDOUT")],
    );
}

#[test]
fn a_file_is_leaked() {
    let stop_copy = |steps: Vec<EventData>, wanted: &[HisiFindingKey<'_>]| {
        failing(S::STOP, S::STOP_COPY, EINVAL, steps, wanted);
    };
    let opened = |errno| step("hisi_acc_open_saving_migf", errno, &[]);
    let cqc = ("hisi_acc/save-mailbox", "save CQC address", "EIO");
    stop_copy(vec![opened(0), mailbox(5, 1, EIO)], &[cqc, ("hisi_acc/file-leaked", "save", "-")]);
    // There was no such command.
    stop_copy(vec![mailbox(5, 1, EIO)], &[cqc]);
    stop_copy(vec![opened(EINVAL)], &[("hisi_acc/match-data", "collect match data", "EINVAL")]);
    let inner = [step("vf_qm_get_match_data", EIO, &[]), opened(EIO)];
    stop_copy(inner.into(), &[("hisi_acc/match-data", "collect match data", "EIO")]);
    // The same if the function around it is inlined; if neither is seen, registers are not to blame.
    let alone = vec![step("vf_qm_get_match_data", EIO, &[])];
    stop_copy(alone, &[("hisi_acc/match-data", "collect match data", "EIO")]);
    stop_copy(vec![], &[("hisi_acc/step-unknown", "save", "EINVAL")]);
    failing(S::RUNNING, S::PRE_COPY, EINVAL, [], &[("hisi_acc/match-data", "collect match data", "EINVAL")]);
    // No memory, no file: the PF was not asked.
    failing(S::RUNNING, S::PRE_COPY, 12, [], &[("hisi_acc/no-file", "open save file", "ENOMEM")]);
}

#[test]
fn loading_fails() {
    let load = |length: u64, errno: u32, steps: Vec<EventData>, wanted: HisiFindingKey<'_>| {
        let mut fed = fed();
        fed.feed([arc(S::STOP, S::RESUMING, 0), in_write(mailbox(6, 1, 0))]);
        fed.feed([EventData::Write(io(length, 0)), resuming(length, &[])]);
        fed.feed(steps).feed([arc(S::RESUMING, S::STOP, errno)]);
        expect(&mut fed, &[wanted]);
    };
    load(100, EINVAL, vec![], ("hisi_acc/stream-truncated", "load", "EINVAL"));
    load(0, EINVAL, vec![], ("hisi_acc/stream-truncated", "load", "EINVAL"));
    // A short stream does not explain another errno.
    load(100, EIO, vec![mailbox(4, 0, EIO)], ("hisi_acc/load-mailbox", "load SQC address", "EIO"));
    load(176, EIO, vec![mailbox(4, 0, EIO)], ("hisi_acc/load-mailbox", "load SQC address", "EIO"));
    load(
        176,
        EIO,
        vec![mailbox(4, 0, 0), mailbox(5, 0, EIO)],
        ("hisi_acc/load-mailbox", "load CQC address", "EIO"),
    );
    let waits = step("hisi_qm_wait_mb_ready", ETIMEDOUT, &[]);
    load(176, EBUSY, vec![waits], ("hisi_acc/load-not-ready", "wait for the mailbox", "ETIMEDOUT"));
    // The driver does not check registers that it writes.
    load(176, EINVAL, vec![], ("hisi_acc/step-unknown", "load", "EINVAL"));
    load(176, EINVAL, vec![mailbox(4, 0, 0)], ("hisi_acc/step-unknown", "load", "EINVAL"));
    let inner = vec![step("vf_qm_load_data", EIO, &[]), step("hisi_acc_vf_load_state", EIO, &[])];
    load(176, EIO, inner, ("hisi_acc/step-unknown", "load", "EIO"));
}

/// Feeds a write of `length` bytes that differ in `other`, which the driver refuses.
fn refused(length: u64, other: &[(&str, u64)], steps: Vec<EventData>, after: EventData) -> PluginHarness {
    let mut fed = fed();
    fed.feed([arc(S::STOP, S::RESUMING, 0)]).feed(steps.into_iter().map(in_write));
    fed.feed([EventData::Write(io(length, 14)), after, resuming(length, other)]);
    fed
}

#[test]
fn what_does_not_fit() {
    let queues = |number| after(&[("mig_state", 4), ("vf_qm.qp_num", number)]);
    let check = |other: &[(&str, u64)], number, wanted| {
        expect(&mut refused(176, other, vec![mailbox(6, 1, 0)], queues(number)), &[wanted]);
        // Where the function that refuses is not inlined, it is a step: that is no other reason.
        let kept = vec![mailbox(6, 1, 0), step("vf_qm_check_match", EINVAL, &[])];
        expect(&mut refused(176, other, kept, queues(number)), &[wanted]);
    };
    check(&[("vf_data.acc_magic", 7)], 0, ("hisi_acc/match-magic", "match: magic", "EINVAL"));
    check(&[("vf_data.major_ver", 2)], 0, ("hisi_acc/match-version", "match: version", "EINVAL"));
    check(&[("vf_data.dev_id", 0xa256)], 0, ("hisi_acc/match-device", "match: device", "EINVAL"));
    check(&[("vf_data.qp_num", 63)], 64, ("hisi_acc/match-queues", "match: queues", "EINVAL"));
    check(&[("vf_data.que_iso_cfg", 1)], 64, ("hisi_acc/match-isolation", "match: isolation", "EINVAL"));
    // Version 1 has no version numbers: these are bytes of another member.
    let old = [("vf_data.acc_magic", MAGIC_V1), ("vf_data.major_ver", 9), ("vf_data.que_iso_cfg", 1)];
    check(&old, 64, ("hisi_acc/match-isolation", "match: isolation", "EINVAL"));
}

#[test]
fn the_queues_cannot_be_asked_for() {
    let steps = vec![mailbox(6, 1, EIO), step("vf_qm_check_match", EIO, &[])];
    let mut fed = refused(176, &[], steps, after(&[("vf_qm.qp_num", 0)]));
    expect(&mut fed, &[("hisi_acc/match-vft", "match: read queues of the VF", "EIO")]);
}

#[test]
fn a_refusal_without_what_was_refused() {
    let unknown = [("hisi_acc/match", "match", "EFAULT")];
    // No image followed: the next event ends the wait for it.
    let mut fed = fed();
    fed.feed([arc(S::STOP, S::RESUMING, 0), EventData::Write(io(176, 14))]);
    expect(&mut fed, &[]);
    fed.feed([set_state(S::RUNNING, 0)]);
    expect(&mut fed, &unknown);
    fed.feed([set_state(S::RUNNING, 0)]);
    expect(&mut fed, &[]);
}

#[test]
fn a_write_is_judged_by_what_it_left() {
    let mut fed = fed();
    fed.feed([arc(S::STOP, S::RESUMING, 0), resuming(0, &[])]);
    fed.feed([EventData::Write(io(176, 14)), core(&[("mig_state", 4)])]);
    // The image from before the write would give another reason.
    expect(&mut fed, &[]);
    fed.feed([resuming(176, &[("vf_data.major_ver", 2)])]);
    expect(&mut fed, &[("hisi_acc/match-version", "match: version", "EINVAL")]);
}

#[test]
fn other_writes_and_reads_that_fail() {
    let mut fed = fed();
    fed.feed([EventData::Write(io(1, 12))]);
    expect(&mut fed, &[("hisi_acc/stream-too-long", "write", "ENOMEM")]);
    fed.feed([EventData::Write(io(1, ENODEV))]);
    expect(&mut fed, &[("hisi_acc/session-over", "write", "ENODEV")]);
    fed.feed([
        EventData::Read(io(1, ENODEV)),
        EventData::Read(io(40, 0)),
        EventData::Read(io(40, 42)),
        EventData::Write(io(1, 4)),
    ]);
    expect(&mut fed, &[("hisi_acc/session-over", "read", "ENODEV")]);
}

#[test]
fn what_is_refused_is_loaded() {
    let asked = || vec![mailbox(6, 1, 0)];
    let mut fed = refused(176, &[("vf_data.que_iso_cfg", 1)], asked(), after(&[]));
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    assert_eq!(fed.codes(), ["hisi_acc/match-isolation", "hisi_acc/mismatch-loaded"]);
    // The next stream is another file.
    fed.feed([arc(S::STOP, S::RESUMING, 0), EventData::Write(io(176, 0)), resuming(176, &[])]);
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    expect(&mut fed, &[]);
    // Data that could not be read was not refused.
    let mut fed = refused(176, &[], vec![], after(&[("match_done", 1)]));
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    expect(&mut fed, &[("hisi_acc/write-buffer", "write", "EFAULT")]);
    // Nor was data that is accepted in the end.
    let mut fed = refused(176, &[("vf_data.que_iso_cfg", 1)], asked(), after(&[]));
    fed.feed([EventData::Write(io(0, 0)), after(&[("match_done", 1)]), resuming(176, &[])]);
    fed.feed([arc(S::RESUMING, S::STOP, 0)]);
    assert_eq!(fed.codes(), ["hisi_acc/match-isolation"]);
}

#[test]
fn a_mismatch_is_not_what_is_left_over() {
    let buffer = [("hisi_acc/write-buffer", "write", "EFAULT")];
    let unknown = [("hisi_acc/match", "match", "EFAULT")];
    // Less than the match data, which the driver does not check; or after it had matched; or Linux 6.1, which does not
    // check here.
    expect(&mut refused(20, &[], vec![], after(&[])), &buffer);
    expect(&mut refused(40, &[], vec![], after(&[("match_done", 1)])), &buffer);
    expect(&mut refused(176, &[("vf_data.qp_num", 63)], vec![], old_core(0)), &buffer);
    // A driver that does not know V2 does not ask for queues.
    for number in [0, 64] {
        let mut fed = refused(176, &[], vec![], after(&[("vf_qm.qp_num", number)]));
        assert!(fed.texts().concat().contains("format V2"), "{number}");
        expect(&mut refused(176, &[], vec![], after(&[("vf_qm.qp_num", number)])), &unknown);
    }
    // The device was not seen after the write.
    expect(&mut refused(176, &[], vec![mailbox(6, 1, 0)], core(&[("vf_qm.qp_num", 0)])), &unknown);
}

#[test]
fn an_old_driver_matches_when_it_loads() {
    let load = |writes: usize, other: &[(&str, u64)], steps: Vec<EventData>, errno: u32| {
        let mut fed = fed();
        fed.feed([old_core(0), arc(S::STOP, S::RESUMING, 0)]);
        for _ in 0..writes {
            fed.feed([EventData::Write(io(176, 0)), old_core(0), resuming(176, other)]);
        }
        fed.feed(steps).feed([arc(S::RESUMING, S::STOP, errno)]);
        fed
    };
    let device = [("vf_data.dev_id", 0xa256)];
    expect(&mut load(1, &device, vec![], EINVAL), &[("hisi_acc/match-device", "match: device", "EINVAL")]);
    let vft = vec![mailbox(6, 1, EIO)];
    expect(&mut load(1, &[], vft, EINVAL), &[("hisi_acc/match-vft", "match: read queues of the VF", "EIO")]);
    // It does not show which of the two it was.
    let mut fed = load(1, &[("vf_data.qp_num", 63)], vec![mailbox(6, 1, 0)], EINVAL);
    assert!(fed.texts().concat().contains("their number, or"));
    let waits = vec![mailbox(6, 1, 0), step("hisi_qm_wait_mb_ready", ETIMEDOUT, &[])];
    let busy = ("hisi_acc/load-not-ready", "wait for the mailbox", "ETIMEDOUT");
    expect(&mut load(1, &[], waits, EBUSY), &[busy]);
    // After several writes the driver's copy has the last one in the place of the first.
    let kept = || vec![step("vf_qm_check_match", EINVAL, &[])];
    assert!(load(2, &device, kept(), EINVAL).texts().concat().contains("its copy is not what arrived"));
    expect(&mut load(2, &device, vec![], EINVAL), &[("hisi_acc/step-unknown", "load", "EINVAL")]);
    expect(&mut load(1, &[], kept(), EINVAL), &[("hisi_acc/match", "match", "EINVAL")]);
}

#[test]
fn an_old_driver_writes_its_cache_back_when_it_saves() {
    let steps = [step("vf_qm_cache_wb", EINVAL, &[]), step("vf_qm_state_save", EINVAL, &[])];
    failing(
        S::STOP,
        S::STOP_COPY,
        EINVAL,
        steps,
        &[("hisi_acc/cache-writeback", "write cache back", "EINVAL")],
    );
}

#[test]
fn what_others_do_meanwhile_is_not_to_blame() {
    // A read of the driver's own debugfs makes the driver read registers.
    let looks = || moved_to(None, mailbox(4, 1, EIO));
    let mut fed = fed();
    fed.feed(std::iter::repeat_with(looks).take(100));
    fed.feed([mailbox(0xe, 0, 0), looks(), arc(S::RUNNING, S::STOP, EBUSY)]);
    expect(&mut fed, &[("hisi_acc/interrupt-pending", "check interrupts", "EBUSY"), PAUSED]);
    // Steps of the last write are not steps of the arc.
    fed.feed([in_write(mailbox(6, 1, EIO)), arc(S::RESUMING, S::STOP, EIO)]);
    expect(&mut fed, &[("hisi_acc/step-unknown", "load", "EIO")]);
}

#[test]
fn what_was_started_unseen_is_not_paused() {
    let state = |state| core(&[("mig_state", state)]);
    let mut fed = fed();
    fed.feed([mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, 0), state(1)]);
    // The arc back was lost.
    fed.feed([state(2), mailbox(0xe, 0, EIO), arc(S::RUNNING, S::STOP, EIO)]);
    assert_eq!(fed.codes(), ["hisi_acc/stop-mailbox"]);
    // A stop that fails after the pause leaves the same state, which says nothing about the queues.
    fed.feed([state(2), mailbox(0xe, 0, 0), arc(S::RUNNING, S::STOP, EBUSY), state(2)]);
    fed.feed([mailbox(0xe, 0, EIO), arc(S::RUNNING, S::STOP, EIO)]);
    let codes = fed.codes();
    assert_eq!(codes.last().map(String::as_str), Some("hisi_acc/queues-paused"), "{codes:?}");
}

#[test]
fn nobody_looks_at_a_second_stream() {
    let mut fed = fed();
    let matched = || core(&[("match_done", 1)]);
    fed.feed([matched(), arc(S::STOP, S::RESUMING, 0)]);
    // Only when all of the match data has arrived, and once per file.
    fed.feed([EventData::Write(io(20, 0)), resuming(20, &[])]);
    expect(&mut fed, &[]);
    fed.feed([
        EventData::Write(io(20, 0)),
        resuming(40, &[]),
        EventData::Write(io(136, 0)),
        resuming(176, &[]),
    ]);
    expect(&mut fed, &[("hisi_acc/stale-match", "match", "-")]);
    fed.feed([arc(S::RESUMING, S::STOP, 0), core(&[]), arc(S::STOP, S::RESUMING, 0)]);
    fed.feed([EventData::Write(io(176, 0)), resuming(176, &[])]);
    expect(&mut fed, &[]);
}

#[test]
fn silent_failures() {
    let mut fed = fed();
    fed.feed(saved(&[]));
    expect(&mut fed, &[]);
    fed.feed(saved(&[("vf_data.sqc_dma", 0)]));
    expect(&mut fed, &[("hisi_acc/null-address-saved", "save", "-")]);
    // The image of the file is missing: the device's state may be left from before.
    fed.feed([arc(S::STOP_COPY, S::STOP, 0), arc(S::STOP, S::STOP_COPY, 0), core(&[("vf_qm_state", 1)])]);
    fed.feed([set_state(S::STOP_COPY, 0)]);
    expect(&mut fed, &[]);
    fed.feed([arc(S::STOP, S::STOP_COPY, 0), core(&[("vf_qm_state", 1)]), saving(40, &[])]);
    fed.feed([set_state(S::STOP_COPY, 0)]);
    expect(&mut fed, &[("hisi_acc/guest-not-loaded", "is a guest driver loaded", "-")]);
    for (length, other, wanted) in [
        (40, ("vf_data.padding", 0), "hisi_acc/nothing-loaded"),
        (176, ("vf_data.eqe_dma", 0), "hisi_acc/null-address"),
    ] {
        fed.feed([arc(S::STOP, S::RESUMING, 0), EventData::Write(io(length, 0)), resuming(length, &[other])]);
        fed.feed([arc(S::RESUMING, S::STOP, 0)]);
        expect(&mut fed, &[(wanted, "load", "-")]);
    }
}

#[test]
fn steps_have_names() {
    let mut fed = fed();
    for (function, args, name, detail) in [
        ("hisi_qm_mb", &[1, 0xe, 0, 0, 0][..], Some("stop queues"), Some("mailbox 0xe PAUSE_QM")),
        ("hisi_qm_mb", &[1, 4, 0, 0, 0], Some("load SQC address"), Some("mailbox 0x4 SQC_BT write")),
        // Bits of a register above a u8 or a bool do not belong to it.
        ("hisi_qm_mb", &[1, 0xff05, 0, 0, 0xff01], Some("save CQC address"), Some("mailbox 0x5 CQC_BT read")),
        (
            "hisi_qm_mb_read",
            &[1, 0, 6, 0, 0],
            Some("match: read queues of the VF"),
            Some("mailbox 0x6 SQC_VFT_V2 read"),
        ),
        ("hisi_qm_mb", &[1, 7, 0, 0, 0], Some("mailbox command"), Some("mailbox 0x7")),
        // A record without arguments says nothing of the command.
        ("hisi_qm_mb", &[], None, None),
        ("hisi_acc_vf_start_device", &[1], Some("start"), None),
        ("something_else", &[1], None, None),
    ] {
        let event = fed.take(step(function, 0, args));
        let EventData::Step(step) = event.data else { panic!("{event:?}") };
        assert_eq!((step.step.as_deref(), step.detail.as_deref()), (name, detail), "{function} {args:x?}");
    }
}
