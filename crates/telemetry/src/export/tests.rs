use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::atomic::AtomicBool;

use opentelemetry_sdk::error::OTelSdkResult;

use super::*;
use crate::attribute::Attribute;
use crate::init::{Otlp, otlp_exporter};
use crate::span::{Span, SpanName};
use crate::tracer::{Sampling, Tracer};

const TIMING: Timing = Timing {
    linger: Duration::from_millis(5),
    export_timeout: Duration::from_millis(50),
};

/// Far above what any step here takes on a busy machine, far below what a hang takes.
const PROMPTLY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
struct Collector {
    names: Arc<Mutex<Vec<String>>>,
    refusing: Arc<AtomicBool>,
}

impl SpanExporter for Collector {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        if self.refusing.load(Ordering::SeqCst) {
            return Err(OTelSdkError::InternalFailure("refused".to_owned()));
        }
        let mut names = self.names.lock().unwrap();
        names.extend(batch.into_iter().map(|span| span.name.into_owned()));
        Ok(())
    }
}

#[derive(Debug)]
struct Silent;

impl SpanExporter for Silent {
    async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
        std::future::pending().await
    }
}

fn tracer(capacity: usize) -> (Tracer, Arc<SpanBuffer>) {
    let buffer = Arc::new(SpanBuffer::new(capacity));
    (
        Tracer::new(Sampling::percent(100), Arc::clone(&buffer)),
        buffer,
    )
}

fn end_spans(tracer: &Tracer, count: usize) {
    for _ in 0..count {
        drop(Span::open(tracer, SpanName::SmtpReceive, None, None));
    }
}

fn wait_until(buffer: &SpanBuffer, condition: impl Fn(SpanCounts) -> bool) {
    let start = Instant::now();
    while !condition(buffer.counts()) {
        assert!(start.elapsed() < PROMPTLY, "still {:?}", buffer.counts());
        thread::yield_now();
    }
}

fn assert_all_accounted_for(counts: SpanCounts) {
    assert_eq!(
        counts.recorded,
        counts.exported + counts.dropped(),
        "{counts:?}"
    );
}

#[test]
fn exports_everything_before_it_stops() {
    let (tracer, buffer) = tracer(BUFFER_CAPACITY);
    let collector = Collector::default();
    let connected = collector.clone();
    let slow_batches = Timing {
        linger: Duration::from_secs(600),
        ..TIMING
    };
    let exporting = Exporting::start(buffer, slow_batches, move || {
        Ok::<_, Infallible>(connected.clone())
    })
    .unwrap();
    end_spans(&tracer, 1_000);
    let counts = exporting.stop(PROMPTLY);
    assert_eq!((counts.exported, counts.dropped()), (1_000, 0));
    assert_eq!(collector.names.lock().unwrap().len(), 1_000);
    // What ends later is lost, and counted.
    end_spans(&tracer, 1);
    assert_eq!(exporting.buffer.counts().dropped_shutdown, 1);
}

#[test]
fn lone_span_leaves_after_the_linger_time() {
    let (tracer, buffer) = tracer(BUFFER_CAPACITY);
    let exporting = Exporting::start(Arc::clone(&buffer), TIMING, || {
        Ok::<_, Infallible>(Collector::default())
    })
    .unwrap();
    end_spans(&tracer, 1);
    wait_until(&buffer, |counts| counts.exported == 1);
    exporting.stop(PROMPTLY);
}

#[test]
fn silent_collector_costs_spans_and_no_time() {
    let (tracer, buffer) = tracer(100);
    let never = Timing {
        export_timeout: Duration::from_secs(600),
        ..TIMING
    };
    let exporting =
        Exporting::start(Arc::clone(&buffer), never, || Ok::<_, Infallible>(Silent)).unwrap();

    let start = Instant::now();
    end_spans(&tracer, 10_000);
    assert!(
        start.elapsed() < PROMPTLY,
        "ending spans took {:?}",
        start.elapsed()
    );
    // The buffer's worth waits, and as much again at most was taken out for the first batch.
    assert!(
        buffer.counts().dropped_buffer_full >= 9_800,
        "{:?}",
        buffer.counts()
    );

    let start = Instant::now();
    let counts = exporting.stop(Duration::from_millis(100));
    assert!(
        start.elapsed() < PROMPTLY,
        "stopping took {:?}",
        start.elapsed()
    );
    assert_eq!((counts.recorded, counts.exported), (10_000, 0));
    assert_all_accounted_for(counts);
}

#[test]
fn batch_without_an_answer_is_given_up_and_the_collector_connected_anew() {
    let (tracer, buffer) = tracer(BUFFER_CAPACITY);
    let connects = Arc::new(AtomicU64::new(0));
    let connected = Arc::clone(&connects);
    let exporting = Exporting::start(Arc::clone(&buffer), TIMING, move || {
        connected.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(Silent)
    })
    .unwrap();
    // One span is one batch, however slowly this thread runs.
    end_spans(&tracer, 1);
    wait_until(&buffer, |counts| counts.dropped_export_failed == 1);
    exporting.stop(PROMPTLY);
    assert_eq!(connects.load(Ordering::SeqCst), 2);
}

#[test]
fn refused_spans_are_counted_and_the_next_ones_get_through() {
    let (tracer, buffer) = tracer(BUFFER_CAPACITY);
    let collector = Collector::default();
    collector.refusing.store(true, Ordering::SeqCst);
    let connected = collector.clone();
    let exporting = Exporting::start(Arc::clone(&buffer), TIMING, move || {
        Ok::<_, Infallible>(connected.clone())
    })
    .unwrap();
    end_spans(&tracer, 7);
    wait_until(&buffer, |counts| counts.dropped_export_failed == 7);
    collector.refusing.store(false, Ordering::SeqCst);
    end_spans(&tracer, 5);
    wait_until(&buffer, |counts| counts.exported == 5);
    assert_all_accounted_for(exporting.stop(PROMPTLY));
}

#[test]
fn error_of_the_first_connect_is_returned() {
    let result = Exporting::start(Arc::new(SpanBuffer::new(1)), TIMING, || {
        Err::<Silent, _>("no such endpoint")
    });
    assert!(matches!(
        result,
        Err(StartError::Connect("no such endpoint"))
    ));
}

#[test]
fn otlp_collector_gets_what_was_recorded() {
    let (address, requests) = grpc_collector();
    let otlp = Otlp {
        pod_name: Some("outbound-0".to_owned()),
        namespace: Some("mail".to_owned()),
        instance: Some("instance-1".to_owned()),
        ..otlp(&address)
    };
    let (tracer, buffer) = tracer(BUFFER_CAPACITY);
    let timing = Timing {
        export_timeout: PROMPTLY,
        ..TIMING
    };
    let exporting = Exporting::start(Arc::clone(&buffer), timing, move || {
        otlp_exporter("kurier-test", &otlp, timing.export_timeout)
    })
    .unwrap();
    let mut span = Span::open(&tracer, SpanName::SmtpReceive, None, None);
    span.set(Attribute::QueueId, "01aryz6s41");
    let trace_id = span.context().trace_id().0.to_be_bytes();
    drop(span);
    let counts = exporting.stop(PROMPTLY);
    assert_eq!((counts.exported, counts.dropped()), (1, 0));

    let request = requests.recv_timeout(PROMPTLY).unwrap();
    let expected: [&[u8]; 8] = [
        b"kurier-test",
        b"outbound-0",
        b"mail",
        b"instance-1",
        b"smtp.receive",
        b"kurier.queue_id",
        b"01aryz6s41",
        &trace_id,
    ];
    for part in expected {
        let found = request.windows(part.len()).any(|window| window == part);
        assert!(
            found,
            "{} is not in {request:?}",
            String::from_utf8_lossy(part)
        );
    }
}

/// What a stopped collector looks like from here: the kernel accepts, nobody reads.
#[test]
fn stopped_otlp_collector_costs_spans_and_no_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let counts = export_to(&listener.local_addr().unwrap().to_string());
    assert_eq!(counts.exported, 0);
    assert_all_accounted_for(counts);
}

#[test]
fn absent_otlp_collector_costs_spans_and_no_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let counts = export_to(&address);
    assert_eq!(counts.exported, 0);
    assert_all_accounted_for(counts);
}

fn export_to(address: &str) -> SpanCounts {
    let otlp = otlp(address);
    let (tracer, buffer) = tracer(1_000);
    let exporting = Exporting::start(Arc::clone(&buffer), TIMING, move || {
        otlp_exporter("kurier-test", &otlp, TIMING.export_timeout)
    })
    .unwrap();
    let start = Instant::now();
    end_spans(&tracer, 5_000);
    assert!(
        start.elapsed() < PROMPTLY,
        "ending spans took {:?}",
        start.elapsed()
    );
    wait_until(&buffer, |counts| counts.dropped_export_failed > 0);
    let start = Instant::now();
    let counts = exporting.stop(Duration::from_millis(100));
    assert!(
        start.elapsed() < PROMPTLY,
        "stopping took {:?}",
        start.elapsed()
    );
    counts
}

fn otlp(address: &str) -> Otlp {
    Otlp {
        endpoint: format!("http://{address}"),
        sampling_percent: 100,
        pod_name: None,
        namespace: None,
        instance: None,
    }
}

/// A gRPC server that answers every call with an empty message and status 0, and hands out what it
/// was sent.
fn grpc_collector() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (received, requests) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::spawn(answer(request, respond, received.clone()));
            }
        });
    });
    (address, requests)
}

async fn answer(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<bytes::Bytes>,
    received: mpsc::Sender<Vec<u8>>,
) {
    let mut body = request.into_body();
    let mut octets = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        octets.extend_from_slice(&data);
    }
    let response = http::Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut stream = respond.send_response(response, false).unwrap();
    stream
        .send_data(bytes::Bytes::from_static(&[0; 5]), false)
        .unwrap();
    let status = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    stream.send_trailers(status).unwrap();
    // The test may be over.
    let _ = received.send(octets);
}
