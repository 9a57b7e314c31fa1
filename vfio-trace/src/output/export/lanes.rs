//! Distributes slices over lanes: timeline viewers show a slice within the one around it, but cannot show two that
//! overlap otherwise.

use super::tracks::TrackSlice;

/// Puts slices on as few lanes as possible: any two on a lane are apart, or one is within the other. On a lane they are
/// in order of their beginning, outer ones first.
pub(super) fn lanes(mut slices: Vec<TrackSlice<'_>>) -> Vec<Vec<TrackSlice<'_>>> {
    let order = |slice: &TrackSlice<'_>| (slice.start_ns, std::cmp::Reverse(slice.end_ns));
    slices.sort_by_key(order);
    let mut lanes: Vec<(Vec<u64>, Vec<TrackSlice<'_>>)> = Vec::new();
    for slice in slices {
        let fits = |(open, _): &mut (Vec<u64>, Vec<TrackSlice<'_>>)| {
            while open.last().is_some_and(|end| *end <= slice.start_ns) {
                open.pop();
            }
            open.last().is_none_or(|end| slice.end_ns <= *end)
        };
        let at = lanes.iter_mut().position(fits).unwrap_or_else(|| {
            lanes.push((Vec::new(), Vec::new()));
            lanes.len() - 1
        });
        lanes[at].0.push(slice.end_ns);
        lanes[at].1.push(slice);
    }
    lanes.into_iter().map(|(_, slices)| slices).collect()
}

/// Begin or end of a slice, as a viewer's format has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SliceEdge {
    Begin,
    End,
}

/// Calls `tell` for the beginnings and ends of a lane in the order of their times, inner ends before outer ones.
pub(super) fn edges<E>(
    lane: &[TrackSlice<'_>],
    mut tell: impl FnMut(SliceEdge, &TrackSlice<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut open: Vec<&TrackSlice<'_>> = Vec::new();
    for slice in lane {
        while let Some(over) = open.pop_if(|inner| inner.end_ns <= slice.start_ns) {
            tell(SliceEdge::End, over)?;
        }
        tell(SliceEdge::Begin, slice)?;
        open.push(slice);
    }
    while let Some(over) = open.pop() {
        tell(SliceEdge::End, over)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slices(spans: &[(u64, u64)]) -> Vec<TrackSlice<'static>> {
        spans.iter().map(|&(start, end)| TrackSlice::new("", "", start, end)).collect()
    }

    #[test]
    fn nested_ones_stay_and_overlapping_ones_move() {
        let lanes =
            lanes(slices(&[(20, 30), (0, 10), (0, 4), (4, 10), (10, 10), (10, 20), (5, 25), (9, 12)]));
        let spans: Vec<Vec<(u64, u64)>> = lanes
            .iter()
            .map(|lane| lane.iter().map(|slice| (slice.start_ns, slice.end_ns)).collect())
            .collect();
        assert_eq!(
            spans,
            [vec![(0, 10), (0, 4), (4, 10), (10, 20), (10, 10), (20, 30)], vec![(5, 25), (9, 12)],]
        );
    }

    proptest! {
        #[test]
        fn a_stack_is_enough_for_each_lane(spans in proptest::collection::vec((0..50u64, 0..20u64), 0..60)) {
            let spans: Vec<(u64, u64)> = spans.into_iter().map(|(start, took)| (start, start + took)).collect();
            let lanes = lanes(slices(&spans));
            prop_assert_eq!(lanes.iter().map(Vec::len).sum::<usize>(), spans.len());
            for lane in &lanes {
                let mut stack: Vec<u64> = Vec::new();
                let mut now = 0;
                let told: Result<(), String> = edges(lane, |edge, slice| {
                    let at = match edge {
                        SliceEdge::Begin => {
                            stack.push(slice.end_ns);
                            slice.start_ns
                        },
                        SliceEdge::End if stack.pop() == Some(slice.end_ns) => slice.end_ns,
                        SliceEdge::End => return Err("not the innermost".to_owned()),
                    };
                    if at < now {
                        return Err(format!("{at} after {now}"));
                    }
                    now = at;
                    Ok(())
                });
                prop_assert_eq!(told, Ok(()));
                prop_assert!(stack.is_empty());
            }
        }
    }
}
