//! What a run found out, as a value (`--json`) and as text for people.

use std::fmt::Write as _;

use burn_ivf::{KMeansReport, SearchStats};
use serde::Serialize;

use crate::args::Settings;
use crate::data::Dataset;
use crate::run::{Answer, Job};
use crate::verify::Verdict;

/// Glosses printed per query.
const SHOWN: usize = 5;
/// Columns of a printed gloss.
const WIDTH: usize = 84;

/// Every figure of one run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub library: &'static str,
    pub version: &'static str,
    pub workload: &'static str,
    pub backend: &'static str,
    /// Burn's name for the backend type, and its device.
    pub backend_name: String,
    pub device: String,
    pub device_choice: String,
    pub nb: usize,
    pub nq: usize,
    pub d: usize,
    #[serde(flatten)]
    pub settings: Settings,
    pub kmeans: KMeansReport,
    /// Imbalance of the filled lists; 1 is even.
    pub imbalance: f64,
    pub index_bytes: u64,
    #[serde(flatten)]
    pub timings: Timings,
    /// The search that was asked for, again without having to look into `passes`.
    #[serde(flatten)]
    pub headline: Headline,
    pub passes: Vec<Pass>,
    /// The queries shown (text only).
    pub hits: Vec<Shown>,
    pub verify: Option<Verdict>,
}

/// Wall time of the steps before the searches.
#[derive(Debug, Default, Serialize)]
pub struct Timings {
    pub load_ms: f64,
    pub train_ms: f64,
    pub add_ms: f64,
    pub flat_add_ms: Option<f64>,
}

/// The figures of the search at the chosen nprobe, which is the first pass.
#[derive(Debug, Serialize)]
pub struct Headline {
    pub search_ms: f64,
    pub qps: f64,
    pub chosen_mode: String,
    pub recall_at_k: Option<f64>,
}

/// One way of searching all queries.
#[derive(Debug, Serialize)]
pub struct Pass {
    pub name: &'static str,
    pub nprobe: Option<usize>,
    /// Median and least over `runs` runs after a warm-up, host vectors to host answers.
    pub search_ms: f64,
    pub search_ms_min: f64,
    pub runs: usize,
    pub qps: f64,
    pub chosen_mode: String,
    pub kernel: String,
    pub reason: String,
    pub rows_per_query: Option<f64>,
    pub recall_at_k: Option<f64>,
    pub hit_at_1: Option<f64>,
    pub hit_at_10: Option<f64>,
}

impl Pass {
    /// From the sorted times of the runs and the statistics of one run's batches.
    pub fn new(name: &'static str, nq: usize, times: &[f64], stats: &[SearchStats]) -> Self {
        let search_ms = times[times.len() / 2];
        let first = stats.first();
        let text = |part: fn(&SearchStats) -> String| first.map(part).unwrap_or_default();
        Self {
            name,
            nprobe: None,
            search_ms,
            search_ms_min: times[0],
            runs: times.len(),
            qps: nq as f64 / (search_ms * 1e-3).max(1e-9),
            chosen_mode: text(|stats| stats.mode.to_string()),
            kernel: text(|stats| stats.kernel.to_string()),
            reason: text(|stats| stats.reason.to_string()),
            rows_per_query: stats
                .iter()
                .map(|stats| stats.rows_scanned)
                .sum::<Option<u64>>()
                .map(|rows| rows as f64 / nq as f64),
            recall_at_k: None,
            hit_at_1: None,
            hit_at_10: None,
        }
    }

    /// The figures most readers want.
    pub fn headline(&self) -> Headline {
        Headline {
            search_ms: self.search_ms,
            qps: self.qps,
            chosen_mode: self.chosen_mode.clone(),
            recall_at_k: self.recall_at_k,
        }
    }

    fn title(&self) -> String {
        match (self.name, self.nprobe) {
            ("flat", _) => "IndexFlat, exact".to_owned(),
            ("ivf_all_lists", Some(nprobe)) => format!("IVF, all {nprobe} lists"),
            (_, Some(nprobe)) => format!("IVF, nprobe {nprobe}"),
            _ => self.name.to_owned(),
        }
    }
}

/// A query with its best glosses.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub query: String,
    pub right_answer: String,
    /// Rank of the right answer among the results, from 1.
    pub right_rank: Option<usize>,
    pub best: Vec<ShownHit>,
}

/// One retrieved gloss.
#[derive(Debug, Serialize)]
pub struct ShownHit {
    pub score: f32,
    pub synset: String,
    pub text: String,
    pub right: bool,
}

/// The first queries of the sample with what was found for them; empty without texts.
pub fn hits(job: &Job<'_>, answer: &Answer) -> Vec<Shown> {
    let Some(texts) = &job.data.texts else {
        return Vec::new();
    };
    let rows = answer.labels.chunks(answer.depth);
    let scores = answer.distances.chunks(answer.depth);
    let found = texts.questions.iter().zip(rows.zip(scores));
    found
        .take(job.settings.query_count)
        .map(|(question, (labels, scores))| {
            let gold = &texts.glosses[question.gold];
            let found = labels.iter().zip(scores).filter(|(label, _)| **label >= 0);
            Shown {
                query: question.text.clone(),
                right_answer: format!("{}  {}", gold.synset, gold.text),
                right_rank: labels
                    .iter()
                    .position(|&label| label == question.gold as i64)
                    .map(|at| at + 1),
                best: found
                    .take(SHOWN.min(job.settings.k))
                    .map(|(&label, &score)| {
                        let gloss = &texts.glosses[label as usize];
                        ShownHit {
                            score,
                            synset: gloss.synset.clone(),
                            text: gloss.text.clone(),
                            right: label == question.gold as i64,
                        }
                    })
                    .collect(),
            }
        })
        .collect()
}

/// The lines printed before the work starts.
pub fn opening(data: &Dataset, settings: &Settings) -> String {
    let kind = if data.texts.is_some() {
        "WordNet glosses, sentences as queries"
    } else {
        "standard normal vectors"
    };
    format!(
        "data     {} x {} base, {} queries: {kind}\nindex    IVF, nlist {}, nprobe {}, k {}, \
         metric {}, mode {}, seed {}\n",
        data.nb(),
        data.d,
        data.nq(),
        settings.nlist,
        settings.nprobe,
        settings.k,
        settings.metric,
        settings.mode,
        settings.seed,
    )
}

impl Report {
    /// Whether everything that was asked for held.
    pub fn passed(&self) -> bool {
        self.verify.as_ref().is_none_or(|verdict| verdict.passed)
    }

    /// What `--verify` found wrong, as sentences.
    pub fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        if let Some(verdict) = &self.verify {
            if verdict.recall < verdict.min_recall {
                failures.push(format!(
                    "recall@{} is {:.4}, {:.4} was wanted",
                    self.settings.k, verdict.recall, verdict.min_recall
                ));
            }
            if !verdict.every_list_is_exact {
                failures.push(format!(
                    "reading every list differs from IndexFlat in {} answers",
                    verdict.differing_answers
                ));
            }
            if verdict.flat_matches_sample == Some(false) {
                failures.push("IndexFlat differs from the sample's exact values".to_owned());
            }
        }
        failures
    }

    /// The report as text; [`opening`] was printed before.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let kmeans = &self.kmeans;
        let _ = writeln!(
            text,
            "device   {} on {}\nk-means  {} rows, {} iterations, imbalance {:.2}; lists {:.2}; \
             index {:.1} MiB",
            self.backend_name,
            self.device,
            kmeans.train_rows,
            kmeans.iterations,
            kmeans.imbalance,
            self.imbalance,
            self.index_bytes as f64 / f64::from(1 << 20),
        );
        if let Some(pass) = self.passes.first() {
            let _ = writeln!(
                text,
                "search   {} by {} ({})",
                pass.chosen_mode, pass.kernel, pass.reason
            );
        }
        for (number, shown) in self.hits.iter().enumerate() {
            render_hits(&mut text, number + 1, shown);
        }
        if self.passes.iter().any(|pass| pass.recall_at_k.is_some()) {
            text += &self.quality_table();
        }
        text += &self.timing_table();
        if let Some(verdict) = &self.verify {
            render_verdict(&mut text, self.settings.k, verdict);
        }
        text
    }

    fn quality_table(&self) -> String {
        let recall = format!("recall@{}", self.settings.k);
        let mut header = vec!["quality"];
        if self.settings.text {
            header.extend(["hit@1", "hit@10"]);
        }
        header.extend([recall.as_str(), "rows/query"]);
        let rows = self.passes.iter().map(|pass| {
            let mut row = vec![pass.title()];
            if self.settings.text {
                row.extend([share(pass.hit_at_1), share(pass.hit_at_10)]);
            }
            row.extend([
                share(pass.recall_at_k),
                pass.rows_per_query
                    .map_or_else(|| "-".to_owned(), |rows| format!("{rows:.0}")),
            ]);
            row
        });
        table(&header, &rows.collect::<Vec<_>>())
    }

    fn timing_table(&self) -> String {
        let nb = self.nb as f64;
        let per_second = |count: f64, ms: f64| format!("{:.0}", count / (ms * 1e-3).max(1e-9));
        let times = &self.timings;
        let trained = self.kmeans.train_rows as f64;
        let mut rows = vec![
            ("load", times.load_ms, "rows/s", nb + self.nq as f64),
            ("train", times.train_ms, "rows/s", trained),
            ("add", times.add_ms, "rows/s", nb),
        ];
        if let Some(ms) = times.flat_add_ms {
            rows.push(("add to IndexFlat", ms, "rows/s", nb));
        }
        let mut lines: Vec<_> = rows
            .into_iter()
            .map(|(step, ms, unit, count)| {
                vec![
                    step.to_owned(),
                    format!("{ms:.3}"),
                    per_second(count, ms),
                    unit.to_owned(),
                ]
            })
            .collect();
        for pass in &self.passes {
            lines.push(vec![
                pass.title(),
                format!("{:.3}", pass.search_ms),
                format!("{:.0}", pass.qps),
                "QPS".to_owned(),
            ]);
        }
        table(&["timing", "ms", "per second", ""], &lines)
    }
}

fn render_hits(text: &mut String, number: usize, shown: &Shown) {
    let rank = match shown.right_rank {
        Some(rank) => format!("found at rank {rank}"),
        None => "not found".to_owned(),
    };
    let _ = writeln!(text, "\nquery {number}: {}", shown.query);
    for (at, hit) in shown.best.iter().enumerate() {
        let mark = if hit.right { '*' } else { ' ' };
        let gloss = shorten(&hit.text);
        let _ = writeln!(text, "  {:>2} {mark} {:>7.4}  {gloss}", at + 1, hit.score);
    }
    if !shown.best.iter().any(|hit| hit.right) {
        let gloss = shorten(&shown.right_answer);
        let _ = writeln!(text, "   * {rank}: {gloss}");
    }
}

fn render_verdict(text: &mut String, k: usize, verdict: &Verdict) {
    let say = |held: bool| if held { "ok    " } else { "FAILED" };
    let _ = writeln!(
        text,
        "\nverify   {} recall@{k} {:.4}, at least {:.4} wanted ({})",
        say(verdict.recall >= verdict.min_recall),
        verdict.recall,
        verdict.min_recall,
        verdict.min_recall_from,
    );
    let _ = writeln!(
        text,
        "verify   {} every list read against IndexFlat: {} answers differ, distances by at most {:e}",
        say(verdict.every_list_is_exact),
        verdict.differing_answers,
        verdict.largest_difference,
    );
    if let Some(held) = verdict.flat_matches_sample {
        let _ = writeln!(
            text,
            "verify   {} IndexFlat against the exact inner products in the sample",
            say(held)
        );
    }
}

/// Columns wide enough for their cells: the first to the left, the others to the right.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut line = String::new();
        for (at, (cell, &width)) in cells.zip(&widths).enumerate() {
            let _ = match at {
                0 => write!(line, "{cell:<width$}"),
                _ => write!(line, "  {cell:>width$}"),
            };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut text = String::from("\n") + &line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

fn share(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.4}"))
}

/// A gloss cut to one line of a terminal.
fn shorten(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let cut: String = text.chars().take(WIDTH - 3).collect();
    cut.trim_end().to_owned() + "..."
}
