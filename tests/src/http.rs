//! Plain HTTP as the tests need it: a request, its answer, and metrics read from one.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// One request to `HOST:PORT`; gives the body of a 200 answer.
pub fn request(method: &str, address: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let answer = read_answer(stream).with_context(|| format!("{method} {address}{path}"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.lines().next().unwrap_or_default();
    ensure!(
        status.contains(" 200 "),
        "{method} {address}{path}: {answer}"
    );
    Ok(body.to_owned())
}

/// Reads as much as the answer says it has: a port-forward may end with a reset.
fn read_answer(mut stream: impl Read) -> Result<String> {
    let mut answer = Vec::new();
    let mut octets = [0; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            });
            if length.is_some_and(|length: usize| body.len() >= length) {
                return Ok(text.into_owned());
            }
        }
        let read = stream.read(&mut octets)?;
        if read == 0 {
            return Ok(text.into_owned());
        }
        answer.extend_from_slice(&octets[..read]);
    }
}

/// A metric of the process that serves `address`, summed over the series whose labels contain
/// `label`.
pub fn metric(address: &str, name: &str, label: &str) -> Result<f64> {
    let text = request("GET", address, "/metrics", "")?;
    Ok(text
        .lines()
        .filter(|line| line.contains(label))
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with(['{', ' ']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .sum())
}
