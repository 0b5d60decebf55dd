//! Every measure in plain f64: what every kernel is compared with.

use super::Measure;

/// The distance or similarity of two vectors; NaN where there is none.
pub fn reference(measure: Measure, query: &[f32], row: &[f32]) -> f64 {
    let all = || query.iter().chain(row);
    if !all().all(|&v| measure.accepts(v)) {
        return f64::NAN;
    }
    let pairs = query
        .iter()
        .zip(row)
        .map(|(&q, &x)| (f64::from(q), f64::from(x)));
    let present = pairs.clone().filter(|(q, x)| !q.is_nan() && !x.is_nan());
    match measure {
        Measure::L2 => pairs.map(|(q, x)| (q - x) * (q - x)).sum(),
        Measure::InnerProduct => pairs.map(|(q, x)| q * x).sum(),
        Measure::L1 => pairs.map(|(q, x)| (q - x).abs()).sum(),
        Measure::Linf => pairs.map(|(q, x)| (q - x).abs()).fold(0.0, f64::max),
        Measure::Lp(p) => pairs.map(|(q, x)| (q - x).abs().powf(f64::from(p))).sum(),
        Measure::Canberra => pairs
            .map(|(q, x)| over((q - x).abs(), q.abs() + x.abs(), 0.0))
            .sum(),
        Measure::BrayCurtis => over(
            pairs.clone().map(|(q, x)| (q - x).abs()).sum(),
            pairs.map(|(q, x)| (q + x).abs()).sum(),
            0.0,
        ),
        Measure::JensenShannon => {
            if all().any(|&v| v < 0.0) {
                return f64::NAN;
            }
            let half = |v: f64, m: f64| if v > 0.0 { v * (v / m).ln() } else { 0.0 };
            0.5 * pairs
                .map(|(q, x)| half(q, 0.5 * (q + x)) + half(x, 0.5 * (q + x)))
                .sum::<f64>()
        }
        Measure::Jaccard => over(
            pairs.clone().map(|(q, x)| q.min(x)).sum(),
            pairs.map(|(q, x)| q.max(x)).sum(),
            1.0,
        ),
        Measure::NanEuclidean => {
            let count = present.clone().count() as f64;
            let sum: f64 = present.map(|(q, x)| (q - x) * (q - x)).sum();
            query.len() as f64 / count * sum
        }
        Measure::Gower => {
            let count = present.clone().count() as f64;
            let sum: f64 = present
                .map(|(q, x)| match (q < 0.0, x < 0.0) {
                    (true, true) => f64::from(u8::from(q != x)),
                    (false, false) if q <= 1.0 && x <= 1.0 => (q - x).abs(),
                    _ => f64::NAN,
                })
                .sum();
            sum / count
        }
    }
}

/// `a / b`, or `zero` for 0 / 0.
fn over(a: f64, b: f64, zero: f64) -> f64 {
    if a == 0.0 && b == 0.0 { zero } else { a / b }
}
