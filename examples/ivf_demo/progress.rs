//! Progress on stderr for the long steps; silent where nobody watches.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Makes progress bars, or hidden ones.
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Bars are drawn when `wanted` and stderr is a terminal.
    pub fn new(wanted: bool) -> Self {
        Self {
            shown: wanted && std::io::stderr().is_terminal(),
        }
    }

    /// A bar that counts to `len`.
    pub fn bar(&self, what: &'static str, len: usize) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(len as u64), self.target());
        let style =
            ProgressStyle::with_template("{msg:>12} [{bar:30}] {human_pos}/{human_len} {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style.progress_chars("=> "))
            .with_message(what)
    }

    /// A turning mark for a step that does not say how far it is.
    pub fn spinner(&self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        let style = ProgressStyle::with_template("{msg:>12} {spinner} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bar
            .with_style(style.tick_chars("|/-\\ "))
            .with_message(what);
        if self.shown {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }
}
