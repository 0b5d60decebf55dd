//! The clock: repeated samples, medians, the date, and this process' memory. Knows no index.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since `start`.
pub fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// The middle value (mean of the two middle ones); NaN when there is none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}

/// The value below which a share of the values lies, between two of them in proportion.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = share * last as f64;
    let (low, part) = (at as usize, at.fract());
    sorted[low] + part * (sorted[(low + 1).min(last)] - sorted[low])
}

pub fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NAN, f64::min)
}

/// How many searches share one sample, so that a sample of tiny searches is longer than the
/// clock's and the scheduler's noise. The reported time is per search.
pub fn searches_per_sample(nq: usize, pool: usize) -> usize {
    (64 / nq.max(1)).min(pool / nq.max(1)).max(1)
}

/// Which queries repetition `rep` starts at: other ones each time while the pool lasts.
pub fn rotation(rep: usize, span: usize, pool: usize, rotate: bool) -> usize {
    if rotate {
        rep * span % (pool - span + 1)
    } else {
        0
    }
}

/// Lets the worker threads of whatever ran before go to sleep.
pub fn settle() {
    std::thread::sleep(Duration::from_millis(5));
}

/// The time now, as 2026-01-31T12:34:56Z.
pub fn timestamp() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.unwrap_or_default().as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of the `days`-th day after 1970-01-01.
fn civil_date(mut days: u64) -> (u64, u64, u64) {
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
}

/// Resident memory now and its peak since the last `reset_peak`, in MiB (Linux only).
#[derive(Clone, Copy, Default)]
pub struct Memory {
    pub now_mib: Option<f64>,
    pub peak_mib: Option<f64>,
}

pub fn memory() -> Memory {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
        Some((kib / 1024.0 * 10.0).round() / 10.0)
    };
    Memory {
        now_mib: field("VmRSS:"),
        peak_mib: field("VmHWM:"),
    }
}

/// Starts the peak anew at the present value; silently without effect where that is not offered.
pub fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// One-minute load average: above the number of busy threads, other work shared the machine.
pub fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
