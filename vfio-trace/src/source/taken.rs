//! Queue of records that were taken out of the ring buffer ahead of time. Pure.

use std::collections::VecDeque;

use bytes::Bytes;

/// Least limit of the queue in bytes, if the ring buffer is small: some ten thousand devices, with all copies of their
/// structures.
const LEAST: usize = 64 << 20;

/// Records that wait, in their order.
#[derive(Debug)]
pub(super) struct RecordQueue {
    records: VecDeque<Bytes>,
    bytes: usize,
    /// Most bytes that wait.
    limit: usize,
    /// Bytes of the ring buffer.
    ring: usize,
}

impl RecordQueue {
    pub(super) fn new(buffer_bytes: u32) -> Self {
        let ring = buffer_bytes as usize;
        Self { records: VecDeque::new(), bytes: 0, limit: ring.saturating_mul(16).max(LEAST), ring }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes records from `next`, which reads the ring buffer: at most as many bytes as that holds, as programs fill it
    /// meanwhile, and none once too many wait. The ring buffer is full then, and the programs count the records that
    /// they lose.
    pub(super) fn fill(&mut self, mut next: impl FnMut() -> Option<Bytes>) {
        let until = self.bytes.saturating_add(self.ring).min(self.limit);
        while self.bytes < until
            && let Some(record) = next()
        {
            self.bytes += record.len();
            self.records.push_back(record);
        }
    }

    /// Takes the oldest record.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let record = self.records.pop_front()?;
        self.bytes -= record.len();
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_never_ends_is_taken_in_parts_and_not_without_limit() {
        let mut taken = RecordQueue::new(1 << 20);
        let record = Bytes::from(vec![7; 1 << 10]);
        taken.fill(|| Some(record.clone()));
        assert_eq!((taken.bytes, taken.records.len()), (1 << 20, 1 << 10), "what the ring holds");
        for _ in 0..1000 {
            taken.fill(|| Some(record.clone()));
        }
        assert_eq!(taken.bytes, LEAST);
        taken.fill(|| panic!("the rest is for the programs to count"));
        assert_eq!(taken.pop().unwrap(), record);
        taken.fill(|| Some(record.clone()));
        assert_eq!(taken.bytes, LEAST, "there is room again");
        while taken.pop().is_some() {}
        assert_eq!((taken.bytes, taken.is_empty()), (0, true));
        assert_eq!(RecordQueue::new(u32::MAX).limit, 16 * u32::MAX as usize);
    }
}
