//! What a run costs.

use std::{
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::process;

/// Clock ticks a second, in which the kernel tells CPU time. Linux has had no other value for decades.
const TICKS: f64 = 100.0;

/// Reading a process' pages costs it time, so not too often.
const SAMPLE: Duration = Duration::from_millis(400);

/// One run's results.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) per_second: f64,
    pub(super) cpu_microseconds: f64,
    pub(super) rss_megabytes: f64,
    pub(super) pss_megabytes: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.0} messages/s  {:>6.0} us CPU a message  {:>5.0} MB RSS  {:>5.0} MB PSS",
            self.per_second, self.cpu_microseconds, self.rss_megabytes, self.pss_megabytes
        )
    }
}

/// Seconds of CPU used by the trees, what has ended in them included.
pub(super) fn cpu_seconds(roots: &[u32]) -> f64 {
    let trees = roots.iter().flat_map(|root| process::tree(*root));
    let ticks: u64 = trees.filter_map(process::stat).map(|stat| stat.cpu).sum();
    ticks as f64 / TICKS
}

/// Watches the trees' memory until it is asked for the peaks.
pub(super) struct Memory {
    stop: Arc<AtomicBool>,
    peak_rss: Arc<AtomicU64>,
    peak_pss: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Memory {
    pub(super) fn watch(roots: Vec<u32>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let peak_rss = Arc::new(AtomicU64::new(0));
        let peak_pss = Arc::new(AtomicU64::new(0));
        let watched = (
            Arc::clone(&stop),
            Arc::clone(&peak_rss),
            Arc::clone(&peak_pss),
        );
        let thread = thread::spawn(move || {
            let (stop, peak_rss, peak_pss) = watched;
            loop {
                let (rss, pss) = memory(&roots);
                peak_rss.fetch_max(rss, Ordering::Relaxed);
                peak_pss.fetch_max(pss, Ordering::Relaxed);
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                thread::park_timeout(SAMPLE);
            }
        });
        Self {
            stop,
            peak_rss,
            peak_pss,
            thread,
        }
    }

    /// The peaks of RSS and PSS in megabytes.
    pub(super) fn peaks(self) -> (f64, f64) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let _ = self.thread.join();
        let megabytes = |peak: &AtomicU64| peak.load(Ordering::Relaxed) as f64 / 1024.0;
        (megabytes(&self.peak_rss), megabytes(&self.peak_pss))
    }
}

/// RSS and PSS of the trees in kilobytes.
fn memory(roots: &[u32]) -> (u64, u64) {
    roots
        .iter()
        .flat_map(|root| process::tree(*root))
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .map(|text| (kilobytes(&text, "Rss:"), kilobytes(&text, "Pss:")))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// `Rss:    1234 kB`
fn kilobytes(text: &str, field: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory() {
        let watch = Memory::watch(vec![std::process::id()]);
        let (rss, pss) = watch.peaks();
        assert!(rss > 1.0 && pss > 0.5 && pss <= rss, "{rss} {pss}");
    }

    #[test]
    fn fields() {
        let text = "5-6 ---p 0 [rollup]\nRss:      2040 kB\nPss:   100 kB\nPss_Dirty: 7 kB\n";
        assert_eq!(
            (kilobytes(text, "Rss:"), kilobytes(text, "Pss:")),
            (2040, 100)
        );
        assert_eq!(kilobytes(text, "Swap:"), 0);
    }
}
