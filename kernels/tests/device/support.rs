//! Guises of the device, random numbers, reading buffers back.

use burn_ivf_kernels::device::{Facts, Gpu};
use cubecl::server::Handle;

pub use super::runtime::{Client, Device, client};

/// The device as it is, and as other devices are: planes or none, little shared memory and few buffers a kernel.
pub fn guises(client: &Client) -> Vec<Gpu<Device>> {
    let facts = Facts::of(client);
    [(1, facts.shared), (4, facts.shared), (4, 16 << 10)]
        .map(|(lanes, shared)| {
            Gpu::with(
                client,
                Facts {
                    lanes: facts.lanes.min(lanes),
                    shared,
                    bindings: if shared < facts.shared {
                        8
                    } else {
                        facts.bindings
                    },
                    ..facts
                },
            )
        })
        .to_vec()
}

pub fn upload<T: bytemuck::Pod>(client: &Client, values: &[T]) -> Handle {
    if values.is_empty() {
        return client.empty(4);
    }
    client.create_from_slice(bytemuck::cast_slice(values))
}

/// Waits for the device, unwrapping what went wrong on it, and reads `n` values.
pub fn download<T: bytemuck::Pod>(client: &Client, handle: &Handle, n: usize) -> Vec<T> {
    cubecl::future::block_on(client.sync()).unwrap();
    let bytes = client.read_one(handle.clone()).unwrap();
    assert!(
        bytes.len() >= n * size_of::<T>(),
        "{} bytes for {n} values",
        bytes.len()
    );
    bytemuck::pod_collect_to_vec(&bytes[..n * size_of::<T>()])
}

/// Fills freed memory with a pattern no answer holds.
pub fn poison(client: &Client, words: &[usize]) {
    let held: Vec<Handle> = words
        .iter()
        .flat_map(|&n| [n, n])
        .map(|n| upload(client, &vec![0xDEAD_BEEF_u32; n.max(1)]))
        .collect();
    drop(held);
}

/// `SplitMix64`.
pub struct Rng(pub u64);

impl Rng {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Between -1 and 1.
    pub fn float(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
