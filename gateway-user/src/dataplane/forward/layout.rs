//! Layouts of flows: the one of this program, and those that a program before it may have left in the pinned tables.
//!
//! Owns how a flow of each is read. A layout that was released stays in [`BEFORE`].

use std::mem::offset_of;

use gateway_ebpf::flow::{Flow, Half, LAYOUT};

const _: () = assert!(size_of::<Half>() == 72);

/// A layout of before: where the fields were that there still are. A field that it did not have is zero.
#[derive(Debug)]
struct Before {
    number: u32,
    /// Bytes of a flow.
    size: usize,
    fields: &'static [Field],
}

/// Offset then, offset now, bytes.
type Field = (usize, usize, usize);

/// Every layout that there was. A half still is what it was.
const BEFORE: &[Before] = &[Before {
    number: 1,
    size: 288,
    fields: &[
        (0, offset_of!(Flow, life), 8),
        (8, offset_of!(Flow, seen), 8),
        (16, offset_of!(Flow, idle), 4),
        (20, offset_of!(Flow, ring), 4),
        (24, offset_of!(Flow, packets), 16),
        (40, offset_of!(Flow, bytes), 16),
        (56, offset_of!(Flow, backend), 4),
        (60, offset_of!(Flow, tries), 4),
        (64, offset_of!(Flow, client), 72),
        (136, offset_of!(Flow, reply), 72),
        (208, offset_of!(Flow, binding), 4),
        (212, offset_of!(Flow, service), 4),
        (216, offset_of!(Flow, begun), 8),
        (224, offset_of!(Flow, ended), 8),
        (232, offset_of!(Flow, reserved), 56),
    ],
}];

/// Bytes of a flow in the layout of this number; `None` if it is not known.
pub(super) fn size(number: u32) -> Option<usize> {
    if number == LAYOUT { Some(size_of::<Flow>()) } else { before(number).map(|before| before.size) }
}

fn before(number: u32) -> Option<&'static Before> {
    BEFORE.iter().find(|before| before.number == number)
}

/// A flow out of the bytes that it had in the layout of this number; `None` if it is not known, or there are fewer bytes.
pub(in crate::dataplane) fn read(number: u32, bytes: &[u8]) -> Option<Flow> {
    if number == LAYOUT {
        return bytes.get(..size_of::<Flow>()).map(bytemuck::pod_read_unaligned);
    }
    before(number)?.read(bytes)
}

impl Before {
    fn read(&self, bytes: &[u8]) -> Option<Flow> {
        let bytes = bytes.get(..self.size)?;
        let mut flow = Flow::default();
        let new = bytemuck::bytes_of_mut(&mut flow);
        for &(then, now, length) in self.fields {
            new[now..now + length].copy_from_slice(&bytes[then..then + length]);
        }
        Some(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_of_before_keeps_every_field() {
        let before = &BEFORE[0];
        let bytes: Vec<u8> = (0..before.size).map(|at| (at * 7 + at / 256) as u8).collect();
        let flow = before.read(&bytes).unwrap();
        let new = bytemuck::bytes_of(&flow);
        let mut moved = 0;
        for &(then, now, length) in before.fields {
            assert_eq!(then, moved, "no gap, and nothing twice");
            assert_eq!(new[now..now + length], bytes[then..then + length]);
            moved += length;
        }
        assert_eq!(moved, before.size);
        assert_eq!(flow.backend, u32::from_ne_bytes(bytes[56..60].try_into().unwrap()));
        assert_eq!(before.read(&bytes[1..]), None);
    }

    #[test]
    fn what_is_not_known_is_not_read() {
        assert_eq!((size(0), read(0, &[0; 999])), (None, None));
        assert_eq!(size(LAYOUT), Some(size_of::<Flow>()));
        assert_eq!(read(LAYOUT, &[0; size_of::<Flow>()]), Some(Flow::default()));
    }
}
