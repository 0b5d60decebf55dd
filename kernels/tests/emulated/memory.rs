//! Memory of a device that is not there: each allocation ends at a page that nobody may touch.

use cubecl::{backtrace::BackTrace, server::IoError};
use cubecl_runtime::storage::{ComputeStorage, StorageHandle, StorageId, StorageUtilization};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::{collections::HashMap, ffi::c_void, ptr::null_mut};

const PAGE: usize = 4096;
/// As vectors of four components want it.
const ALIGN: usize = 16;

struct Mapping {
    start: *mut c_void,
    len: usize,
    first: *mut u8,
}

/// A part of an allocation.
#[derive(Debug, Clone, Copy)]
pub struct Piece {
    pub at: *mut u8,
    pub len: usize,
}

// SAFETY: plain memory; who may touch it when is the server's affair.
unsafe impl Send for Piece {}

/// All allocations.
#[derive(Default)]
pub struct Guarded(HashMap<StorageId, Mapping>);

// SAFETY: as above.
unsafe impl Send for Guarded {}

impl ComputeStorage for Guarded {
    type Resource = Piece;

    fn alignment(&self) -> usize {
        ALIGN
    }

    fn get(&mut self, handle: &StorageHandle) -> Piece {
        let (offset, len) = (handle.offset() as usize, handle.size() as usize);
        Piece {
            // SAFETY: handles lie within their allocation.
            at: unsafe { self.0[&handle.id].first.add(offset) },
            len,
        }
    }

    fn alloc(&mut self, size: u64) -> Result<StorageHandle, IoError> {
        let bytes = (size as usize).next_multiple_of(ALIGN);
        let len = bytes.next_multiple_of(PAGE) + PAGE;
        let too_big = |_| IoError::BufferTooBig {
            size,
            backtrace: BackTrace::capture(),
        };
        // SAFETY: new memory; its last page becomes the one that nobody may touch.
        let mapping = unsafe {
            let start = mmap_anonymous(
                null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
            .map_err(too_big)?;
            let guard = start.byte_add(len - PAGE);
            mprotect(guard, PAGE, MprotectFlags::empty()).map_err(too_big)?;
            Mapping {
                start,
                len,
                first: guard.byte_sub(bytes).cast(),
            }
        };
        let id = StorageId::new();
        self.0.insert(id, mapping);
        Ok(StorageHandle {
            id,
            utilization: StorageUtilization { offset: 0, size },
        })
    }

    fn dealloc(&mut self, id: StorageId) {
        if let Some(mapping) = self.0.remove(&id) {
            // SAFETY: mapped above, and no handle is left.
            let _ = unsafe { munmap(mapping.start, mapping.len) };
        }
    }

    fn flush(&mut self) {}
}
