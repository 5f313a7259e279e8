//! The form of a Redis address, for everybody who must judge one without connecting.

/// What an address of Redis says besides where to connect. The address itself, which may hold a
/// password, is neither kept nor quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedisUrl {
    /// Whether it asks for TLS.
    pub tls: bool,
}

impl RedisUrl {
    /// `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS; white space around
    /// it, as files end with it, is left out.
    ///
    /// # Errors
    /// [`RedisUrlError`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RedisUrlError("it is empty"));
        }
        // Of all mistakes most likely a password with a character that means something in a URL.
        let url = url::Url::parse(text).map_err(|_| {
            RedisUrlError("it is no URL; in user and password write / as %2F, @ as %40, % as %25")
        })?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(RedisUrlError("it begins with another scheme")),
        };
        match url.host_str() {
            None | Some("") => return Err(RedisUrlError("it names no host")),
            Some("0.0.0.0" | "[::]") => {
                return Err(RedisUrlError("its host is a wildcard address"));
            }
            Some(_) => {}
        }
        let database = url.path().trim_matches('/');
        if !database.is_empty() && database.parse::<u32>().is_err() {
            return Err(RedisUrlError("its database is no number"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RedisUrlError("something follows the database"));
        }
        Ok(Self { tls })
    }
}

/// Why a text is no address of Redis, without quoting it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "is not an address of Redis ({0}): write redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS"
)]
pub struct RedisUrlError(&'static str);

#[cfg(test)]
mod tests {
    use super::RedisUrl;

    #[test]
    fn the_form_is_checked() {
        for (text, tls) in [
            ("redis://localhost", false),
            (" redis://127.0.0.1:7000/\n", false),
            ("redis://[::1]:7000/3", false),
            ("redis://kurier:a%40b@r.mail.svc:6379/0", false),
            ("rediss://:p%2Fw@host:6380", true),
        ] {
            assert_eq!(RedisUrl::parse(text).unwrap().tls, tls, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for (text, why) in [
            ("", "empty"),
            ("secret", "no URL"),
            ("redis:secret", "no host"),
            ("redis://:sec/ret@host", "no URL"),
            ("redis://:secret@", "no URL"),
            ("redis://", "no host"),
            ("redis://:secret@host:70000", "no URL"),
            ("redis://:secret@host/x", "no number"),
            ("redis://:secret@0.0.0.0", "wildcard"),
            ("rediss://:secret@host/#insecure", "follows"),
            ("redis://:secret@host?protocol=resp3", "follows"),
            ("http://:secret@host", "another scheme"),
            ("unix:///secret.sock", "another scheme"),
        ] {
            let said = RedisUrl::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
            assert!(said.contains("rediss://"), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
