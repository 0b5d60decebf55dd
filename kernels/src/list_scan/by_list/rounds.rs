//! Rounds of a scan by list that keeps no queues: what is read of each list at once, and the room that
//! takes. A query has room for its k best so far and for every row of a round, so nothing is ever lost,
//! whatever the order of the rows, and the host need not ask how many there were.

use super::blueprint::{CUBES, Cut, longest_first};
use crate::{device::Facts, list_scan::blueprint::ROWS_PER_LAUNCH};

/// How lists are shared out over rounds.
///
/// A list of `len` rows is cut into as many slices as there are rounds, but none shorter than `least`
/// rows, so that short lists stay whole. Round `r` reads the slices from `(r · slices + l) / count` (`l`:
/// the list's number modulo `count`) up to, not with, the same of `r + 1`: one at most, every slice once,
/// and lists of one slice not all in the same round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::list_scan) struct Rounds {
    /// How many.
    pub count: usize,
    /// Rows of a slice at least, where the list has as many; at least 1.
    pub least: usize,
}

/// Rounds at most: products of two such numbers are counted in 32 bits.
const MOST: usize = 1 << 15;

impl Rounds {
    /// Everything at once.
    pub const ONE: Self = Self { count: 1, least: 1 };

    /// Slices of a list of `len` rows.
    pub fn slices(self, len: usize) -> usize {
        len.div_ceil(self.least).clamp(1, self.count)
    }

    /// Rows of a list of `len` that one round reads at most.
    pub fn rows(self, len: usize) -> usize {
        len.min(len.div_ceil(self.count).max(self.least))
    }
}

/// The pairs a query has room for, and by which rounds those suffice.
struct Room {
    k: usize,
    /// The longest lists, as many as are probed, and their rows.
    probed: Vec<usize>,
    most: usize,
    nprobe: usize,
}

impl Room {
    /// Pairs: the k best so far, and every row of a round.
    fn width(&self, rounds: Rounds) -> usize {
        let round: usize = self.probed.iter().map(|&len| rounds.rows(len)).sum();
        if rounds.count == 1 {
            self.most
        } else {
            (self.k + round).min(self.most)
        }
    }

    /// Bytes: those pairs, what the selection sorts, probes in list order, state.
    fn bytes(&self, rounds: Rounds) -> usize {
        let sorted = self.k.next_power_of_two().max(2);
        (self.width(rounds) + sorted) * 8 + self.nprobe * 4 + 8
    }

    /// The rounds that leave the least to read again: after the first all its rows, after each of the
    /// others at least k pairs, so `n` rows a round and `most / n` times k, which is least at
    /// `n² = most · k`. But no slices shorter than a cube is worth.
    fn wanted(&self, facts: &Facts) -> Rounds {
        let least = facts.grain.rows().min(u32::MAX as usize);
        let even = self.most.saturating_mul(self.k).isqrt();
        let rows = even.max(self.k).max(self.nprobe.saturating_mul(least));
        Rounds {
            count: self.most.div_ceil(rows.max(1)).clamp(1, MOST),
            least,
        }
    }

    /// More rounds than are wanted where otherwise fewer than `enough` queries have room in
    /// `workspace` bytes; none of fewer than k rows for that, so one query takes what it takes.
    fn rounds(&self, facts: &Facts, enough: usize, workspace: usize) -> Rounds {
        let mut rounds = self.wanted(facts);
        let top = self.probed.first().map_or(1, |&len| len.clamp(1, MOST));
        loop {
            let room = workspace / self.bytes(rounds);
            let small = self.width(rounds) <= 2 * self.k;
            let last = rounds.count >= top && rounds.least == 1;
            if room >= enough || small || last {
                break;
            }
            rounds.count = (2 * rounds.count).min(top).max(rounds.count);
            rounds.least = (rounds.least / 2).max(1);
        }
        if self.width(rounds) == self.most {
            rounds = Rounds::ONE;
        }
        rounds
    }
}

impl Cut {
    /// For `nq` queries that each probe `nprobe` lists of lengths `lens` and keep no queues, within
    /// `workspace` bytes.
    pub(super) fn in_rounds(
        facts: &Facts,
        tile: usize,
        (nq, nprobe, k): (usize, usize, usize),
        mut lens: Vec<usize>,
        workspace: usize,
    ) -> Self {
        longest_first(&mut lens, nprobe);
        let nlist = lens.len().max(1);
        let all: usize = lens.iter().sum();
        let mut probed: Vec<usize> = lens.iter().copied().take(nprobe).collect();
        probed.sort_unstable_by(|a, b| b.cmp(a));
        let most = probed.iter().sum::<usize>().max(1);
        let room = Room {
            k: k.min(most),
            probed,
            most,
            nprobe,
        };
        let workspace = workspace.min(facts.buffer);
        // Queries that fill a tile of every list.
        let enough = (tile * nlist).div_ceil(nprobe.max(1)).min(nq);
        let rounds = room.rounds(facts, enough, workspace);
        let usual = (all / nlist).saturating_mul(nprobe.min(nlist)) / rounds.count;
        let queries = (workspace / room.bytes(rounds))
            .min(ROWS_PER_LAUNCH / usual.max(1))
            .min(u32::MAX as usize / 2 / nprobe.max(1))
            .clamp(1, nq.max(1));
        let tiles = (queries * nprobe).div_ceil(nlist).div_ceil(tile);
        let cubes = (facts.processors as usize).saturating_mul(facts.grain.cubes);
        let longest = lens.iter().map(|&len| rounds.rows(len)).max().unwrap_or(0);
        let rows = ((all / rounds.count).saturating_mul(tiles) / cubes.max(1))
            .max(facts.grain.rows())
            .min(longest.max(1));
        let pieces: usize = (lens.iter().map(|&len| rounds.rows(len).div_ceil(rows))).sum();
        Self {
            queries,
            rows,
            width: room.width(rounds),
            cubes: pieces.saturating_mul(tiles + 1).clamp(1, CUBES),
            rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The slots that the device reads in round `round` of list `list`: `tasks.rs` in plain numbers.
    fn share(rounds: Rounds, round: usize, list: usize, len: usize) -> (usize, usize) {
        let slices = rounds.slices(len);
        let turn = round * slices + list % rounds.count;
        let start = |slice: usize| len / slices * slice + slice.min(len % slices);
        (
            start(turn / rounds.count),
            start((turn + slices) / rounds.count),
        )
    }

    #[test]
    fn every_row_is_read_in_one_round_and_no_round_reads_more_than_said() {
        for count in [1, 2, 3, 7, 64, 1000] {
            for least in [1, 2, 10, 256] {
                let rounds = Rounds { count, least };
                for (list, len) in [0, 1, 2, 9, 10, 11, 255, 256, 257, 1000, 5000, 131_072]
                    .into_iter()
                    .enumerate()
                {
                    let mut next = 0;
                    for round in 0..count {
                        let (from, to) = share(rounds, round, 5 * list, len);
                        assert_eq!(from, next, "{rounds:?} {len}");
                        assert!(to - from <= rounds.rows(len), "{rounds:?} {len}");
                        next = to;
                    }
                    assert_eq!(next, len, "{rounds:?}");
                }
            }
        }
    }

    #[test]
    fn there_is_room_for_k_and_a_round() {
        let even = |nlist: usize, len: usize| vec![len; nlist];
        let cut = |nq, nprobe, k, lens, workspace| {
            Cut::in_rounds(&Facts::H200, 32, (nq, nprobe, k), lens, workspace)
        };
        // Slices of 256 rows at least: two rounds.
        let seed = cut(19_600, 32, 1000, even(512, 512), 256 << 20);
        assert_eq!(seed.rounds.count, 2, "{seed:?}");
        assert_eq!(seed.width, 1000 + 32 * 256);
        assert!(seed.queries * (seed.width + 1024) * 8 <= 256 << 20);
        assert!(seed.queries * 32 >= 32 * 512, "{seed:?}");
        // One list of a million rows: about a thousand rows more a round than there are rounds.
        let flat = cut(1000, 1, 1000, even(1, 1 << 20), 1 << 30);
        assert!((30..36).contains(&flat.rounds.count), "{flat:?}");
        assert_eq!(flat.queries, 1000);
        // A few rows more than k, or k beyond all rows: nothing is gained by rounds.
        for k in [300, 512, 513, 1 << 40] {
            let all = cut(10, 1, k, even(4, 513), 1 << 20);
            assert_eq!((all.rounds, all.width), (Rounds::ONE, 513), "{k}");
        }
        // No room: more rounds, fewer queries, and one at last.
        let tight = cut(1000, 1, 1000, even(1, 1 << 20), 1 << 20);
        assert!(tight.width < 3100 && tight.queries >= 32, "{tight:?}");
        assert!(tight.queries * (tight.width + 1024) * 8 <= 1 << 20);
        let none = cut(5, 3, 300, vec![0, 4000, 1000, 1], 8);
        assert_eq!((none.queries, none.rounds.count), (1, 20), "{none:?}");
        assert_eq!(none.width, 300 + 200 + 64 + 1);
        assert_eq!(cut(1, 1, 300, vec![0, 0], 8).rounds, Rounds::ONE);
    }
}
