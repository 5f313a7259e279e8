//! Names of sites: what connections and limits of a destination are keyed by.
//!
//! Domains with the same mail exchangers are one site, whatever they are called; sites with
//! different exchangers never share a name.

use crate::exchangers::Exchangers;
use crate::host::HostName;

/// The site of a set of mail exchangers: their hosts with the common end taken out,
/// `(|alt1|alt2).aspmx.l.example.com`. Preferences do not matter, only who the hosts are.
pub fn mx_site(exchangers: &Exchangers) -> String {
    let mut hosts: Vec<String> = exchangers.iter().map(|e| e.host.to_string()).collect();
    hosts.sort_unstable();
    let [first, others @ ..] = hosts.as_slice() else {
        return String::new();
    };
    if others.is_empty() {
        return first.clone();
    }
    let common = others
        .iter()
        .fold(first.as_str(), |common, host| common_end(common, host));
    let fronts: Vec<&str> = hosts
        .iter()
        .map(|host| host[..host.len() - common.len()].trim_end_matches('.'))
        .collect();
    let fronts = fronts.join("|");
    let dot = if common.is_empty() { "" } else { "." };
    let site = format!("({fronts}){dot}{common}");
    if site.len() <= MAX_LENGTH {
        return site;
    }
    // Long names are told apart by a digest that every version and every pod must agree on.
    format!("({:016x}){dot}{common}", fnv1a(fronts.as_bytes()))
}

/// The site of a smarthost.
pub fn smarthost_site(host: &HostName, port: u16) -> String {
    match host {
        HostName::Address(std::net::IpAddr::V6(address)) => format!("[{address}]:{port}"),
        host => format!("{host}:{port}"),
    }
}

/// The labels that both names end in.
fn common_end<'n>(a: &'n str, b: &str) -> &'n str {
    let mut length = 0;
    for (label_a, label_b) in a.rsplit('.').zip(b.rsplit('.')) {
        if label_a != label_b {
            break;
        }
        length += label_a.len() + 1;
    }
    &a[(a.len() + 1).saturating_sub(length.max(1))..]
}

fn fnv1a(octets: &[u8]) -> u64 {
    octets.iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

const MAX_LENGTH: usize = 255;

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::MX;

    use super::*;

    fn site(hosts: &[&str]) -> String {
        let records: Vec<MX> = (0..)
            .zip(hosts)
            .map(|(n, host)| MX::new(n, Name::from_ascii(format!("{host}.")).unwrap()))
            .collect();
        let domain = HostName::parse("example.org").unwrap();
        mx_site(&Exchangers::from_records(domain, &records, 1).unwrap())
    }

    #[test]
    fn exchangers_name_the_site() {
        let check = |hosts: &[&str], expected: &str| assert_eq!(site(hosts), expected);
        check(&["mx.example.com"], "mx.example.com");
        check(
            &["mx2.example.com", "mx1.example.com"],
            "(mx1|mx2).example.com",
        );
        check(
            &["alt1.aspmx.example", "aspmx.example", "alt2.aspmx.example"],
            "(alt1|alt2|).aspmx.example",
        );
        check(&["a.x.co.uk", "b.y.co.uk"], "(a.x|b.y).co.uk");
        check(
            &["mx.example.com", "mx.example.net"],
            "(mx.example.com|mx.example.net)",
        );
        check(&["xmx.example", "mx.example"], "(mx|xmx).example");
    }

    #[test]
    fn long_names_are_digested() {
        let hosts: Vec<String> = (10..30)
            .map(|n| format!("{}{n}.example.com", "mx".repeat(25)))
            .collect();
        let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
        let long = site(&hosts);
        assert_eq!(long, "(3f6a5011fbc097cd).example.com");
        assert_ne!(long, site(&hosts[1..]));
    }

    #[test]
    fn smarthosts_are_named_with_their_port() {
        let check = |host: &str, expected: &str| {
            assert_eq!(
                smarthost_site(&HostName::parse(host).unwrap(), 587),
                expected
            );
        };
        check("Relay.example.com.", "relay.example.com:587");
        check("192.0.2.1", "192.0.2.1:587");
        check("2001:db8::1", "[2001:db8::1]:587");
    }
}
