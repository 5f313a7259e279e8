//! The form of a Redis address, for everybody who must judge one without connecting.

/// What an address of Redis says besides where to connect. The address itself, which may hold a
/// password, is neither kept nor quoted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RedisUrl {
    /// Whether it asks for TLS.
    pub tls: bool,
}

impl RedisUrl {
    /// One of
    /// * `redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE]`: a server;
    /// * `redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]/NAME[/DATABASE]`, with
    ///   `?sentinelUsername=USER&sentinelPassword=PASSWORD`: Sentinels, and what they call the servers;
    /// * `redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]`: nodes of a Redis Cluster.
    ///
    /// `rediss` instead of `redis` for TLS. White space around it, as files end with it, is left out.
    ///
    /// # Errors
    /// [`RedisUrlError`] says what to write instead.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(RedisUrlError("it is empty"));
        }
        let form = text
            .split_once("://")
            .and_then(|(scheme, rest)| Some((scheme.split_once('+')?, rest)));
        let (transport, authority, database) = match form {
            None => return one(text),
            Some(((transport, "sentinel"), rest)) => {
                let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                let (name, database) = path.split_once('/').unwrap_or((path, ""));
                let is_of_name =
                    |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                if name.is_empty() || !name.chars().all(is_of_name) {
                    return Err(RedisUrlError(
                        "it does not name the primary behind the Sentinels",
                    ));
                }
                sentinel_login(transport, query)?;
                (transport, authority, database)
            }
            Some(((transport, "cluster"), rest)) => {
                let authority = rest.strip_suffix('/').unwrap_or(rest);
                if authority.contains(['/', '?', '#']) {
                    return Err(RedisUrlError("a cluster has no database but the first"));
                }
                (transport, authority, "")
            }
            Some(_) => return Err(OTHER_SCHEME),
        };
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let login = match login {
            "" => String::new(),
            login => format!("{login}@"),
        };
        let hosts = hosts.split(',');
        let mut parsed = hosts.map(|host| one(&format!("{transport}://{login}{host}/{database}")));
        // All or none of them ask for TLS.
        let first = parsed.next().unwrap_or(Err(NO_HOST));
        parsed.try_fold(first?, |first, other| other.map(|_| first))
    }
}

fn one(text: &str) -> Result<RedisUrl, RedisUrlError> {
    // Of all mistakes most likely a password with a character that means something in a URL.
    let url = url::Url::parse(text).map_err(|_| NO_URL)?;
    let tls = match url.scheme() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(OTHER_SCHEME),
    };
    match url.host_str() {
        None | Some("") => return Err(NO_HOST),
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
    Ok(RedisUrl { tls })
}

fn sentinel_login(transport: &str, query: &str) -> Result<(), RedisUrlError> {
    let (mut user, mut password) = ("", "");
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        match parameter.split_once('=') {
            Some(("sentinelUsername", value)) => user = value,
            Some(("sentinelPassword", value)) => password = value,
            _ => return Err(RedisUrlError("it has an unknown parameter")),
        }
    }
    one(&format!("{transport}://{user}:{password}@localhost")).map(|_| ())
}

/// Why a text is no address of Redis, without quoting it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "is not an address of Redis ({0}): write redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], \
     redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]/NAME or \
     redis+cluster://[[USER]:PASSWORD@]HOST[:PORT][,HOST..]; with rediss:// or rediss+ for TLS"
)]
pub struct RedisUrlError(&'static str);

const NO_HOST: RedisUrlError = RedisUrlError("it names no host");
const NO_URL: RedisUrlError =
    RedisUrlError("it is no URL; in user and password write / as %2F, @ as %40, % as %25");
const OTHER_SCHEME: RedisUrlError = RedisUrlError("it begins with another scheme");

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
            (
                "redis+sentinel://kurier:a%40b@s1,s2:7000,[::1]/outbound/2",
                false,
            ),
            ("rediss+sentinel://s1/main?sentinelPassword=a%2Fb", true),
            ("redis+cluster://:x@n1,n2:7000", false),
            ("rediss+cluster://n1/", true),
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
            ("redis+sentinel://:secret@s1", "does not name the primary"),
            (
                "redis+sentinel://:secret@s1/a b",
                "does not name the primary",
            ),
            ("redis+sentinel://:secret@s1,,s2/a", "no URL"),
            ("redis+sentinel://s1/a?password=secret", "unknown parameter"),
            ("redis+sentinel://s1/a?sentinelPassword=sec/ret", "no URL"),
            ("redis+cluster://:secret@n1/1", "no database"),
            ("http+cluster://:secret@n1", "another scheme"),
            ("redis+proxy://:secret@n1", "another scheme"),
        ] {
            let said = RedisUrl::parse(text).unwrap_err().to_string();
            assert!(said.contains(why), "{text}: {said}");
            assert!(said.contains("rediss://"), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
