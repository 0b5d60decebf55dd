//! Progress on stderr for the long steps; silent where nobody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::{self, IsTerminal},
    time::Duration,
};

/// Makes progress bars, or hidden ones.
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// Bars are drawn when `wanted` and stderr is a terminal.
    pub fn new(wanted: bool) -> Self {
        Self {
            shown: wanted && io::stderr().is_terminal(),
        }
    }

    /// A bar that counts to `len`; gone when dropped.
    pub fn bar(&self, what: &'static str, len: usize) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(Some(len as u64), self.target());
        let template = "{msg:>10} [{bar:30}] {human_pos}/{human_len}, {eta} left";
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.with_style(style.progress_chars("=> "))
            .with_message(what)
            .with_finish(indicatif::ProgressFinish::AndClear)
    }

    /// A turning mark for a step that does not say how far it is; gone when dropped.
    pub fn spinner(&self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.target());
        let style = ProgressStyle::with_template("{msg:>10} {spinner} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = bar
            .with_style(style.tick_chars("|/-\\ "))
            .with_message(what)
            .with_finish(indicatif::ProgressFinish::AndClear);
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
