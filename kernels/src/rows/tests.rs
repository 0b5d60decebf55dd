//! Rows of every layout.

use super::*;

fn pattern(i: usize, t: usize) -> f32 {
    let bits = (i * 977 + t).wrapping_mul(2_654_435_761) as u32;
    let value = f32::from_bits(bits);
    if value.is_finite() { value } else { i as f32 }
}

#[test]
fn rows_come_back_bit_for_bit() {
    for layout in Layout::WHOLE {
        for d in [1, 3, 8, 16, 33, 100] {
            let mut rows = Rows::new(d, layout);
            let values: Vec<Vec<f32>> = (0..50)
                .map(|i| (0..d).map(|t| pattern(i, t)).collect())
                .collect();
            for row in &values {
                rows.push(row);
            }
            assert_eq!((rows.len(), rows.panels()), (50, 4));
            let mut out = vec![7.0; d + 2];
            for (slot, row) in values.iter().enumerate() {
                rows.copy_row(slot, &mut out);
                assert!(
                    out.iter().zip(row).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{layout} {d}"
                );
                assert_eq!(out[d..], [7.0; 2]);
            }
        }
    }
}

#[test]
fn widened_panels_hold_what_filter_and_re_rank_see() {
    for layout in [Layout::Planes, Layout::Copy] {
        for d in [1, 7, 8, 9, 31, 64] {
            let mut rows = Rows::new(d, layout);
            let values: Vec<Vec<f32>> = (0..37)
                .map(|i| (0..d).map(|t| pattern(i, t)).collect())
                .collect();
            for row in &values {
                rows.push(row);
            }
            for (exact, isa) in [false, true]
                .into_iter()
                .flat_map(|exact| Isa::available().into_iter().map(move |isa| (exact, isa)))
            {
                let mut out = vec![7.0; 3 * PANEL * d];
                if exact {
                    rows.widen_exact(0..3, isa, &mut out);
                } else {
                    rows.widen(0..3, isa, &mut out);
                }
                for (slot, row) in values.iter().enumerate() {
                    for (t, &x) in row.iter().enumerate() {
                        let found = out[(slot / PANEL * d + t) * PANEL + slot % PANEL];
                        let expected = if exact { x } else { planes::filtered(x) };
                        assert_eq!(found.to_bits(), expected.to_bits(), "{layout} {d} {t}");
                    }
                }
                assert!(
                    out[2 * PANEL * d..]
                        .chunks(PANEL)
                        .all(|line| line[5..] == [0.0; 11])
                );
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn rounded_panels_hold_the_nearest_whole_steps() {
    for isa in Isa::available() {
        let Some(avx2) = isa.integers() else { continue };
        for (layout, d) in Layout::ALL
            .into_iter()
            .flat_map(|layout| [1, 2, 7, 8, 9, 31, 64].map(|d| (layout, d)))
        {
            let mut rows = Rows::new(d, layout);
            let values: Vec<Vec<f32>> = (0..37)
                .map(|i| (0..d).map(|t| ((i * d + t) as f32).sin()).collect())
                .collect();
            for row in &values {
                rows.push(row);
            }
            let mut out = vec![7; 3 * int16::panel_size(d)];
            let step = f64::from(rows.round(0..3, isa, avx2, &mut AVec::new(64), &mut out));
            let (lines, _) = out.as_chunks::<{ 2 * PANEL }>();
            let found = |slot: usize, t: usize| {
                let line = lines[slot / PANEL * int16::pairs(d) + t / 2];
                line[slot % PANEL * 2 + t % 2].cast_signed()
            };
            for slot in 0..3 * PANEL {
                let row = values.get(slot).map(|row| {
                    let row = half::rounded(layout, row).unwrap_or(row.clone());
                    let see = |&x: &f32| {
                        if layout.has_high() {
                            planes::filtered(x)
                        } else {
                            x
                        }
                    };
                    row.iter().map(see).collect::<Vec<f32>>()
                });
                let mut lost = 0.0;
                for t in 0..int16::pairs(d) * 2 {
                    let x = row.as_ref().and_then(|row| row.get(t)).unwrap_or(&0.0);
                    let off = f64::from(*x) - step * f64::from(found(slot, t));
                    assert!(
                        off.abs() <= 0.51 * step,
                        "{layout} {d}: row {slot}, {t}: {off}"
                    );
                    lost += off * off;
                }
                assert!(lost.sqrt() <= int16::rounding(d, rows.extent().seen()));
            }
        }
    }
}

#[test]
fn growth_is_amortised() {
    for layout in Layout::ALL {
        let mut rows = Rows::new(4, layout);
        let (mut moves, mut at) = (0, core::ptr::null());
        for _ in 0..100_000 {
            rows.push(&[1.0; 4]);
            moves += usize::from(rows.norms.as_ptr() != at);
            at = rows.norms.as_ptr();
        }
        assert!(moves < 120, "{moves} reallocations");
    }
}

#[test]
fn a_full_list_takes_little_more_than_its_values() {
    for (layout, share) in [
        (Layout::Planes, 1.02),
        (Layout::F32, 1.02),
        (Layout::Copy, 1.52),
        (Layout::F16, 0.52),
        (Layout::Bf16, 0.52),
    ] {
        let mut rows = Rows::new(128, layout);
        rows.reserve(4096);
        (0..4096).for_each(|i| rows.push(&[i as f32; 128]));
        let values = (4096 * 128 * size_of::<f32>()) as f64;
        assert!(
            rows.bytes() as f64 <= values * share,
            "{layout}: {}",
            rows.bytes()
        );
    }
}

#[test]
fn extents_bound_every_row() {
    for layout in Layout::ALL {
        let mut rows = Rows::new(40, layout);
        for i in 0..200 {
            let row: Vec<f32> = (0..40).map(|t| ((i * 40 + t) as f32).sin()).collect();
            rows.push(&row);
            let row = half::rounded(layout, &row).unwrap_or(row);
            let norm = distance::reference(crate::Metric::InnerProduct, &row, &row).sqrt();
            let seen: Vec<f32> = row.iter().map(|&x| planes::filtered(x)).collect();
            let error = distance::reference(crate::Metric::L2, &row, &seen).sqrt();
            assert!(rows.extent().norm >= norm);
            assert!(rows.extent().error >= if layout.has_high() { error } else { 0.0 });
        }
        assert!(rows.extent().error < 0.05);
    }
    let mut whole = Rows::new(3, Layout::Planes);
    whole.push(&[1.0, 200.0, -3.0]);
    assert_eq!(
        whole.extent().error,
        0.0,
        "small integers are exact in bf16"
    );
}
