//! How many lists an index should have.

/// Lists per square root of the number of vectors.
///
/// Origin: faiss's guidelines for choosing an index ask for 4·√n to 16·√n lists below a million
/// vectors. The lower end is taken: with lists read exhaustively the coarse step, n-list products a
/// query, is cheap, and training costs half of what 8·√n would.
const LISTS_PER_ROOT: usize = 4;

/// Fewest vectors per list. Origin: faiss warns below 39 training points per centroid, and so does
/// [`IndexIvfFlat::train`](crate::IndexIvfFlat::train).
const LEAST_PER_LIST: usize = 39;

/// The number of lists for `n` vectors: `4·√n`, but no more than one per 39 vectors, at least 1.
///
/// A start, not an optimum: [`tune_for_recall`](crate::IndexIvfFlat::tune_for_recall) says what a
/// setting costs on real data. Below 24,336 vectors the second limit rules.
///
/// ```
/// use burn_ivf::suggest_nlist;
/// assert_eq!(suggest_nlist(1_000_000), 4000);
/// assert_eq!(suggest_nlist(50_000), 892);
/// assert_eq!(suggest_nlist(4_000), 102);
/// assert_eq!(suggest_nlist(10), 1);
/// ```
pub fn suggest_nlist(n: usize) -> usize {
    (LISTS_PER_ROOT * n.isqrt()).min(n / LEAST_PER_LIST).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_never_too_small_nor_fewer_for_more_vectors() {
        assert_eq!(suggest_nlist(0), 1);
        let mut last = 0;
        for n in 0..100_000 {
            let nlist = suggest_nlist(n);
            assert!(nlist >= last && nlist >= 1, "{n}");
            assert!(nlist == 1 || n / nlist >= LEAST_PER_LIST, "{n}");
            last = nlist;
        }
        assert!(suggest_nlist(usize::MAX) > 1 << 32);
    }
}
