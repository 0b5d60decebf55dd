//! The scan by list whose filter are tensor cores: inner products of components rounded to bf16.
//!
//! A plane takes 32 rows in two matrices of 16, against matrices of 8 queries, 16 components at a time.
//! Which unit holds what is as PTX lays it out for `mma.m16n8k16`: unit `4 g + t` has of rows `g` and
//! `g + 8`, and of query `g`, components `2 t`, `2 t + 1`, `2 t + 8` and `2 t + 9`. In which order
//! components are summed does not matter, so these are taken to be the four of vector `t`: rows are read in
//! whole vectors, by the same four units as in the other scans. Of the products, it gets those of both rows
//! with queries `2 t` and `2 t + 1`.

#![allow(
    clippy::used_underscore_binding,
    reason = "an unrolled loop names what it counts"
)]

use super::{
    blueprint::{Blueprint, MATRIX},
    bound::TINY,
    cube::{Task, TileArgs, append, name, share, task_at},
    filter::{Waiting, bar, is_excluded, settle, weigh, weight_of_row},
};
use crate::device::{claim, distance::wide, queues::Queues, tile::SHARED};
use cubecl::{cmma::MmaDefinition, prelude::*};
use half::bf16;

type Two = Const<2>;

/// As [`super::cube::keep_best_by_list`].
#[cube(launch_unchecked, address_type = "dynamic")]
pub(super) fn keep_best_by_tensors<F: Float, N: Size>(
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    lists: &Array<u32>,
    pairs: &Array<u32>,
    state: &mut Array<Atomic<u32>>,
    out: &mut Array<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let mut rounded = SharedMemory::<Vector<bf16, N>>::new(print.rounded());
    let mut names = SharedMemory::<u32>::new(print.queues.queues);
    let mut queues = Queues::new(print.queues);
    let mut waiting = Waiting::new(print);
    rounded[0] = Vector::<bf16, N>::cast_from(0.0f32);
    claim::words(&mut names);
    let total = lists[args.nlist as usize * 4];
    let mut number = CUBE_POS as u32;
    while number < total {
        sync_cube();
        let task = task_at(lists, number, args, print);
        queues.clear(print.queues);
        name(pairs, state, &mut names, &mut queues, task, args, print);
        sync_cube();
        round::<N>(queries, &mut rounded, &names, args, print);
        weigh::<N>(queries, &names, &mut waiting, args, print);
        sync_cube();
        let mut step = task.from;
        while step < task.to {
            if comptime!(print.queues.kept > 0) {
                share(state, &names, &mut queues, args, false, print);
            }
            compare::<F, N>(
                &rounded,
                queries,
                rows,
                ranks,
                state,
                &names,
                &mut queues,
                &mut waiting,
                out,
                task,
                step,
                args,
                print,
            );
            step += comptime!(print.step() as u32);
        }
        append(state, &names, &mut queues, out, args, print);
        number += CUBE_COUNT as u32;
    }
}

/// Copies the tile's queries to shared memory, rounded; zeros for those that are missing, and behind the
/// last component.
#[cube]
fn round<N: Size>(
    queries: &Array<Vector<f32, N>>,
    rounded: &mut SharedMemory<Vector<bf16, N>>,
    names: &SharedMemory<u32>,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let mut i = UNIT_POS as usize;
    while i < print.rounded() {
        let query = names[i / print.stride()];
        let at = i % print.stride();
        let mut vector = Vector::<f32, N>::new(0.0f32);
        if query != u32::MAX && at < print.compare.vectors {
            vector = queries[(args.first + query) as usize * print.compare.vectors + at];
        }
        rounded[i] = Vector::<bf16, N>::cast_from(vector);
        i += print.queues.units;
    }
}

/// Two components beside each other.
#[cube]
fn two<N: Size>(vector: Vector<bf16, N>, #[comptime] from: usize) -> Vector<bf16, Two> {
    let mut two = Vector::<bf16, Two>::empty();
    two[0] = vector[from];
    two[1] = vector[comptime!(from + 1)];
    two
}

/// The sum over the four units that read a row together here: neighbours, unlike elsewhere.
#[cube]
fn of_four(part: f32) -> f32 {
    let mut sum = part;
    sum += plane_shuffle_xor(sum, 1u32);
    sum += plane_shuffle_xor(sum, 2u32);
    sum
}

/// Components `16 i` to `16 i + 15` of matrix `m` of a plane's rows, rounded; what they add to the rows' squared
/// norms goes to `squares`.
#[cube]
fn piece<F: Float, N: Size>(
    rows: &Array<Vector<F, N>>,
    starts: &Array<usize>,
    squares: &mut Array<f32>,
    i: usize,
    #[comptime] m: usize,
    #[comptime] print: Blueprint,
) -> Array<Vector<bf16, Two>> {
    let at = i * 4 + (UNIT_POS % 4u32) as usize;
    let mut piece = Array::<Vector<bf16, Two>>::new(4usize);
    #[unroll]
    for h in 0..2usize {
        let r = comptime!(2 * m + h);
        let mut vector = Vector::<f32, N>::new(0.0f32);
        if at < print.compare.vectors {
            vector = wide::<F, N>(rows[starts[r] + at]);
        }
        #[unroll]
        for j in 0..4usize {
            squares[r] = fma(vector[j], vector[j], squares[r]);
        }
        let vector = Vector::<bf16, N>::cast_from(vector);
        piece[h] = two::<N>(vector, 0usize);
        piece[comptime!(h + 2)] = two::<N>(vector, 2usize);
    }
    piece
}

/// Components `16 i` to `16 i + 15` of the queries of a block, whose first lies at vector `base` for this unit.
#[cube]
fn columns<N: Size>(
    rounded: &SharedMemory<Vector<bf16, N>>,
    base: usize,
    i: usize,
    #[comptime] print: Blueprint,
) -> Sequence<Array<Vector<bf16, Two>>> {
    let mut columns = Sequence::<Array<Vector<bf16, Two>>>::new();
    #[unroll]
    for n in 0..comptime!(print.across()) {
        let vector = rounded[base + i * 4 + comptime!(n * MATRIX.queries * print.stride())];
        let mut column = Array::<Vector<bf16, Two>>::new(2usize);
        column[0] = two::<N>(vector, 0usize);
        column[1] = two::<N>(vector, 2usize);
        columns.push(column);
    }
    columns
}

/// The products of a plane's rows with the queries of a block: of matrix `m` of rows and `n` of queries at place
/// `m * across + n`, of rows `g` and `g + 8`. Squared norms are added up anew where rows are not held.
#[cube]
fn multiply<F: Float, N: Size>(
    rounded: &SharedMemory<Vector<bf16, N>>,
    rows: &Array<Vector<F, N>>,
    held: &Sequence<Array<Vector<bf16, Two>>>,
    starts: &Array<usize>,
    squares: &mut Array<f32>,
    first: u32,
    #[comptime] print: Blueprint,
) -> Sequence<Array<Vector<f32, Two>>> {
    let matrices = MmaDefinition::<bf16, bf16, f32>::new(MATRIX.rows, MATRIX.queries, 16usize);
    let across = comptime!(print.across());
    let down = comptime!(print.block.rows / MATRIX.rows);
    let sixteens = comptime!(print.compare.vectors.div_ceil(4));
    let query = (first + UNIT_POS % 32u32 / 4u32) as usize;
    let base = (query * print.stride() + (UNIT_POS % 4u32) as usize) & SHARED;
    let mut products = Sequence::<Array<Vector<f32, Two>>>::new();
    #[unroll]
    for _i in 0..comptime!(down * across) {
        let mut product = Array::<Vector<f32, Two>>::new(2usize);
        product[0] = Vector::<f32, Two>::new(TINY);
        product[1] = Vector::<f32, Two>::new(TINY);
        products.push(product);
    }
    if comptime!(print.holds()) {
        #[unroll]
        for i in 0..sixteens {
            let columns = columns::<N>(rounded, base, i, print);
            #[unroll]
            for m in 0..down {
                #[unroll]
                for n in 0..across {
                    matrices.execute_inplace(
                        held.index(comptime!(i * down + m)),
                        columns.index(n),
                        products.index_mut(comptime!(m * across + n)),
                    );
                }
            }
        }
    } else {
        #[unroll]
        for r in 0..comptime!(2 * down) {
            squares[r] = 0.0f32;
        }
        for i in 0..sixteens {
            let columns = columns::<N>(rounded, base, i, print);
            #[unroll]
            for m in 0..down {
                let piece = piece::<F, N>(rows, starts, squares, i, m, print);
                #[unroll]
                for n in 0..across {
                    matrices.execute_inplace(
                        &piece,
                        columns.index(n),
                        products.index_mut(comptime!(m * across + n)),
                    );
                }
            }
        }
    }
    products
}

/// Offers the rows of a step to the queries of the tile, but for the pairs that are excluded.
#[cube]
fn compare<F: Float, N: Size>(
    rounded: &SharedMemory<Vector<bf16, N>>,
    queries: &Array<Vector<f32, N>>,
    rows: &Array<Vector<F, N>>,
    ranks: &Array<u32>,
    state: &Array<Atomic<u32>>,
    names: &SharedMemory<u32>,
    queues: &mut Queues,
    waiting: &mut Waiting,
    out: &mut Array<u32>,
    task: Task,
    step: u32,
    args: TileArgs,
    #[comptime] print: Blueprint,
) {
    let across = comptime!(print.across());
    let down = comptime!(print.block.rows / MATRIX.rows);
    let sixteens = comptime!(print.compare.vectors.div_ceil(4));
    let g = UNIT_POS % 32u32 / 4u32;
    let row = (UNIT_POS / 32u32) * comptime!(print.block.rows as u32) + g;
    // Rows g and g + 8 of each matrix.
    let mut starts = Array::<usize>::new(comptime!(2 * down));
    let mut squares = Array::<f32>::new(comptime!(2 * down));
    let mut inside = 0u32.runtime();
    #[unroll]
    for r in 0..comptime!(2 * down) {
        let slot = step + row + comptime!(8 * r as u32);
        let is_row = slot < task.to;
        // Idle units read the piece's first row.
        let position = (task.start + select(is_row, slot, task.from)) as usize;
        starts[r] = position * print.compare.vectors;
        squares[r] = 0.0f32;
        inside |= select(is_row, comptime!(print.of_row(r)), 0u32);
    }
    let mut held = Sequence::<Array<Vector<bf16, Two>>>::new();
    if comptime!(print.holds()) {
        #[unroll]
        for i in 0..sixteens {
            #[unroll]
            for m in 0..down {
                held.push(piece::<F, N>(rows, &starts, &mut squares, i, m, print));
            }
        }
    }
    let mut first = 0u32.runtime();
    while first < task.active {
        let products = multiply::<F, N>(rounded, rows, &held, &starts, &mut squares, first, print);
        let mut weights = Array::<f32>::new(comptime!(2 * down));
        #[unroll]
        for r in 0..comptime!(2 * down) {
            weights[r] = weight_of_row(of_four(squares[r]), args, print);
        }
        let query = first + 2u32 * (UNIT_POS % 4u32);
        let code = query * comptime!(print.step() as u32) + row;
        let mut left = inside;
        let mut go = true.runtime();
        while go {
            #[unroll]
            for n in 0..across {
                #[unroll]
                for j in 0..2usize {
                    let q = query as usize + comptime!(n * MATRIX.queries + j);
                    let bar = bar(q, waiting, queues, print);
                    #[unroll]
                    for r in 0..comptime!(2 * down) {
                        let product =
                            products.index(comptime!(r / 2 * across + n))[comptime!(r % 2)];
                        if is_excluded(product[j], weights[r], bar, print) {
                            left &= comptime!(!print.bit(r, n, j));
                        }
                    }
                }
            }
            left = waiting.put(code, left, print);
            go = settle::<F, N>(
                queries, rows, ranks, state, names, queues, waiting, out, task, step, args, print,
            );
        }
        first += comptime!(print.block.queries as u32);
    }
}
