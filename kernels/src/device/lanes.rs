//! Which units read a row together: one alone, or four of a plane, its *lanes*.
//!
//! Of eight neighbouring units the even ones read one row and the odd ones the next. So every unit wants the
//! same part of a query from shared memory as its neighbour, and NVIDIA's multiprocessors hand 16 bytes to a
//! plane in two turns where four would be needed otherwise (G. Smith, forums.developer.nvidia.com/t/77228);
//! a quarter of a plane still reads 64 neighbouring bytes of each of two rows.

use cubecl::prelude::*;

/// Units whose rows lie side by side: the planes of a device that reads rows by four lanes are at least as
/// large.
pub const BUNDLE: u32 = 8;

/// Between units whose lanes differ by one, and by two, in a shuffle.
pub const NEXT: u32 = 2;
/// See [`NEXT`].
pub const NEXT_BUT_ONE: u32 = 4;

/// The most of `units` units that are whole groups.
pub const fn whole(units: u32, lanes: u32) -> u32 {
    if lanes == 4 {
        units / BUNDLE * BUNDLE
    } else {
        units
    }
}

/// This unit's part of its row: below `lanes`.
#[cube]
pub fn lane(#[comptime] lanes: u32) -> u32 {
    if comptime!(lanes == 4) {
        UNIT_POS / 2u32 % 4u32
    } else {
        0u32.runtime()
    }
}

/// Which of the rows that a cube reads at once is this unit's.
#[cube]
pub fn group(#[comptime] lanes: u32) -> u32 {
    if comptime!(lanes == 4) {
        UNIT_POS / BUNDLE * 2u32 + UNIT_POS % 2u32
    } else {
        UNIT_POS
    }
}
