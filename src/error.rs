//! What can go wrong, with the numbers and what to do about it.

use crate::{metric::Metric, params::ListOrdering};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// An error a caller can cause. Nothing is lost or changed when a call returns one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The dimension of an index is 0.
    #[error("the dimension d is 0; an index needs vectors of at least one component")]
    ZeroDimension,
    /// Vectors do not have the index's dimension.
    #[error("{what} have {found} components, the index was made for d = {expected}")]
    DimensionMismatch {
        /// Which tensor.
        what: &'static str,
        /// The index's dimension.
        expected: usize,
        /// Components found.
        found: usize,
    },
    /// A tensor has another shape than asked for.
    #[error("{what} have shape {found:?}, expected {expected}")]
    ShapeMismatch {
        /// Which tensor.
        what: &'static str,
        /// The shape expected, in words.
        expected: String,
        /// The shape found.
        found: Vec<usize>,
    },
    /// The index must be trained first.
    #[error(
        "the index is not trained; call train() with at least nlist vectors, or build it with from_centroids()"
    )]
    NotTrained,
    /// `k` is 0.
    #[error("k is 0; ask for at least one result per query")]
    ZeroK,
    /// `nprobe` is 0.
    #[error("nprobe is 0; probe at least one list (values above nlist are clamped to it)")]
    ZeroNprobe,
    /// `nlist` is 0.
    #[error("nlist is 0; an inverted file needs at least one list")]
    ZeroNlist,
    /// Fewer training points than clusters.
    #[error(
        "{points} training points for nlist = {nlist} clusters; pass at least {nlist} points (39 per cluster is a sound minimum) or lower nlist"
    )]
    TooFewPoints {
        /// Points passed.
        points: usize,
        /// Clusters asked for.
        nlist: usize,
    },
    /// Values that are NaN or infinite.
    #[error(
        "{count} of the {what} hold NaN or infinite components, row {row} first; remove them before the call"
    )]
    NonFinite {
        /// Which tensor.
        what: &'static str,
        /// The first such row.
        row: usize,
        /// How many rows.
        count: usize,
    },
    /// Not as many ids, list numbers or weights as vectors.
    #[error("{found} {what} for {rows} vectors; pass one per vector")]
    Count {
        /// What is counted.
        what: &'static str,
        /// Vectors passed.
        rows: usize,
        /// Items passed.
        found: usize,
    },
    /// An id is -1, the label of a missing result.
    #[error("row {row} has id -1, which marks missing results; use another id")]
    PaddingId {
        /// The row.
        row: usize,
    },
    /// An id does not fit the device's label type.
    #[error(
        "row {row} has id {id}, but this device has only 32-bit integers; use ids within ±2147483647 or a device with 64-bit integers"
    )]
    IdOutOfRange {
        /// The row.
        row: usize,
        /// The id.
        id: i64,
    },
    /// The automatic ids are used up.
    #[error("no automatic ids are left after {next_id}; use add_with_ids()")]
    IdsExhausted {
        /// The next id that would be given.
        next_id: i64,
    },
    /// A list number that does not exist.
    #[error("list {list} does not exist, there are {nlist} lists (0 to nlist - 1{hint})")]
    ListOutOfRange {
        /// The list named.
        list: i64,
        /// Number of lists.
        nlist: usize,
        /// What else would be legal.
        hint: &'static str,
    },
    /// Not one selector per query.
    #[error("{found} queries have a selector, {nq} were passed; give every query one")]
    QuerySelectors {
        /// Queries passed.
        nq: usize,
        /// Queries with a selector.
        found: usize,
    },
    /// An order of rows that means nothing under the metric.
    #[error("list ordering {ordering} says nothing about {metric}; use {instead}")]
    ListOrdering {
        /// The order asked for.
        ordering: ListOrdering,
        /// The index's metric.
        metric: Metric,
        /// The order for it.
        instead: ListOrdering,
    },
    /// A parameter that this kind of index or call has no use for.
    #[error("{what} means nothing here: {instead}")]
    NotApplicable {
        /// The parameter.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// An argument outside its legal values.
    #[error("{name} = {value} is not legal: {expected}")]
    IllegalValue {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// The legal values.
        expected: &'static str,
    },
    /// A name that stands for nothing.
    #[error("unknown {what} {name:?}; the names are {expected}")]
    UnknownName {
        /// What kind of name.
        what: &'static str,
        /// The name.
        name: String,
        /// The legal names.
        expected: &'static str,
    },
    /// Training would discard stored vectors.
    #[error(
        "the index holds {ntotal} vectors, which belong to its present lists; call reset() before train()"
    )]
    NotEmpty {
        /// Vectors held.
        ntotal: usize,
    },
    /// More rows than positions can name.
    #[error("{rows} rows in one list, the limit is {limit}; use more lists")]
    TooLarge {
        /// Rows asked for.
        rows: usize,
        /// The limit.
        limit: usize,
    },
    /// More results than can be held.
    #[error(
        "{nq} queries with k = {k} ask for more than {limit} results; lower k or search in pieces"
    )]
    TooManyResults {
        /// Queries.
        nq: usize,
        /// Results per query.
        k: usize,
        /// The limit.
        limit: usize,
    },
    /// A tensor is on another device than the index.
    #[error("{what} are on {found}, the index is on {index}; move one of them with to_device()")]
    DeviceMismatch {
        /// Which tensor.
        what: &'static str,
        /// The index's device.
        index: String,
        /// The tensor's device.
        found: String,
    },
    /// The float type of a tensor cannot be used.
    #[error("{what} have dtype {dtype}; pass f64, f32, f16 or bf16 floats")]
    Dtype {
        /// Which tensor.
        what: &'static str,
        /// Its dtype.
        dtype: String,
    },
    /// A kernel refused its input: a bug in this crate, reported instead of a panic.
    #[error("internal error: {0}; please report it")]
    Kernel(burn_ivf_kernels::KernelError),
    /// More memory than the system gives.
    #[error("{what}: {bytes} bytes of memory are not to be had; ask for less")]
    Memory {
        /// What for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
    },
    /// A buffer larger than the device can hold in one piece.
    #[error(
        "{what}: {bytes} bytes in one buffer, but this device holds at most {limit}; search or add in smaller pieces, lower k, or use a device with larger buffers"
    )]
    DeviceLimit {
        /// What for.
        what: &'static str,
        /// Bytes asked for.
        bytes: usize,
        /// The device's limit.
        limit: usize,
    },
    /// The backend or its device cannot store vectors so.
    #[error("storage {storage} is not for {backend}: {reason}; choose storage {instead}")]
    Storage {
        /// What was asked for.
        storage: crate::params::Storage,
        /// The backend.
        backend: String,
        /// Why not.
        reason: &'static str,
        /// What it has.
        instead: &'static str,
    },
    /// A component that 16 bits cannot hold.
    #[error(
        "component {component} of vector {row} is {value}, and {storage} ends below {limit}; store bf16 or f32, or scale the vectors"
    )]
    Overflow {
        /// The vector's place in the call (or in its list, when an index is stored anew).
        row: usize,
        /// Which component.
        component: usize,
        /// Its value.
        value: f32,
        /// The storage of the index.
        storage: crate::params::Storage,
        /// Magnitudes from here on become infinite.
        limit: f32,
    },
    /// A file or stream could not be read or written.
    #[error("{action} failed: {message}")]
    Io {
        /// What was being done, and with which file.
        action: String,
        /// The kind of failure.
        kind: std::io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// The first bytes are not those of an index file.
    #[error(
        "not a burn-ivf index: the file begins with {found:02x?}; write one with save(), or read a faiss index with its own reader"
    )]
    NotAnIndex {
        /// The first bytes, eight at most.
        found: Vec<u8>,
    },
    /// A file of a later version of the format.
    #[error(
        "the file has format version {found}, this burn-ivf reads versions up to {newest}; update burn-ivf"
    )]
    NewerFormat {
        /// The file's version.
        found: u32,
        /// The newest version that is read.
        newest: u32,
    },
    /// A file of another kind of index.
    #[error("the file holds an index of kind {found}, not {expected}; load it as {found}")]
    WrongKind {
        /// The kind asked for.
        expected: &'static str,
        /// The kind found.
        found: String,
    },
    /// The file holds something this version does not know and must not leave out.
    #[error("the file uses {what} {found}, this burn-ivf knows {known}; update burn-ivf")]
    UnknownInFile {
        /// What it is.
        what: &'static str,
        /// What was found.
        found: String,
        /// What is known.
        known: &'static str,
    },
    /// The file ends too early.
    #[error("the file ends inside {part}; it was cut short, use another copy")]
    Truncated {
        /// Where it ends.
        part: String,
    },
    /// The contents of a section are not those that were written.
    #[error(
        "{part} is damaged: its checksum is {found:016x}, {expected:016x} was written; use another copy"
    )]
    Checksum {
        /// Which part.
        part: String,
        /// The checksum in the file.
        expected: u64,
        /// That of the contents.
        found: u64,
    },
    /// The file contradicts itself.
    #[error("the file is not a sound index: {part}: {reason}")]
    Corrupt {
        /// Which part.
        part: String,
        /// What is wrong.
        reason: String,
    },
    /// No setting reaches the recall asked for.
    #[error(
        "recall {target} is out of reach: with the largest value, {queries} queries have {recall:.4} of their true neighbours, and at least {promise:.4} can be promised for others; lower the target or the confidence, raise what else limits the search (nprobe when a limit is tuned), pass more queries, or check that the truth is for these queries and ids"
    )]
    TargetNotReached {
        /// The recall asked for.
        target: f64,
        /// The best recall of the sample.
        recall: f64,
        /// What can be promised for other queries.
        promise: f64,
        /// Queries in the sample.
        queries: usize,
    },
    /// An id that no vector has.
    #[error("no vector has id {id}; add it first, or look with list_ids() at which ids there are")]
    MissingId {
        /// The id.
        id: i64,
    },
    /// Two indexes that cannot become one.
    #[error(
        "the other index has {what} {other}, this one {this}; make both alike (the same d, metric and centroids) before merge_from()"
    )]
    Unlike {
        /// In what they differ.
        what: &'static str,
        /// This index's.
        this: String,
        /// The other's.
        other: String,
    },
    /// An id moved beyond 64 bits.
    #[error(
        "id {id} of the other index cannot be moved by add_id = {add_id}: the sum is no 64-bit id; use a smaller add_id"
    )]
    IdOverflow {
        /// The id.
        id: i64,
        /// What was to be added.
        add_id: i64,
    },
    /// The bytes of another library's file contradict its format, or end too early.
    #[error("{path}, byte {offset}: {reason}; the file is damaged or not what its name says")]
    Malformed {
        /// The file, or that it was a stream.
        path: String,
        /// Where, in bytes from the start.
        offset: u64,
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// Another library's file format has no place for something, or this crate has none for what
    /// a file holds.
    #[error("{what} cannot be {action}; {remedy}")]
    Unsupported {
        /// The content.
        what: String,
        /// `"read"` or `"written"`.
        action: &'static str,
        /// What is supported.
        remedy: &'static str,
    },
    /// The index cannot use this metric.
    #[error(
        "metric {metric} is not for IndexIvfFlat and KMeans, which have l2, ip, cosine, l1 and linf; use IndexFlat or knn(), which have every metric"
    )]
    Metric {
        /// The metric.
        metric: Metric,
    },
    /// Reading a tensor back from its device failed.
    #[error("reading from the device failed: {0}")]
    Device(String),
}

impl From<burn_ivf_kernels::KernelError> for Error {
    fn from(error: burn_ivf_kernels::KernelError) -> Self {
        match error {
            burn_ivf_kernels::KernelError::Buffer { what, bytes, limit } => {
                Self::DeviceLimit { what, bytes, limit }
            }
            burn_ivf_kernels::KernelError::Memory { what, bytes } => Self::Memory { what, bytes },
            burn_ivf_kernels::KernelError::Read(what) => Self::Device(what),
            bug => Self::Kernel(bug),
        }
    }
}

/// An [`Error::IllegalValue`].
pub(crate) fn illegal(name: &'static str, value: impl ToString, expected: &'static str) -> Error {
    Error::IllegalValue {
        name,
        value: value.to_string(),
        expected,
    }
}
