//! Telemetry of a whole process: it can be initialised only once, so this is one test alone in
//! its binary.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use telemetry::{InitError, LogFormat, Otlp, Settings, SpanName, TraceContext, metrics, span};

#[test]
fn lives_and_ends_with_a_collector_that_never_answers() {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings {
        service_name: "kurier".to_owned(),
        log_format: LogFormat::Json,
        log_filter: "error".to_owned(),
        otlp: Some(Otlp {
            endpoint: format!("http://{}", collector.local_addr().unwrap()),
            sampling_percent: 100,
            pod_name: Some("outbound-0".to_owned()),
            namespace: Some("mail".to_owned()),
            instance: None,
        }),
    };

    let malformed = Settings {
        log_filter: "relay=loud".to_owned(),
        ..settings.clone()
    };
    assert!(matches!(
        telemetry::init(malformed),
        Err(InitError::LogFilter { .. })
    ));

    let guard = telemetry::init(settings.clone()).unwrap();
    assert!(matches!(
        telemetry::init(settings),
        Err(InitError::AlreadyInitialized)
    ));

    let root = TraceContext::new_root();
    assert!(root.is_sampled());
    for _ in 0..20_000 {
        let span = span::start(SpanName::SmtpReceive, Some(&root));
        assert_eq!(span.context().trace_id(), root.trace_id());
    }
    let start = Instant::now();
    let counts = guard.shutdown(Duration::from_millis(200));
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "shutdown took {:?}",
        start.elapsed()
    );
    assert_eq!((counts.recorded, counts.dropped()), (20_000, 20_000));
    assert!(counts.dropped_buffer_full > 0);

    let text = metrics::Registry::new("0.0.0", "unknown").encode();
    assert!(
        text.contains("kurier_trace_spans_recorded_total 20000"),
        "{text}"
    );
}
