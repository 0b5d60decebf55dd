//! The suite on the flex backend.
#![cfg(feature = "flex")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "helpers of the shared suite unwrap, print skips, and are not all used by every target"
)]

#[macro_use]
mod suite;

use burn::backend::Flex;

mount!(flex, Flex, Some(Default::default()));
mount_properties!(flex_properties, Flex, Some(Default::default()));
