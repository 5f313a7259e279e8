//! A network between one relay and its Redis that knows what goes over it: it can hold, lose or delay
//! single requests and replies, and fall silent altogether.

use std::collections::{HashSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::gate::{Gate, Pass, Step};
use crate::process::free_port;

pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    redis: u16,
    gate: Gate,
    is_silent: watch::Sender<bool>,
    /// Digests of the script that settles and claims.
    next: Mutex<HashSet<String>>,
}

/// What the reply to a request is looked at for.
enum Kind {
    Commit,
    /// Loads the script that settles and claims.
    LoadNext,
    Next {
        settles: bool,
    },
    Abort,
    Other,
}

impl Proxy {
    pub(crate) fn before(redis: u16, runtime: &Runtime) -> Result<Self> {
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let shared = Arc::new(Shared {
            redis,
            gate: Gate::new(),
            is_silent: watch::Sender::new(false),
            next: Mutex::default(),
        });
        let carrying = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((relay, _)) = listener.accept().await {
                let shared = Arc::clone(&carrying);
                tokio::spawn(async move {
                    // Either side may go away at any moment.
                    let _ = carry(relay, shared).await;
                });
            }
        });
        Ok(Self { port, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.shared.gate
    }

    /// Nothing gets through, in either direction, and nobody is told.
    pub(crate) fn silence(&self, is_silent: bool) {
        self.shared.is_silent.send_replace(is_silent);
    }
}

async fn carry(relay: TcpStream, shared: Arc<Shared>) -> Result<()> {
    shared.speaks().await;
    let redis = TcpStream::connect((Ipv4Addr::LOCALHOST, shared.redis)).await?;
    relay.set_nodelay(true)?;
    redis.set_nodelay(true)?;
    let (from_relay, to_relay) = relay.into_split();
    let (from_redis, to_redis) = redis.into_split();
    let asked = Arc::new(Mutex::new(VecDeque::new()));
    let replies = tokio::spawn(replies(
        from_redis,
        to_relay,
        Arc::clone(&asked),
        Arc::clone(&shared),
    ));
    let ended = requests(
        from_relay,
        to_redis,
        &asked,
        &shared,
        &replies.abort_handle(),
    )
    .await;
    replies.abort();
    ended
}

type Asked = Mutex<VecDeque<Kind>>;

async fn requests(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
    shared: &Shared,
    replies: &AbortHandle,
) -> Result<()> {
    let mut from = BufReader::new(from);
    loop {
        let item = read(&mut from).await?;
        shared.speaks().await;
        let kind = shared.kind_of(&item.texts);
        let step = match kind {
            Kind::Commit => Some(Step::Commit),
            Kind::Next { settles: true } => Some(Step::Settle),
            Kind::Abort => Some(Step::Abort),
            _ => None,
        };
        let pass = match step {
            Some(step) => shared.gate.pass(step).await,
            None => Pass::On,
        };
        if pass == Pass::Cut {
            return Ok(());
        }
        lock(asked).push_back(kind);
        if pass == Pass::Late {
            // For the relay the connection has ended.
            replies.abort();
            drop(from);
            shared.gate.delivery().await;
            to.write_all(&item.octets).await?;
            shared.gate.delivered();
            // Redis is to find it before it finds nobody there any more.
            return std::future::pending().await;
        }
        to.write_all(&item.octets).await?;
    }
}

async fn replies(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Arc<Asked>,
    shared: Arc<Shared>,
) -> Result<()> {
    let mut from = BufReader::new(from);
    loop {
        let item = read(&mut from).await?;
        shared.speaks().await;
        let kind = lock(&asked).pop_front();
        let step = match kind {
            Some(Kind::Commit) => Some(Step::Committed),
            Some(Kind::Next { settles: true }) => Some(Step::Settled),
            // A grant names its queue and tasks; all else are numbers.
            Some(Kind::Next { settles: false }) if !item.texts.is_empty() => Some(Step::Claimed),
            Some(Kind::Abort) => Some(Step::Aborted),
            Some(Kind::LoadNext) => {
                lock(&shared.next).extend(item.texts.iter().cloned());
                None
            }
            _ => None,
        };
        if let Some(step) = step
            && shared.gate.pass(step).await != Pass::On
        {
            return Ok(());
        }
        to.write_all(&item.octets).await?;
    }
}

impl Shared {
    async fn speaks(&self) {
        let mut is_silent = self.is_silent.subscribe();
        let _ = is_silent.wait_for(|is_silent| !is_silent).await;
    }

    fn kind_of(&self, words: &[String]) -> Kind {
        let word = |position: usize| words.get(position).map_or("", String::as_str);
        match word(0) {
            "EXEC" => Kind::Commit,
            "SCRIPT" if word(2).contains(IN_NEXT) => Kind::LoadNext,
            "EVALSHA" if lock(&self.next).contains(word(1)) => Kind::Next {
                // A handle: the task, and the queue it is in.
                settles: words.iter().skip(4).any(|word| word.contains('|')),
            },
            // Worker, lane and number of the call; then the message, and its tasks.
            "EVALSHA" if word(7).len() == MESSAGE_ID && word(8).starts_with(word(7)) => Kind::Abort,
            _ => Kind::Other,
        }
    }
}

/// One request or reply, and the strings in it.
struct Item {
    octets: Vec<u8>,
    texts: Vec<String>,
}

async fn read<R: AsyncRead + Unpin>(from: &mut BufReader<R>) -> Result<Item> {
    let (mut octets, mut texts) = (Vec::new(), Vec::new());
    let mut left = 1_usize;
    while left > 0 {
        left -= 1;
        let start = octets.len();
        anyhow::ensure!(from.read_until(b'\n', &mut octets).await? > 0, "the end");
        let line = String::from_utf8_lossy(&octets[start..])
            .trim_end()
            .to_owned();
        let (kind, rest) = line.split_at_checked(1).context("an empty line")?;
        let count = rest.parse::<usize>();
        match (kind, count) {
            ("*", Ok(count)) => left += count,
            ("$", Ok(count)) => {
                let start = octets.len();
                octets.resize(start + count + 2, 0);
                from.read_exact(&mut octets[start..]).await?;
                texts.push(String::from_utf8_lossy(&octets[start..start + count]).into_owned());
            }
            _ => {}
        }
    }
    Ok(Item { octets, texts })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Of all scripts only this one hands tasks out.
const IN_NEXT: &str = "hand_out(granted";
const MESSAGE_ID: usize = 26;
