//! (query, list) pairs put in order of their lists, on the device.
//!
//! **Contract.** `probes` is `[nq, nprobe]`, list numbers; [`SKIP`], like any number that is no list's, is left
//! out. The answer is
//! `offsets`, `[nlist + 1]`, and `pairs`, `[nq · nprobe]`: list `l`'s pairs are
//! `pairs[offsets[l]..offsets[l + 1]]`, each `query · nprobe + rank`, in any order within the list;
//! what lies behind `offsets[nlist]` is undefined. Linear in pairs and lists: a histogram, a scan, a
//! scatter; no sort, nothing read back. [`mod@reference`] does the same in plain loops, in order.
//!
//! [`SKIP`]: crate::list_scan::SKIP

mod device;
pub mod reference;

pub use device::{Grouped, group_on};
