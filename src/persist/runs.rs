//! Which rows make a piece of a file.

use crate::backend::Run;

/// The rows of lists of these sizes, in order, cut into groups of at most `chunk` rows; `exact`
/// makes room for whole lists at once.
pub(super) fn cut(
    sizes: &[usize],
    chunk: usize,
    exact: bool,
) -> impl Iterator<Item = Vec<Run>> + '_ {
    let (mut list, mut first) = (0, 0);
    core::iter::from_fn(move || {
        let (mut runs, mut left) = (Vec::new(), chunk);
        while left > 0 && list < sizes.len() {
            let rows = (sizes[list] - first).min(left);
            if rows > 0 {
                let room = if exact { sizes[list] } else { first + rows };
                runs.push(Run {
                    list: list as u32,
                    first,
                    rows,
                    room,
                });
            }
            (left, first) = (left - rows, first + rows);
            if first == sizes[list] {
                (list, first) = (list + 1, 0);
            }
        }
        (!runs.is_empty()).then_some(runs)
    })
}

/// Rows of runs together.
pub(super) fn rows(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.rows).sum()
}
