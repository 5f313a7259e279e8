//! One SMTP submission connection, written out plainly: what an application's library would do.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::corpus::Message;

/// How to reach the relay and as whom: the keys of a MailCredential's Secret.
#[derive(Clone)]
pub struct Account {
    pub host: String,
    pub port: u16,
    /// Name on the certificate where it is not `host`.
    pub server_name: Option<String>,
    /// User name and password; without them neither STARTTLS nor AUTH is used.
    pub login: Option<(String, String)>,
    /// PEM of the authority that signed the relay's certificate.
    pub ca: Option<Vec<u8>>,
}

impl Account {
    /// Reads SMTP_HOST, SMTP_PORT, SMTP_USERNAME, SMTP_PASSWORD and the file named by SMTP_CA.
    pub fn from_env() -> Result<Self> {
        let get = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let ca = match std::env::var("SMTP_CA") {
            Ok(path) => Some(std::fs::read(&path).with_context(|| path)?),
            Err(_) => None,
        };
        Ok(Self {
            host: get("SMTP_HOST")?,
            port: get("SMTP_PORT")?.parse().context("SMTP_PORT")?,
            server_name: None,
            login: Some((get("SMTP_USERNAME")?, get("SMTP_PASSWORD")?)),
            ca,
        })
    }
}

/// What of a connection is not as usual.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dial {
    /// TLS comes before the greeting (RFC 8314 §3.3).
    pub implicit_tls: bool,
    /// Which of this machine's addresses the relay is to see.
    pub source: Option<IpAddr>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// An open, logged-in connection.
pub struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// The last reply to EHLO.
    extensions: String,
}

impl Connection {
    pub async fn open(account: &Account) -> Result<Self> {
        Self::dial(account, Dial::default()).await
    }

    pub async fn dial(account: &Account, dial: Dial) -> Result<Self> {
        let limit = Duration::from_secs(20);
        let tcp = tokio::time::timeout(limit, connect(account, dial.source)).await??;
        tcp.set_nodelay(true)?;
        let mut this = Self {
            stream: Box::new(tcp),
            buffer: Vec::new(),
            extensions: String::new(),
        };
        if dial.implicit_tls {
            this = tokio::time::timeout(limit, this.secure(account)).await??;
        }
        this.expect("220").await?;
        this.greet().await?;
        if let Some((user, password)) = &account.login {
            if !dial.implicit_tls {
                this.command("STARTTLS", "220").await?;
                this = tokio::time::timeout(limit, this.secure(account)).await??;
                this.greet().await?;
            }
            let initial = STANDARD.encode(format!("\0{user}\0{password}"));
            this.command(&format!("AUTH PLAIN {initial}"), "235")
                .await?;
        }
        Ok(this)
    }

    async fn greet(&mut self) -> Result<()> {
        self.extensions = self.command("EHLO load.example", "250").await?;
        Ok(())
    }

    /// The largest message that the relay says it takes (RFC 1870 §3).
    pub fn size(&self) -> Option<u64> {
        let lines = self.extensions.lines().filter_map(|line| line.get(4..));
        let size = lines.filter_map(|line| line.strip_prefix("SIZE ")).next();
        size?.trim().parse().ok()
    }

    async fn secure(self, account: &Account) -> Result<Self> {
        let pem = account
            .ca
            .as_deref()
            .context("no authority to verify the relay with")?;
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = account
            .server_name
            .as_ref()
            .unwrap_or(&account.host)
            .clone();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(ServerName::try_from(name)?, self.stream)
            .await?;
        Ok(Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
            extensions: String::new(),
        })
    }

    /// Sends one message; the reply to the final dot, or to the command that was refused.
    pub async fn send(&mut self, from: &str, to: &str, message: &Message) -> Result<String> {
        self.send_to(from, &[to], message).await
    }

    /// As [`Connection::send`], to several recipients; none of it is sent unless all are taken.
    pub async fn send_to(&mut self, from: &str, to: &[&str], message: &Message) -> Result<String> {
        let body = if message.eight_bit {
            " BODY=8BITMIME"
        } else {
            ""
        };
        let mail = (format!("MAIL FROM:<{from}>{body}"), "250");
        let rcpt = to.iter().map(|to| (format!("RCPT TO:<{to}>"), "250"));
        let commands = std::iter::once(mail).chain(rcpt);
        for (command, wanted) in commands.chain([("DATA".to_owned(), "354")]) {
            let reply = self.ask(&command).await?;
            if !reply.starts_with(wanted) {
                self.ask("RSET").await?;
                return Ok(reply);
            }
        }
        self.stream.write_all(&message.wire()).await?;
        self.stream.flush().await?;
        self.reply().await
    }

    /// Opens a transaction and leaves it in the middle of its DATA.
    pub async fn open_data(&mut self, from: &str, to: &str) -> Result<()> {
        self.command(&format!("MAIL FROM:<{from}>"), "250").await?;
        self.command(&format!("RCPT TO:<{to}>"), "250").await?;
        self.command("DATA", "354").await?;
        self.stream
            .write_all(b"Subject: never finished\r\n\r\nhalf a message\r\n")
            .await?;
        Ok(self.stream.flush().await?)
    }

    /// Goes on with the DATA that was opened.
    pub async fn more_data(&mut self, octets: usize) -> Result<()> {
        for _ in 0..octets / FILLER.len() {
            self.stream.write_all(FILLER).await?;
        }
        Ok(self.stream.flush().await?)
    }

    /// Whether the other side has neither ended the connection nor said anything for a moment.
    pub async fn is_silent(&mut self) -> bool {
        let moment = Duration::from_millis(200);
        let mut octets = [0; 512];
        let read = tokio::time::timeout(moment, self.stream.read(&mut octets)).await;
        read.is_err() && self.buffer.is_empty()
    }

    /// Waits until the other side ends the connection.
    pub async fn closed(&mut self) {
        let mut octets = [0; 512];
        while matches!(self.stream.read(&mut octets).await, Ok(count) if count > 0) {}
    }

    pub async fn quit(mut self) {
        // The message is answered for by now; a relay that is gone need not say good-bye.
        let _ = self.ask("QUIT").await;
    }

    async fn command(&mut self, line: &str, wanted: &str) -> Result<String> {
        let reply = self.ask(line).await?;
        if !reply.starts_with(wanted) {
            let verb = line.split(' ').next().unwrap_or_default();
            bail!("{verb} was answered {reply}");
        }
        Ok(reply)
    }

    async fn expect(&mut self, wanted: &str) -> Result<()> {
        let reply = self.reply().await?;
        if !reply.starts_with(wanted) {
            bail!("expected {wanted}, got {reply}");
        }
        Ok(())
    }

    async fn ask(&mut self, line: &str) -> Result<String> {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        self.stream.flush().await?;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<String> {
        tokio::time::timeout(Duration::from_secs(60), self.read_reply()).await?
    }

    async fn read_reply(&mut self) -> Result<String> {
        loop {
            let text = String::from_utf8_lossy(&self.buffer).into_owned();
            let mut length = 0;
            for line in text.split_inclusive("\r\n") {
                length += line.len();
                if line.ends_with("\r\n") && line.as_bytes().get(3) == Some(&b' ') {
                    self.buffer.drain(..length);
                    return Ok(text[..length].trim_end().to_owned());
                }
            }
            let mut octets = [0; 4096];
            let count = self.stream.read(&mut octets).await?;
            if count == 0 {
                bail!("connection closed");
            }
            self.buffer.extend_from_slice(&octets[..count]);
        }
    }
}

const FILLER: &[u8] = b"A line that is there for its length, and of which there are many.\r\n";

async fn connect(account: &Account, source: Option<IpAddr>) -> Result<TcpStream> {
    let Some(source) = source else {
        return Ok(TcpStream::connect((account.host.as_str(), account.port)).await?);
    };
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(source, 0))?;
    let address = SocketAddr::new(account.host.parse()?, account.port);
    Ok(socket.connect(address).await?)
}
