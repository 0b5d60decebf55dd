//! Running sums over the units of a cube.

use cubecl::prelude::*;

/// Turns the words of all units into the sums of those up to each (Hillis and Steele 1986). All units
/// call it, each having written its own word.
#[cube]
pub fn running_sums(sums: &mut SharedMemory<u32>, #[comptime] units: usize) {
    let unit = UNIT_POS as usize;
    sync_cube();
    let mut reach = 1usize.runtime();
    while reach < units {
        let mut other = 0u32.runtime();
        if unit >= reach {
            other = sums[unit - reach];
        }
        sync_cube();
        sums[unit] += other;
        sync_cube();
        reach *= 2;
    }
}
