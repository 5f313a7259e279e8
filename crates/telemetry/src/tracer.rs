//! Who decides what is recorded, and where recorded spans go.

use std::sync::{Arc, OnceLock};

use crate::context::{TraceContext, TraceId};
use crate::export::SpanBuffer;

/// The process' tracer. Before [`crate::init`], and without an OTLP endpoint, nothing is recorded.
pub(crate) fn global() -> &'static Tracer {
    GLOBAL.get().unwrap_or(&OFF)
}

/// Returns false when there is one already.
pub(crate) fn set_global(tracer: Tracer) -> bool {
    GLOBAL.set(tracer).is_ok()
}

#[derive(Debug)]
pub(crate) struct Tracer {
    sampling: Sampling,
    buffer: Option<Arc<SpanBuffer>>,
}

impl Tracer {
    pub(crate) const fn off() -> Self {
        Self {
            sampling: Sampling {
                threshold: RANDOM_BITS,
            },
            buffer: None,
        }
    }

    pub(crate) fn new(sampling: Sampling, buffer: Arc<SpanBuffer>) -> Self {
        Self {
            sampling,
            buffer: Some(buffer),
        }
    }

    pub(crate) fn new_root(&self) -> TraceContext {
        TraceContext::root(|trace_id| self.sampling.samples(trace_id))
    }

    /// Where the spans of this trace go, `None` when they are not recorded.
    pub(crate) fn recorder(&self, context: &TraceContext) -> Option<&Arc<SpanBuffer>> {
        self.buffer.as_ref().filter(|_| context.is_sampled())
    }

    pub(crate) fn buffer(&self) -> Option<&SpanBuffer> {
        self.buffer.as_deref()
    }
}

/// The share of traces that begin here and are sampled. Traces that began elsewhere keep the
/// decision made there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    threshold: u64,
}

impl Sampling {
    /// `percent` over 100 counts as 100.
    pub(crate) fn percent(percent: u8) -> Self {
        let rejected = 100 - u64::from(percent.min(100));
        Self {
            threshold: (RANDOM_BITS / 100 + 1) * rejected,
        }
    }

    /// Consistent probability sampling: the random part of the trace id against a threshold, so
    /// that everybody who samples a trace at this share or a higher one keeps the same traces.
    fn samples(self, trace_id: TraceId) -> bool {
        trace_id.0 & u128::from(RANDOM_BITS - 1) >= u128::from(self.threshold)
    }
}

static GLOBAL: OnceLock<Tracer> = OnceLock::new();
static OFF: Tracer = Tracer::off();

/// W3C Trace Context Level 2 §3.2.2.3: the seven right-most bytes of a trace id are random.
const RANDOM_BITS: u64 = 1 << 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_the_share_asked_for() {
        for percent in [0, 1, 10, 50, 99, 100] {
            let sampling = Sampling::percent(percent);
            let sampled = (0..20_000)
                .filter(|_| TraceContext::root(|id| sampling.samples(id)).is_sampled())
                .count();
            let expected = 200 * usize::from(percent);
            // Six standard deviations of the binomial at its widest.
            assert!(
                sampled.abs_diff(expected) < 430,
                "{percent} %: {sampled} of 20,000"
            );
            if percent == 0 || percent == 100 {
                assert_eq!(sampled, expected);
            }
        }
    }
}
