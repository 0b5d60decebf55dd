//! How good an answer is: recall against IndexFlat, hits against the human-made answers, and the
//! verdict of `--verify`.

use burn_ivf::{Metric, recall_at_k};
use serde::Serialize;

use crate::report::Pass;
use crate::run::{Answer, Job};

/// Largest difference to the shipped exact inner products: they and ours are f32 sums over unit
/// vectors, each rounded to about 1e-7.
const TRUTH_TOLERANCE: f32 = 2e-6;

/// From this share of the lists upwards the text sample must reach [`TEXT_FLOOR`], for k up to
/// [`TEXT_K`].
const TEXT_SHARE: f64 = 0.25;
const TEXT_K: usize = 10;
/// Lowest recall accepted there (0.92 was measured for recall@10 at 16 of 63 lists).
const TEXT_FLOOR: f64 = 0.8;

/// What `--verify` looked at and what came out.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// Recall@k of the pass at the chosen nprobe, and what it had to reach.
    pub recall: f64,
    pub min_recall: f64,
    pub min_recall_from: &'static str,
    /// Every list read: same ids and same distance bits as IndexFlat.
    pub every_list_is_exact: bool,
    /// Answers of that pass whose id or distance differs, and the largest distance error.
    pub differing_answers: usize,
    pub largest_difference: f32,
    /// IndexFlat agrees with the exact values that ship with the sample (text, ip only).
    pub flat_matches_sample: Option<bool>,
    pub passed: bool,
}

/// Writes recall and hit rates into the passes; the last one is IndexFlat's.
pub fn fill_quality(job: &Job<'_>, passes: &mut [(Pass, Answer)]) {
    let k = job.settings.k;
    let Some((flat, rest)) = passes.split_last_mut() else {
        return;
    };
    for (pass, answer) in rest.iter_mut() {
        pass.recall_at_k = Some(recall(answer, &flat.1, k));
    }
    flat.0.recall_at_k = Some(1.0);
    if let Some(texts) = &job.data.texts {
        let gold: Vec<usize> = texts.questions.iter().map(|q| q.gold).collect();
        for (pass, answer) in passes.iter_mut() {
            pass.hit_at_1 = Some(hit_rate(answer, &gold, 1));
            pass.hit_at_10 = Some(hit_rate(answer, &gold, 10));
        }
    }
}

/// Judges the passes of one run: the first at the chosen nprobe, the last IndexFlat's, and the
/// one before it at nprobe = nlist.
pub fn judge(job: &Job<'_>, passes: &[(Pass, Answer)]) -> Verdict {
    let flat = &passes[passes.len() - 1].1;
    let all_lists = &passes[passes.len() - 2].1;
    let recall = recall(&passes[0].1, flat, job.settings.k);
    let (min_recall, min_recall_from) = floor(job);
    let (differing_answers, largest_difference) = compare(all_lists, flat);
    let flat_matches_sample = matches_sample(job, flat);
    Verdict {
        recall,
        min_recall,
        min_recall_from,
        every_list_is_exact: differing_answers == 0,
        differing_answers,
        largest_difference,
        flat_matches_sample,
        passed: recall >= min_recall
            && differing_answers == 0
            && flat_matches_sample != Some(false),
    }
}

/// Recall@k of `found` against `truth`.
fn recall(found: &Answer, truth: &Answer, k: usize) -> f64 {
    let recall = recall_at_k(&found.labels, &truth.labels, found.depth, truth.depth, k);
    recall.expect("answers to the same queries, of at least k ids each")
}

/// Share of the queries whose right answer is among the first `k` results.
fn hit_rate(answer: &Answer, gold: &[usize], k: usize) -> f64 {
    let hits = answer
        .labels
        .chunks(answer.depth)
        .zip(gold)
        .filter(|(row, gold)| row.iter().take(k).any(|&label| label == **gold as i64))
        .count();
    hits as f64 / gold.len().max(1) as f64
}

/// The lowest recall accepted at the chosen nprobe, and where it comes from.
///
/// Reading a share p of the lists at random finds a share p of the true neighbours. An index
/// that does no better is broken, whatever the data; on data without clusters it can hardly do
/// much better. Three standard errors of nq * k draws keep a small run from failing by luck.
fn floor(job: &Job<'_>) -> (f64, &'static str) {
    let settings = job.settings;
    if let Some(floor) = settings.min_recall {
        return (floor, "--min-recall");
    }
    if settings.nprobe >= settings.nlist {
        return (1.0, "every list is read");
    }
    let share = settings.nprobe as f64 / settings.nlist as f64;
    let draws = (job.data.nq() * settings.k) as f64;
    let chance = (share - 3.0 * (share * (1.0 - share) / draws).sqrt()).max(0.0);
    let clusters = settings.text && share >= TEXT_SHARE && settings.k <= TEXT_K;
    if clusters && chance < TEXT_FLOOR {
        return (TEXT_FLOOR, "the text sample's default");
    }
    (chance, "nprobe/nlist less three standard errors")
}

/// Answers that differ in id or in the bits of the distance, and the largest distance error.
fn compare(found: &Answer, truth: &Answer) -> (usize, f32) {
    let mut differing = found.labels.len().abs_diff(truth.labels.len());
    let mut largest = 0.0f32;
    for i in 0..found.labels.len().min(truth.labels.len()) {
        let (ours, exact) = (found.distances[i], truth.distances[i]);
        if found.labels[i] != truth.labels[i] || ours.to_bits() != exact.to_bits() {
            differing += 1;
        }
        if ours != exact {
            largest = largest.max((ours - exact).abs());
        }
    }
    (differing, largest)
}

/// Whether IndexFlat's inner products are those that ship with the sample, rank by rank.
fn matches_sample(job: &Job<'_>, flat: &Answer) -> Option<bool> {
    let texts = job.data.texts.as_ref()?;
    if job.settings.metric != Metric::InnerProduct {
        return None;
    }
    let ours = flat.distances.chunks(flat.depth);
    let exact = texts.truth_ip.chunks(texts.truth_k);
    Some(ours.zip(exact).all(|(ours, exact)| {
        let mut pairs = ours.iter().zip(exact);
        pairs.all(|(a, b)| (a - b).abs() <= TRUTH_TOLERANCE)
    }))
}
