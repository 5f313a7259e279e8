//! A relay in local mode and a receiving server, each on a port of its own, ended with the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
pub(crate) use kurier_test::process::{
    Running, Signal, answers, free_port, kurier, output, succeed,
};
use kurier_test::receive::{self, Arrival};
pub(crate) use kurier_test::redis::Redis;
use kurier_test::submit::Account;

use crate::eventually::{eventually, holds};
use crate::http;

/// A relay in local mode.
pub(crate) struct Relay {
    pub(crate) process: Running,
    pub(crate) port: u16,
    pub(crate) admin: u16,
}

/// What a local relay is started with.
pub(crate) struct RelaySettings<'a> {
    pub(crate) data: &'a Path,
    pub(crate) smarthost: u16,
    pub(crate) redis: Option<String>,
}

impl Relay {
    pub(crate) fn start(settings: &RelaySettings<'_>) -> Result<Self> {
        let relay = Self::launch(settings, free_port()?, free_port()?)?;
        eventually("the relay listens", Duration::from_secs(20), || {
            answers(relay.port)
        })?;
        Ok(relay)
    }

    fn launch(settings: &RelaySettings<'_>, port: u16, admin: u16) -> Result<Self> {
        let mut command = Command::new(kurier()?);
        command
            .args(["relay", "--local", "--hostname", "relay.example"])
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(["--admin", &format!("127.0.0.1:{admin}")])
            .args(["--smarthost", &format!("127.0.0.1:{}", settings.smarthost)]);
        match &settings.redis {
            Some(url) => command.args(["--redis", url]),
            None => command.arg("--data").arg(settings.data),
        };
        Ok(Self {
            process: Running::start(&mut command)?,
            port,
            admin,
        })
    }

    pub(crate) fn account(&self) -> Account {
        Account {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            server_name: None,
            login: None,
            ca: None,
        }
    }

    /// The value of a metric, summed over its labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        http::metric(&format!("127.0.0.1:{}", self.admin), name, "")
    }
}

/// One HTTP request to a loopback port; gives the body of a 200 answer.
pub(crate) fn http(port: u16, method: &str, path: &str, body: &str) -> Result<String> {
    http::request(method, &format!("127.0.0.1:{port}"), path, body)
}

/// The receiving server, in this process, with what it has received.
pub(crate) struct Receiver {
    pub(crate) port: u16,
    pub(crate) control: u16,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    _runtime: tokio::runtime::Runtime,
}

impl Receiver {
    pub(crate) fn start() -> Result<Self> {
        let (port, control) = (free_port()?, free_port()?);
        let arrivals: Arc<Mutex<Vec<Arrival>>> = Arc::default();
        let log = arrivals.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        runtime.spawn(receive::run(
            receive::Settings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                control: SocketAddr::from((Ipv4Addr::LOCALHOST, control)),
                name: "local".to_owned(),
            },
            move |arrival| log.lock().expect("no panic holds it").push(arrival.clone()),
        ));
        eventually("the receiver listens", Duration::from_secs(10), || {
            answers(port)
        })?;
        Ok(Self {
            port,
            control,
            arrivals,
            _runtime: runtime,
        })
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().expect("no panic holds it").clone()
    }

    /// Waits until `count` messages have arrived.
    pub(crate) fn wait_for(&self, count: usize, limit: Duration) -> Result<Vec<Arrival>> {
        eventually("mail arrives", limit, || {
            let arrivals = self.arrivals();
            holds(
                arrivals.len() >= count,
                format_args!("{} of {count}", arrivals.len()),
            )?;
            Ok(arrivals)
        })
    }
}
