//! A client that says what it is told to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    /// Connects and hears the greeting.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut client = Self::connect_only(address).await;
        let greeting = client.reply().await;
        assert_eq!(greeting, "220 relay.example ESMTP");
        client
    }

    pub(crate) async fn connect_only(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// As [`Self::connect`], and says EHLO.
    pub(crate) async fn hello(address: SocketAddr) -> Self {
        let mut client = Self::connect(address).await;
        client.ehlo().await;
        client
    }

    /// STARTTLS and EHLO.
    pub(crate) async fn start_tls(
        mut self,
        config: &Arc<ClientConfig>,
    ) -> Client<TlsStream<TcpStream>> {
        assert_eq!(
            self.command("STARTTLS").await,
            "220 2.0.0 ready to start TLS"
        );
        let mut client = shake_hands(self.stream.into_inner(), config).await;
        client.ehlo().await;
        client
    }
}

/// Implicit TLS, the greeting and EHLO.
pub(crate) async fn connect_tls(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Client<TlsStream<TcpStream>> {
    let mut client = shake_hands(TcpStream::connect(address).await.unwrap(), config).await;
    assert_eq!(client.reply().await, "220 relay.example ESMTP");
    client.ehlo().await;
    client
}

async fn shake_hands(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> Client<TlsStream<TcpStream>> {
    let name = ServerName::try_from("relay.example").unwrap();
    let stream = TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
        .unwrap();
    Client {
        stream: BufReader::new(stream),
    }
}

impl Client<TlsStream<TcpStream>> {
    pub(crate) fn tls(&self) -> &rustls::ClientConnection {
        self.stream.get_ref().get_ref().1
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn ehlo(&mut self) -> String {
        let reply = self.command("EHLO client.example").await;
        assert!(reply.starts_with("250"), "{reply}");
        reply
    }

    /// Sends a line and gives the reply, its lines joined by line feeds.
    pub(crate) async fn command(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n")).await;
        self.reply().await
    }

    pub(crate) async fn plain(&mut self, name: &str, password: &str) -> String {
        let response = BASE64_STANDARD.encode(format!("\0{name}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}")).await
    }

    pub(crate) async fn send(&mut self, octets: &str) {
        self.stream.write_all(octets.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn reply(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
            let read = read.unwrap_or_else(|_| panic!("no reply after {lines:?}"));
            assert!(read.unwrap() > 0, "the connection ended after {lines:?}");
            lines.push(line.trim_end_matches("\r\n").to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return lines.join("\n");
            }
        }
    }

    /// Whether octets have come that nobody has read.
    pub(crate) async fn has_said_something(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(50), self.stream.fill_buf())
            .await
            .is_ok_and(|said| said.is_ok_and(|octets| !octets.is_empty()))
    }

    /// Waits for the other side to close.
    pub(crate) async fn closed(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest))
            .await
            .expect("the connection ends");
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }

    /// A whole transaction up to 354.
    pub(crate) async fn envelope(&mut self, from: &str, to: &str) {
        assert_eq!(
            self.command(&format!("MAIL FROM:<{from}>")).await,
            "250 2.1.0 Ok"
        );
        assert_eq!(
            self.command(&format!("RCPT TO:<{to}>")).await,
            "250 2.1.5 Ok"
        );
        let reply = self.command("DATA").await;
        assert!(reply.starts_with("354"), "{reply}");
    }

    /// A whole small message; gives the reply to its end.
    pub(crate) async fn submit(&mut self) -> String {
        self.envelope("app@example.org", "user@example.net").await;
        self.command("Subject: x\r\n\r\nx\r\n.").await
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
