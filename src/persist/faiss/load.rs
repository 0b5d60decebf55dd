//! How rows of a file get into inverted lists.
//!
//! faiss writes all vectors of a list before its ids. Of a file that goes into host memory all ids are
//! read first, then all vectors at once ([`whole`]); otherwise rows come [piece by piece](super::pieces).

use crate::{
    backend::{Filling, IvfBackend, label_dtype},
    error::{Error, Result},
    lists::InvertedLists,
    params::Storage,
    persist::{element::Element, source::Source},
};
use burn::tensor::DType;
use std::{io::Read, sync::Arc};

/// Where the ids of rows are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// 0, 1, 2 and so on, not in the file.
    Counted,
    /// After the vectors.
    After,
    /// After the vectors and their count.
    AfterCount,
}

/// What the file has said of the rows that follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Content<'a> {
    /// Components of a vector.
    pub d: usize,
    /// Their type.
    pub code: Element,
    /// Lists in all.
    pub nlist: usize,
    /// Those that have rows, by rising number, and how many.
    pub sizes: &'a [(usize, usize)],
    pub ids: Ids,
    /// The centroids, f32 `[nlist, d]`, to which vectors are to be added.
    pub residual_of: Option<&'a [f32]>,
    /// Whether a component may be NaN.
    pub nan: bool,
}

impl<'a> Content<'a> {
    pub fn centroid(&self, l: usize) -> Option<&'a [f32]> {
        self.residual_of.map(|all| &all[l * self.d..][..self.d])
    }

    /// Whether a vector may have this component.
    pub fn accepts(&self, component: f32) -> bool {
        component.is_finite() || (self.nan && component.is_nan())
    }

    /// The error for vectors, from row `first` of the file on, with others.
    pub fn non_finite(&self, rows: &[f32], first: usize) -> Error {
        let rows = rows.chunks_exact(self.d).enumerate();
        let mut bad = rows.filter(|(_, row)| !row.iter().all(|&v| self.accepts(v)));
        Error::NonFinite {
            what: "vectors of the file read so far",
            row: first + bad.next().map_or(0, |(row, _)| row),
            count: 1 + bad.count(),
        }
    }

    /// Bytes of `n` vectors.
    pub fn vector_bytes(&self, n: usize) -> u64 {
        (n as u64).saturating_mul((self.d * self.code.bytes()) as u64)
    }

    /// Rows of every list.
    fn all_sizes(&self) -> Vec<usize> {
        let mut all = vec![0; self.nlist];
        for &(l, n) in self.sizes {
            all[l] = n;
        }
        all
    }

    /// The count before ids and the ids, to the end of `out`.
    pub fn read_ids<R: Read>(
        &self,
        source: &mut Source<R>,
        n: usize,
        out: &mut Vec<i64>,
    ) -> Result<()> {
        match self.ids {
            Ids::Counted => out.extend(0..n as i64),
            Ids::After => source.append("ids", n, out)?,
            Ids::AfterCount => {
                read_count(source, n)?;
                source.append("ids", n, out)?;
            }
        }
        Ok(())
    }

    /// Bytes of a list's ids and their count.
    pub fn id_bytes(&self, n: usize) -> u64 {
        match self.ids {
            Ids::Counted => 0,
            Ids::After => 8 * n as u64,
            Ids::AfterCount => 8 + 8 * n as u64,
        }
    }
}

/// Reads the rows of all lists. They are stored in 16 bits where the file has them so, not as
/// residuals, and the device can.
pub(super) fn read_lists<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    content: &Content<'_>,
    device: &E::Device,
) -> Result<InvertedLists<E>> {
    let limit = u32::MAX as usize - 1;
    let sizes = content.sizes.iter();
    let rows = sizes.fold(0, |sum: usize, &(_, n)| sum.saturating_add(n));
    if rows > limit {
        return Err(Error::TooLarge { rows, limit });
    }
    // A sum with a centroid needs all 32 bits again.
    let stored = match content.residual_of {
        Some(_) => Element::F32,
        None => content.code,
    };
    let capabilities = E::capabilities(device);
    let storage = capabilities.storage(stored.storage());
    if capabilities.host && source.can_look_ahead() {
        let start = source.at();
        if let Some(lists) = whole(source, content, storage, device)? {
            return Ok(lists);
        }
        source.go_to(start)?;
    }
    super::pieces::read(source, content, storage, device)
}

/// Reads the ids of all lists, then all vectors at once; `None` where the store cannot take them so.
fn whole<E: IvfBackend, R: Read>(
    source: &mut Source<R>,
    content: &Content<'_>,
    storage: Storage,
    device: &E::Device,
) -> Result<Option<InvertedLists<E>>> {
    let Content { d, code, .. } = *content;
    let start = source.at();
    let (mut tables, mut next_id) = (vec![Arc::default(); content.nlist], 0);
    let mut first = 0;
    for &(l, n) in content.sizes {
        source.skip("vectors", content.vector_bytes(n))?;
        let mut ids = Vec::new();
        content.read_ids(source, n, &mut ids)?;
        check_ids::<E>(&ids, first, device)?;
        let largest = ids.iter().copied().max().unwrap_or(-1);
        next_id = next_id.max(largest.saturating_add(1));
        (tables[l], first) = (Arc::new(ids), first + n);
    }
    let end = source.at();
    source.go_to(start)?;
    let sizes = content.all_sizes();
    let mut lists = InvertedLists::<E>::with_tables(d, storage, tables, next_id, device);
    let (widen, mut raw) = (code.widen(), Vec::<u16>::new());
    let filled = lists.fill_whole(&mut Filling {
        sizes: &sizes,
        read: &mut |runs, values| {
            let rows: usize = runs.iter().map(|run| run.rows).sum();
            match widen {
                Some(_) => values.clear(),
                None => values.resize(rows * d, 0.0),
            }
            let mut from = 0;
            for run in runs {
                let (l, to) = (run.list as usize, from + run.rows * d);
                if let Some(widen) = widen {
                    raw.resize(run.rows * d, 0);
                    source.fill("vectors", &mut raw)?;
                    widen(&raw, values);
                } else {
                    source.fill("vectors", &mut values[from..to])?;
                }
                if let Some(centroid) = content.centroid(l) {
                    add(&mut values[from..to], centroid);
                }
                if run.first + run.rows == sizes[l] {
                    source.skip("ids", content.id_bytes(sizes[l]))?;
                }
                from = to;
            }
            Ok(())
        },
        nan: content.nan,
        refuse: &|values, first| content.non_finite(values, first),
    })?;
    if !filled {
        return Ok(None);
    }
    source.go_to(end)?;
    Ok(Some(lists))
}

/// Adds a vector to each of `rows`.
pub(super) fn add(rows: &mut [f32], centroid: &[f32]) {
    for row in rows.chunks_exact_mut(centroid.len()) {
        row.iter_mut().zip(centroid).for_each(|(x, c)| *x += c);
    }
}

/// Refuses ids, of rows from `first` on, that cannot be returned.
pub(super) fn check_ids<E: IvfBackend>(
    ids: &[i64],
    first: usize,
    device: &E::Device,
) -> Result<()> {
    let narrow = label_dtype::<E>(device) != DType::I64;
    for (row, &id) in ids.iter().enumerate() {
        let row = first + row;
        if id == -1 {
            return Err(Error::PaddingId { row });
        }
        if narrow && i32::try_from(id).is_err() {
            return Err(Error::IdOutOfRange { row, id });
        }
    }
    Ok(())
}

/// Reads the count before ids.
pub(super) fn read_count<R: Read>(source: &mut Source<R>, n: usize) -> Result<()> {
    let count = source.count("ids", size_of::<i64>())?;
    if count != n {
        return Err(source.malformed(format!("{count} ids for {n} vectors")));
    }
    Ok(())
}
