//! `group_tasks`, and the means of groups.

use super::support::{Rng, client, download, guises, poison, upload};
use burn_ivf_kernels::{
    group_tasks::{group_on, reference},
    list_scan::SKIP,
    means::means_on,
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
            let found =
                group_on(&gpu, &upload(&client, &probes), (0, probes.len()), nlist).unwrap();
            assert_eq!(download::<u32>(&client, &found.offsets, nlist + 1), offsets);
            let mut grouped: Vec<u32> = download(&client, &found.pairs, pairs.len());
            for list in 0..nlist {
                grouped[offsets[list] as usize..offsets[list + 1] as usize].sort_unstable();
            }
            assert_eq!(grouped, pairs, "{gpu:?} {nq} {nprobe} {nlist}");
        }
    }
}

#[test]
fn means_are_those_of_f64_sums() {
    let client = client();
    let gpu = &guises(&client)[0];
    let mut rng = Rng(6);
    for (turn, (n, d, groups)) in [(1, 1, 1), (50, 3, 7), (3000, 32, 5), (1000, 130, 40)]
        .into_iter()
        .enumerate()
    {
        let scale = [1.0, 1e3, 3e38, 1e-3][turn];
        let rows: Vec<f32> = (0..n * d).map(|_| rng.float() * scale).collect();
        let weights: Vec<f32> = (0..n).map(|_| rng.below(4) as f32 + 0.5).collect();
        let weights = (turn % 2 == 1).then_some(&weights[..]);
        // Group 0 is empty where there are others, and one holds most rows.
        let group = |rng: &mut Rng| match groups {
            1 => 0,
            _ if rng.below(2) == 0 => 1,
            _ => 1 + rng.below(groups - 1),
        };
        let of: Vec<usize> = (0..n).map(|_| group(&mut rng)).collect();
        let mut members = Vec::new();
        let mut offsets = vec![0_u32];
        for g in 0..groups {
            members.extend((0..n as u32).filter(|&row| of[row as usize] == g));
            offsets.push(members.len() as u32);
        }
        poison(&client, &[groups * d]);
        let on = upload(&client, &rows);
        let means = means_on(gpu, &on, (n, d), (&members, &offsets), weights).unwrap();
        let found: Vec<f32> = download(&client, &means, groups * d);
        for (g, found) in found.chunks_exact(d).enumerate() {
            let members = &members[offsets[g] as usize..offsets[g + 1] as usize];
            let weight = |row: u32| weights.map_or(1.0, |w| f64::from(w[row as usize]));
            let total: f64 = members.iter().map(|&row| weight(row)).sum();
            for (t, &found) in found.iter().enumerate() {
                let sum: f64 = members
                    .iter()
                    .map(|&row| weight(row) * f64::from(rows[row as usize * d + t]))
                    .sum();
                let exact = if total > 0.0 { sum / total } else { 0.0 };
                let error = (f64::from(found) - exact).abs();
                assert!(
                    error <= 2e-5 * f64::from(scale),
                    "{g} {t}: {found} for {exact}"
                );
            }
        }
    }
}
