//! Threads that are in the middle of a call, and the arcs in progress by device.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use super::thread::{OpenArc, ThreadState};

/// All threads that are in the middle of a call.
#[derive(Debug, Default)]
pub(super) struct ThreadTable {
    /// States by thread id, ordered, so that the rest at the end comes out the same every time.
    all: BTreeMap<u32, ThreadState>,
    /// The device's address, true if overtaken, and the thread, for each arc. Looked up with every request, when there
    /// may be thousands of threads.
    arcs: BTreeSet<(u64, bool, u32)>,
}

impl ThreadTable {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn get(&self, tid: u32) -> Option<&ThreadState> {
        self.all.get(&tid)
    }

    pub(super) fn get_mut(&mut self, tid: u32) -> Option<&mut ThreadState> {
        self.all.get_mut(&tid)
    }

    /// Returns the state of a thread, made if there is none.
    pub(super) fn enter(&mut self, tid: u32) -> &mut ThreadState {
        self.all.entry(tid).or_default()
    }

    /// Forgets a thread if its state is idle.
    pub(super) fn leave_idle(&mut self, tid: u32) {
        if self.all.get(&tid).is_some_and(ThreadState::is_idle) {
            self.all.remove(&tid);
        }
    }

    /// Forgets all threads whose state is idle.
    pub(super) fn leave_all_idle(&mut self) {
        self.all.retain(|_, thread| !thread.is_idle());
    }

    /// Takes all threads out, in order.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = ThreadState> + use<> {
        self.arcs.clear();
        mem::take(&mut self.all).into_values()
    }

    /// Returns all threads. Arcs must be taken by [`Self::take_arc`] only.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut ThreadState)> {
        self.all.iter_mut().map(|(&tid, thread)| (tid, thread))
    }

    /// Starts an arc of a thread; its earlier one is over.
    pub(super) fn begin(&mut self, tid: u32, arc: OpenArc) {
        drop(self.take_arc(tid));
        self.arcs.insert((arc.pointer, arc.overtaken_ns.is_some(), tid));
        self.enter(tid).begin(arc);
    }

    /// Takes the arc in progress of a thread.
    pub(super) fn take_arc(&mut self, tid: u32) -> Option<OpenArc> {
        let arc = self.all.get_mut(&tid)?.arc.take()?;
        self.arcs.remove(&(arc.pointer, arc.overtaken_ns.is_some(), tid));
        Some(arc)
    }

    /// Takes all arcs of a device.
    pub(super) fn take_arcs_of(&mut self, pointer: u64) -> Vec<OpenArc> {
        let of = self.arcs.range((pointer, false, 0)..=(pointer, true, u32::MAX));
        let tids: BTreeSet<u32> = of.map(|&(_, _, tid)| tid).collect();
        tids.into_iter().filter_map(|tid| self.take_arc(tid)).collect()
    }

    /// Returns true if an arc of the device is in progress, as far as is known.
    pub(super) fn is_busy(&self, pointer: u64) -> bool {
        self.arcs.range((pointer, false, 0)..=(pointer, false, u32::MAX)).next().is_some()
    }

    /// Marks arcs that threads other than `tid` had begun as overtaken: the device is seen to be past them. Returns
    /// true if there were any.
    pub(super) fn overtake(&mut self, pointer: u64, tid: u32, now_ns: u64) -> bool {
        let of = self.arcs.range((pointer, false, 0)..=(pointer, false, u32::MAX));
        let others: Vec<u32> = of.map(|&(_, _, other)| other).filter(|&other| other != tid).collect();
        for &other in &others {
            if let Some(arc) = self.all.get_mut(&other).and_then(|thread| thread.arc.as_mut()) {
                arc.overtaken_ns = Some(now_ns);
            }
            self.arcs.remove(&(pointer, false, other));
            self.arcs.insert((pointer, true, other));
        }
        !others.is_empty()
    }
}
