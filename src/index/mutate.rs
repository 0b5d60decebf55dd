//! What both indexes can do beyond adding: removing, replacing, giving back vectors, joining, parting.
//!
//! Storage order stays insertion order throughout: what is left keeps its order, what comes goes to the
//! end of its list. Ids are looked up in a map that the lists make when it is first needed and keep in
//! step themselves; no call depends on whether it is there.

use super::{IndexFlat, IndexIvfFlat, flat::copy_rows, validate};
use crate::{
    backend::{
        IvfBackend, ListStore, Restriction, Scan, Slot, exact_pair, label_dtype, list_numbers,
        read, select_rows,
    },
    engine,
    error::{Error, Result, illegal},
    lists::{InvertedLists, Kept},
    metric::Compare,
    params::SearchParams,
    result::SearchResult,
    selector::IdSelector,
};
use burn::tensor::{DType, Tensor};
use core::ops::Range;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What to do with an id that no vector has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// Add the vector.
    Insert,
    /// Refuse the whole call with [`Error::MissingId`].
    Error,
}

/// A part of an index, for `copy_subset`; in brackets faiss's number of the type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Subset {
    /// The ids of a half-open range (0).
    Ids(Range<i64>),
    /// The ids that leave `remainder`, in `0..modulus`, when divided by `modulus` (1). The remainder of
    /// a negative id is taken upwards too, so every id is in exactly one such part.
    IdModulo {
        /// Number of parts, at least 1.
        modulus: i64,
        /// Which part.
        remainder: i64,
    },
    /// Vectors `start..end` of all, taken from every list in proportion to its size (2): of the first
    /// `m` vectors in list order, `⌊m·end / ntotal⌋ - ⌊m·start / ntotal⌋` are among them.
    Elements(Range<usize>),
    /// Part `part` of `of` equal parts of every list (3).
    Fraction {
        /// Number of parts, at least 1.
        of: usize,
        /// Which part, below `of`.
        part: usize,
    },
    /// The lists of a half-open range (4).
    Lists(Range<usize>),
}

impl Subset {
    /// Bits of the rows in it.
    fn bits<E: IvfBackend>(&self, lists: &InvertedLists<E>) -> Result<Kept> {
        Ok(match self {
            Self::Ids(range) => {
                let selected = IdSelector::range(range.clone()).compile();
                lists.bits(|_, ids, keep| selected.select(ids, keep))
            }
            &Self::IdModulo { modulus, remainder } => {
                if modulus < 1 {
                    return Err(illegal("modulus", modulus, "at least 1"));
                }
                if !(0..modulus).contains(&remainder) {
                    return Err(illegal("remainder", remainder, "from 0 to modulus - 1"));
                }
                lists.bits(|_, ids, keep| {
                    for (slot, id) in ids.iter().enumerate() {
                        let set = id.rem_euclid(modulus) == remainder;
                        keep[slot / 32] |= u32::from(set) << (slot % 32);
                    }
                })
            }
            Self::Elements(range) => {
                let ntotal = lists.ntotal();
                if range.start > range.end || range.end > ntotal {
                    let found = format!("{range:?} of {ntotal}");
                    return Err(illegal("elements", found, "a range within 0..ntotal"));
                }
                let share = |rows: usize, of: usize| {
                    let share = rows as u128 * of as u128 / ntotal.max(1) as u128;
                    share as usize
                };
                let mut before = 0;
                let parts: Vec<Range<usize>> = (lists.sizes().iter())
                    .map(|&size| {
                        let after = before + size;
                        let from = share(after, range.start) - share(before, range.start);
                        let to = share(after, range.end) - share(before, range.end);
                        before = after;
                        from..to
                    })
                    .collect();
                lists.bits(|l, _, keep| set(keep, parts[l].clone()))
            }
            &Self::Fraction { of, part } => {
                if of < 1 {
                    return Err(illegal("of", of, "at least 1"));
                }
                if part >= of {
                    return Err(illegal("part", part, "below the number of parts"));
                }
                let cut = |size: usize, part: usize| {
                    let cut = size as u128 * part as u128 / of as u128;
                    cut as usize
                };
                lists.bits(|_, ids, keep| set(keep, cut(ids.len(), part)..cut(ids.len(), part + 1)))
            }
            Self::Lists(range) => {
                let nlist = lists.nlist();
                if range.start > range.end || range.end > nlist {
                    let found = format!("{range:?} of {nlist}");
                    return Err(illegal("lists", found, "a range within 0..nlist"));
                }
                lists.bits(|l, ids, keep| {
                    if range.contains(&l) {
                        set(keep, 0..ids.len());
                    }
                })
            }
        })
    }
}

/// Sets bits.
fn set(keep: &mut [u32], range: Range<usize>) {
    for slot in range {
        keep[slot / 32] |= 1 << (slot % 32);
    }
}

/// For every id its last place, in the order of these places; none when no id comes twice.
fn last_of_each(ids: &[i64]) -> Option<Vec<u32>> {
    let last: HashMap<i64, usize> = ids.iter().copied().zip(0..).collect();
    (last.len() < ids.len()).then(|| {
        (0..ids.len())
            .filter(|&at| last[&ids[at]] == at)
            .map(|at| at as u32)
            .collect()
    })
}

/// Ids `first`, `first + 1`, .., `n` of them, as a range.
fn id_range(first: i64, n: usize) -> Result<Range<i64>> {
    let end = i64::try_from(n).ok().and_then(|n| first.checked_add(n));
    let end = end.ok_or_else(|| illegal("n", n, "so small that the ids are 64-bit"))?;
    Ok(first..end)
}

/// Whether `other`'s ids can be moved by `add_id` and be ids of an index on `device`.
fn check_moved<B: IvfBackend>(
    lists: &InvertedLists<B::Inner>,
    add_id: i64,
    device: &B::Device,
) -> Result<()> {
    let narrow = label_dtype::<B::Inner>(device) != DType::I64;
    let ids = (0..lists.nlist()).flat_map(|l| lists.list_ids(l));
    for (row, &id) in ids.enumerate() {
        let moved = id.checked_add(add_id);
        match moved {
            None => return Err(Error::IdOverflow { id, add_id }),
            Some(-1) => return Err(Error::PaddingId { row }),
            Some(id) if narrow && i32::try_from(id).is_err() => {
                return Err(Error::IdOutOfRange { row, id });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// [`Error::Unlike`] unless both are the same.
fn alike<T: PartialEq + core::fmt::Debug>(what: &'static str, this: &T, other: &T) -> Result<()> {
    if this == other {
        return Ok(());
    }
    Err(Error::Unlike {
        what,
        this: format!("{this:?}"),
        other: format!("{other:?}"),
    })
}

/// The methods that both indexes share; `$index` as code, and lines of an example that make an `index`
/// of the vectors 0, 1, .., 5 on a line.
macro_rules! mutable {
    ($index:ident, $($example:literal),+) => {
        impl<B: IvfBackend> $index<B> {
            /// Removes the vectors whose id is selected, all of an id that several share; how many
            /// there were (faiss `remove_ids`). Ids that no vector has are ignored.
            ///
            /// What is left keeps its order, and automatic ids are never given again. It costs the
            /// lists that lose something from the first lost vector on, so many ids are better
            /// removed in one call. On a GPU vectors move there; clones, and searches that were
            /// started before, see what there was.
            ///
            /// ```
            $(#[doc = $example])+
            /// assert_eq!(index.remove_ids(&IdSelector::batch([1, 4, 77]))?, 2);
            /// let (_, labels) = index.search(Tensor::from_floats([[1.1]], &device), 3)?.to_vecs();
            /// assert_eq!(labels, [2, 0, 3]);
            /// index.add(Tensor::from_floats([[9.0]], &device))?;
            /// assert_eq!(index.reconstruct(6)?.into_scalar(), 9.0);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// Not trained, a selector of too many parts, or a device that cannot hold what it takes.
            pub fn remove_ids(&mut self, ids: &IdSelector) -> Result<usize> {
                span!("remove", n = self.ntotal());
                ids.check()?;
                self.held_mut()?.remove(ids)
            }

            /// Gives vector `i` of `x`, `[n, d]`, the id `ids[i]` in place of what had that id, and
            /// returns how many vectors went (faiss `update_vectors`, for any ids).
            ///
            /// As if the ids were removed and the vectors added with them, one after another: a vector
            /// goes to the end of the list it belongs to now, of an id that comes twice in `ids` the
            /// last vector stays, and one vector takes the place of all that shared its id.
            ///
            /// ```
            $(#[doc = $example])+
            /// # use burn_ivf::Missing;
            /// let x = Tensor::from_floats([[8.0], [9.0]], &device);
            /// assert!(index.update_vectors(&[3, 50], x.clone(), Missing::Error).is_err());
            /// assert_eq!(index.update_vectors(&[3, 50], x, Missing::Insert)?, 1);
            /// assert_eq!(index.ntotal(), 7);
            /// let (_, labels) = index.search(Tensor::from_floats([[8.1]], &device), 2)?.to_vecs();
            /// assert_eq!(labels, [3, 50]);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// As `add_with_ids`; [`Error::MissingId`] for an id that no vector has, with
            /// [`Missing::Error`]. Nothing changes then.
            pub fn update_vectors(
                &mut self,
                ids: &[i64],
                x: Tensor<B, 2>,
                missing: Missing,
            ) -> Result<usize> {
                let lists = self.held()?;
                validate::ids::<B>(ids, x.dims()[0], &self.device)?;
                let mut x = validate::stored_for::<B>(self.metric, x, self.d, &self.device, "vectors")?;
                if missing == Missing::Error {
                    lists.find(ids)?;
                }
                if ids.is_empty() {
                    return Ok(0);
                }
                let mut ids = ids.to_vec();
                if let Some(rows) = last_of_each(&ids) {
                    x = select_rows(&x, &rows);
                    ids = rows.iter().map(|&row| ids[row as usize]).collect();
                }
                let to = self.assign(&x)?;
                self.held_mut()?.replace(x, &ids, &to)
            }

            /// The vector with this id, `[d]`, bit for bit as added (faiss `reconstruct`).
            ///
            /// Where several share it, the one in the list of the smallest number that was added
            /// first. The first call after `add` makes a table of all ids (some 20 bytes each), later
            /// ones look it up; it is kept in step and needs no switch (faiss: `make_direct_map`).
            ///
            /// ```
            $(#[doc = $example])+
            /// assert_eq!(index.reconstruct(4)?.into_scalar(), 4.0);
            /// assert!(index.reconstruct(6).is_err());
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// Not trained, or [`Error::MissingId`].
            pub fn reconstruct(&self, id: i64) -> Result<Tensor<B, 1>> {
                Ok(self.reconstruct_batch(&[id])?.reshape([self.d]))
            }

            /// The vectors with these ids, `[n, d]`, in their order (faiss `reconstruct_batch`).
            ///
            /// ```
            $(#[doc = $example])+
            /// let x = index.reconstruct_batch(&[5, 0, 5])?;
            /// assert_eq!(x.into_data().to_vec::<f32>().unwrap(), [5.0, 0.0, 5.0]);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// As [`reconstruct`](Self::reconstruct); the first missing id is named.
            pub fn reconstruct_batch(&self, ids: &[i64]) -> Result<Tensor<B, 2>> {
                let lists = self.held()?;
                let rows = lists.find(ids)?;
                Ok(B::lift(engine::vectors(lists, &rows, self.d, &self.device)?))
            }

            /// The vectors with ids `first`, `first + 1`, .., `[n, d]` (faiss `reconstruct_n`). All of
            /// these ids must be there: automatic ones are, unless removed.
            ///
            /// ```
            $(#[doc = $example])+
            /// let x = index.reconstruct_n(2, 3)?;
            /// assert_eq!(x.into_data().to_vec::<f32>().unwrap(), [2.0, 3.0, 4.0]);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// As [`reconstruct_batch`](Self::reconstruct_batch).
            pub fn reconstruct_n(&self, first: i64, n: usize) -> Result<Tensor<B, 2>> {
                // One of more ids than there are vectors is missing.
                let most = self.held()?.ntotal().saturating_add(1);
                let ids: Vec<i64> = id_range(first, n)?.take(most).collect();
                self.reconstruct_batch(&ids)
            }

            /// An index with a part of the vectors, all settings and the training (faiss
            /// `copy_subset_to`). Automatic ids go on as in this index. It shares memory with this
            /// one where a list is taken whole, until one of them changes.
            ///
            /// ```
            $(#[doc = $example])+
            /// # use burn_ivf::Subset;
            /// let odd = index.copy_subset(&Subset::IdModulo { modulus: 2, remainder: 1 })?;
            /// assert_eq!((odd.ntotal(), index.ntotal()), (3, 6));
            /// assert_eq!(odd.reconstruct(5)?.into_scalar(), 5.0);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// Not trained, numbers that name no part, or a device that cannot hold the copy.
            pub fn copy_subset(&self, subset: &Subset) -> Result<Self> {
                let keep = subset.bits(self.held()?)?;
                let mut copy = self.clone();
                copy.held_mut()?.retain(keep)?;
                Ok(copy)
            }

            /// Makes room for `n` more vectors, so that adding them moves none of those held; lists
            /// get it in proportion to their sizes, or evenly while all are empty. So the most is gained after
            /// a first piece has been added, which shows how vectors spread over lists: a large index
            /// built piece by piece then never holds its vectors twice.
            ///
            /// # Errors
            /// Not trained, more vectors than can be named, or more memory than can be had.
            pub fn reserve(&mut self, n: usize) -> Result<()> {
                self.held_mut()?.reserve(n)
            }

            /// Gives back memory held beyond vectors and ids: room to grow, what removed vectors left,
            /// the table of ids; bytes given back (faiss `reclaimMemory`). Lists that a clone shares
            /// stay as they are.
            ///
            /// # Errors
            /// When a device cannot hold the smaller buffers beside the present ones for a moment;
            /// nothing changes then.
            pub fn shrink_to_fit(&mut self) -> Result<usize> {
                match self.held_mut() {
                    Ok(lists) => lists.shrink_to_fit(),
                    Err(_) => Ok(0),
                }
            }

            /// Takes over all vectors of `other`, list after list, their ids moved by `add_id`, and
            /// leaves `other` empty (faiss `merge_from`). Nothing is quantized or assigned anew.
            /// `other` keeps its training; its automatic ids go on.
            ///
            /// ```
            $(#[doc = $example])+
            /// let mut other = index.clone();
            /// index.merge_from(&mut other, 6)?;
            /// assert_eq!((index.ntotal(), other.ntotal()), (12, 0));
            /// assert_eq!(index.reconstruct(11)?.into_scalar(), 5.0);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// Not trained; [`Error::Unlike`] when d, metric, device, number of lists or a bit of a
            /// centroid differ; an id that moves out of range or to -1. Both stay as they are.
            pub fn merge_from(&mut self, other: &mut Self, add_id: i64) -> Result<()> {
                alike("d =", &self.d, &other.d)?;
                alike("metric", &self.metric, &other.metric)?;
                alike("device", &self.device, &other.device)?;
                self.check_lists_alike(other)?;
                check_moved::<B>(other.held()?, add_id, &self.device)?;
                let chunk = copy_rows(self.d, self.workspace_limit());
                self.held_mut()?.merge(other.held()?, add_id, chunk)?;
                let empty = other.held()?.emptied(&other.device);
                *other.held_mut()? = empty;
                Ok(())
            }

            /// [`search_with`](Self::search_with), and the vectors found, `[nq, k, d]`: bit for bit as
            /// added, NaN where there is no hit (faiss `search_and_reconstruct`). Where several vectors
            /// share an id, it is the one that was found. Waits for the search.
            ///
            /// ```
            $(#[doc = $example])+
            /// # use burn_ivf::SearchParams;
            /// let query = Tensor::from_floats([[4.9]], &device);
            /// let params = SearchParams::exact();
            /// let (hits, vectors) = index.search_and_reconstruct(query, 2, &params)?;
            /// assert_eq!(hits.to_vecs().1, [5, 4]);
            /// assert_eq!(vectors.into_data().to_vec::<f32>().unwrap(), [5.0, 4.0]);
            /// # Ok::<(), burn_ivf::Error>(())
            /// ```
            ///
            /// # Errors
            /// As `search_with`.
            pub fn search_and_reconstruct(
                &self,
                queries: Tensor<B, 2>,
                k: usize,
                params: &SearchParams,
            ) -> Result<(SearchResult<B>, Tensor<B, 3>)> {
                let hits = self.search_with(queries.clone(), k, params)?;
                let vectors = self.vectors_of(queries, &hits)?;
                Ok((hits, vectors))
            }

            /// The vectors behind the hits of a search.
            fn vectors_of(
                &self,
                queries: Tensor<B, 2>,
                hits: &SearchResult<B>,
            ) -> Result<Tensor<B, 3>> {
                let [nq, k] = hits.distances.dims();
                let lists = self.held()?;
                let distances = read(B::lower(hits.distances.clone()))?;
                let labels = crate::backend::read_int(B::lower_int(hits.labels.clone()))?;
                let rows: Vec<Slot> = if nq == 0 {
                    Vec::new()
                } else {
                    let queries =
                        validate::vectors::<B>(queries, self.d, &self.device, "queries")?;
                    let queries = validate::prepared(self.metric, queries)?;
                    let found = (&distances[..], &labels[..]);
                    match self.metric.compare() {
                        Compare::Scan(metric) => {
                            let scan = Scan {
                                metric,
                                d: self.d,
                                k,
                                lists: lists.store(),
                                ids: lists.ids(),
                                queries,
                                workspace: self.workspace_limit(),
                                restriction: Restriction::default(),
                            };
                            engine::rows_of_hits(lists, k, found, |queries, rows| {
                                engine::distances_again(&scan, queries, rows)
                            })?
                        }
                        Compare::Pairs(measure) => {
                            let q = read(queries)?;
                            engine::rows_of_hits(lists, k, found, |queries, rows| {
                                let x = read(lists.store().gather(rows)?)?;
                                let row = |of: &[f32], i: usize| of[i * self.d..][..self.d].to_vec();
                                let pair = |(i, &query): (usize, &u32)| {
                                    exact_pair(measure, &row(&q, query as usize), &row(&x, i)) as f32
                                };
                                Ok(queries.iter().enumerate().map(pair).collect())
                            })?
                        }
                    }
                };
                let vectors = engine::vectors(lists, &rows, self.d, &self.device)?;
                Ok(B::lift(vectors.reshape([nq, k, self.d])))
            }
        }
    };
}

mutable!(
    IndexFlat,
    "# use burn::{backend::NdArray, tensor::Tensor};",
    "# use burn_ivf::{IdSelector, IndexFlat, Metric};",
    "# let device = Default::default();",
    "let mut index = IndexFlat::<NdArray>::new(1, Metric::L2, &device)?;",
    "index.add(Tensor::from_floats([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], &device))?;"
);
mutable!(
    IndexIvfFlat,
    "# use burn::{backend::NdArray, tensor::Tensor};",
    "# use burn_ivf::{IdSelector, IndexIvfFlat, Metric};",
    "# let device = Default::default();",
    "let centroids = Tensor::<NdArray, 2>::from_floats([[0.0], [4.0]], &device);",
    "let mut index = IndexIvfFlat::from_centroids(centroids, Metric::L2)?;",
    "index.add(Tensor::from_floats([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]], &device))?;"
);

impl<B: IvfBackend> IndexFlat<B> {
    #[expect(clippy::unnecessary_wraps, reason = "an inverted file may have none")]
    fn held(&self) -> Result<&InvertedLists<B::Inner>> {
        Ok(&self.lists)
    }

    #[expect(clippy::unnecessary_wraps, reason = "an inverted file may have none")]
    fn held_mut(&mut self) -> Result<&mut InvertedLists<B::Inner>> {
        Ok(&mut self.lists)
    }

    #[expect(clippy::unnecessary_wraps, reason = "an inverted file has to look")]
    #[expect(clippy::unused_self, reason = "an inverted file has to look")]
    fn assign(&self, x: &Tensor<B::Inner, 2>) -> Result<Vec<u32>> {
        Ok(vec![0; x.dims()[0]])
    }

    #[expect(clippy::unnecessary_wraps, reason = "an inverted file has to look")]
    #[expect(clippy::unused_self, reason = "an inverted file has to look")]
    fn check_lists_alike(&self, _: &Self) -> Result<()> {
        Ok(())
    }
}

impl<B: IvfBackend> IndexIvfFlat<B> {
    fn held(&self) -> Result<&InvertedLists<B::Inner>> {
        Ok(&self.trained()?.lists)
    }

    fn held_mut(&mut self) -> Result<&mut InvertedLists<B::Inner>> {
        let trained = self.trained.as_mut().ok_or(Error::NotTrained)?;
        Ok(&mut trained.lists)
    }

    /// The list of every vector.
    fn assign(&self, x: &Tensor<B::Inner, 2>) -> Result<Vec<u32>> {
        let quantizer = self
            .trained()?
            .quantizer(self.metric, self.settings.workspace);
        list_numbers(engine::probe(&quantizer, x.clone(), 1)?.lists)
    }

    fn check_lists_alike(&self, other: &Self) -> Result<()> {
        let (this, other) = (self.trained()?, other.trained()?);
        alike("nlist =", &this.lists.nlist(), &other.lists.nlist())?;
        let [a, b] = [this, other].map(|t| read(t.centroids.clone()));
        let (a, b) = (a?, b?);
        let differ = |at: &usize| a[*at].to_bits() != b[*at].to_bits();
        if let Some(at) = (0..a.len()).find(differ) {
            let (row, component) = (at / self.d, at % self.d);
            let name = |value| format!("{value} at [{row}, {component}]");
            return alike("the centroid component", &name(a[at]), &name(b[at]));
        }
        Ok(())
    }
}
