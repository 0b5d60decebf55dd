//! One question, asked of the device and of the CPU kernels.

use super::{
    super::support::{Client, Rng, download, poison, upload},
    world::World,
};
use burn_ivf_kernels::{
    Metric,
    device::Grain,
    list_scan::{
        DeviceProblem, List, Order, Problem, Reads, SKIP, WORKSPACE, restrict::Restriction,
        scan_restricted, scan_restricted_on, within, within_on,
    },
    simd::Isa,
};

/// What is asked.
pub struct Question<'a> {
    pub metric: Metric,
    pub k: usize,
    pub queries: &'a [f32],
    pub probes: &'a [u32],
    pub nprobe: usize,
    /// Whether the probes are left out of the question: there is one list.
    pub all: bool,
    pub workspace: usize,
}

impl Question<'_> {
    fn nq(&self) -> usize {
        self.probes.len() / self.nprobe
    }

    fn on_host<'a>(&'a self, world: &World, lists: &'a [List<'a>]) -> Problem<'a> {
        Problem {
            metric: self.metric,
            d: world.d,
            k: self.k,
            lists,
            queries: self.queries,
            workspace: WORKSPACE,
        }
    }

    /// Compares the k best with the CPU's.
    pub fn check(&self, client: &Client, world: &World, restriction: Restriction<'_>, what: &str) {
        let lists = world.lists();
        let problem = self.on_host(world, &lists);
        let (isa, order) = (Isa::detect(), Order::ListMajor);
        let best =
            scan_restricted(&problem, self.probes, self.nprobe, order, isa, restriction).unwrap();
        let (nq, k) = (self.nq(), self.k);
        let queries = upload(client, self.queries);
        let named = upload(client, self.probes);
        let reads = if self.all {
            Reads::All
        } else {
            Reads::Lists(&named, self.nprobe)
        };
        poison(client, &[nq * k, 2 * nq * k, 4 * nq * k]);
        let problem = DeviceProblem {
            metric: self.metric,
            k,
            lists: &world.device,
            queries: &queries,
            nq,
            workspace: self.workspace,
            order: Order::QueryMajor,
            grain: Grain::default(),
        };
        let found = scan_restricted_on(&problem, reads, restriction, &world.orders).unwrap();
        let labels: Vec<i64> = download(client, &found.labels, nq * k);
        assert_eq!(labels, best.labels, "{what}");
        let values: Vec<u32> = download(client, &found.values, nq * k);
        let bits: Vec<u32> = best.distances.iter().map(|v| v.to_bits()).collect();
        assert_eq!(values, bits, "{what}");
    }

    /// Compares the rows whose key is at most `limit` with the CPU's.
    pub fn check_range(
        &self,
        client: &Client,
        world: &World,
        (restriction, limit): (Restriction<'_>, f32),
        what: &str,
    ) -> usize {
        let lists = world.lists();
        let problem = self.on_host(world, &lists);
        let (probes, nprobe, isa) = (self.probes, self.nprobe, Isa::detect());
        let expected = within(&problem, limit, probes, nprobe, isa, restriction).unwrap();
        let queries = upload(client, self.queries);
        let named = upload(client, self.probes);
        let reads = if self.all {
            Reads::All
        } else {
            Reads::Lists(&named, self.nprobe)
        };
        let n = expected.labels.len();
        poison(client, &[self.nq(), n, 2 * n]);
        let problem = DeviceProblem {
            metric: self.metric,
            k: 1,
            lists: &world.device,
            queries: &queries,
            nq: self.nq(),
            workspace: self.workspace,
            order: Order::QueryMajor,
            grain: Grain::default(),
        };
        let found = within_on(&problem, limit, reads, restriction, &world.orders).unwrap();
        assert_eq!(found.lims, expected.lims, "{what} limit {limit}");
        let labels: Vec<i64> = download(client, &found.labels, n);
        assert_eq!(labels, expected.labels, "{what} limit {limit}");
        let values: Vec<u32> = download(client, &found.values, n);
        let bits: Vec<u32> = expected.distances.iter().map(|v| v.to_bits()).collect();
        assert_eq!(values, bits, "{what} limit {limit}");
        n
    }
}

/// The lists that each query reads, in random order; now and then one is left out.
pub fn probes(nq: usize, nprobe: usize, nlist: usize, rng: &mut Rng) -> Vec<u32> {
    let mut probes = Vec::new();
    for _ in 0..nq {
        let mut all: Vec<u32> = (0..nlist as u32).collect();
        for i in (1..nlist).rev() {
            all.swap(i, rng.below(i + 1));
        }
        all.truncate(nprobe);
        if rng.below(10) == 0 {
            all[0] = SKIP;
        }
        probes.extend(all);
    }
    probes
}
