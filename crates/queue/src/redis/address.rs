//! `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS.

use std::fmt;

/// Where a Redis is and as whom to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// Never shows the credentials.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Why a text is not such an address. It names no part of the text: there may be a password in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    #[error("it starts with neither redis:// nor rediss://")]
    Scheme,
    #[error("it names no host, or one that is not a name or an address")]
    Host,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error("what follows the host is not the number of a database")]
    Database,
    #[error("user or password hold a % that does not begin two hexadecimal digits of an octet")]
    Credentials,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let (tls, rest) = if let Some(rest) = text.strip_prefix("redis://") {
            (false, rest)
        } else if let Some(rest) = text.strip_prefix("rediss://") {
            (true, rest)
        } else {
            return Err(AddressError::Scheme);
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (credentials, place),
            None => ("", authority),
        };
        let (username, password) = match credentials.split_once(':') {
            Some((user, password)) => (decoded(user)?, decoded(password)?),
            None => (decoded(credentials)?, None),
        };
        let (host, port) = host_and_port(place)?;
        let database = match path.trim_end_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| AddressError::Database)?,
        };
        Ok(Self {
            host,
            port,
            tls,
            username,
            password,
            database,
        })
    }
}

fn host_and_port(place: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(AddressError::Host)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(AddressError::Host);
            }
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(AddressError::Port),
            }
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(named) {
        return Err(AddressError::Host);
    }
    let port = match port {
        Some(port) => port
            .parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or(AddressError::Port)?,
        None => 6379,
    };
    Ok((host.to_owned(), port))
}

/// RFC 3986 §2.1: percent-encoded octets. Empty is none.
fn decoded(text: &str) -> Result<Option<String>, AddressError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err(AddressError::Credentials);
            };
            octets.push((high * 16 + low) as u8);
        } else {
            octets.push(octet);
        }
    }
    let text = String::from_utf8(octets).map_err(|_| AddressError::Credentials)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let plain = |host: &str, port| Address {
            host: host.into(),
            port,
            tls: false,
            username: None,
            password: None,
            database: 0,
        };
        let cases = [
            ("redis://localhost", plain("localhost", 6379)),
            ("redis://127.0.0.1:7000/\n", plain("127.0.0.1", 7000)),
            ("redis://[::1]:7000", plain("::1", 7000)),
            (
                "redis://r.mail.svc/3",
                Address {
                    database: 3,
                    ..plain("r.mail.svc", 6379)
                },
            ),
            (
                "rediss://:p%40ss%2Fw@host:6380",
                Address {
                    tls: true,
                    password: Some("p@ss/w".into()),
                    ..plain("host", 6380)
                },
            ),
            (
                "redis://kurier:a@b@host",
                Address {
                    username: Some("kurier".into()),
                    password: Some("a@b".into()),
                    ..plain("host", 6379)
                },
            ),
        ];
        for (text, address) in cases {
            let got = Address::parse(text).unwrap();
            assert!(got == address, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_showing_it() {
        let cases = [
            ("http://host", AddressError::Scheme),
            ("redis://", AddressError::Host),
            ("redis://a b", AddressError::Host),
            ("redis://[x]", AddressError::Host),
            ("redis://host:0", AddressError::Port),
            ("redis://host:70000", AddressError::Port),
            ("redis://host/x", AddressError::Database),
            ("redis://:%zz@host", AddressError::Credentials),
        ];
        for (text, error) in cases {
            assert_eq!(Address::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn credentials_are_not_shown() {
        let address = Address::parse("redis://user:secret@host").unwrap();
        assert_eq!(
            format!("{address} {address:?}"),
            "host:6379 Address(host:6379)"
        );
    }
}
