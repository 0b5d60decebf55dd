//! Every metric: values, order, ties, what has no value; cosine everywhere, L1 and Linf on inverted
//! files. The expectation is [`value`], in plain f64.

use super::support::{
    Answer, IVF_MODES, Rows, floats, normal, probing, refused, search_flat, search_ivf, tied,
    trained, uniform, untrained,
};
use burn::tensor::{DType, Tensor};
use burn_ivf::{
    Error, IdSelector, IndexFlat, IndexIvfFlat, IvfBackend, Metric, Missing, SearchMode,
    SearchParams, pairwise_distance,
};

/// A metric in f64 by its definition; NaN where it has no value.
pub fn value(metric: Metric, q: &[f32], x: &[f32]) -> f64 {
    let pairs: Vec<(f64, f64)> = q
        .iter()
        .zip(x)
        .map(|(&a, &b)| (f64::from(a), f64::from(b)))
        .collect();
    let both: Vec<(f64, f64)> = pairs
        .iter()
        .copied()
        .filter(|(a, b)| !a.is_nan() && !b.is_nan())
        .collect();
    let sum = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(a, b)| f(a, b)).sum::<f64>();
    let over = |a: f64, b: f64, zero: f64| if a == 0.0 && b == 0.0 { zero } else { a / b };
    let length = |v: &[f32]| v.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
    match metric {
        Metric::L2 => sum(&|a, b| (a - b).powi(2)),
        Metric::InnerProduct => sum(&|a, b| a * b),
        Metric::Cosine => over(sum(&|a, b| a * b), length(q) * length(x), 0.0),
        Metric::L1 => sum(&|a, b| (a - b).abs()),
        Metric::Linf => pairs.iter().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max),
        Metric::Lp(p) => sum(&|a, b| (a - b).abs().powf(f64::from(p))),
        Metric::Canberra => sum(&|a, b| over((a - b).abs(), a.abs() + b.abs(), 0.0)),
        Metric::BrayCurtis => over(sum(&|a, b| (a - b).abs()), sum(&|a, b| (a + b).abs()), 0.0),
        Metric::JensenShannon => {
            let part = |v: f64, m: f64| if v > 0.0 { v * (v / m).ln() } else { 0.0 };
            0.5 * sum(&|a, b| part(a, 0.5 * (a + b)) + part(b, 0.5 * (a + b)))
        }
        Metric::Jaccard => over(sum(&|a, b| a.min(b)), sum(&|a, b| a.max(b)), 1.0),
        Metric::NanEuclidean => {
            let sum: f64 = both.iter().map(|(a, b)| (a - b).powi(2)).sum();
            q.len() as f64 / both.len() as f64 * sum
        }
        Metric::Gower => {
            let term = |&(a, b): &(f64, f64)| match (a < 0.0, b < 0.0) {
                (true, true) => f64::from(u8::from(a != b)),
                (false, false) => (a - b).abs(),
                _ => f64::NAN,
            };
            both.iter().map(term).sum::<f64>() / both.len() as f64
        }
    }
}

/// Metrics, with a p that is no whole number too.
pub fn all() -> Vec<Metric> {
    let mut all = Metric::ALL.to_vec();
    all.push(Metric::Lp(1.5));
    all
}

/// Rows that suit every metric: in 0..1, some components 0.
pub fn suited(n: usize, d: usize, seed: u64) -> Rows {
    uniform(n, d, seed).map(|v| if v < 0.05 { 0.0 } else { v })
}

/// How far a value may be off: 1e-5 relative, or of the scale of what cancels.
fn slack(expected: f64) -> f64 {
    1e-5 * expected.abs() + 2e-6
}

/// Fails unless an answer is what `value` orders: values right, in order, labels theirs.
#[track_caller]
fn check(metric: Metric, base: &Rows, queries: &Rows, found: &Answer) {
    for query in 0..queries.n() {
        let q = queries.row(query);
        let mut expected: Vec<f64> = (0..base.n())
            .map(|x| value(metric, q, base.row(x)))
            .collect();
        let (d, i) = found.row(query);
        for (rank, (&d, &id)) in d.iter().zip(i).enumerate().take(base.n()) {
            let own = expected[id as usize];
            let off = (f64::from(d) - own).abs();
            assert!(
                off <= slack(own),
                "{metric} query {query} rank {rank}: {d} for {own}"
            );
        }
        expected.sort_by(f64::total_cmp);
        if metric.larger_is_better() {
            expected.reverse();
        }
        for (rank, (&d, &e)) in d.iter().zip(&expected).enumerate() {
            let off = (f64::from(d) - e).abs();
            assert!(
                off <= slack(e),
                "{metric} query {query} rank {rank}: {d} for {e}"
            );
        }
        let mut seen: Vec<i64> = i.iter().copied().filter(|&id| id != -1).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), found.k.min(base.n()), "{metric}: ids repeat");
        for (d, i) in d.windows(2).zip(i.windows(2)) {
            assert!(
                d[0] != d[1] || i[0] < i[1] || i[1] == -1,
                "{metric}: ties by id"
            );
        }
    }
}

fn flat<B: IvfBackend>(device: &B::Device, metric: Metric, base: &Rows) -> IndexFlat<B> {
    let mut index = IndexFlat::new(base.d, metric, device).unwrap();
    index.add(base.on(device)).unwrap();
    index
}

/// A17: the table of semantics.md §7, by search and as a matrix.
pub fn a17_table<B: IvfBackend>(device: &B::Device) {
    let base = Rows::of(&[&[1.0, 2.0, 3.0], &[0.5, 0.25, 4.0]]);
    let queries = Rows::of(&[&[2.0, 2.0, 1.0]]);
    let table = [
        (Metric::InnerProduct, [9.0, 5.5]),
        (Metric::L2, [5.0, 14.3125]),
        (Metric::L1, [3.0, 6.25]),
        (Metric::Linf, [2.0, 3.0]),
        (Metric::Lp(3.0), [9.0, 35.734_375]),
        (Metric::Canberra, [0.833_333_4, 1.977_777_8]),
        (Metric::BrayCurtis, [0.272_727_3, 0.641_025_7]),
        (Metric::JensenShannon, [0.346_573_6, 1.110_147_2]),
        (Metric::Jaccard, [0.571_428_6, 0.218_75]),
        (Metric::NanEuclidean, [5.0, 14.3125]),
        // 1 - 0.198216, and 5.5 / (3 · |x1|)
        (Metric::Cosine, [0.801_784, 0.453_922]),
    ];
    for (metric, expected) in table {
        let found = search_flat(&flat::<B>(device, metric, &base), &queries, 3);
        assert_eq!(found.i, [0, 1, -1], "{metric}");
        assert_eq!(found.d[2], metric.padding());
        let matrix = pairwise_distance(queries.on::<B>(device), base.on(device), metric).unwrap();
        assert_eq!(matrix.dims(), [1, 2]);
        for (j, &matrix) in floats(matrix).iter().enumerate() {
            for value in [matrix, found.d[j]] {
                let off = (value - expected[j]).abs();
                assert!(off <= 1e-5 * expected[j], "{metric} {j}: {value}");
            }
        }
    }
    // Gower: numbers in 0..=1, categories below 0.
    let base = Rows::of(&[&[0.1, 0.9, -1.0], &[0.5, 0.2, -2.0], &[0.5, -1.0, -1.0]]);
    let queries = Rows::of(&[&[0.5, 0.2, -1.0]]);
    let found = search_flat(&flat::<B>(device, Metric::Gower, &base), &queries, 3);
    assert_eq!(found.i, [1, 0, -1], "a number does not meet a category");
    assert!((found.d[0] - 1.0 / 3.0).abs() < 1e-6 && (found.d[1] - 1.1 / 3.0).abs() < 1e-6);
}

/// Search by every metric against brute force; J2: the sorted matrix is the search, f16 inputs too.
pub fn j2_matrix_sorted_is_search<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (suited(150, 19, 1), suited(5, 19, 2));
    for metric in all() {
        let index = flat::<B>(device, metric, &base);
        let found = search_flat(&index, &queries, base.n() + 2);
        check(metric, &base, &queries, &found);
        for (dtype, limit) in [(DType::F32, 1e-5), (DType::F16, 4e-3)] {
            if !B::supports_dtype(device, dtype) {
                continue;
            }
            let (q, x) = (queries.on_as::<B>(device, dtype), base.on_as(device, dtype));
            let matrix = floats(pairwise_distance(q, x, metric).unwrap());
            for query in 0..queries.n() {
                let mut row = matrix[query * base.n()..(query + 1) * base.n()].to_vec();
                row.sort_by(f32::total_cmp);
                if metric.larger_is_better() {
                    row.reverse();
                }
                for (a, b) in row.iter().zip(found.row(query).0) {
                    let off = (a - b).abs();
                    assert!(
                        off <= limit * b.abs() + limit / 5.0,
                        "{metric}: {a} for {b}"
                    );
                }
            }
        }
    }
}

/// Ties by id whatever the order of insertion; pieces of rows and queries are the whole.
pub fn ties_and_pieces<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (tied(700, 24, 2, 3), tied(9, 24, 2, 4));
    let ids: Vec<i64> = (0..700).map(|i| (i * 37) % 700 + 5).collect();
    for metric in [Metric::L1, Metric::Linf, Metric::Jaccard, Metric::Canberra] {
        let mut index = IndexFlat::<B>::new(24, metric, device).unwrap();
        index.add_with_ids(base.on(device), &ids).unwrap();
        let whole = search_flat(&index, &queries, 40);
        for query in 0..9 {
            let q = queries.row(query);
            let mut order: Vec<(f32, i64)> = (0..700)
                .map(|x| {
                    let v = value(metric, q, base.row(x)) as f32;
                    (if metric.larger_is_better() { -v } else { v }, ids[x])
                })
                .collect();
            order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            if metric != Metric::Canberra {
                let expected: Vec<i64> = order[..40].iter().map(|o| o.1).collect();
                assert_eq!(whole.row(query).1, expected, "{metric}");
            }
        }
        index.set_workspace_limit(64 << 10).unwrap();
        search_flat(&index, &queries, 40).assert_same(&whole, "pieces");
        for query in 0..9 {
            let one = search_flat(&index, &queries.range(query..query + 1), 40);
            assert_eq!(one.row(0), whole.row(query), "{metric}: one query");
        }
    }
}

/// A finite vector is a hit, with its value, also where sums on the way leave the range of f32.
pub fn huge_components<B: IvfBackend>(device: &B::Device) {
    let base = Rows::of(&[
        &[3e38, 3e38, 1.0],
        &[1e38, 2e38, 3e38],
        &[0.5, 0.25, 1.0],
        &[0.0, 3.4e38, 1e-30],
    ]);
    for metric in [
        Metric::Canberra,
        Metric::BrayCurtis,
        Metric::Jaccard,
        Metric::JensenShannon,
    ] {
        let index = flat::<B>(device, metric, &base);
        let found = search_flat(&index, &base, 4);
        for query in 0..4 {
            let (d, i) = found.row(query);
            let mut ids = i.to_vec();
            ids.sort_unstable();
            assert_eq!(ids, [0, 1, 2, 3], "{metric} {query}");
            for (&d, &id) in d.iter().zip(i) {
                let own = value(metric, base.row(query), base.row(id as usize));
                let own = own.clamp(-f64::from(f32::MAX), f64::from(f32::MAX));
                let same = (f64::from(d) - own).abs() <= 1e-5 * own.abs() + 1e-6;
                assert!(
                    same || (d.is_infinite() && own >= 3.4e38),
                    "{metric} {query} {id}: {d} for {own}"
                );
            }
            // Jensen-Shannon differences may be all too large to tell apart from themselves.
            if metric != Metric::JensenShannon {
                assert_eq!(i[0], query as i64, "{metric}");
            }
        }
    }
}

/// NaN and infinity: no hit, a typed error, or a missing component where the metric has such.
pub fn broken_components<B: IvfBackend>(device: &B::Device) {
    let base = suited(30, 7, 5);
    for metric in all() {
        let whole = search_flat(&flat::<B>(device, metric, &base), &suited(3, 7, 6), 4);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let legal = bad.is_nan() && metric.accepts_nan();
            let mut queries = suited(3, 7, 6);
            queries.row_mut(1)[3] = bad;
            let found = search_flat(&flat::<B>(device, metric, &base), &queries, 4);
            assert_eq!(found.row(0), whole.row(0), "{metric} {bad}");
            assert_eq!(found.row(2), whole.row(2), "{metric} {bad}");
            if !legal {
                found.assert_padding(1, metric);
            } else {
                let q = queries.row(1);
                for (&d, &id) in found.row(1).0.iter().zip(found.row(1).1) {
                    let own = value(metric, q, base.row(id as usize));
                    assert!((f64::from(d) - own).abs() <= slack(own), "{metric}");
                }
            }
            let mut rows = base.clone();
            rows.row_mut(4)[0] = bad;
            let mut index = IndexFlat::<B>::new(7, metric, device).unwrap();
            let added = index.add(rows.on(device));
            if legal {
                added.unwrap();
                let all = search_flat(&index, &suited(3, 7, 6), 30);
                let rank = all.row(0).1.iter().position(|&id| id == 4).unwrap();
                let own = value(metric, suited(3, 7, 6).row(0), rows.row(4));
                assert!((f64::from(all.row(0).0[rank]) - own).abs() <= slack(own));
            } else {
                assert!(matches!(refused(added), Error::NonFinite { row: 4, .. }));
            }
        }
    }
    // Nothing in common: no hit.
    let base = Rows::of(&[&[f32::NAN, 0.5], &[0.25, f32::NAN]]);
    let queries = Rows::of(&[&[f32::NAN, 0.5]]);
    for metric in [Metric::NanEuclidean, Metric::Gower] {
        let found = search_flat(&flat::<B>(device, metric, &base), &queries, 2);
        assert_eq!((found.i, found.d), (vec![0, -1], vec![0.0, f32::INFINITY]));
    }
    // A negative component has no Jensen-Shannon divergence.
    let base = Rows::of(&[&[-1.0, 0.5], &[0.25, 1.0]]);
    let queries = Rows::of(&[&[0.25, 1.0]]);
    let found = search_flat(
        &flat::<B>(device, Metric::JensenShannon, &base),
        &queries,
        2,
    );
    assert_eq!(found.i, [1, -1]);
    let matrix = pairwise_distance(
        queries.on::<B>(device),
        base.on(device),
        Metric::JensenShannon,
    );
    assert!(floats(matrix.unwrap())[0].is_nan());
}

/// Cosine on flat and inverted-file indexes: values, lengths that do not matter, modes, zeros.
pub fn cosine_everywhere<B: IvfBackend>(device: &B::Device) {
    let base = normal(600, 20, 7);
    let queries = normal(12, 20, 8);
    let index = flat::<B>(device, Metric::Cosine, &base);
    let whole = search_flat(&index, &queries, 15);
    for query in 0..12 {
        let q = queries.row(query);
        let mut expected: Vec<f64> = (0..600)
            .map(|x| value(Metric::Cosine, q, base.row(x)))
            .collect();
        for (&d, &id) in whole.row(query).0.iter().zip(whole.row(query).1) {
            assert!((f64::from(d) - expected[id as usize]).abs() < 1e-6);
        }
        expected.sort_by(|a, b| b.total_cmp(a));
        for (&d, e) in whole.row(query).0.iter().zip(&expected) {
            assert!((f64::from(d) - e).abs() < 1e-6, "{d} for {e}");
        }
    }
    // Lengths do not matter, and powers of two not even to the bits.
    let longer = search_flat(&index, &queries.map(|v| v * 1024.0), 15);
    longer.assert_same(&whole, "longer queries");
    let mut ivf = trained::<B>(device, Metric::Cosine, 9, &base);
    for mode in IVF_MODES {
        let found = search_ivf(&ivf, &queries, 15, &probing(9, mode));
        found.assert_same(&whole, "full probe");
        let few = search_ivf(&ivf, &queries, 15, &probing(3, mode));
        few.assert_same(
            &search_ivf(&ivf, &queries, 15, &probing(3, SearchMode::Csr)),
            "few probes",
        );
    }
    // G6: centroids of length 1.
    let centroids = floats(ivf.centroids().unwrap());
    for centroid in centroids.chunks(20) {
        let norm2: f64 = centroid.iter().map(|&v| f64::from(v).powi(2)).sum();
        assert!((norm2.sqrt() - 1.0).abs() < 1e-5);
    }
    // What is kept has length 1, and stays as it is when added again.
    let kept = ivf.list_vectors(0).unwrap();
    let ids = ivf.list_ids(0).unwrap();
    for (row, &id) in floats(kept.clone()).chunks(20).zip(&ids) {
        let cosine = value(Metric::Cosine, row, base.row(id as usize));
        assert!((cosine - 1.0).abs() < 1e-6);
    }
    ivf.reset();
    ivf.add(kept.clone()).unwrap();
    let sizes = ivf.list_sizes();
    assert_eq!(sizes.iter().sum::<usize>(), ids.len());
    let again: Vec<f32> = (0..9)
        .flat_map(|l| floats(ivf.list_vectors(l).unwrap()))
        .collect();
    let mut expected: Vec<[u32; 20]> = bits(&floats(kept));
    let mut again = bits(&again);
    expected.sort_unstable();
    again.sort_unstable();
    assert_eq!(again, expected);
    // Range search goes by similarity too.
    let range = index.range_search(queries.on(device), 0.3).unwrap();
    let sizes: Vec<usize> = range
        .lims
        .windows(2)
        .map(|lims| lims[1] - lims[0])
        .collect();
    let within = |query: usize| {
        let similar = |x: &usize| value(Metric::Cosine, queries.row(query), base.row(*x)) >= 0.3;
        (0..600).filter(similar).count()
    };
    let expected: Vec<usize> = (0..12).map(within).collect();
    assert_eq!(sizes, expected);
    // A zero vector is as near to everything: similarity 0, ties by id.
    let base = Rows::of(&[&[0.0, 0.0], &[-1.0, 0.0], &[3e-39, 0.0], &[2.0, 0.0]]);
    let found = search_flat(
        &flat::<B>(device, Metric::Cosine, &base),
        &Rows::of(&[&[5.0, 0.0], &[0.0, 0.0], &[1e30, 0.0], &[1e-30, 0.0]]),
        5,
    );
    for query in [0, 2, 3] {
        assert_eq!(found.row(query).1, [3, 0, 2, 1, -1]);
        assert_eq!(found.row(query).0, [1.0, 0.0, 0.0, -1.0, f32::NEG_INFINITY]);
    }
    assert_eq!(found.row(1).1, [0, 1, 2, 3, -1]);
    assert_eq!(found.row(1).0[..4], [0.0; 4]);
}

fn bits(rows: &[f32]) -> Vec<[u32; 20]> {
    let (rows, rest) = rows.as_chunks::<20>();
    assert!(rest.is_empty());
    rows.iter().map(|row| row.map(f32::to_bits)).collect()
}

/// L1 and Linf on an inverted file: full probe is flat, few probes read the nearest lists, every
/// mode and workspace the same bits; other metrics are refused with the way out.
pub fn l1_linf_on_ivf<B: IvfBackend>(device: &B::Device) {
    let (base, queries) = (tied(400, 12, 5, 9), tied(17, 12, 5, 10));
    for metric in [Metric::L1, Metric::Linf] {
        let whole = search_flat(&flat::<B>(device, metric, &base), &queries, 11);
        let mut index = trained::<B>(device, metric, 7, &base);
        for mode in IVF_MODES {
            let found = search_ivf(&index, &queries, 11, &probing(7, mode));
            found.assert_same(&whole, "full probe");
        }
        let found = search_ivf(&index, &queries, 11, &probing(2, SearchMode::Auto));
        let small = probing(2, SearchMode::Auto).with_workspace_limit(64 << 10);
        search_ivf(&index, &queries, 11, &small).assert_same(&found, "small workspace");
        // Rows found lie in the two nearest lists by this metric, and no better row there is missed.
        let centroids = Rows::new(floats(index.centroids().unwrap()), 12);
        let coarse = Answer::read(&index.coarse(queries.on(device), 2).unwrap());
        check(metric, &centroids, &queries, &coarse);
        for query in 0..17 {
            let mut best: Vec<(f32, i64)> = coarse
                .row(query)
                .1
                .iter()
                .flat_map(|&l| index.list_ids(l as usize).unwrap())
                .map(|id| {
                    (
                        value(metric, queries.row(query), base.row(id as usize)) as f32,
                        id,
                    )
                })
                .collect();
            best.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            best.truncate(11);
            let (d, i) = found.row(query);
            for (rank, hit) in best.iter().enumerate() {
                assert_eq!(
                    (d[rank], i[rank]),
                    *hit,
                    "{metric} query {query} rank {rank}"
                );
            }
        }
        // Selectors and limits leave what they leave of other metrics: the subset, the first lists.
        let even: Vec<i64> = (0..400).step_by(2).collect();
        let params =
            probing(7, SearchMode::Auto).with_selector(IdSelector::batch(even.iter().copied()));
        let mut subset = IndexFlat::<B>::new(12, metric, device).unwrap();
        let rows: Vec<usize> = even.iter().map(|&id| id as usize).collect();
        subset
            .add_with_ids(base.pick(&rows).on(device), &even)
            .unwrap();
        let subset = search_flat(&subset, &queries, 11);
        search_ivf(&index, &queries, 11, &params).assert_same(&subset, "selected");
        let plain = SearchParams::exact().with_selector(IdSelector::batch(even.iter().copied()));
        let selected = flat::<B>(device, metric, &base).search_with(queries.on(device), 11, &plain);
        Answer::read(&selected.unwrap()).assert_same(&subset, "selected on flat");
        let one = search_ivf(&index, &queries, 11, &probing(1, SearchMode::Auto));
        let params = probing(7, SearchMode::Auto).with_max_codes(1);
        search_ivf(&index, &queries, 11, &params).assert_same(&one, "the first list only");
        // Replaced rows, and vectors of hits whose ids are shared.
        let same = index.update_vectors(&[5], base.range(6..7).on(device), Missing::Error);
        assert_eq!(same.unwrap(), 1);
        index
            .add_with_ids(base.range(9..10).on(device), &[5])
            .unwrap();
        let (hits, vectors) = index
            .search_and_reconstruct(queries.on(device), 400, &probing(7, SearchMode::Auto))
            .unwrap();
        let (hits, vectors) = (Answer::read(&hits), floats(vectors));
        for (at, &d) in hits.d.iter().enumerate() {
            let found = &vectors[at * 12..(at + 1) * 12];
            assert_eq!(
                value(metric, queries.row(at / 400), found) as f32,
                d,
                "{metric}"
            );
        }
        // A skipped list, an empty one, a broken query.
        index.reset();
        index
            .add_preassigned(base.on(device), None, &[3; 400])
            .unwrap();
        let lists = super::support::lists::<B>(&[3, -1, -1, 2], 2, device);
        let mut two = queries.range(0..2);
        let found = index.search_preassigned(two.on(device), 11, lists, &SearchParams::exact());
        let found = Answer::read(&found.unwrap());
        assert_eq!(found.row(0), whole.row(0));
        found.assert_padding(1, metric);
        two.row_mut(0)[5] = f32::NAN;
        let found = search_ivf(&index, &two, 11, &probing(7, SearchMode::Auto));
        found.assert_padding(0, metric);
        assert_eq!(found.row(1), whole.row(1));
    }
    for metric in all().into_iter().filter(|metric| !metric.is_for_ivf()) {
        let built = IndexIvfFlat::<B>::builder(4).metric(metric).build(device);
        let text = refused(built).to_string();
        assert!(
            text.contains("IndexFlat") && text.contains(&metric.to_string()),
            "{text}"
        );
        let centroids = Tensor::<B, 2>::zeros([2, 4], device);
        let made = IndexIvfFlat::<B>::from_centroids(centroids, metric);
        assert!(matches!(refused(made), Error::Metric { .. }));
    }
    let index = untrained::<B>(device, Metric::L1, 3, 4);
    assert_eq!(index.metric(), Metric::L1);
    for p in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let made = IndexFlat::<B>::new(4, Metric::Lp(p), device);
        assert!(
            matches!(refused(made), Error::IllegalValue { .. }),
            "p = {p}"
        );
    }
}
