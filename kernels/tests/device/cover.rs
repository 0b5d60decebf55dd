//! A pairwise covering: few cases in which every pair of values of two factors occurs.

use super::support::Rng;
use std::collections::HashSet;

/// Cases (an index per factor) that cover every allowed pair of the factors' values, greedily.
pub fn pairs(sizes: &[usize], allowed: impl Fn(&[usize]) -> bool, seed: u64) -> Vec<Vec<usize>> {
    let mut rng = Rng(seed);
    let mut open: HashSet<(usize, usize, usize, usize)> = HashSet::new();
    for a in 0..sizes.len() {
        for b in a + 1..sizes.len() {
            for i in 0..sizes[a] {
                open.extend((0..sizes[b]).map(|j| (a, i, b, j)));
            }
        }
    }
    let mut cases = Vec::new();
    let mut barren = 0;
    while !open.is_empty() && barren < 200 {
        let draw = |rng: &mut Rng| sizes.iter().map(|&n| rng.below(n)).collect::<Vec<_>>();
        let covers = |case: &[usize]| {
            open.iter()
                .filter(|(a, i, b, j)| case[*a] == *i && case[*b] == *j)
                .count()
        };
        let best = (0..60)
            .map(|_| draw(&mut rng))
            .filter(|case| allowed(case))
            .max_by_key(|case| covers(case));
        match best {
            Some(case) if covers(&case) > 0 => {
                barren = 0;
                open.retain(|&(a, i, b, j)| !(case[a] == i && case[b] == j));
                cases.push(case);
            }
            // What is left may be forbidden pairs.
            _ => barren += 1,
        }
    }
    cases
}

#[test]
fn every_pair_occurs() {
    let cases = pairs(&[3, 4, 5], |_| true, 1);
    for (i, j) in (0..4).flat_map(|i| (0..5).map(move |j| (i, j))) {
        assert!(cases.iter().any(|case| case[1] == i && case[2] == j));
    }
    assert!(cases.len() < 3 * 4 * 5, "{}", cases.len());
}
