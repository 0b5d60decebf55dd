//! Grouping in plain loops.

use crate::list_scan::SKIP;

/// `offsets` and `pairs` of [`super`]'s contract, pairs in rising order within a list.
pub fn group(probes: &[u32], nlist: usize) -> (Vec<u32>, Vec<u32>) {
    let mut offsets = vec![0];
    let mut pairs = Vec::new();
    for list in 0..nlist as u32 {
        let of_list = |(_, probe): &(usize, &u32)| **probe == list && list != SKIP;
        pairs.extend(
            probes
                .iter()
                .enumerate()
                .filter(of_list)
                .map(|(pair, _)| pair as u32),
        );
        offsets.push(pairs.len() as u32);
    }
    (offsets, pairs)
}
