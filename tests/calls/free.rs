//! Calls without an index, and those of `burn_ivf::train` and `burn_ivf::io`.

use super::world::{Call, Outcome, World};
use burn::tensor::Tensor;
use burn_ivf::{
    Config, Index, IvfBackend, KMeans, KnnAccumulator, KnnLimits, Metric, SearchParams, Selection,
    io::{VectorFile, VectorFormat, write_ids, write_vectors},
    knn, pairwise_distance, recall_at_k, suggest_nlist,
    train::{self, Labelled, Mining},
};
use core::ops::ControlFlow;

/// Queries and vectors, seldom of unlike dimensions.
type Pair<B> = (Tensor<B, 2>, Tensor<B, 2>, String);

fn pair<B: IvfBackend>(w: &mut World<B>) -> Pair<B> {
    let d = 1 + w.source.below(5);
    let (q, a) = w.source.rows::<B>(d, &w.device);
    let (x, b) = w.source.rows::<B>(d, &w.device);
    (q, x, format!("{a}, {b}"))
}

fn nearest<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let ((q, x, words), metric) = (pair(w), w.source.metric());
    let k = w.source.k(q.dims()[0]);
    let limits = KnnLimits {
        vectors: w.source.size(),
        queries: w.source.size(),
    };
    w.say(format!("knn({words}, {k}, {metric:?}, {limits:?})"));
    let found = knn(q.clone(), x, k, metric, &limits)?;
    assert_eq!(found.labels.dims(), [q.dims()[0], k]);
    Ok(())
}

fn pairwise<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let ((q, x, words), metric) = (pair(w), w.source.metric());
    w.say(format!("pairwise_distance({words}, {metric:?})"));
    let shape = [q.dims()[0], x.dims()[0]];
    assert_eq!(pairwise_distance(q, x, metric)?.dims(), shape);
    Ok(())
}

fn accumulate<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let ((q, x, words), metric) = (pair(w), w.source.metric());
    let k = w.source.k(q.dims()[0]);
    let ids = w.source.ids(x.dims()[0]);
    w.say(format!("KnnAccumulator({words}, {k}, {metric:?}, {ids:?})"));
    let mut nearest = KnnAccumulator::new(q, k, metric)?;
    let pushed = nearest.push(x.clone());
    let before = nearest.clone().finish().to_vecs();
    let again = nearest.push_with_ids(x.clone(), &ids);
    if again.is_err() {
        let after = nearest.clone().finish().to_vecs();
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(&before.0), before.1), (bits(&after.0), after.1));
    }
    nearest.push(x)?;
    let _ = (nearest.len(), nearest.finish());
    pushed.and(again)
}

fn kmeans<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let ((q, x, words), metric) = (pair(w), w.source.metric());
    let (k, d) = (w.source.some(4), x.dims()[1]);
    let params = w.source.kmeans(k, d);
    w.say(format!(
        "KMeans::train({words}, {k}, {metric:?}, {params:?})"
    ));
    let found = KMeans::train(x, k, metric, &params)?;
    assert_eq!(found.centroids().dims(), [k, d]);
    found.assign(q).map(drop)
}

fn labels<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.flat();
    let d = w.flats[at].d();
    let (x, words) = w.source.rows::<B>(d, &w.device);
    let n = x.dims()[0].min(50);
    let n = n + usize::from(w.source.rarely(8));
    let rows = w.source.below(30);
    let row_classes = w.source.integers::<B>(rows, &w.device);
    let mut batch = Labelled::new(x.clone(), w.source.integers::<B>(n, &w.device));
    if w.source.rarely(2) {
        batch = batch.with_ids(w.source.integers::<B>(n, &w.device));
    }
    let way = w.source.below(4);
    let k = w.source.k(x.dims()[0]);
    w.say(format!(
        "labels way {way} of {at} ({words}, {n} classes, {rows} rows, {k})"
    ));
    let index = &w.flats[at];
    match way {
        0 => train::knn_accuracy(index, row_classes, &batch, k).map(drop),
        1 => train::class_recall_at_k(index, row_classes, &batch, k).map(drop),
        2 => {
            let mut mining = Mining::new(k);
            if w.source.rarely(2) {
                mining = mining.with_candidates(w.source.below(20));
            }
            train::mine_hard_negatives(index, row_classes, &batch, mining).map(drop)
        }
        _ => {
            let metric = w.source.metric();
            let (base, _) = w.source.rows::<B>(d, &w.device);
            let found = index.search(x.clone(), k)?;
            found.neighbours(x, base, metric).map(drop)
        }
    }
}

fn fill<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let at = w.flat();
    let d = w.flats[at].d();
    let (x, words) = w.source.rows::<B>(d, &w.device);
    let ids = w.source.ids(x.dims()[0]);
    w.say(format!("fill {at} with ({words}, {ids:?})"));
    let index: &mut dyn Index<B> = &mut w.flats[at];
    let one = core::iter::once(());
    let embed = |()| (x.clone(), ids.clone());
    train::fill(index, one, embed, |_| ControlFlow::Break(())).map(drop)
}

fn names<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let texts = [
        "nprobe=0,max_codes=18446744073709551615",
        "nprobe=99999999999999999999",
        "max_codes=1,candidate_budget=1",
        "auto_rule=torch-ivf:NaN",
        "workspace_limit=-1",
        "=,=,",
        "nprobe",
        "profile=exact,counts=true",
        "lp:NaN",
        "lp:",
        "lp:1e999",
        "l2",
        "\u{0}",
    ];
    let text = w.source.pick(&texts);
    w.say(format!("parse {text:?}"));
    let metric = text.parse::<Metric>();
    let params = text.parse::<SearchParams>();
    let pair = ("BURN_IVF_CSR_FROM_AVG_GROUP".to_owned(), text.to_owned());
    let config = Config::parse([pair], Some((std::path::Path::new("f"), text)));
    let _ = (config.warnings().len(), suggest_nlist(w.source.size()));
    metric.map(drop).or(params.map(drop))
}

fn counts<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (nq, n) = (w.source.size(), w.source.size());
    let words: Vec<u32> = vec![7; w.source.below(4)];
    w.say(format!("bitmap_u32({words:?}, {nq}, {n})"));
    Selection::bitmap_u32(&words, nq, n)?;
    Ok(())
}

fn recall<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let (a, b) = (w.source.ids(12), w.source.ids(12));
    let [x, y, k] = [(); 3].map(|()| w.source.some(4));
    w.say(format!("recall_at_k({a:?}, {b:?}, {x}, {y}, {k})"));
    recall_at_k(&a, &b, x, y, k).map(drop)
}

fn vector_files<B: IvfBackend>(w: &mut World<B>) -> Outcome {
    let name = w
        .source
        .pick(&["a.npy", "a.fvecs", "a.bvecs", "a.ivecs", "a", "no/a.npy"]);
    let path = w.folder.path().join(name);
    let (n, d) = (w.source.below(12), w.source.some(3));
    let (start, rows) = (w.source.some(3), w.source.some(3));
    w.say(format!(
        "write {name}: {n} values by {d}, read {rows} rows from {start}"
    ));
    let values: Vec<f32> = (0..n).map(|_| w.source.float()).collect();
    let ids = w.source.ids(n);
    let written = write_vectors(&path, &values, d).or(write_ids(&path, &ids, d));
    let mut file = VectorFile::open(&path)?;
    let whole: usize = file
        .blocks(w.source.size())
        .map(|rows| rows.unwrap().len())
        .sum();
    assert_eq!(whole, file.len() * file.d());
    let mut bytes = std::fs::read(&path).unwrap();
    w.source.damage(&mut bytes);
    let format = VectorFormat::of(&path)?;
    if let Ok(mut file) = VectorFile::from_reader(std::io::Cursor::new(bytes), format) {
        for block in file.blocks(2) {
            let _ = block;
        }
    }
    let _ = file.read_ids(start, rows);
    file.read_block(start, rows)?;
    written
}

pub fn calls<B: IvfBackend>() -> Vec<Call<B>> {
    vec![
        ("knn", false, nearest::<B>),
        ("pairwise", false, pairwise::<B>),
        ("accumulate", false, accumulate::<B>),
        ("kmeans", false, kmeans::<B>),
        ("labels", false, labels::<B>),
        ("fill", true, fill::<B>),
        ("names", false, names::<B>),
        ("counts", false, counts::<B>),
        ("recall", false, recall::<B>),
        ("vector_files", false, vector_files::<B>),
    ]
}
