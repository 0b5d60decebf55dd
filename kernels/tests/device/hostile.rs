//! What lies between threads, and at the edges of buffers.

use super::support::{Client, Device, client, download, upload};
use burn_ivf_kernels::{
    Metric,
    device::{Facts, Gpu, Grain},
    list_scan::{DeviceProblem, Order, Reads, scan_on},
    rows::device::{Added, DeviceLists},
};
use std::sync::{Arc, RwLock, mpsc::channel};

type Lists = DeviceLists<Device>;

fn append(lists: &mut Lists, client: &Client, ids: &[i64], held: &[i64]) {
    let d = lists.d();
    let rows: Vec<f32> = ids.iter().flat_map(|&id| vec![id as f32; d]).collect();
    let handle = upload(client, &rows);
    let added = Added {
        rows: &handle,
        lists: &vec![0; ids.len()],
        ids,
    };
    lists.append(&added, |_, slot| held[slot]).unwrap();
}

/// A search is queued by one thread, then the index grows on another, and only then is the result
/// read: what was queued must answer for the index as it was.
fn a_queued_search_sees_the_index_as_it_was(first: &[i64], second: &[i64], third: &[i64]) {
    let client = client();
    let gpu = Gpu::new(&client);
    let mut lists = DeviceLists::new(&gpu, 4, 1, 2);
    append(&mut lists, &client, first, &[]);
    let mut held = first.to_vec();
    append(&mut lists, &client, second, &held);
    held.extend(second);
    let lists = Arc::new(RwLock::new(lists));
    let (queued, is_queued) = channel();
    let (grown, has_grown) = channel();
    let other = lists.clone();
    let n = held.len();
    let searcher = std::thread::spawn(move || {
        let client = super::support::client();
        let queries = upload(&client, &[0.0_f32; 4]);
        // Whatever has to be compiled is compiled.
        let run = |lists: &Lists| {
            let problem = DeviceProblem {
                metric: Metric::L2,
                k: n,
                lists,
                queries: &queries,
                nq: 1,
                workspace: 1 << 20,
                order: Order::QueryMajor,
                grain: Grain::default(),
            };
            scan_on(&problem, Reads::All).unwrap()
        };
        let before = run(&other.read().unwrap());
        let before: Vec<i64> = download(&client, &before.labels, n);
        let found = run(&other.read().unwrap());
        queued.send(()).unwrap();
        has_grown.recv().unwrap();
        (before, download::<i64>(&client, &found.labels, n))
    });
    is_queued.recv().unwrap();
    {
        let mut lists = lists.write().unwrap();
        append(&mut lists, &client, third, &held);
    }
    // Whatever the append has given back is used again.
    super::support::poison(&client, &[1, 2, 4, 8, 9, 16, 18, 20, 22, 32, 64, 40, 52]);
    cubecl::future::block_on(client.sync()).unwrap();
    grown.send(()).unwrap();
    let (before, found) = searcher.join().unwrap();
    let mut expected = held.clone();
    expected.sort_by_key(|id| (id.abs(), *id));
    assert_eq!(before, expected, "read at once");
    assert_eq!(found, expected, "read after the index had grown");
}

#[test]
fn a_queued_search_survives_an_append_in_order() {
    a_queued_search_sees_the_index_as_it_was(&[10, 11, 12, 13], &[14, 15, 16, 17, 18], &[19]);
}

#[test]
fn a_queued_search_survives_a_new_ranking() {
    a_queued_search_sees_the_index_as_it_was(&[10, 11, 12, 13], &[14, 15, 16, 17, 18], &[1]);
}

#[test]
fn a_queued_search_survives_a_larger_buffer() {
    let many: Vec<i64> = (100..1100).collect();
    a_queued_search_sees_the_index_as_it_was(&[10, 11, 12, 13], &[14, 15, 16, 17, 18], &many);
}

#[test]
fn vectors_that_fit_without_room_to_grow_are_held() {
    let client = client();
    let facts = Facts {
        buffer: 4096,
        ..Facts::of(&client)
    };
    let gpu = Gpu::with(&client, facts);
    let mut lists = DeviceLists::new(&gpu, 8, 1, 2);
    let ids: Vec<i64> = (0..100).collect();
    append(&mut lists, &client, &ids[..99], &[]);
    // 3200 of 4096 bytes.
    append(&mut lists, &client, &ids[99..], &ids[..99]);
}

#[test]
fn an_answer_that_fits_is_given_though_k_exceeds_the_rows() {
    let client = client();
    let facts = Facts {
        buffer: 1 << 16,
        ..Facts::of(&client)
    };
    let gpu = Gpu::with(&client, facts);
    let mut lists = DeviceLists::new(&gpu, 4, 1, 2);
    append(&mut lists, &client, &[1, 2, 3], &[]);
    let (nq, k) = (27, 300);
    let queries = upload(&client, &vec![0.0_f32; 4 * nq]);
    let problem = DeviceProblem {
        metric: Metric::L2,
        k,
        lists: &lists,
        queries: &queries,
        nq,
        workspace: 1 << 16,
        order: Order::QueryMajor,
        grain: Grain::default(),
    };
    // 64,800 bytes of labels.
    let found = scan_on(&problem, Reads::All).unwrap();
    let labels: Vec<i64> = download(&client, &found.labels, nq * k);
    assert_eq!(labels[..4], [1, 2, 3, -1]);
}
