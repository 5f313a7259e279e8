//! A name server for tests: authoritative for what it is told, over UDP, on loopback.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{MX, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// Answers until it is dropped.
pub(crate) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<(String, RecordType)>>>,
}

/// How a name answers.
#[derive(Clone, Default)]
pub(crate) enum Answer {
    /// With these records; without one of the type asked for, that there is none (NODATA).
    Records(Vec<RData>),
    #[default]
    NoSuchName,
    ServerFailure,
    Silence,
}

/// What a zone says, by name (without a trailing dot) and, where it matters, by type.
#[derive(Default)]
pub(crate) struct Zone {
    names: HashMap<String, Answer>,
    types: HashMap<(String, RecordType), Answer>,
}

impl Zone {
    pub(crate) fn mx(mut self, name: &str, exchangers: &[(u16, &str)]) -> Self {
        for (preference, host) in exchangers {
            let exchange = Name::from_ascii(format!("{}.", host.trim_end_matches('.'))).unwrap();
            self.add(name, RData::MX(MX::new(*preference, exchange)));
        }
        self
    }

    pub(crate) fn address(mut self, name: &str, addresses: &[&str]) -> Self {
        for address in addresses {
            let record = match address.parse().unwrap() {
                IpAddr::V4(address) => RData::A(address.into()),
                IpAddr::V6(address) => RData::AAAA(address.into()),
            };
            self.add(name, record);
        }
        self
    }

    pub(crate) fn answer(mut self, name: &str, answer: Answer) -> Self {
        self.names.insert(name.to_owned(), answer);
        self
    }

    pub(crate) fn answer_to(mut self, name: &str, asked: RecordType, answer: Answer) -> Self {
        self.types.insert((name.to_owned(), asked), answer);
        self
    }

    fn add(&mut self, name: &str, record: RData) {
        match self
            .names
            .entry(name.to_owned())
            .or_insert_with(|| Answer::Records(Vec::new()))
        {
            Answer::Records(records) => records.push(record),
            _ => panic!("{name} answers otherwise"),
        }
    }

    fn look_up(&self, name: &str, asked: RecordType) -> Answer {
        self.types
            .get(&(name.to_owned(), asked))
            .or_else(|| self.names.get(name))
            .cloned()
            .unwrap_or_default()
    }
}

impl NameServer {
    pub(crate) fn start(zone: Zone) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        thread::spawn(move || serve(&socket, &zone, &log));
        Self { address, asked }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every query so far, in order, names as they were sent.
    pub(crate) fn asked(&self) -> Vec<(String, RecordType)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // An empty datagram is no query: it ends the thread.
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .send_to(&[], self.address)
            .unwrap();
    }
}

fn serve(socket: &UdpSocket, zone: &Zone, log: &Mutex<Vec<(String, RecordType)>>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        if length == 0 {
            return;
        }
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let question = query.queries[0].clone();
        let name = question.name().to_ascii().to_ascii_lowercase();
        log.lock()
            .unwrap()
            .push((name.clone(), question.query_type()));
        let answer = zone.look_up(name.trim_end_matches('.'), question.query_type());
        let mut response = Message::response(query.metadata.id, query.metadata.op_code);
        response.add_query(question.clone());
        match answer {
            Answer::Records(records) => {
                let matching = records
                    .into_iter()
                    .filter(|record| record.record_type() == question.query_type())
                    .map(|record| Record::from_rdata(question.name().clone(), 60, record));
                response.add_answers(matching);
            }
            Answer::NoSuchName => response.metadata.response_code = ResponseCode::NXDomain,
            Answer::ServerFailure => response.metadata.response_code = ResponseCode::ServFail,
            Answer::Silence => continue,
        }
        if response.answers.is_empty() {
            // RFC 2308 §3: without it a negative answer is not cached.
            let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, 60);
            response.add_authorities([Record::from_rdata(Name::root(), 60, RData::SOA(soa))]);
        }
        socket.send_to(&response.to_vec().unwrap(), client).unwrap();
    }
}
