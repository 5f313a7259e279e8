//! A name server that knows addresses, for hosts with more than one of them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;

/// Answers for the names of `zone`, and NXDOMAIN for others.
pub(crate) async fn start(zone: &[(&str, &[Ipv4Addr])]) -> SocketAddr {
    let zone: HashMap<String, Vec<Ipv4Addr>> = zone
        .iter()
        .map(|(name, addresses)| ((*name).to_owned(), addresses.to_vec()))
        .collect();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            if let Some(reply) = answer(&zone, &query[..length]) {
                let _ = socket.send_to(&reply, from).await;
            }
        }
    });
    address
}

/// RFC 1035 §4: the header, the question as it was asked, and an A record for each address.
fn answer(zone: &HashMap<String, Vec<Ipv4Addr>>, query: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let is_a = query.get(at..at + 2)? == [0, 1];
    let known = zone.get(&labels.join("."));
    let addresses = known
        .filter(|_| is_a)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let code = if known.is_some() { 0 } else { 3 };
    let count = u16::try_from(addresses.len()).ok()?.to_be_bytes();
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([0x84, code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    reply.extend(query.get(12..at + 4)?);
    for address in addresses {
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
