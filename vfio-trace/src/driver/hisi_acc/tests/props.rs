//! Property tests: the plug-in accepts any events in any order.

use proptest::{prelude::*, sample::select};

use super::*;
use crate::{
    driver::{DriverPlugin as _, ViewStyle},
    event::{ArcStep, CallOutcome, Errno},
};

fn any_state() -> impl Strategy<Value = S> {
    (0..10u32).prop_map(S)
}

fn any_outcome() -> impl Strategy<Value = CallOutcome> {
    prop_oneof![
        Just(CallOutcome::Ok),
        Just(CallOutcome::Unknown),
        any::<u32>().prop_map(|errno| CallOutcome::Failed(Errno(errno))),
        Just(CallOutcome::Refused(Errno::EINVAL)),
    ]
}

fn any_errno() -> impl Strategy<Value = u32> {
    select(vec![0, EIO, 12, 14, EBUSY, ENODEV, EINVAL, ETIMEDOUT, 4000])
}

/// Returns images with any number of bytes, and with members missing.
fn any_image() -> impl Strategy<Value = EventData> {
    let layouts = [&FILE, &TARGET, &DEBUG, &CORE, &PCI].map(|layout| Arc::clone(layout));
    let moments = vec![
        CaptureMoment::Arc,
        CaptureMoment::Write,
        CaptureMoment::Close,
        CaptureMoment::SetState,
        CaptureMoment::Unknown,
    ];
    let bytes = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..220),
        (0..200u64, any::<bool>()).prop_map(|(length, null)| {
            let other: &[(&str, u64)] = if null { &[("vf_data.eqe_dma", 0)] } else { &[] };
            file(&FILE, CaptureMoment::Arc, length, other).bytes
        }),
    ];
    (select(layouts.to_vec()), select(moments), bytes, 0..3usize).prop_map(
        |(layout, moment, bytes, fewer)| {
            let mut layout = (*layout).clone();
            layout.fields.truncate(layout.fields.len().saturating_sub(fewer));
            EventData::Image(DriverImage { bytes, ..image(&Arc::new(layout), moment, &[]) })
        },
    )
}

fn any_step() -> impl Strategy<Value = EventData> {
    let names: Vec<&str> =
        HisiAccPlugin.wanted().steps.iter().map(|step| step.name).chain(["other"]).collect();
    (select(names), any_errno(), proptest::collection::vec(0..9u64, 0..6))
        .prop_map(|(name, errno, args)| step(name, errno, &args))
}

fn any_data() -> impl Strategy<Value = EventData> {
    prop_oneof![
        4 => any_image(),
        4 => any_step(),
        4 => (any_state(), proptest::option::of(any_state()), any_outcome())
            .prop_map(|(from, to, outcome)| EventData::Arc(ArcStep { from, to, target: from, outcome })),
        2 => (any_state(), any_errno()).prop_map(|(state, errno)| set_state(state, errno)),
        2 => (0..200u64, any_errno()).prop_map(|(bytes, errno)| EventData::Write(io(bytes, errno))),
        1 => (0..200u64, any_errno()).prop_map(|(bytes, errno)| EventData::Read(io(bytes, errno))),
        1 => select(vec![open(), close(1), close(2), reset(), pci_reset()]),
    ]
}

proptest! {
    #[test]
    fn any_order_of_any_events(events in proptest::collection::vec((1..4u32, any_data()), 0..80)) {
        let mut fed = PluginHarness::new(&HisiAccPlugin);
        for (nr, data) in events {
            fed.on(nr).take(data);
        }
        for nr in 1..4 {
            fed.on(nr);
            for file in HisiAccPlugin.files() {
                for style in [ViewStyle::ByName, ViewStyle::V9, ViewStyle::Mainline] {
                    for annotate in [false, true] {
                        let text = fed.styled(file, style, annotate);
                        prop_assert!(text.starts_with("error: ") || text.ends_with('\n'), "{file}: {text:?}");
                    }
                }
            }
        }
        for code in fed.codes() {
            prop_assert!(code.starts_with("hisi_acc/"), "{}", code);
        }
    }
}
