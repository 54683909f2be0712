//! Flows that ended lately, for those who follow.
//!
//! Owns that nothing is kept while nobody follows, and never much.

use std::collections::VecDeque;

use gateway_ebpf::flow::Flow;

/// How long a follower is waited for, in nanoseconds.
const PATIENCE: u64 = 10 * 1_000_000_000;
/// Ends that are kept at most (4.5 MiB).
const MOST: usize = 16_384;

/// Flows that ended lately.
#[derive(Default)]
pub(super) struct Recent {
    ends: VecDeque<Flow>,
    /// Number of the first in `ends`.
    first: u64,
    /// When somebody asked last.
    asked: Option<u64>,
}

impl Recent {
    /// Somebody follows.
    pub(super) fn wanted(&mut self, now: u64) {
        self.asked = Some(now);
    }

    /// A flow has ended.
    pub(super) fn push(&mut self, flow: &Flow, now: u64) {
        if self.asked.is_none_or(|asked| now.saturating_sub(asked) > PATIENCE) {
            self.first = self.next() + 1;
            self.ends = VecDeque::new();
            return;
        }
        if self.ends.len() == MOST {
            self.ends.pop_front();
            self.first += 1;
        }
        self.ends.push_back(*flow);
    }

    /// The number that the next end gets.
    pub(super) fn next(&self) -> u64 {
        self.first + self.ends.len() as u64
    }

    /// The ends from this number on, and how many of them are not there any more.
    pub(super) fn since(&self, from: u64) -> (Vec<Flow>, u64) {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        (self.ends.iter().skip(skip).copied().collect(), self.first.saturating_sub(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(number: u64) -> Flow {
        Flow { begun: number, ..Flow::default() }
    }

    fn numbers(recent: &Recent, from: u64) -> (Vec<u64>, u64) {
        let (ends, lost) = recent.since(from);
        (ends.iter().map(|flow| flow.begun).collect(), lost)
    }

    #[test]
    fn a_follower_gets_each_end_once() {
        let mut recent = Recent::default();
        recent.wanted(5);
        let from = recent.next();
        (0..3).for_each(|n| recent.push(&end(n), 5));
        assert_eq!(numbers(&recent, from), (vec![0, 1, 2], 0));
        let from = recent.next();
        assert_eq!(numbers(&recent, from), (vec![], 0));
        recent.push(&end(3), 5);
        assert_eq!(numbers(&recent, from), (vec![3], 0));
    }

    #[test]
    fn what_does_not_fit_is_lost_and_counted() {
        let mut recent = Recent::default();
        recent.wanted(0);
        (0..MOST as u64 + 5).for_each(|n| recent.push(&end(n), 0));
        let (ends, lost) = numbers(&recent, 0);
        assert_eq!((ends.len(), ends[0], lost), (MOST, 5, 5));
    }

    #[test]
    fn nothing_is_kept_that_nobody_asks_for() {
        let mut recent = Recent::default();
        recent.push(&end(0), 0);
        assert_eq!((recent.ends.len(), recent.next()), (0, 1));
        recent.wanted(0);
        recent.push(&end(1), PATIENCE);
        assert_eq!(numbers(&recent, 1), (vec![1], 0));
        recent.push(&end(2), PATIENCE + 1);
        assert_eq!(numbers(&recent, 2), (vec![], 1), "it is told that one was missed");
    }
}
