//! Arguments: mostly sensible ones, so that calls get far, and what nobody should pass.

use burn::tensor::{DType, Int, Tensor, TensorData, backend::Backend};
use burn_ivf::{
    AutoRule, Budget, BudgetStrategy, IdSelector, KMeansInit, KMeansParams, Limit, ListOrdering,
    MaxCodes, MaxCodesRule, Metric, Order, Profile, RangeBound, RangeParams, SearchMode,
    SearchParams, Selection, Storage, Subset,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// A reproducible source of arguments.
pub struct Source(ChaCha8Rng);

/// Numbers of rows, bytes, lists that code trips over.
const SIZES: [usize; 12] = [
    0,
    1,
    2,
    3,
    63,
    65,
    1 << 16,
    (1 << 31) - 1,
    1 << 32,
    1 << 40,
    usize::MAX / 2,
    usize::MAX,
];

/// Ids at the ends of their types, and the label of nothing.
const IDS: [i64; 9] = [
    i64::MIN,
    i64::MIN + 1,
    -2,
    -1,
    0,
    1 << 31,
    1 << 40,
    i64::MAX - 1,
    i64::MAX,
];

/// Values at the ends of f32, and those that are no numbers.
const FLOATS: [f32; 14] = [
    0.0,
    -0.0,
    1.0,
    1e-45,
    f32::MIN_POSITIVE,
    1e-20,
    65_520.0,
    1e18,
    3e19,
    f32::MAX,
    f32::MIN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

impl Source {
    pub fn new(seed: u64, case: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(case);
        Self(rng)
    }

    pub fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n.max(1))
    }

    /// True once in `n` times.
    pub fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn size(&mut self) -> usize {
        self.pick(&SIZES)
    }

    /// A number of a few, seldom a hostile one.
    pub fn some(&mut self, few: usize) -> usize {
        if self.rarely(6) {
            self.size()
        } else {
            1 + self.below(few)
        }
    }

    /// Results per query; none that would make an answer of gigabytes.
    pub fn k(&mut self, nq: usize) -> usize {
        match self.below(12) {
            0 => 0,
            1 => 1000,
            2 => self.pick(&[usize::MAX, usize::MAX / 2, 1 << 40, 1 << 32]),
            3 if nq == 0 || nq > 2 => 1 << 31,
            _ => 1 + self.below(12),
        }
    }

    pub fn float(&mut self) -> f32 {
        if self.rarely(3) {
            self.pick(&FLOATS)
        } else {
            self.0.random_range(-4.0..4.0)
        }
    }

    pub fn double(&mut self) -> f64 {
        let hostile = [0.0, 1.0, 1.5, -1.0, f64::NAN, f64::INFINITY, 1e-300];
        if self.rarely(3) {
            self.pick(&hostile)
        } else {
            self.0.random_range(0.5..1.0)
        }
    }

    /// The dimension of an index, or seldom another.
    pub fn d(&mut self, d: usize) -> usize {
        match self.below(14) {
            0 => d + 1,
            1 => d.saturating_sub(1),
            2 => 17,
            _ => d,
        }
    }

    pub fn metric(&mut self) -> Metric {
        let metrics = [
            Metric::L2,
            Metric::InnerProduct,
            Metric::Cosine,
            Metric::L1,
            Metric::Linf,
            Metric::Lp(3.0),
            Metric::Canberra,
            Metric::BrayCurtis,
            Metric::JensenShannon,
            Metric::Jaccard,
            Metric::NanEuclidean,
            Metric::Gower,
        ];
        match self.below(9) {
            0 => {
                let p = [0.0, -1.0, f32::NAN, f32::INFINITY, 1e-30, 1e30];
                Metric::Lp(self.pick(&p))
            }
            1..=3 => self.pick(&metrics),
            _ => self.pick(&metrics[..3]),
        }
    }

    /// Row-major values: what most callers have, or a whole tensor of trouble.
    fn values(&mut self, n: usize, d: usize) -> Vec<f32> {
        let kind = self.below(12);
        (0..n * d)
            .map(|at| match kind {
                0 => self.float(),
                1 => 0.0,
                2 => (at % d.max(1)) as f32,
                3 => self.0.random_range(-1.0..1.0) * 1e19,
                4 => self.0.random_range(-1.0..1.0) * f32::MAX,
                5 => self.0.random_range(-1.0..1.0) * 1e-38,
                _ => self.0.random_range(-9..10) as f32,
            })
            .collect()
    }

    /// Rows of `d` components or seldom others, lying in memory in one of several ways.
    pub fn rows<B: Backend>(&mut self, d: usize, device: &B::Device) -> (Tensor<B, 2>, String) {
        let n = match self.below(10) {
            0 => 0,
            1 => 40,
            _ => 1 + self.below(9),
        };
        let d = self.d(d);
        self.shaped(n, d, device)
    }

    /// [`rows`](Self::rows) of this shape.
    pub fn shaped<B: Backend>(
        &mut self,
        n: usize,
        d: usize,
        device: &B::Device,
    ) -> (Tensor<B, 2>, String) {
        let host = !B::name(device).contains("cubecl");
        let tensor = |values: Vec<f32>, shape: [usize; 2], dtype| {
            Tensor::<B, 2>::from_data(TensorData::new(values, shape), (device, dtype))
        };
        if host && self.rarely(40) {
            // No element, but very many rows.
            let n = self.pick(&[0, 1, 3, 1 << 40]);
            let x = tensor(Vec::new(), [n, 0], DType::F32);
            return (x, format!("[{n}, 0]"));
        }
        let dtype = if host && B::supports_dtype(device, DType::F64) && self.rarely(8) {
            DType::F64
        } else {
            DType::F32
        };
        let way = if n * d == 0 { 0 } else { self.below(8) };
        let x = match way {
            1 => tensor(self.values(d, n), [d, n], dtype).transpose(),
            2 => {
                let wide = tensor(self.values(n + 1, d + 2), [n + 1, d + 2], dtype);
                wide.slice([1..n + 1, 1..d + 1])
            }
            3 => tensor(self.values(1, d), [1, d], dtype).expand([n, d]),
            _ => tensor(self.values(n, d), [n, d], dtype),
        };
        (x, format!("[{n}, {d}] {dtype:?} way {way}"))
    }

    /// `n` ids, seldom another number of them.
    pub fn ids(&mut self, n: usize) -> Vec<i64> {
        let n = match self.below(12) {
            0 => n + 1,
            1 => n.saturating_sub(1),
            _ => n,
        };
        let hostile = self.rarely(4);
        (0..n.min(64))
            .map(|_| match self.below(if hostile { 3 } else { 60 }) {
                0 => self.pick(&IDS),
                _ => self.0.random_range(0..70),
            })
            .collect()
    }

    pub fn id(&mut self) -> i64 {
        self.ids(1).first().copied().unwrap_or(-1)
    }

    /// A selector of every kind, and in words which.
    pub fn selector(&mut self, depth: usize) -> (IdSelector, String) {
        let leaf = |selector: IdSelector| {
            let words = format!("{selector:?}");
            (selector, words)
        };
        match self.below(if depth == 0 { 24 } else { 7 }) {
            0 => leaf(IdSelector::All),
            1 => {
                let (min, max) = (self.id(), self.id());
                leaf(IdSelector::Range { min, max })
            }
            2 | 3 => leaf(IdSelector::batch(self.ids(8))),
            // As nobody but a deserializer makes it: in any order, with repeats.
            4 => leaf(IdSelector::Batch(self.ids(6).into())),
            5 => {
                let bytes: Vec<u8> = (0..self.below(12)).map(|_| self.0.random()).collect();
                leaf(IdSelector::bitmap(bytes))
            }
            6 => leaf(IdSelector::bitmap_u32(&[self.0.random(), 7])),
            7 => self.nested(),
            8..12 => {
                let (a, words) = self.selector(depth + 1);
                (!a, format!("!({words})"))
            }
            at => {
                let ((a, x), (b, y)) = (self.selector(depth + 1), self.selector(depth + 1));
                match at % 3 {
                    0 => (a & b, format!("({x}) & ({y})")),
                    1 => (a | b, format!("({x}) | ({y})")),
                    _ => (a ^ b, format!("({x}) ^ ({y})")),
                }
            }
        }
    }

    /// Very deep, or of more parts than there are bytes in the world.
    fn nested(&mut self) -> (IdSelector, String) {
        let mut selector = IdSelector::range(0..20);
        if self.rarely(2) {
            for id in 0..30_000 {
                selector = selector | IdSelector::batch([id]);
            }
            (selector, "30,000 levels of |".to_owned())
        } else {
            for _ in 0..70 {
                let shared = Arc::new(selector);
                selector = IdSelector::Xor(shared.clone(), shared);
            }
            (selector, "2^70 parts".to_owned())
        }
    }

    pub fn limit(&mut self) -> Limit {
        match self.below(5) {
            0 => Limit::Unlimited,
            1 | 2 => Limit::MaxCodes(MaxCodes {
                max_codes: self.some(20),
                rule: self.pick(&[MaxCodesRule::ListBoundary, MaxCodesRule::ExactCodes]),
                ensure_topk_full: self.rarely(2),
            }),
            _ => Limit::Budget(Budget {
                rows: self.some(20),
                strategy: self.pick(&[
                    BudgetStrategy::Uniform,
                    BudgetStrategy::DistanceWeighted {
                        dynamic_nprobe: false,
                    },
                    BudgetStrategy::DistanceWeighted {
                        dynamic_nprobe: true,
                    },
                ]),
                min_codes_per_list: self.below(3).saturating_mul(self.some(4)),
                max_codes_per_list: self.rarely(2).then(|| self.some(9)),
                strict: self.rarely(2),
            }),
        }
    }

    pub fn workspace(&mut self) -> usize {
        match self.below(5) {
            0 => self.size(),
            1 => 64 << 10,
            _ => 1 << (17 + self.below(12)),
        }
    }

    pub fn ordering(&mut self) -> ListOrdering {
        self.pick(&[
            ListOrdering::Insertion,
            ListOrdering::ResidualNorm,
            ListOrdering::Projection,
        ])
    }

    pub fn rule(&mut self) -> AutoRule {
        match self.below(3) {
            0 => AutoRule::Measured,
            1 => AutoRule::torch_ivf(),
            _ => AutoRule::TorchIvf {
                avg_group_threshold: self.double(),
            },
        }
    }

    pub fn mode(&mut self) -> SearchMode {
        self.pick(&[SearchMode::Auto, SearchMode::Matrix, SearchMode::Csr])
    }

    pub fn order(&mut self) -> Order {
        self.pick(&[Order::ListMajor, Order::QueryMajor])
    }

    pub fn storage(&mut self) -> Storage {
        self.pick(&Storage::ALL)
    }

    /// Parameters of a search of `nq` queries, and in words which.
    pub fn params(&mut self, nq: usize, flat: bool) -> (SearchParams, String) {
        let mut params = if self.rarely(2) {
            SearchParams::exact()
        } else {
            SearchParams::default()
        };
        if !flat || self.rarely(12) {
            if self.rarely(2) {
                params = params.with_nprobe(self.some(5));
            }
            if self.rarely(2) {
                params = params.with_mode(self.mode());
            }
            if self.rarely(4) {
                params = params.with_auto_rule(self.rule());
            }
            if self.rarely(3) {
                params = params.with_limit(self.limit());
            }
            if self.rarely(5) {
                params = params.with_list_ordering(self.ordering());
            }
            if self.rarely(4) {
                params = params.with_safe_pruning(true);
            }
            if self.rarely(8) {
                params.profile = Some(self.pick(&Profile::ALL));
            }
        }
        if self.rarely(4) {
            params = params.with_workspace_limit(self.workspace());
        }
        if self.rarely(5) {
            params = params.with_counts();
        }
        let mut words = params.to_string();
        match self.below(6) {
            0 | 1 => {
                let (selector, text) = self.selector(0);
                params = params.with_selector(selector);
                words += &format!(", selector {text}");
            }
            2 => {
                let all: Vec<_> = (0..self.below(4)).map(|_| self.selector(0)).collect();
                let nq = if self.rarely(8) { nq + 1 } else { nq };
                let most = all.len() + usize::from(self.rarely(8));
                let of: Vec<u32> = (0..nq.min(64)).map(|_| self.below(most) as u32).collect();
                let (selectors, text): (Vec<_>, Vec<_>) = all.into_iter().unzip();
                words += &format!(", selectors {text:?} of {of:?}");
                params = params.with_query_selectors(selectors, of);
            }
            3 if self.rarely(3) => {
                let (n, bits) = (self.below(40), [self.0.random(), self.0.random()]);
                if let Ok(selection) = Selection::bitmap_u32(&bits, nq, n) {
                    params.selection = Some(selection);
                    words += &format!(", bitmap of {n}");
                }
            }
            _ => {}
        }
        (params, words)
    }

    pub fn range_params(&mut self, nq: usize, flat: bool) -> (RangeParams, String) {
        let (search, words) = self.params(nq, flat);
        let mut params = RangeParams::default().with_search(search);
        params.bound = self.pick(&[RangeBound::Inclusive, RangeBound::Exclusive]);
        params.sorted = self.rarely(2);
        if !flat && self.rarely(3) {
            params = params.with_max_empty_lists(self.some(3));
        }
        let rest = (params.bound, params.sorted, params.max_empty_lists);
        (params, format!("{words}, {rest:?}"))
    }

    pub fn kmeans(&mut self, nlist: usize, d: usize) -> KMeansParams {
        let mut params = KMeansParams {
            niter: 1 + self.below(3),
            ..KMeansParams::default()
        };
        if self.rarely(2) {
            return params;
        }
        match self.below(9) {
            0 => params.niter = 0,
            1 => params.nredo = self.below(3),
            2 => params.tol = self.double(),
            3 => {
                params.max_points_per_centroid = self.some(4);
                params.min_points_per_centroid = self.some(2);
            }
            4 => params.spherical = Some(self.rarely(2)),
            5 => params.init = KMeansInit::KMeansPlusPlus,
            6 | 7 => {
                let len = (nlist.min(9) * d + self.below(2)).min(200);
                params.init_centroids = Some((0..len).map(|_| self.float()).collect());
            }
            _ => params.weights = Some((0..self.below(10)).map(|_| self.float()).collect()),
        }
        params
    }

    pub fn subset(&mut self, ntotal: usize, nlist: usize) -> Subset {
        let range = |source: &mut Self, n: usize| {
            let (a, b) = (source.below(n + 2), source.below(n + 2));
            let far = source.rarely(8);
            if far { a..source.size() } else { a.min(b)..b }
        };
        match self.below(5) {
            0 => Subset::Ids(self.id()..self.id()),
            1 => Subset::IdModulo {
                modulus: self.pick(&[0, 1, 2, 3, i64::MAX, i64::MIN]),
                remainder: self.pick(&[0, 0, 1, 2, -1, i64::MAX - 1]),
            },
            2 => Subset::Elements(range(self, ntotal)),
            3 => Subset::Fraction {
                of: self.some(3),
                part: self.below(3),
            },
            _ => Subset::Lists(range(self, nlist)),
        }
    }

    /// List numbers `[nq, width]`.
    pub fn lists<B: Backend>(
        &mut self,
        nq: usize,
        nlist: usize,
        device: &B::Device,
    ) -> (Tensor<B, 2, Int>, String) {
        let width = 1 + self.below(4);
        let nq = if self.rarely(12) { nq + 1 } else { nq };
        let bad = self.rarely(6);
        let values: Vec<i64> = (0..nq * width)
            .map(|_| match self.below(8) {
                0 => -1,
                1 if bad => self.pick(&[-2, i64::from(i32::MAX), i64::from(i32::MIN), 90]),
                _ => self.below(nlist) as i64,
            })
            .collect();
        let words = format!("{values:?} by {width}");
        let lists = Tensor::from_data(TensorData::new(values, [nq, width]), device);
        (lists, words)
    }

    pub fn integers<B: Backend>(&mut self, n: usize, device: &B::Device) -> Tensor<B, 1, Int> {
        let values: Vec<i64> = (0..n).map(|_| self.below(5) as i64 - 1).collect();
        Tensor::from_data(TensorData::new(values, [n]), device)
    }

    /// Bytes, changed here and there.
    pub fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..1 + self.below(3) {
            let at = self.below(bytes.len());
            match self.below(3) {
                0 => bytes.truncate(at),
                1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                _ => bytes.extend([0, 255, 1]),
            }
        }
    }
}
