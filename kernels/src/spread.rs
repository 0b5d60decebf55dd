//! Getting a helper off its caller's processor.
//!
//! The operating system may wake a thread on the processor of the thread that wakes it, though others
//! are idle: on Linux in a virtual machine this was seen after every pause of some milliseconds
//! (`docs/benchmarks.md`). Both threads then shared one processor for milliseconds, which is longer than
//! most searches take. So the caller offers its processor once, and a helper that
//! finds itself there asks to run anywhere else; what it may run on is put back at once.

/// The processor of the thread that asks for help.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    #[cfg(all(target_os = "linux", not(miri)))]
    processor: usize,
    #[cfg(all(target_os = "linux", not(miri)))]
    thread: std::thread::ThreadId,
}

impl Place {
    /// Where this thread runs.
    pub fn here() -> Self {
        Self {
            #[cfg(all(target_os = "linux", not(miri)))]
            processor: rustix::thread::sched_getcpu(),
            #[cfg(all(target_os = "linux", not(miri)))]
            thread: std::thread::current().id(),
        }
    }

    /// Lets helpers that wait for this thread's processor begin.
    pub fn offer() {
        #[cfg(all(target_os = "linux", not(miri)))]
        std::thread::yield_now();
    }

    /// Moves this thread to another processor, if it runs here, may run elsewhere, and is not the one
    /// that asked.
    pub fn leave(self) {
        #[cfg(all(target_os = "linux", not(miri)))]
        if rustix::thread::sched_getcpu() == self.processor
            && std::thread::current().id() != self.thread
        {
            // Nothing is lost where it cannot be done.
            self.leave_now().ok();
        }
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    fn leave_now(self) -> rustix::io::Result<()> {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        if self.processor >= CpuSet::MAX_CPU {
            return Ok(());
        }
        let own = sched_getaffinity(None)?;
        let mut others = own;
        others.unset(self.processor);
        if others.count() > 0 {
            sched_setaffinity(None, &others)?;
            sched_setaffinity(None, &own)?;
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use rustix::thread::sched_getaffinity;

    #[test]
    fn helpers_leave_where_they_may_run_elsewhere() {
        let caller = std::thread::current().id();
        let leave = move || {
            let before = sched_getaffinity(None).unwrap();
            let place = Place {
                thread: caller,
                ..Place::here()
            };
            place.leave();
            let now = Place::here();
            assert_eq!(sched_getaffinity(None).unwrap(), before);
            (before.count() > 1, now.processor != place.processor)
        };
        // The scheduler may bring a helper back at once, but not every time.
        let left: Vec<(bool, bool)> = (0..50)
            .map(|_| std::thread::spawn(leave).join().unwrap())
            .collect();
        assert_eq!(left.iter().any(|left| left.1), left[0].0);
    }

    #[test]
    fn the_caller_stays() {
        let place = Place::here();
        let before = sched_getaffinity(None).unwrap();
        place.leave();
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
