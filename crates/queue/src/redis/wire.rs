//! The stream under a connection, counting what it has taken: whether the last octet of a request has
//! left decides whether its outcome can be known.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(super) struct Wire {
    stream: Box<dyn Stream>,
    written: Arc<Written>,
}

/// How many octets a stream has taken.
#[derive(Default)]
pub(super) struct Written(AtomicU64);

impl Written {
    pub(super) fn octets(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn count(&self, taken: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(octets)) = taken {
            self.0.fetch_add(*octets as u64, Ordering::Relaxed);
        }
    }
}

impl Wire {
    pub(super) fn around(stream: Box<dyn Stream>) -> (Self, Arc<Written>) {
        let written = Arc::<Written>::default();
        let wire = Self {
            stream,
            written: Arc::clone(&written),
        };
        (wire, written)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(context, octets);
        self.written.count(&taken);
        taken
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
