//! One suite for every backend: each case is a function over `B: IvfBackend`, [`mount!`] makes
//! tests of them for one backend, [`mount_properties!`] adds the ones only a fast backend can run.
//!
//! A case that is written but not listed here fails the test target `layers`.

#[cfg(feature = "ndarray")]
pub mod across;
pub mod agreement;
pub mod config;
#[cfg(feature = "autodiff")]
pub mod differentiable;
pub mod faiss;
pub mod flat;
pub mod halves;
pub mod hostile;
pub mod identities;
pub mod ids;
pub mod ivf;
pub mod knn;
pub mod learning;
pub mod limits;
pub mod lists;
pub mod metrics;
pub mod mutation;
pub mod mutation_model;
pub mod numbers;
pub mod open;
pub mod oracle;
pub mod parts;
pub mod properties;
pub mod queue;
pub mod ranges;
pub mod saving;
pub mod selectors;
pub mod sets;
pub mod snapshots;
pub mod storage;
pub mod support;
pub mod surface;
pub mod training;
pub mod training_edges;
pub mod tuning;

/// Makes one `#[test]` per named case of one module of the suite.
#[allow(unused_macros)]
macro_rules! cases {
    ($module:ident: $($case:ident),* $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $case() {
                    if let Some(device) = super::device() {
                        crate::suite::$module::$case::<super::Mounted>(&device);
                    }
                }
            )*
        }
    };
}

/// A module of tests for one backend; its device is an `Option` (`None` skips).
#[allow(unused_macros)]
macro_rules! mount_cases {
    ($name:ident, $backend:ty, $device:expr, { $($cases:item)* }) => {
        mod $name {
            use super::*;

            type Mounted = $backend;

            fn device() -> Option<burn::tensor::Device<Mounted>> {
                $device
            }

            $($cases)*
        }
    };
}

/// Mounts the suite: `mount!(name, Backend, device)`.
#[allow(unused_macros)]
macro_rules! mount {
    ($name:ident, $backend:ty, $device:expr) => {
        mount_cases!($name, $backend, $device, {
            cases!(flat:
                a1_l2_matches_brute_force, a2_ip_matches_brute_force, a3_chunked_equals_matrix,
                a4_auto_follows_its_threshold, a6_k_beyond_ntotal_pads, a8_no_queries,
                a9_wrong_arguments, a10_reset, a11_add_with_ids, a13_ties_ascend_by_id,
                a14_distances_never_negative, a19_broken_queries_get_padding, k_4096,
                empty_index_pads, pieces_equal_whole, odd_dimensions, one_by_one_equals_batch,
                stats_are_filled,
            );
            cases!(ivf:
                b3_untrained, b6_settings, b7_nprobe_clamps, b8_fewer_hits_than_k,
                params_inherit_and_never_stick, stats_are_filled, b18_one_by_one_equals_batch,
                b20_b21_repeats_and_changes, b23_large_batch, b24_negative_scores,
                b25_odd_dimensions, b26_clustered_recall, b27_extreme_nlist,
                coarse_matches_brute_force, rows_go_to_the_best_list, c18_torch_ivf_rule,
            );
            cases!(lists:
                b13_resets, b15_from_centroids, b16_search_preassigned, wrong_probes_are_refused,
                b17_sequential_scan, lists_keep_order_and_bits, add_preassigned, one_giant_list,
                empty_lists, distances_are_plain, pieces_fit_into_what_was_reserved,
            );
            cases!(training:
                g1_two_blobs, g3_objective_falls, g5_subsampling, builder_seed_reaches_kmeans,
                g6_spherical, g7_resume, g8_weights, g9_quality, knobs_have_effect,
            );
            cases!(training_edges:
                b4_few_points, b4_warns_through_log, b5_broken_training_rows,
                broken_training_rows_are_skipped, training_twice, retraining_keeps_what_is_held,
                nlist_is_chosen, few_distinct_points, empty_clusters_are_split,
            );
            cases!(hostile:
                k_4096, no_queries, too_many_results, zero_k, wrong_dimension, broken_rows_are_refused,
                broken_rows_are_skipped, parameters_of_others_are_refused,
                broken_queries_get_padding, identical_rows, tiny_workspace, wrong_id_count,
            );
            cases!(ids:
                b10_random_wide_ids, ties_follow_ids_not_insertion, b11_duplicate_ids,
                b12_padding_id_is_refused, automatic_ids, automatic_ids_run_out,
            );
            cases!(numbers:
                far_from_origin, moving_offsets, overflowing_distances, huge_rows_among_small,
                tiny_values, zero_vectors, cancelling_scores, near_duplicates,
            );
            cases!(snapshots:
                clones_are_independent, late_reads, inputs_are_not_kept, b19_eight_threads,
                b22_moves, j3_strided_inputs, other_float_types, through_the_trait,
            );
            cases!(learning:
                mined_negatives_are_the_nearest_wrong_ones, mining_at_the_edges,
                accuracy_matches_counting, thousands_of_neighbours_vote, filling_from_batches, refreshing, neighbours_of_nothing,
            );
            #[cfg(feature = "autodiff")]
            cases!(differentiable: gradients_match_finite_differences);
            cases!(tuning:
                the_smallest_that_promises_is_chosen, options_have_effect, truth_may_be_passed,
                i9_pareto_front, limits_are_tuned_too, what_cannot_be_tuned_is_refused,
            );
            cases!(mutation:
                f1_remove_counts, f3_selectors_equal_rebuild, f4_reconstruct_any_id,
                f5_update_moves, f9_memory, a20_automatic_ids_are_not_reused, a21_reconstruct,
                b11_duplicates_are_removed, search_and_reconstruct, snapshots_keep_what_they_saw,
                any_order_equals_a_fresh_build,
            );
            cases!(mutation_model: f8_random_steps_ivf, f8_random_steps_flat);
            cases!(parts: f6_merge, f6_merge_refused, f7_copy_subset);
            cases!(queue:
                searches_read_nothing_back, counts_are_opt_in, every_search_counts_when_asked,
                results_can_be_awaited,
            );
            cases!(faiss:
                g1_full_lists, g2_sparse_lists, g3_g4_h5_direct_maps, g5_inner_product,
                g6_h8_untrained, g7_flat, g8_h6_id_map, g9_h6_scalar_quantizers, other_metrics,
                rows_with_nan,
                other_types_are_refused_by_name, figures_are_checked, truncations_are_refused,
                round_trips_are_exact, duplicate_ids_travel, failed_writes_change_nothing,
            );
            cases!(config:
                any_legal_config_gives_the_same_bits, list_major_in_tiny_tiles, costs_are_counted,
                tuning_stays_with_the_device,
            );
            cases!(storage:
                answers_do_not_depend_on_it, filters_lose_nothing,
                is_refused_where_there_is_no_choice, takes_no_more_than_a_tenth_beyond_the_data,
                statistics_name_the_path, both_orders_give_the_same_bits,
            );
            cases!(halves:
                a16_answers_are_those_of_the_rounded, a16_brute_force, a16_half_the_bytes,
                h2_files_keep_halves, halves_stay_halves, halves_of_cosine,
            );
            cases!(limits:
                c1_list_boundaries, c2_exact_codes, c3_nearest_list_empty, c4_limit_beyond_reach,
                c5_recall_rises, c6_precedence, c7_topk_full, c10_profiles,
                c13_budgets_reach_the_scan, c15_orderings, full_budgets_are_exact,
                c17_safe_pruning, illegal_limits, more_queries_than_65535,
            );
            cases!(ranges:
                d1_equals_brute_force, other_metrics, a11_given_ids, bounds, c8_limits_are_asked_for,
                c9_empty_lists_stop, d4_selector, d5_many_hits, d6_max_results, edges,
            );
            cases!(selectors:
                e2_e3_e4_e7_on_a_line, e5_e6_filter_is_the_subset, filters_at_few_probes,
                e5_bitmaps_per_query, e5_bitmaps_equal_masked_brute_force, selectors_are_chunked, thousands_of_selectors,
                wrong_selections,
            );
            cases!(surface: searches_find_what_is_left, ranges_find_what_is_left);
            cases!(saving:
                h1_ivf_round_trip, h1_flat_round_trip, h8_untrained, h10_goes_on, small_ones,
                kinds_and_streams, j9_recall_after_saving,
            );
            cases!(metrics:
                a17_table, j2_matrix_sorted_is_search, ties_and_pieces, huge_components, broken_components,
                cosine_everywhere, l1_linf_on_ivf,
            );
            cases!(knn:
                j1_knn_is_flat_search, edges, accumulator_is_knn_of_all, j3_strided_inputs, kmeans,
            );
            #[cfg(feature = "ndarray")]
            cases!(across: answers_agree, there_and_back, both_train_well);
            cases!(agreement:
                modes_and_limits_are_bit_equal, few_probes_are_bit_equal, limits_have_effect,
                threads_are_bit_equal, full_probe_equals_flat,
            );
        });
    };
}

/// Mounts the properties: dozens of random indexes each, for host backends.
#[allow(unused_macros)]
macro_rules! mount_properties {
    ($name:ident, $backend:ty, $device:expr) => {
        mount_cases!($name, $backend, $device, {
            cases!(identities:
                full_budgets_at_random, pruning_is_safe_at_random, pruning_beyond_the_range,
                any_history_equals_a_fresh_build, many_queries_under_restrictions, many_selectors,
            );
            cases!(properties:
                full_probe_is_flat, pieces_are_the_whole, permuted_queries, chunks_and_modes,
                random_ids, training_never_breaks,
            );
        });
    };
}

/// Mounts what a wrapper around the backend could hide, beside the whole suite on the wrapper: who
/// owns tensors and when they are read, what is refused, one case of every kind of search.
#[allow(unused_macros)]
macro_rules! mount_wrapped {
    ($name:ident, $backend:ty, $device:expr) => {
        mount_cases!($name, $backend, $device, {
            cases!(flat: a1_l2_matches_brute_force, a3_chunked_equals_matrix, odd_dimensions, k_4096);
            cases!(ivf: b3_untrained, b6_settings, b18_one_by_one_equals_batch, b23_large_batch);
            cases!(hostile:
                no_queries, too_many_results, zero_k, wrong_dimension, broken_rows_are_refused,
                broken_queries_get_padding, tiny_workspace,
            );
            cases!(snapshots:
                clones_are_independent, late_reads, inputs_are_not_kept, b19_eight_threads,
                b22_moves, j3_strided_inputs, other_float_types, through_the_trait,
            );
            cases!(queue:
                searches_read_nothing_back, counts_are_opt_in, results_can_be_awaited,
            );
            cases!(mutation: f4_reconstruct_any_id, any_order_equals_a_fresh_build);
            cases!(ranges: d1_equals_brute_force);
            cases!(selectors: e5_e6_filter_is_the_subset);
            cases!(saving: h1_ivf_round_trip);
            cases!(metrics: a17_table);
            #[cfg(feature = "ndarray")]
            cases!(across: answers_agree);
        });
    };
}

/// What the targets of GPUs share: `Raw` and `Fused`, the device, opened once, and a test that the
/// runtime is the one the target is about and that fusion is really there.
#[allow(unused_macros)]
macro_rules! gpu {
    ($name:literal, $runtime:ty, $boolean:ty, $fused:ty) => {
        type Raw = burn_cubecl::CubeBackend<$runtime, f32, i32, $boolean>;
        type Fused = $fused;

        fn device() -> Option<burn::tensor::Device<Raw>> {
            static DEVICE: std::sync::OnceLock<Option<burn::tensor::Device<Raw>>> =
                std::sync::OnceLock::new();
            DEVICE
                .get_or_init(|| suite::open::open::<Raw>($name))
                .clone()
        }

        #[test]
        fn runtime_is_named() {
            use burn::tensor::backend::Backend;
            if let Some(device) = device() {
                let name = Raw::name(&device);
                assert!(name.starts_with(concat!("cubecl<", $name)), "{name}");
                assert_eq!(Fused::name(&device), format!("fusion<{name}>"));
            }
        }
    };
}
