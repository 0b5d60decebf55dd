//! One queue for everything an index does, whatever thread calls.
//!
//! CubeCL gives every thread a queue (stream) of its own. It orders a kernel after the *making* of the
//! buffers it is given, but a buffer written again later, or freed and handed out again while another
//! thread's kernel is still waiting, is not looked after. So an index runs all its kernels in the
//! queue of the thread that made it. A call from another thread copies what it hands over into fresh
//! buffers first (whose making orders the two queues), and afterwards touches, from its own queue, a
//! buffer that was made after the work, so that it cannot reuse those copies too early. What the call
//! returns is made in the caller's queue too: the index's queue would hand it out again as soon as the
//! caller drops it, while a kernel that reads it still waits in the caller's.

use super::{Gpu, array};
use crate::{KernelError, rows::copy::Copy};
use cubecl::{prelude::*, server::Handle, stream_id::StreamId};

/// The queue of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home(StreamId);

impl Home {
    /// The calling thread's queue.
    pub fn here() -> Self {
        Self(StreamId::current())
    }

    /// Makes something in this queue, whichever is the current one.
    pub(crate) fn make<T>(self, make: impl FnOnce() -> T) -> T {
        self.0.executes(make)
    }

    /// Does `work` in this queue with `inputs` (buffers and their words). Buffers that `work` leaves to the
    /// caller must be made in the caller's queue.
    ///
    /// # Errors
    /// Those of `work`, and [`KernelError::Buffer`] when the device cannot hold the copies.
    pub(crate) fn run<R: Runtime, T, const N: usize>(
        self,
        gpu: &Gpu<R>,
        inputs: [(&Handle, usize); N],
        work: impl FnOnce([&Handle; N]) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        if Self::here() == self {
            return work(inputs.map(|(handle, _)| handle));
        }
        let mut copies = Vec::with_capacity(N);
        for (handle, words) in inputs {
            copies.push(if handle.stream == self.0 {
                handle.clone()
            } else {
                copied(gpu, handle, words)?
            });
        }
        let handed = core::array::from_fn(|i| &copies[i]);
        let (done, after) = self.0.executes(|| {
            let done = work(handed)?;
            Ok((done, gpu.empty("a mark", 1)?))
        })?;
        let mark = gpu.empty("a mark", 1)?;
        // SAFETY: one word of each is touched.
        unsafe {
            meet::launch_unchecked::<R>(
                gpu.client(),
                gpu.grid(1),
                CubeDim::new_1d(1),
                array(&after, 1),
                array(&mark, 1),
            );
        }
        Ok(done)
    }
}

fn copied<R: Runtime>(gpu: &Gpu<R>, handle: &Handle, words: usize) -> Result<Handle, KernelError> {
    let copy = gpu.empty("a copy for another queue", words)?;
    Copy {
        n: 1,
        width: words,
        filled: words,
        source: (handle, words, words),
        target: (&copy, words, words),
    }
    .launch(gpu, None, None)?;
    Ok(copy)
}

/// Waits for the queue that `after` was made in.
#[cube(launch_unchecked)]
fn meet(after: &Array<u32>, mark: &mut Array<u32>) {
    if ABSOLUTE_POS == 0 {
        mark[0] = after[0];
    }
}
