//! The one nearest row of a single list for very many queries: k-means assignment, `add`.
//!
//! **Contract.** That of [`crate::list_scan`] for one list and k = 1, bit for bit. A cube takes a
//! block of queries and reads every row once for all of them, keeping each query's best in
//! registers; there is no matrix of scores. The CPU's counterpart is the small table of its scan.

mod device;

pub(crate) use device::{block, fits, nearest_on, rows};
