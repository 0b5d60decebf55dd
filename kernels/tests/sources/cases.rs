//! Calls of every operation, so that each of its kernels is launched in each of its shapes.

use super::{
    recorder::Recorder,
    target::{Architecture, Target},
};
use burn_ivf_kernels::{
    Metric,
    device::{Facts, Filter, Gpu, Grain, Probe},
    group_tasks::group_on,
    list_scan::{
        DeviceProblem, Order, Orders, Reads, order_on,
        restrict::{ListOrder, Masks, ReadingOrder, Restriction},
        scan_on, scan_restricted_on, within_on,
    },
    means::means_on,
    pairwise::{self, Measure, pairwise_on},
    rows::device::{Added, DeviceLists, Element},
    select_k::{Labels, Output, Source, select_on},
    unit::unit_rows_on,
};
use cubecl::{Runtime, client::ComputeClient, future::block_on, server::Handle};
use std::sync::Arc;

type Client<T> = ComputeClient<Recorder<T>>;

/// Runs all of them on a device.
pub fn run<T: Target>(device: Architecture) -> Client<T> {
    let client = Recorder::<T>::client(&device);
    let facts = Facts::of(&client);
    for lanes in [1, 4] {
        let gpu = Gpu::with(&client, Facts { lanes, ..facts });
        let cases = Cases { gpu, lanes };
        cases.scans();
        cases.tiles();
        cases.limits();
    }
    let gpu = Gpu::with(&client, facts);
    let cases = Cases { gpu, lanes: 0 };
    cases.lists();
    cases.selections();
    cases.grouping();
    cases.pairs();
    cases.probe();
    block_on(client.sync()).unwrap();
    client
}

/// Rows, enough to be indexed in 64 bits when they are of 4096 components.
const MANY: usize = (1 << 20) + 1;

/// Rows, and columns, of a matrix that is indexed in 64 bits.
const WIDE: usize = 1 << 16;

struct Cases<T: Target> {
    gpu: Gpu<Recorder<T>>,
    lanes: u32,
}

impl<T: Target> Cases<T> {
    /// Waits for what was launched, then says what comes next.
    fn say(&self, case: &str) {
        let client = self.gpu.client();
        block_on(client.sync()).unwrap();
        client.info().lock().unwrap().case = match self.lanes {
            0 => case.to_string(),
            lanes => format!("{case} lanes {lanes}"),
        };
    }

    /// A buffer of which nothing but its being there matters.
    fn buffer(&self) -> Handle {
        self.gpu.client().empty(64)
    }

    /// One list, its ids rising.
    fn list(&self, n: usize, d: usize, words: usize) -> DeviceLists<Recorder<T>> {
        let mut lists = DeviceLists::new(&self.gpu, d, 1, words);
        self.append(&mut lists, &vec![0; n], &(0..n as i64).collect::<Vec<_>>());
        lists
    }

    fn append(&self, to: &mut DeviceLists<Recorder<T>>, lists: &[u32], ids: &[i64]) {
        let rows = &self.buffer();
        to.append(&Added { rows, lists, ids }, |_, _| 0).unwrap();
    }

    fn scans(&self) {
        // All rows, lists, rows by name; queues of three sizes, and none.
        for k in [10, 100, 256, 1000] {
            self.scan("all", (9000, 128, 2), k, 1);
            self.scan("lists", (9000, 128, 2), k, 1);
            // Queries that are not cut into slices.
            self.scan("lists", (9000, 128, 2), k, 1 << 14);
        }
        self.halves();
        for k in [10, 1000] {
            self.scan("many lists", (9000, 128, 2), k, 1);
            self.scan("rows", (9000, 128, 2), k, 1);
        }
        // Ends of a row: 1, 2, 3 vectors and none left over.
        for d in [3, 8, 12, 100, 1536] {
            self.scan("lists", (9000, d, 2), 10, 1);
        }
        // Queries that do not fit in shared memory.
        for k in [10, 1000] {
            self.scan("lists", (100, 1 << 16, 2), k, 1);
        }
        // The nearest row of many queries; fewer queries a cube the longer they are.
        for d in [3, 100, 128, 1 << 12, 1 << 13, 1 << 14, 1 << 15] {
            self.scan("all", (5000, d, 2), 1, 5000);
        }
        for words in [0, 1] {
            self.scan("all", (5000, 128, words), 1, 5000);
        }
        // 64-bit indices.
        self.scan("all", (MANY, 4096, 2), 1, 5000);
        for k in [10, 1000] {
            self.scan("lists", (MANY, 4096, 2), k, 1);
        }
    }

    fn scan(&self, name: &str, (n, d, words): (usize, usize, usize), k: usize, nq: usize) {
        self.say(&format!("{name} {n}x{d}"));
        self.search(&self.list(n, d, words), name, k, nq);
    }

    /// Scans list by list: tiles of every size, queues of three and none, ends of a row, 64-bit indices.
    fn tiles(&self) {
        let list = self.list(9000, 128, 2);
        for (k, nq) in [(10, 1), (20, 1 << 14), (100, 1 << 14), (256, 1 << 14)] {
            self.by_list(&list, k, nq);
        }
        for (k, nq) in [(300, 1), (1000, 1 << 14)] {
            self.by_list(&list, k, nq);
        }
        for d in [3, 8, 12, 100, 768, 1536] {
            self.by_list(&self.list(9000, d, 2), 10, 1 << 14);
        }
        for d in [3, 1536] {
            self.by_list(&self.list(9000, d, 2), 1000, 1 << 14);
        }
        for k in [10, 1000] {
            self.by_list(&self.list(MANY, 4096, 2), k, 1 << 14);
        }
        self.filters(&list);
        // Pairs of all queries at once that are indexed in 64 bits.
        self.say("rounds wide");
        let buffer = self.buffer();
        let problem = DeviceProblem {
            metric: Metric::L2,
            k: 1000,
            lists: &list,
            queries: &buffer,
            nq: 1 << 20,
            workspace: 1 << 40,
            order: Order::ListMajor,
            grain: Grain::default(),
        };
        scan_on(&problem, Reads::All).unwrap();
        let halves = self.list_of_halves(Element::F16);
        for k in [20, 1000] {
            self.by_list(&halves, k, 1 << 14);
        }
    }

    fn list_of_halves(&self, element: Element) -> DeviceLists<Recorder<T>> {
        let halves = DeviceLists::new(&self.gpu, 100, 1, 2);
        let mut halves = halves.of(element).unwrap();
        self.append(&mut halves, &[0; 9000], &(0..9000).collect::<Vec<_>>());
        halves
    }

    /// The same with filters.
    fn filters(&self, list: &DeviceLists<Recorder<T>>) {
        let halves = [Element::F16, Element::Bf16];
        let halves = halves
            .into_iter()
            .filter(|half| half.is_supported(&self.gpu));
        let halves: Vec<_> = halves.map(|half| self.list_of_halves(half)).collect();
        for filter in [Filter::Products, Filter::TensorCores] {
            for (k, nq) in [
                (10, 1 << 10),
                (20, 1 << 14),
                (256, 1 << 14),
                (1000, 1 << 14),
            ] {
                self.by_filter(filter, list, k, nq);
            }
            for d in [3, 12, 100, 768, 1536] {
                self.by_filter(filter, &self.list(9000, d, 2), 10, 1 << 14);
            }
            for halves in &halves {
                self.by_filter(filter, halves, 20, 1 << 14);
            }
            self.by_filter(filter, &self.list(MANY, 4096, 2), 10, 1 << 14);
        }
    }

    fn by_list(&self, lists: &DeviceLists<Recorder<T>>, k: usize, nq: usize) {
        self.by_filter(Filter::Nothing, lists, k, nq);
    }

    fn by_filter(&self, filter: Filter, lists: &DeviceLists<Recorder<T>>, k: usize, nq: usize) {
        for name in ["all", "lists"] {
            self.search_by((Order::ListMajor, filter), lists, name, k, nq);
        }
    }

    /// Rows stored in 16 bits.
    fn halves(&self) {
        for (d, element) in [(3, Element::F16), (128, Element::F16), (128, Element::Bf16)] {
            if !element.is_supported(&self.gpu) {
                continue;
            }
            self.say(&format!("halves {d} {element:?}"));
            let lists = DeviceLists::new(&self.gpu, d, 1, 2);
            let mut lists = lists.of(element).unwrap();
            for first in [0, 5000] {
                let ids: Vec<i64> = (first..first + 5000).collect();
                self.append(&mut lists, &vec![0; 5000], &ids);
            }
            lists.gather(&[0]).unwrap();
            self.search(&lists, "lists", 10, 1);
            self.search(&lists, "rows", 1000, 1);
            self.search(&lists, "all", 1, 5000);
        }
    }

    fn search(&self, lists: &DeviceLists<Recorder<T>>, name: &str, k: usize, nq: usize) {
        self.search_by((Order::QueryMajor, Filter::Nothing), lists, name, k, nq);
    }

    fn search_by(
        &self,
        (order, filter): (Order, Filter),
        lists: &DeviceLists<Recorder<T>>,
        name: &str,
        k: usize,
        nq: usize,
    ) {
        let (n, d) = (lists.len(), lists.d());
        let buffer = self.buffer();
        let reads = match name {
            "all" => Reads::All,
            "lists" => Reads::Lists(&buffer, 1),
            "many lists" => Reads::Lists(&buffer, 300),
            _ => Reads::Rows(&buffer, 50),
        };
        for metric in Metric::ALL {
            self.say(&format!(
                "{metric} {name} {order:?} {filter:?} {n}x{d} k {k} nq {nq}"
            ));
            let problem = DeviceProblem {
                metric,
                k,
                lists,
                queries: &buffer,
                nq,
                workspace: 256 << 20,
                order,
                grain: Grain {
                    filter,
                    ..Grain::default()
                },
            };
            if order == Order::ListMajor {
                let runs = order_on(&problem, reads, Restriction::default());
                assert_eq!(runs, order);
            }
            scan_on(&problem, reads).unwrap();
        }
    }

    /// Scans under restrictions of every kind, and for all rows within a distance: lists looked up
    /// by the whole cube and one by one, all rows.
    fn limits(&self) {
        let stored = [(Element::F32, 2), (Element::F32, 1), (Element::F16, 2)];
        for (element, words) in stored {
            let lists = DeviceLists::new(&self.gpu, 100, 1, words);
            let mut lists = lists.of(element).unwrap();
            self.append(&mut lists, &[0; 9000], &(0..9000).collect::<Vec<_>>());
            if (element, words) == stored[0] {
                for named in [0, 2, 300] {
                    self.limit(&lists, named, &[0, 1, 3, 4, 5, 7], 1 << 28);
                }
            } else {
                self.limit(&lists, 2, &[0, 7], 1 << 28);
            }
        }
        // Places; one list each; masks and places of one query after the other; 64-bit indices.
        let places = self.list(100, 3, 0);
        self.limit(&places, 0, &[0, 5], 1 << 28);
        self.limit(&places, 1, &[0], 1 << 28);
        self.limit(&places, 2, &[7], 64);
        self.limit(&self.list(MANY, 4096, 2), 2, &[0, 3, 7], 1 << 28);
    }

    /// The ways to restrict a scan are sums: 1 caps, 2 their order, 4 masks.
    fn limit(
        &self,
        lists: &DeviceLists<Recorder<T>>,
        named: usize,
        ways: &[u32],
        workspace: usize,
    ) {
        let (n, d) = (lists.len(), lists.d());
        let buffer = self.buffer();
        let (reads, nprobe) = match named {
            0 => (Reads::All, 1),
            named => (Reads::Lists(&buffer, named), named),
        };
        let nq = 2;
        let caps = vec![5; nq * nprobe];
        let keys = vec![0.0; n];
        let order = ReadingOrder {
            lists: vec![Arc::new(ListOrder::ascending(&keys))],
        };
        let words = n.div_ceil(32);
        let masks = Masks {
            masks: vec![vec![1; words]; 2],
            starts: vec![0, words],
            of: vec![0, 1],
        };
        let orders = Orders::default();
        for &way in ways {
            let restriction = Restriction {
                caps: (way & 1 != 0).then_some(&caps[..]),
                order: (way & 2 != 0).then_some(&order),
                masks: (way & 4 != 0).then_some(&masks),
            };
            for metric in Metric::ALL {
                // Each way with both metrics where it is a plain one.
                if way > 1 && (metric == Metric::L2) == (way % 2 == 0) {
                    continue;
                }
                self.say(&format!("{metric} way {way} of {named} {n}x{d}"));
                let problem = |k| DeviceProblem {
                    metric,
                    k,
                    lists,
                    queries: &buffer,
                    nq,
                    workspace,
                    order: Order::QueryMajor,
                    grain: Grain::default(),
                };
                for k in [10, 1000] {
                    scan_restricted_on(&problem(k), reads, restriction, &orders).unwrap();
                }
                within_on(&problem(1), 1.0, reads, restriction, &orders).unwrap();
            }
        }
    }

    /// Lists that grow, move, are ranked anew and read; whole vectors and single words.
    fn lists(&self) {
        for d in [3, 128] {
            for words in [0, 1, 2] {
                self.say(&format!("append d {d} words {words}"));
                let lists = if words == 0 { 1 } else { 2 };
                let mut grown = DeviceLists::new(&self.gpu, d, lists, words);
                for first in [10, 20, 0, 30] {
                    let of: Vec<u32> = (0..10).map(|i| i % lists as u32).collect();
                    self.append(&mut grown, &of, &(first..first + 10).collect::<Vec<_>>());
                }
                self.say(&format!("gather d {d}"));
                grown.gather(&[0, 1]).unwrap();
            }
        }
        self.say("gather from another thread");
        let lists = &self.list(10, 4, 2);
        std::thread::scope(|scope| {
            scope.spawn(|| lists.gather(&[0]).unwrap()).join().unwrap();
        });
        self.say("gather wide");
        self.list(MANY, 4096, 2).gather(&[0]).unwrap();
    }

    /// Queues of three sizes; radix passes sorted in shared memory and not.
    fn selections(&self) {
        let buffer = self.buffer();
        let ids = |words| Labels::Ids {
            table: buffer.clone(),
            len: 1 << 20,
            words,
        };
        let pairs = &Source::Pairs(buffer.clone());
        let scores = &Source::Scores(buffer.clone());
        let outputs = [
            (pairs, Output::L2),
            (pairs, Output::InnerProduct),
            (scores, Output::Score),
        ];
        for k in [10, 257] {
            self.say(&format!("select k {k}"));
            for (source, output) in outputs {
                for labels in [Labels::Ranks, ids(1), ids(2)] {
                    select_on(&self.gpu, source, (10, 40_000), k, output, &labels).unwrap();
                }
            }
        }
        for k in [100, 256, 2048, 20_000] {
            self.say(&format!("select k {k}"));
            select_on(&self.gpu, pairs, (10, 40_000), k, Output::L2, &ids(2)).unwrap();
        }
        // 64-bit indices.
        for k in [10, 2048, 20_000] {
            self.say(&format!("select {WIDE}x{WIDE} k {k}"));
            for (source, output) in outputs {
                select_on(&self.gpu, source, (WIDE, WIDE), k, output, &ids(2)).unwrap();
            }
        }
    }

    /// Every measure as distances and keys; vectors of length 1.
    fn pairs(&self) {
        let buffer = &self.buffer();
        let measures = [
            Measure::L2,
            Measure::InnerProduct,
            Measure::L1,
            Measure::Linf,
            Measure::Lp(3.0),
            Measure::Lp(0.5),
            Measure::Canberra,
            Measure::BrayCurtis,
            Measure::JensenShannon,
            Measure::Jaccard,
            Measure::NanEuclidean,
            Measure::Gower,
        ];
        for measure in measures {
            for output in [pairwise::Output::Distances, pairwise::Output::Keys] {
                self.say(&format!("pairs {measure:?} {output:?}"));
                let sizes = (100, 200, 30);
                pairwise_on(&self.gpu, (buffer, buffer), sizes, measure, output).unwrap();
            }
        }
        // 64-bit indices; cubes of 64 units.
        self.say("pairs wide");
        let keys = pairwise::Output::Keys;
        let sizes = (WIDE, WIDE, 30);
        pairwise_on(&self.gpu, (buffer, buffer), sizes, Measure::L1, keys).unwrap();
        self.say("pairs by 64 units");
        let facts = Facts {
            units: 64,
            ..self.gpu.facts()
        };
        let small = Gpu::with(self.gpu.client(), facts);
        pairwise_on(&small, (buffer, buffer), (9, 9, 9), Measure::L1, keys).unwrap();
        self.say("unit rows");
        unit_rows_on(&self.gpu, buffer, (10, 100)).unwrap();
        self.say("unit rows wide");
        unit_rows_on(&self.gpu, buffer, (MANY, 4096)).unwrap();
    }

    fn probe(&self) {
        self.say("probe");
        let probe = Probe::new(&self.gpu, 1 << 20, 1).unwrap();
        probe.copy().unwrap();
        probe.multiply_add();
    }

    fn grouping(&self) {
        self.say("group");
        group_on(&self.gpu, &self.buffer(), (0, 1000), 100).unwrap();
        for d in [3, 128] {
            self.say("means");
            let groups = (&[0, 1, 2, 0][..], &[0, 3, 4][..]);
            means_on(&self.gpu, &self.buffer(), (3, d), groups, None).unwrap();
        }
    }
}
