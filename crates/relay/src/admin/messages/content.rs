//! A message as a file: what was accepted, with the fields that this relay has added.

use std::io;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use futures::stream::{self, Stream};
use queue::id::MessageId;
use queue::record::{Form, Record};

use super::Problem;
use crate::admin::Admin;

/// It is as long as the answer's head says, or it was cut off.
pub(super) async fn export(admin: &Admin, message: MessageId) -> Result<Response, Problem> {
    let record = match admin.worker.record(message).await? {
        Some(Ok(record)) => record,
        Some(Err(error)) => {
            return Err(Problem(
                StatusCode::CONFLICT,
                format!("{message} cannot be read: {error}"),
            ));
        }
        None => return Err(Problem::missing(message)),
    };
    let (size, form) = (record.header.body.size, record.header.body.form);
    let mut stuffed = Unstuffing::default();
    let plain = stored(admin, message, record).map(move |slice| {
        slice.map(|slice| match form {
            Form::DotStuffed => stuffed.take(&slice),
            Form::Raw => slice,
        })
    });
    let head = [
        (header::CONTENT_TYPE, "message/rfc822".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{message}.eml\""),
        ),
    ];
    Ok((head, Body::from_stream(plain)).into_response())
}

/// The content as it is stored, chunk by chunk where it is large.
fn stored(
    admin: &Admin,
    message: MessageId,
    record: Record,
) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let worker = admin.worker.clone();
    let body = record.header.body;
    let inline = stream::iter(record.content.into_iter().map(Ok));
    let chunks = stream::iter(0..body.chunks).then(move |number| {
        let (worker, body) = (worker.clone(), body.clone());
        async move {
            let chunk = worker.chunk(&body, message, number).await;
            chunk.map_err(io::Error::other)
        }
    });
    inline.chain(chunks)
}

/// Takes away what RFC 5321 §4.5.2 adds: a dot before each one at the beginning of a line.
#[derive(Default)]
struct Unstuffing {
    within_line: bool,
}

impl Unstuffing {
    fn take(&mut self, slice: &Bytes) -> Bytes {
        let mut plain = BytesMut::with_capacity(slice.len());
        for line in slice.split_inclusive(|octet| *octet == b'\n') {
            let line = match line {
                [b'.', rest @ ..] if !self.within_line => rest,
                line => line,
            };
            plain.extend_from_slice(line);
            self.within_line = !line.ends_with(b"\n");
        }
        plain.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffing_goes_however_the_content_is_cut() {
        let stuffed = b"..a\r\nb.c\r\n...\r\n..\r\n\r\nend";
        for cut in 0..=stuffed.len() {
            let mut unstuffing = Unstuffing::default();
            let (first, second) = stuffed.split_at(cut);
            let plain = [first, second]
                .map(|part| unstuffing.take(&Bytes::copy_from_slice(part)))
                .concat();
            assert_eq!(plain, b".a\r\nb.c\r\n..\r\n.\r\n\r\nend", "{cut}");
        }
    }
}
