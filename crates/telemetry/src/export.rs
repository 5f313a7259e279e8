//! The way of ended spans out of the process: a bounded buffer, and the thread that empties it.
//!
//! The SDK's own batch processor does not tell what it drops, which is what an operator must see
//! when a collector is down; so this is one that accounts for every span.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{io, thread};

use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};

/// What became of the spans of this process. Those in none of the others are still waiting:
/// `recorded` = `exported` + `dropped()` + waiting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// Spans that ended and were sampled.
    pub recorded: u64,
    /// Spans that the collector took.
    pub exported: u64,
    /// Dropped because the buffer was full: the collector is slower than the mail.
    pub dropped_buffer_full: u64,
    /// Dropped because the collector refused them or did not answer in time. It may have got
    /// them all the same.
    pub dropped_export_failed: u64,
    /// Dropped because they had not been taken when the process ended.
    pub dropped_shutdown: u64,
}

impl SpanCounts {
    /// All dropped spans.
    pub fn dropped(&self) -> u64 {
        self.dropped_buffer_full + self.dropped_export_failed + self.dropped_shutdown
    }
}

/// The ended spans that wait for the exporter.
#[derive(Debug)]
pub(crate) struct SpanBuffer {
    waiting: Mutex<Waiting>,
    capacity: usize,
    batch_ready: Notify,
    recorded: AtomicU64,
    exported: AtomicU64,
    dropped_buffer_full: AtomicU64,
    dropped_export_failed: AtomicU64,
    dropped_shutdown: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<SpanData>,
    closed: bool,
}

impl SpanBuffer {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            waiting: Mutex::default(),
            capacity,
            batch_ready: Notify::new(),
            recorded: AtomicU64::new(0),
            exported: AtomicU64::new(0),
            dropped_buffer_full: AtomicU64::new(0),
            dropped_export_failed: AtomicU64::new(0),
            dropped_shutdown: AtomicU64::new(0),
        }
    }

    /// Takes a span in, or drops and counts it. Never waits for the exporter: the lock is only
    /// ever held to move spans.
    pub(crate) fn push(&self, span: SpanData) {
        add(&self.recorded, 1);
        let mut waiting = self.lock();
        let dropped = if waiting.closed {
            &self.dropped_shutdown
        } else if waiting.spans.len() >= self.capacity {
            &self.dropped_buffer_full
        } else {
            waiting.spans.push_back(span);
            if waiting.spans.len() == BATCH_LENGTH {
                self.batch_ready.notify_one();
            }
            return;
        };
        drop(waiting);
        add(dropped, 1);
    }

    pub(crate) fn take(&self, at_most: usize) -> Vec<SpanData> {
        let mut waiting = self.lock();
        let count = at_most.min(waiting.spans.len());
        waiting.spans.drain(..count).collect()
    }

    pub(crate) fn counts(&self) -> SpanCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SpanCounts {
            exported: read(&self.exported),
            dropped_buffer_full: read(&self.dropped_buffer_full),
            dropped_export_failed: read(&self.dropped_export_failed),
            dropped_shutdown: read(&self.dropped_shutdown),
            recorded: read(&self.recorded),
        }
    }

    /// From here on every span is dropped, those that wait at once.
    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.spans);
        drop(waiting);
        add(&self.dropped_shutdown, left.len());
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics between two changes of what the lock protects.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running exporter thread.
#[derive(Debug)]
pub(crate) struct Exporting {
    buffer: Arc<SpanBuffer>,
    closing: watch::Sender<Option<Instant>>,
    ended: mpsc::Receiver<()>,
}

impl Exporting {
    /// Starts the thread. `connect` makes an exporter; it runs within the thread's runtime, at
    /// the start, where its error is returned, and again whenever an export got no answer, as
    /// a connection may be dead without anybody having said so.
    pub(crate) fn start<E, C, X>(
        buffer: Arc<SpanBuffer>,
        timing: Timing,
        connect: C,
    ) -> Result<Self, StartError<X>>
    where
        E: SpanExporter + 'static,
        C: Fn() -> Result<E, X> + Send + 'static,
        X: Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (closing, closing_seen) = watch::channel(None);
        let (started, start) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::sync_channel(1);
        let exported = Arc::clone(&buffer);
        thread::Builder::new()
            .name("span-export".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    match connect() {
                        Ok(exporter) => {
                            // The other end waits for exactly this, so it is there.
                            let _ = started.send(Ok(()));
                            let closing = closing_seen;
                            Worker {
                                buffer: exported,
                                timing,
                                connect,
                                exporter,
                                closing,
                                failing: false,
                            }
                            .run()
                            .await;
                        }
                        Err(error) => {
                            let _ = started.send(Err(error));
                        }
                    }
                });
                // Nobody may be waiting any more.
                let _ = end.send(());
                // A name look-up may still hang in a blocking call: do not wait for it.
                runtime.shutdown_background();
            })?;
        match start.recv() {
            Ok(Ok(())) => Ok(Self {
                buffer,
                closing,
                ended,
            }),
            Ok(Err(error)) => Err(StartError::Connect(error)),
            Err(mpsc::RecvError) => Err(StartError::Thread(io::Error::other(
                "the exporter thread ended at once",
            ))),
        }
    }

    /// Exports what waits, for at most about `within`, and ends the thread. Blocks meanwhile.
    pub(crate) fn stop(&self, within: Duration) -> SpanCounts {
        self.closing.send_replace(Some(Instant::now() + within));
        // The worker keeps to the deadline itself; should it not, it is left behind.
        let _ = self.ended.recv_timeout(within + STOP_GRACE);
        self.buffer.close();
        self.buffer.counts()
    }
}

/// The bounds that the exporter keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// How long a span waits for others to share a batch with.
    pub(crate) linger: Duration,
    /// How long a batch may take, retries included.
    pub(crate) export_timeout: Duration,
}

#[derive(Debug)]
pub(crate) enum StartError<X> {
    Thread(io::Error),
    Connect(X),
}

impl<X> From<io::Error> for StartError<X> {
    fn from(error: io::Error) -> Self {
        Self::Thread(error)
    }
}

struct Worker<E, C> {
    buffer: Arc<SpanBuffer>,
    timing: Timing,
    connect: C,
    exporter: E,
    closing: watch::Receiver<Option<Instant>>,
    failing: bool,
}

impl<E: SpanExporter, C, X> Worker<E, C>
where
    C: Fn() -> Result<E, X>,
{
    async fn run(mut self) {
        loop {
            let closing = tokio::select! {
                () = self.buffer.batch_ready.notified(), if !self.failing => false,
                () = sleep(self.timing.linger) => false,
                changed = self.closing.wait_for(Option::is_some) => {
                    if changed.is_err() {
                        return;
                    }
                    true
                }
            };
            self.export_waiting().await;
            if closing {
                self.buffer.close();
                // The outcome of a clean-up changes nothing any more.
                let _ = self.exporter.shutdown();
                return;
            }
        }
    }

    /// Exports until the buffer is empty or a batch fails: then the rest waits for another linger
    /// time, so that a dead collector costs no more than one attempt in that time.
    async fn export_waiting(&mut self) {
        loop {
            let batch = self.buffer.take(BATCH_LENGTH);
            if batch.is_empty() {
                return;
            }
            let length = batch.len();
            let result = self.export(batch).await;
            self.report(&result);
            match result {
                Ok(()) => add(&self.buffer.exported, length),
                Err(failure) => {
                    add(&self.buffer.dropped_export_failed, length);
                    if matches!(failure, ExportFailure::NoAnswer)
                        && let Ok(exporter) = (self.connect)()
                    {
                        self.exporter = exporter;
                    }
                    return;
                }
            }
        }
    }

    async fn export(&self, batch: Vec<SpanData>) -> Result<(), ExportFailure> {
        tokio::select! {
            result = timeout(self.timing.export_timeout, self.exporter.export(batch)) => {
                match result {
                    Ok(Ok(())) => Ok(()),
                    Ok(Err(OTelSdkError::Timeout(_))) | Err(_) => Err(ExportFailure::NoAnswer),
                    Ok(Err(error)) => Err(ExportFailure::Refused(error)),
                }
            }
            () = deadline(self.closing.clone()) => Err(ExportFailure::NoAnswer),
        }
    }

    /// One log line when exporting begins to fail and one when it works again.
    fn report(&mut self, result: &Result<(), ExportFailure>) {
        match result {
            Ok(()) if self.failing => tracing::info!("the collector takes spans again"),
            Err(failure) if !self.failing => {
                tracing::warn!(%failure, "spans are dropped: the collector does not take them");
            }
            _ => {}
        }
        self.failing = result.is_err();
    }
}

#[derive(Debug, thiserror::Error)]
enum ExportFailure {
    #[error("no answer in time")]
    NoAnswer,
    #[error("{0}")]
    Refused(OTelSdkError),
}

/// Ends when the time to close has come, never before [`Exporting::stop`].
async fn deadline(mut closing: watch::Receiver<Option<Instant>>) {
    let at = match closing.wait_for(Option::is_some).await {
        Ok(at) => *at,
        // Without a sender there is nobody left to wait for us.
        Err(_) => return,
    };
    if let Some(at) = at {
        sleep_until(at.into()).await;
    }
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

/// Some 10 MiB of spans with the usual attributes, and a quarter of a second at 36,000 a second.
pub(crate) const BUFFER_CAPACITY: usize = 8192;
const BATCH_LENGTH: usize = 512;
const STOP_GRACE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
