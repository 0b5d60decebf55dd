//! `group_tasks`.

use super::support::{Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::{
    group_tasks::{group_on, reference},
    list_scan::SKIP,
};

#[test]
fn pairs_are_grouped_as_the_reference_groups() {
    let client = client();
    let mut rng = Rng(5);
    for gpu in guises(&client) {
        for (nq, nprobe, nlist) in [
            (1, 1, 1),
            (3, 2, 7),
            (64, 32, 512),
            (300, 8, 5000),
            (70_000, 2, 3),
        ] {
            let crowded = rng.below(nlist) as u32;
            let probes: Vec<u32> = (0..nq * nprobe)
                .map(|_| match rng.below(4) {
                    0 => SKIP,
                    1 => crowded,
                    _ => rng.below(nlist) as u32,
                })
                .collect();
            let (offsets, pairs) = reference::group(&probes, nlist);
            poison(&client, &[nlist + 1, probes.len()]);
            let found = group_on(&gpu, &upload(&client, &probes), probes.len(), nlist).unwrap();
            assert_eq!(download::<u32>(&client, &found.offsets, nlist + 1), offsets);
            let mut grouped: Vec<u32> = download(&client, &found.pairs, pairs.len());
            for list in 0..nlist {
                grouped[offsets[list] as usize..offsets[list + 1] as usize].sort_unstable();
            }
            assert_eq!(grouped, pairs, "{gpu:?} {nq} {nprobe} {nlist}");
        }
    }
}
