//! Takes the spans that an OpenTelemetry Collector hands on (OTLP as JSON over HTTP) and writes
//! one JSON line a span.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(clap::Args, Clone, Debug)]
pub struct Settings {
    #[arg(long, default_value = "0.0.0.0:4319")]
    pub listen: SocketAddr,
}

/// A span, reduced to what tests ask about.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub trace: String,
    pub span: String,
    /// Empty for a root.
    pub parent: String,
    pub name: String,
    /// Resource and span attributes, values as text.
    pub attributes: BTreeMap<String, String>,
    pub failed: bool,
}

pub async fn run(settings: Settings, report: impl Fn(&Span) + Send + Sync + 'static) -> Result<()> {
    let report = Arc::new(report);
    let app = Router::new()
        .route(
            "/v1/traces",
            post(move |body: Bytes| {
                let report = report.clone();
                async move { take(&body, &*report) }
            }),
        )
        .layer(DefaultBodyLimit::max(64 << 20));
    Ok(axum::serve(tokio::net::TcpListener::bind(settings.listen).await?, app).await?)
}

fn take(body: &[u8], report: &impl Fn(&Span)) -> Result<Json<Value>, (StatusCode, String)> {
    let document: Value = serde_json::from_slice(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    spans(&document).iter().for_each(report);
    Ok(Json(serde_json::json!({})))
}

/// All spans of an `ExportTraceServiceRequest` in its JSON form.
fn spans(document: &Value) -> Vec<Span> {
    let mut found = Vec::new();
    for resource in list(document, "resourceSpans") {
        let shared = attributes(&resource["resource"]);
        for scope in list(resource, "scopeSpans") {
            for span in list(scope, "spans") {
                let mut all = shared.clone();
                all.extend(attributes(span));
                let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                found.push(Span {
                    trace: text("traceId"),
                    span: text("spanId"),
                    parent: text("parentSpanId"),
                    name: text("name"),
                    attributes: all,
                    failed: span["status"]["code"] == 2,
                });
            }
        }
    }
    found
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

fn attributes(of: &Value) -> BTreeMap<String, String> {
    list(of, "attributes")
        .iter()
        .filter_map(|attribute| {
            let (_, value) = attribute["value"].as_object()?.iter().next()?;
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            Some((attribute["key"].as_str()?.to_owned(), value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::spans;

    #[test]
    fn reads_spans_with_resource_attributes() {
        let document = json!({"resourceSpans": [{
            "resource": {"attributes": [{"key": "k8s.pod.name", "value": {"stringValue": "p1"}}]},
            "scopeSpans": [{"spans": [{
                "traceId": "t", "spanId": "s", "name": "smtp.receive",
                "attributes": [{"key": "n", "value": {"intValue": "5"}}],
                "status": {"code": 2}
            }]}]
        }]});
        let found = spans(&document);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].attributes["k8s.pod.name"], "p1");
        assert_eq!(found[0].attributes["n"], "5");
        assert!(found[0].failed && found[0].parent.is_empty());
    }
}
