//! Spans for `tracing`: the one place that knows it. Without the feature a span is nothing at all.

/// Opens a span of level debug, named `$name` with the fields given, until the end of the block.
///
/// Fields are only computed with the feature `tracing`.
macro_rules! span {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[cfg(feature = "tracing")]
        let _span = tracing::debug_span!($name, $($field = $value),*).entered();
    };
}
