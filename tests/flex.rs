//! The suite on the flex backend.
#![cfg(feature = "flex")]
// Helpers of the shared suite unwrap, print skips, and are not all used by every target.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, dead_code)]

#[macro_use]
mod suite;

use burn::backend::Flex;

mount!(flex, Flex, Some(Default::default()));
mount_properties!(flex_properties, Flex, Some(Default::default()));
