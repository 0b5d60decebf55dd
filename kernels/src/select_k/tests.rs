use super::*;
use crate::simd::Isa;
use proptest::prelude::*;

/// Floats with many ties, infinities and NaN.
fn score() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => (-4_i8..4).prop_map(f32::from),
        4 => any::<f32>(),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(-0.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn every_instruction_set_equals_the_reference(
        scores in prop::collection::vec(score(), 0..2000),
        n in 1_usize..400,
        k in 1_usize..90,
        largest: bool,
    ) {
        let best = if largest { Best::Largest } else { Best::Smallest };
        let scores = &scores[..scores.len() / n * n];
        let expected = reference::select(scores, n, k, best);
        for isa in Isa::available() {
            let found = select(scores, n, k, best, isa).unwrap();
            prop_assert_eq!(&found.columns, &expected.columns, "{}", isa.name());
            prop_assert_eq!(found.k, expected.k);
            prop_assert!(found.values.iter().zip(&expected.values).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
    }
}

#[test]
fn long_rows_and_large_k() {
    let scores: Vec<f32> = (0..100_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 12) as f32)
        .collect();
    for k in [1, 100, 4096, 30_000] {
        let expected = reference::select(&scores, 50_000, k, Best::Smallest);
        for isa in Isa::available() {
            assert_eq!(
                select(&scores, 50_000, k, Best::Smallest, isa).unwrap(),
                expected
            );
        }
    }
}

#[test]
fn odd_shapes() {
    let isa = Isa::detect();
    assert_eq!(select(&[], 0, 3, Best::Smallest, isa).unwrap().k, 0);
    assert!(select(&[1.0], 2, 1, Best::Smallest, isa).is_err());
    assert!(select(&[1.0], 0, 1, Best::Smallest, isa).is_err());
}
