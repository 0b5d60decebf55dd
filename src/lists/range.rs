//! What vectors of 16 bits can hold.

use super::InvertedLists;
use crate::{
    backend::{IvfBackend, portable::pieces, read_int},
    error::{Error, Result},
    params::Storage,
};
use burn::tensor::Tensor;

/// Refuses rows of which a component would become infinite. Reads one number, if it has to look.
pub(super) fn check<E: IvfBackend>(rows: &Tensor<E, 2>, storage: Storage) -> Result<()> {
    let Some(limit) = storage.overflow() else {
        return Ok(());
    };
    let [n, d] = rows.dims();
    if n == 0 {
        return Ok(());
    }
    let beyond = rows.clone().abs().greater_equal_elem(limit);
    if read_int(beyond.int().sum())? == [0] {
        return Ok(());
    }
    let values = E::to_host(rows.clone())?;
    let at = values.iter().position(|v| v.abs() >= limit).unwrap_or(0);
    Err(Error::Overflow {
        row: at / d,
        component: at % d,
        value: values[at],
        storage,
        limit,
    })
}

impl<E: IvfBackend> InvertedLists<E> {
    /// Refuses list `l` where another storage cannot hold its rows.
    pub(super) fn check_range(&self, l: usize, storage: Storage, chunk: usize) -> Result<()> {
        if storage != self.storage && storage.overflow().is_some() {
            for range in pieces(self.ids[l].len(), chunk) {
                check(&self.rows(l, range)?, storage)?;
            }
        }
        Ok(())
    }
}
