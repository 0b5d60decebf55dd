//! The GPU kernels against the CPU's, on whatever wgpu device there is.
#![cfg(feature = "wgpu")]
#![allow(clippy::unwrap_used)]

use burn_ivf_kernels::{
    Metric,
    device::{Facts, Gpu},
    list_scan::{self, DeviceProblem, List, ListIds, Order, Problem, Reads, scan_on},
    rows::{
        Layout, Rows,
        device::{Added, DeviceLists},
    },
    simd::Isa,
};
use cubecl::{Runtime, wgpu::WgpuRuntime};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

#[test]
fn scan_equals_the_cpus() {
    let client = WgpuRuntime::client(&Default::default());
    let facts = Facts::of(&client);
    eprintln!("{} {facts:?}", WgpuRuntime::name(&client));
    for lanes in [1, 4] {
        let gpu = Gpu::with(&client, Facts { lanes, ..facts });
        for (seed, (d, k, nq)) in [
            (1, 1, 1),
            (3, 10, 3),
            (7, 20, 64),
            (32, 33, 3),
            (100, 100, 3),
            (128, 257, 3),
            (384, 2048, 2),
            (1000, 20, 3),
        ]
        .into_iter()
        .enumerate()
        {
            let start = std::time::Instant::now();
            let mut random = Random(seed as u64 * 77 + 5);
            let nlist = 7;
            let n = 3000;
            let lists: Vec<u32> = (0..n)
                .map(|_| {
                    if random.below(2) == 0 {
                        2
                    } else {
                        random.below(nlist - 1) as u32
                    }
                })
                .collect();
            let ids: Vec<i64> = (0..n as i64)
                .map(|i| {
                    if seed % 2 == 0 {
                        i
                    } else {
                        (i * 7919) % n as i64
                    }
                })
                .collect();
            let mut rows: Vec<f32> = (0..n * d).map(|_| random.float()).collect();
            for i in (0..n - 1).step_by(5) {
                let (a, b) = rows.split_at_mut((i + 1) * d);
                b[..d].copy_from_slice(&a[i * d..]);
            }
            let mut queries: Vec<f32> = (0..nq * d).map(|_| random.float()).collect();
            if nq > 2 {
                queries[d] = f32::NAN;
            }
            let probes: Vec<u32> = (0..nq)
                .flat_map(|_| {
                    let a = random.below(nlist) as u32;
                    [2, if a == 2 { u32::MAX } else { a }]
                })
                .collect();
            let mut device = DeviceLists::new(&gpu, d, nlist, 2);
            let mut host: Vec<(Rows, Vec<i64>)> = (0..nlist)
                .map(|_| (Rows::new(d, Layout::F32), vec![]))
                .collect();
            for part in 0..3 {
                let range = part * 1000..(part + 1) * 1000;
                let handle = client
                    .create_from_slice(bytemuck::cast_slice(&rows[range.start * d..range.end * d]));
                let held: Vec<Vec<i64>> = host.iter().map(|h| h.1.clone()).collect();
                device
                    .append(
                        &Added {
                            rows: &handle,
                            lists: &lists[range.clone()],
                            ids: &ids[range.clone()],
                        },
                        |l, s| held[l][s],
                    )
                    .unwrap();
                for i in range {
                    let (r, v) = &mut host[lists[i] as usize];
                    r.push(&rows[i * d..(i + 1) * d]);
                    v.push(ids[i]);
                }
            }
            let views: Vec<List> = host
                .iter()
                .map(|(r, v)| List::new(r, ListIds::Table(v)).unwrap())
                .collect();
            for metric in Metric::ALL {
                let best = list_scan::scan(
                    &Problem {
                        metric,
                        d,
                        k,
                        lists: &views,
                        queries: &queries,
                    },
                    &probes,
                    2,
                    Order::ListMajor,
                    Isa::detect(),
                )
                .unwrap();
                let q = client.create_from_slice(bytemuck::cast_slice(&queries));
                let p = client.create_from_slice(bytemuck::cast_slice(&probes));
                let found = scan_on(
                    &DeviceProblem {
                        metric,
                        k,
                        lists: &device,
                        queries: &q,
                        nq,
                        workspace: 1 << 22,
                    },
                    Reads::Lists(&p, 2),
                )
                .unwrap();
                cubecl::future::block_on(client.sync()).unwrap();
                let values = client.read_one(found.values).unwrap();
                let values: &[f32] = bytemuck::cast_slice(&values[..nq * k * 4]);
                let labels = client.read_one(found.labels).unwrap();
                let labels: &[i64] = bytemuck::cast_slice(&labels[..nq * k * 8]);
                let mut worst = 0u32;
                for i in 0..nq * k {
                    let far = values[i].to_bits().abs_diff(best.distances[i].to_bits());
                    worst = worst.max(far);
                    assert_eq!(
                        labels[i], best.labels[i],
                        "d {d} k {k} {metric} at {i}: {} {}",
                        values[i], best.distances[i]
                    );
                }
                eprintln!(
                    "lanes {lanes} d {d} k {k} {metric}: worst {worst} ulp {:?}",
                    start.elapsed()
                );
            }
        }
    }
}
