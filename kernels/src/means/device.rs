//! The GPU kernels: sums of pieces of groups, then sums of pieces.

use crate::{
    KernelError,
    device::{Gpu, VECTOR, array},
};
use cubecl::{prelude::*, server::Handle};

/// Rows summed by one cube, one after the other; so the error of a mean is that of a sum of this many
/// terms and then of as many pieces.
const PIECE: usize = 128;

/// Weighted means of groups of rows, f32 `[groups, d]`; 0 for an empty group.
///
/// `rows` is f32 `[n, d]`, contiguous. Group `g` is `members[offsets[g]..offsets[g + 1]]`; row `r`
/// counts `weights[r]` times (once without weights).
///
/// # Errors
/// [`KernelError::Buffer`] when the device cannot hold the pieces.
pub fn means_on<R: Runtime>(
    gpu: &Gpu<R>,
    rows: &Handle,
    (n, d): (usize, usize),
    (members, offsets): (&[u32], &[u32]),
    weights: Option<&[f32]>,
) -> Result<Handle, KernelError> {
    let groups = offsets.len() - 1;
    let mut pieces = Vec::new();
    let mut firsts = vec![0_u32];
    let mut shares = vec![0_u32; members.len()];
    for group in offsets.windows(2) {
        let (start, end) = (group[0] as usize, group[1] as usize);
        let weight = |row: u32| weights.map_or(1.0, |w| f64::from(w[row as usize]));
        let total: f64 = members[start..end].iter().map(|&row| weight(row)).sum();
        for (share, &row) in shares[start..end].iter_mut().zip(&members[start..end]) {
            *share = ((weight(row) / total) as f32).to_bits();
        }
        for from in (start..end).step_by(PIECE) {
            pieces.extend([from as u32, end.min(from + PIECE) as u32]);
        }
        firsts.push(pieces.len() as u32 / 2);
    }
    let vector = if d.is_multiple_of(VECTOR) { VECTOR } else { 1 };
    let count = pieces.len() / 2;
    let sums = gpu.empty("sums of a training step", count.saturating_mul(d))?;
    let means = gpu.empty("means of a training step", groups.saturating_mul(d))?;
    let members_on = gpu.upload("members of clusters", members)?;
    let shares_on = gpu.upload("shares of points", &shares)?;
    let pieces_on = gpu.upload("pieces of clusters", &pieces)?;
    let firsts_on = gpu.upload("pieces of clusters", &firsts)?;
    let units = gpu.facts().units.min(64);
    let dim = CubeDim::new_1d(units);
    let address = gpu.address("training vectors", (n * d).max(count * d).max(groups * d))?;
    let width = (d / vector) as u32;
    // SAFETY: cubes past the last piece or group stop at once; members name rows below n, pieces
    // name members, and columns end at the width of a row.
    unsafe {
        if count > 0 {
            sum_pieces::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(count),
                dim,
                address,
                vector,
                array(rows, n * d),
                array(&members_on, members.len()),
                array(&shares_on, members.len()),
                array(&pieces_on, 2 * count),
                array(&sums, count * d),
                count as u32,
                width,
            );
        }
        add_pieces::launch_unchecked::<R>(
            gpu.client(),
            gpu.grid(groups),
            dim,
            address,
            vector,
            array(&sums, (count * d).max(1)),
            array(&firsts_on, groups + 1),
            array(&means, groups * d),
            groups as u32,
            width,
        );
    }
    Ok(means)
}

/// The sum of one piece of a group: rows times their share of it.
#[cube(launch_unchecked, address_type = "dynamic")]
fn sum_pieces<N: Size>(
    rows: &Array<Vector<f32, N>>,
    members: &Array<u32>,
    shares: &Array<f32>,
    pieces: &Array<u32>,
    sums: &mut Array<Vector<f32, N>>,
    count: u32,
    width: u32,
) {
    let piece = CUBE_POS;
    if piece >= count as usize {
        terminate!();
    }
    let (start, end) = (pieces[piece * 2] as usize, pieces[piece * 2 + 1] as usize);
    let width = width as usize;
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for m in start..end {
            let row = rows[members[m] as usize * width + column];
            sum = fma(row, Vector::<f32, N>::new(shares[m]), sum);
        }
        sums[piece * width + column] = sum;
        column += CUBE_DIM as usize;
    }
}

/// The sum of all pieces of a group.
#[cube(launch_unchecked, address_type = "dynamic")]
fn add_pieces<N: Size>(
    sums: &Array<Vector<f32, N>>,
    firsts: &Array<u32>,
    means: &mut Array<Vector<f32, N>>,
    groups: u32,
    width: u32,
) {
    let group = CUBE_POS;
    if group >= groups as usize {
        terminate!();
    }
    let (start, end) = (firsts[group] as usize, firsts[group + 1] as usize);
    let width = width as usize;
    let mut column = UNIT_POS as usize;
    while column < width {
        let mut sum = Vector::<f32, N>::new(0.0f32);
        for piece in start..end {
            sum += sums[piece * width + column];
        }
        means[group * width + column] = sum;
        column += CUBE_DIM as usize;
    }
}
