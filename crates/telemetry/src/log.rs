//! Log lines on standard error.

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};

use crate::init::LogFormat;

pub(crate) fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = fmt().with_env_filter(filter).with_writer(writer);
    match format {
        // Fields at the top level: `jq 'select(.trace_id == "...")'`.
        LogFormat::Json => Box::new(
            builder
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .finish(),
        ),
        LogFormat::Text => Box::new(builder.with_ansi(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::context::TraceContext;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, log: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, EnvFilter::new(filter), move || writer.clone());
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_name_the_message_and_its_trace() {
        let context: TraceContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            .parse()
            .unwrap();
        let output = logged(LogFormat::Json, "info", || {
            tracing::debug!("not asked for");
            tracing::info!(
                queue_id = "01J9Z3",
                trace_id = %context.trace_id(),
                span_id = %context.span_id(),
                reply = "250 ok\r\n\"quoted\"",
                "delivered"
            );
        });
        let line: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(line["message"], "delivered");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["queue_id"], "01J9Z3");
        assert_eq!(line["trace_id"], "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(line["span_id"], "b7ad6b7169203331");
        assert_eq!(line["reply"], "250 ok\r\n\"quoted\"");
        assert!(line["timestamp"].is_string());
        assert_eq!(output.lines().count(), 1);
    }

    #[test]
    fn text_lines_are_plain() {
        let output = logged(LogFormat::Text, "warn", || {
            tracing::info!("not asked for");
            tracing::warn!(queue_id = "01J9Z3", "deferred");
        });
        assert!(
            output.contains("deferred") && output.contains("queue_id"),
            "{output:?}"
        );
        assert!(
            !output.contains('\x1b') && !output.contains("not asked for"),
            "{output:?}"
        );
    }
}
