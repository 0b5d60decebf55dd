//! What this processor can do at most, measured beside the searches: arithmetic in f32 and, where
//! there is an instruction for it, in bf16; reading from memory and from the second-level cache.
//! The `roofline` sub-command, and the probe of every `run` on a CPU backend.
//!
//! Every figure is the sum over all threads of the rayon pool, which start together and each work on
//! data of their own; of several short windows the best one counts, since whatever else runs on the
//! machine can only slow it down. Knows no index.

use crate::Res;
use crate::json::rounded;
use pulp::{Arch, Simd, WithSimd};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Windows per figure, each of this length.
const WINDOWS: usize = 5;
const WINDOW: Duration = Duration::from_millis(40);

/// Where the machine does not tell.
const USUAL_L2: usize = 512 << 10;
const USUAL_L3: usize = 32 << 20;

/// Smallest and largest size of the buffers that are read from memory, over all threads.
const MEMORY_BUFFER: (usize, usize) = (256 << 20, 4 << 30);

/// The probe. A record carries it whole, so that its fractions can be checked and redone.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub struct Roofline {
    /// Fused multiply-adds of f32, two operations each, on the widest vectors of this processor
    /// (emulated, and then slow, where it has none).
    pub f32_gflops: f64,
    /// Products of bf16 pairs summed in f32, two operations each; none without the instruction.
    pub bf16_gflops: Option<f64>,
    /// Reading, from buffers together several times as large as the last-level caches.
    pub memory_gbps: f64,
    /// Reading, from buffers of half the second-level cache each.
    pub l2_gbps: f64,
    /// Sizes of those buffers, over all threads and of one.
    pub memory_buffer_mib: usize,
    pub l2_buffer_kib: usize,
    /// f32 values in one of the vectors used.
    pub lanes: usize,
    pub threads: usize,
}

impl Roofline {
    /// Measures, in about a second.
    pub fn measure() -> Self {
        let threads = rayon::current_num_threads();
        let caches = Caches::find();
        let (least, most) = MEMORY_BUFFER;
        let memory = (4 * caches.l3).clamp(least, most) / threads;
        let l2 = caches.l2 / 2;
        Self {
            f32_gflops: rounded(best(|| (), |()| fma_operations()) / 1e9),
            bf16_gflops: bf16::operations().map(|run| rounded(best(|| (), |()| run()) / 1e9)),
            memory_gbps: rounded(best(|| Buffer::new(memory), Buffer::read) / 1e9),
            l2_gbps: rounded(best(|| Buffer::new(l2), Buffer::read_many) / 1e9),
            memory_buffer_mib: (memory * threads) >> 20,
            l2_buffer_kib: l2 >> 10,
            lanes: Arch::new().dispatch(Lanes),
            threads,
        }
    }
}

/// The same in one line.
impl fmt::Display for Roofline {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            f32_gflops: f32,
            memory_gbps: memory,
            l2_gbps: l2,
            threads,
            ..
        } = self;
        write!(out, "{threads} threads: {f32:.0} GFLOP/s f32, ")?;
        if let Some(bf16) = self.bf16_gflops {
            write!(out, "{bf16:.0} bf16, ")?;
        }
        write!(out, "reads {memory:.0} GB/s from memory, {l2:.0} from L2")
    }
}

/// What one search reached, beside what the processor can do. Of a search that reads lists of f32
/// by differences, a multiply-add is half the work: it cannot exceed half of `f32_gflops`.
#[derive(Serialize, Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// 2 · d operations for every row compared, whatever the kernel really computes.
    pub gflops: f64,
    /// The f32 vectors of all probed lists, each list counted once per search.
    pub gbps: f64,
    /// `gflops` over the probe's `f32_gflops`; a kernel that filters in bf16 may exceed 1.
    pub flops_fraction: Option<f64>,
    /// `gbps` over the probe's `memory_gbps`; lists that stay in a cache, or are stored in fewer
    /// bytes, may exceed 1.
    pub bytes_fraction: Option<f64>,
}

impl Reached {
    /// A search of `ms` that compared `rows` pairs in `d` dimensions and read `bytes` of lists.
    pub fn new(d: usize, rows: u64, bytes: u64, ms: f64, probe: Option<&Roofline>) -> Self {
        let gflops = 2.0 * d as f64 * rows as f64 / (ms * 1e6);
        let gbps = bytes as f64 / (ms * 1e6);
        Self {
            gflops: rounded(gflops),
            gbps: rounded(gbps),
            flops_fraction: probe.map(|probe| rounded(gflops / probe.f32_gflops)),
            bytes_fraction: probe.map(|probe| rounded(gbps / probe.memory_gbps)),
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |fraction: Option<f64>| {
            fraction.map_or_else(String::new, |share| format!(" ({:.0} %)", 100.0 * share))
        };
        let (flops, bytes) = (share(self.flops_fraction), share(self.bytes_fraction));
        let Self { gflops, gbps, .. } = self;
        write!(out, "{gflops:.1} GFLOP/s{flops}, {gbps:.1} GB/s{bytes}")
    }
}

/// The sub-command: one JSON object.
pub fn print() -> Res<()> {
    println!("{}", serde_json::to_string_pretty(&Roofline::measure())?);
    Ok(())
}

/// The most units per second that all threads together did in one window. Each thread makes its
/// data itself, so that they lie near it, and calls `work`, which returns how many units it did.
fn best<T>(make: impl Fn() -> T + Sync, work: impl Fn(&mut T) -> u64 + Sync) -> f64 {
    let barrier = Barrier::new(rayon::current_num_threads());
    // A broadcast runs once on every thread of the pool, all at the same time: the barrier opens.
    let threads = rayon::broadcast(|_| {
        let mut data = make();
        work(&mut data);
        [(); WINDOWS].map(|()| {
            barrier.wait();
            let start = Instant::now();
            let mut units = 0;
            loop {
                units += work(&mut data);
                let spent = start.elapsed();
                if spent >= WINDOW {
                    break units as f64 / spent.as_secs_f64();
                }
            }
        })
    });
    let window = |at: usize| threads.iter().map(|rates| rates[at]).sum::<f64>();
    (0..WINDOWS).map(window).fold(0.0, f64::max)
}

/// Multiply-adds per chain and call: some 20 microseconds of work.
const STEPS: u64 = 8192;

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES
    }
}

/// One call's worth of f32 multiply-adds; returns the operations done.
fn fma_operations() -> u64 {
    Arch::new().dispatch(Fma)
}

struct Fma;

impl WithSimd for Fma {
    type Output = u64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> u64 {
        // As many independent chains as fit into the registers beside the two factors: enough to
        // hide the latency of every processor known.
        if S::REGISTER_COUNT >= 32 {
            fma_chains::<S, 24>(simd)
        } else {
            fma_chains::<S, 12>(simd)
        }
    }
}

#[inline(always)]
fn fma_chains<S: Simd, const CHAINS: usize>(simd: S) -> u64 {
    // Each chain runs towards 0.5 / (1 - 0.5) = 1: neither overflow nor denormals.
    let half = simd.splat_f32s(black_box(0.5));
    let mut chains = [half; CHAINS];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = simd.mul_add_e_f32s(*chain, half, half);
        }
    }
    let sum = chains
        .into_iter()
        .fold(half, |sum, chain| simd.add_f32s(sum, chain));
    black_box(simd.reduce_sum_f32s(sum));
    2 * STEPS * (CHAINS * S::F32_LANES) as u64
}

#[cfg(target_arch = "x86_64")]
mod bf16 {
    use super::STEPS;
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    };
    use std::hint::black_box;

    /// Enough to hide the latency; with 24 the compiler spills.
    const CHAINS: usize = 16;

    /// One call's worth of bf16 products, where this processor has the instruction.
    pub fn operations() -> Option<fn() -> u64> {
        let has = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16");
        has.then_some(|| {
            // SAFETY: this closure is handed out only after both features were found.
            unsafe { dot_chains() }
        })
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn dot_chains() -> u64 {
        let zero = _mm512_set1_ps(0.0);
        let left = _mm512_set1_ps(black_box(0.5));
        let left = _mm512_cvtne2ps_pbh(left, left);
        let right = _mm512_set1_ps(black_box(1.0));
        let right = _mm512_cvtne2ps_pbh(right, right);
        let mut chains = [zero; CHAINS];
        for _ in 0..STEPS {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, left, right);
            }
        }
        let mut sum = zero;
        for chain in chains {
            sum = _mm512_add_ps(sum, chain);
        }
        black_box(_mm512_reduce_add_ps(sum));
        // 16 sums of two products each.
        2 * 2 * 16 * STEPS * CHAINS as u64
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod bf16 {
    /// There is no such instruction in the stable language for this processor.
    pub fn operations() -> Option<fn() -> u64> {
        None
    }
}

/// Values to read, from the first one that starts a cache line.
struct Buffer {
    values: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    const LINE: usize = 64;

    /// `bytes` that have been written, so that they occupy memory of their own.
    fn new(bytes: usize) -> Self {
        let len = bytes / size_of::<f32>();
        let values = vec![1.0_f32; len + Self::LINE / size_of::<f32>()];
        let start = values.as_ptr().align_offset(Self::LINE);
        Self { values, start, len }
    }

    /// Reads everything once; returns the bytes.
    fn read(&mut self) -> u64 {
        let values = &black_box(&self.values)[self.start..self.start + self.len];
        black_box(Arch::new().dispatch(Sum(values)));
        size_of_val(values) as u64
    }

    /// Reads everything so often that looking at the clock afterwards takes no time beside it.
    fn read_many(&mut self) -> u64 {
        (0..32).map(|_| self.read()).sum()
    }
}

struct Sum<'a>(&'a [f32]);

impl WithSimd for Sum<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        // Several streams at once, as a scan of several panels has them.
        const STREAMS: usize = 4;
        let (vectors, _) = S::as_simd_f32s(self.0);
        let one = vectors.len() / STREAMS;
        let streams: [_; STREAMS] =
            std::array::from_fn(|i| vectors[i * one..(i + 1) * one].as_chunks::<4>().0);
        let shortest = streams[0].len();
        let mut sums = [[simd.splat_f32s(0.0); 4]; STREAMS];
        for at in 0..shortest {
            for (sums, stream) in sums.iter_mut().zip(streams) {
                for (sum, vector) in sums.iter_mut().zip(stream[at]) {
                    *sum = simd.add_f32s(*sum, vector);
                }
            }
        }
        let sum = sums
            .into_iter()
            .flatten()
            .reduce(|sum, part| simd.add_f32s(sum, part));
        sum.map_or(0.0, |sum| simd.reduce_sum_f32s(sum))
    }
}

/// Bytes of one second-level cache, and of all third-level ones together.
struct Caches {
    l2: usize,
    l3: usize,
}

impl Caches {
    /// As Linux describes them; usual sizes elsewhere.
    fn find() -> Self {
        let mut l2 = None;
        // Caches shared by several processors are listed with each of them.
        let mut l3 = BTreeMap::new();
        for cpu in (0..).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/cache")) {
            if std::fs::metadata(&cpu).is_err() {
                break;
            }
            for index in 0..8 {
                let field = |name: &str| {
                    let text = std::fs::read_to_string(format!("{cpu}/index{index}/{name}"));
                    text.map(|text| text.trim().to_owned()).ok()
                };
                let Some(bytes) = field("size").as_deref().and_then(bytes) else {
                    continue;
                };
                match field("level").as_deref() {
                    Some("2") => l2 = Some(bytes),
                    Some("3") => _ = l3.insert(field("shared_cpu_list"), bytes),
                    _ => {}
                }
            }
        }
        let all: usize = l3.into_values().sum();
        Self {
            l2: l2.unwrap_or(USUAL_L2),
            l3: if all == 0 { USUAL_L3 } else { all },
        }
    }
}

/// Sizes as the kernel writes them: `1024K`, `32M`.
fn bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches(['K', 'M']);
    let unit = match text.chars().last()? {
        'K' => 1 << 10,
        'M' => 1 << 20,
        _ => 1,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)
}
