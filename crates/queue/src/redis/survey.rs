//! Asking whoever knows something of how durable a write is: the server, and where the declared level
//! depends on them, its replicas and those who may promote one.

use std::time::Duration;

use redis::Value;
use tokio::time::Instant;

use super::address::Endpoint;
use super::connection::{ConnectError, Connection};
use super::durability::{self, Others, Store};
use super::locate::Dial;
use super::reply::text_of;
use crate::durability::Level;

/// What the server at `connection` says of itself, and others of it.
pub(super) async fn store(
    connection: &mut Connection,
    dial: &Dial,
    level: Level,
    deadline: Instant,
) -> Result<Store, ConnectError> {
    let mut store = durability::ask(connection, deadline).await?;
    if level == Level::Memory || store.is_replica() {
        return Ok(store);
    }
    // Whoever is silent must not keep the next beat waiting.
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let promotable = match store.is_cluster() {
        true => replicas_in_cluster(connection, deadline).await?,
        false => dial.promotable(deadline).await,
    };
    let asks_replicas = match level {
        Level::Memory | Level::Fsync => false,
        // One that is never promoted need not confirm, and only it can say so.
        Level::Replicated { acks } => store.replicas().len() > acks.into(),
        Level::FsyncReplicated { .. } => true,
    };
    let replicas = match asks_replicas {
        true => Some(ask_replicas(&store, dial, deadline).await),
        false => None,
    };
    store.others = Others {
        promotable,
        replicas,
    };
    Ok(store)
}

async fn ask_replicas(
    store: &Store,
    dial: &Dial,
    deadline: Instant,
) -> Vec<(String, Option<Store>)> {
    let replicas = store.replicas();
    let asked = replicas.iter().map(async |replica| {
        let endpoint = Endpoint {
            host: replica.host.to_owned(),
            port: replica.port,
        };
        let store = async {
            let mut connection = dial.server(&endpoint, deadline).await?;
            durability::ask(&mut connection, deadline).await
        };
        let store = store.await.ok();
        (format!("{}:{}", endpoint.host, endpoint.port), store)
    });
    futures::future::join_all(asked).await
}

/// How many replicas of this node the cluster knows, on line or not.
async fn replicas_in_cluster(
    connection: &mut Connection,
    deadline: Instant,
) -> Result<usize, ConnectError> {
    let mut command = redis::cmd("CLUSTER");
    command.arg("NODES");
    let reply = connection.ask(command, deadline).await?;
    // A user who may not ask is told so by what else is missing.
    Ok(text_of(&reply).map_or(0, |nodes| replicas_of_myself(&nodes)))
}

/// Lines of `ID ADDRESS FLAGS PRIMARY ..`.
fn replicas_of_myself(nodes: &str) -> usize {
    let nodes: Vec<Vec<&str>> = nodes
        .lines()
        .map(|line| line.split(' ').collect())
        .collect();
    let flags = |node: &[&str]| node.get(2).map_or("", |flags| *flags).to_owned();
    let Some(myself) = nodes.iter().find(|node| flags(node).contains("myself")) else {
        return 0;
    };
    nodes
        .iter()
        .filter(|node| node.get(3) == myself.first() && !flags(node).contains("noaddr"))
        .count()
}

/// How many of the replicas that a Sentinel knows it may promote.
pub(super) fn promotable_of(replicas: &Value) -> usize {
    let Some(replicas) = replicas.as_sequence() else {
        return 0;
    };
    let may_be_promoted = |replica: &Value| {
        let fields = replica.as_sequence().unwrap_or_default();
        let priority = fields
            .chunks_exact(2)
            .find(|pair| text_of(&pair[0]).as_deref() == Some("slave-priority"))
            .and_then(|pair| text_of(&pair[1]));
        priority.as_deref() != Some("0")
    };
    replicas
        .iter()
        .filter(|replica| may_be_promoted(replica))
        .count()
}

const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_its_replicas() {
        let nodes = "a1 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-5460\n\
            b1 127.0.0.1:7001@17001 master - 0 0 2 connected 5461-10922\n\
            a2 127.0.0.1:7002@17002 slave a1 0 0 1 connected\n\
            a3 :0@0 slave,fail,noaddr a1 0 0 1 disconnected\n\
            a4 127.0.0.1:7004@17004 slave,fail a1 0 0 1 disconnected\n\
            b2 127.0.0.1:7005@17005 slave b1 0 0 2 connected\n";
        assert_eq!(replicas_of_myself(nodes), 2);
        assert_eq!(replicas_of_myself(""), 0);
    }

    #[test]
    fn a_sentinel_tells_whom_it_promotes() {
        let text = |text: &str| Value::BulkString(text.into());
        let replica = |priority| {
            let fields = ["name", "x", "slave-priority", priority].map(text);
            Value::Array(fields.to_vec())
        };
        let replicas = Value::Array(vec![replica("100"), replica("0"), replica("1")]);
        assert_eq!(promotable_of(&replicas), 2);
        assert_eq!(promotable_of(&Value::Nil), 0);
    }
}
