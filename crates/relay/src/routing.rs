//! Which route a recipient domain takes, and where a route leads.
//!
//! Twice in a message's life: reception asks [`Routes::route`] once and stores the *name* with the
//! task; every delivery attempt asks [`Routes::resolve`] what that name means now. So a changed
//! smarthost serves mail that was queued before the change.
//!
//! Precedence, decided once in [`Routes::new`]: exact domain, longest wildcard, any domain; then
//! priority, higher first; then the name of the route; then the order of its rules. Age never
//! decides: applying the same resources again must not re-order routing.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Compiled routes. Cheap to ask, replaced as a whole when the configuration changes.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    exact: HashMap<String, Ranked>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Ranked>,
    any: Option<Ranked>,
    /// What the names mean, whether or not they match anything.
    targets: HashMap<Arc<str>, Target>,
}

impl Routes {
    /// Compiles rules. Of two rules for the same pattern the one of higher rank wins.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut routes = Self::default();
        for rule in rules {
            let name: Arc<str> = RouteName::Rule {
                route: &rule.route,
                rule: &rule.rule,
            }
            .to_string()
            .into();
            let rank = Rank {
                priority: Reverse(rule.priority),
                route: rule.route,
                position: rule.position,
            };
            let matched = Ranked {
                rank,
                name: match &rule.action {
                    Action::Mx => None,
                    Action::Smarthost(_) => Some(Arc::clone(&name)),
                },
            };
            if let Action::Smarthost(smarthost) = rule.action {
                routes.targets.insert(name, Target::Smarthost(smarthost));
            }
            for pattern in rule.recipient_domains {
                routes.insert(pattern, matched.clone());
            }
        }
        routes
    }

    /// Everything goes to one host, as in local mode with a smarthost.
    pub fn all_to(smarthost: Smarthost) -> Self {
        Self::new([Rule {
            route: "local".to_owned(),
            priority: 0,
            rule: "smarthost".to_owned(),
            position: 0,
            recipient_domains: vec![DomainPattern::Any],
            action: Action::Smarthost(smarthost),
        }])
    }

    /// The name of the route that mail for `domain` takes: `rule:<route>/<rule>`, or `mx:<domain>`
    /// where no rule says otherwise. `domain` is in lower case; an address literal keeps its
    /// brackets.
    pub fn route(&self, domain: &str) -> String {
        self.matching(domain)
            .and_then(|matched| matched.name.as_deref())
            .map_or_else(|| RouteName::Mx { domain }.to_string(), str::to_owned)
    }

    /// Where the route called `name` leads now, for mail to `domain`.
    ///
    /// A rule that is gone leaves its mail to the rule that would take it today: a name that means
    /// nothing, and one that no version of this program wrote, are decided anew by `domain`.
    pub fn resolve(&self, name: &str, domain: &str) -> Target {
        match RouteName::parse(name) {
            Some(RouteName::Mx { domain }) => Target::Mx {
                domain: domain.to_owned(),
            },
            Some(RouteName::Rule { .. }) if let Some(target) = self.targets.get(name) => {
                target.clone()
            }
            Some(RouteName::Rule { .. }) | None => self.decide(domain),
        }
    }

    fn decide(&self, domain: &str) -> Target {
        self.matching(domain)
            .and_then(|matched| self.targets.get(matched.name.as_deref()?))
            .cloned()
            .unwrap_or_else(|| Target::Mx {
                domain: domain.to_owned(),
            })
    }

    fn insert(&mut self, pattern: DomainPattern, matched: Ranked) {
        let better = |held: &Ranked| matched.rank < held.rank;
        match pattern {
            DomainPattern::Exact(domain) => {
                if self.exact.get(&domain).is_none_or(better) {
                    self.exact.insert(domain, matched);
                }
            }
            DomainPattern::Below(domain) => {
                if self.wildcard.get(&domain).is_none_or(better) {
                    self.wildcard.insert(domain, matched);
                }
            }
            DomainPattern::Any => {
                if self.any.as_ref().is_none_or(better) {
                    self.any = Some(matched);
                }
            }
        }
    }

    fn matching(&self, domain: &str) -> Option<&Ranked> {
        let by_wildcard = || {
            parents(domain)
                .find_map(|parent| self.wildcard.get(parent))
                .or(self.any.as_ref())
        };
        self.exact.get(domain).or_else(by_wildcard)
    }
}

/// One rule of a route, as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub route: String,
    pub priority: i32,
    pub rule: String,
    /// Where it stands among the rules of its route.
    pub position: usize,
    pub recipient_domains: Vec<DomainPattern>,
    pub action: Action,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// By the recipient domain's mail exchangers; the route's name is then `mx:<domain>`, as if
    /// there were no rule, so that one domain's mail has one queue.
    Mx,
    Smarthost(Smarthost),
}

/// `example.com`, `*.example.com` (at any depth, not `example.com` itself) or `*`; lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DomainPattern {
    Any,
    Below(String),
    Exact(String),
}

impl DomainPattern {
    pub fn new(pattern: &str) -> Self {
        let pattern = pattern.to_ascii_lowercase();
        match pattern.strip_prefix("*.") {
            Some(parent) => Self::Below(parent.to_owned()),
            None if pattern == "*" => Self::Any,
            None => Self::Exact(pattern),
        }
    }

    /// Whether `domain`, in lower case, is one of those meant.
    pub fn matches(&self, domain: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Below(parent) => parents(domain).any(|p| p == parent),
            Self::Exact(exact) => exact == domain,
        }
    }
}

/// Where an attempt goes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Target {
    /// The mail exchangers of `domain` (RFC 5321 §5.1), or the host of an address literal.
    Mx {
        domain: String,
    },
    Smarthost(Smarthost),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Smarthost {
    /// A host name or an IP address.
    pub host: String,
    pub port: u16,
    pub tls: TlsRequirement,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsRequirement {
    /// TLS from the first octet (RFC 8314), verified.
    Implicit,
    /// STARTTLS where it is offered, in clear where not.
    #[default]
    Opportunistic,
    /// STARTTLS and a verified server.
    Require,
}

/// How routes are called in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteName<'a> {
    Mx { domain: &'a str },
    Rule { route: &'a str, rule: &'a str },
}

impl<'a> RouteName<'a> {
    pub fn parse(name: &'a str) -> Option<Self> {
        if let Some(domain) = name.strip_prefix("mx:") {
            return (!domain.is_empty()).then_some(Self::Mx { domain });
        }
        let (route, rule) = name.strip_prefix("rule:")?.split_once('/')?;
        Some(Self::Rule { route, rule })
    }
}

impl fmt::Display for RouteName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mx { domain } => write!(f, "mx:{domain}"),
            Self::Rule { route, rule } => write!(f, "rule:{route}/{rule}"),
        }
    }
}

#[derive(Clone, Debug)]
struct Ranked {
    rank: Rank,
    /// `None` is `mx:` and the domain that was asked for.
    name: Option<Arc<str>>,
}

/// The lesser rank wins.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank {
    priority: Reverse<i32>,
    route: String,
    position: usize,
}

/// The domains above `domain`, longest first.
fn parents(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(above(domain), |domain| above(domain))
}

fn above(domain: &str) -> Option<&str> {
    domain.split_once('.').map(|(_, parent)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smarthost(host: &str) -> Smarthost {
        Smarthost {
            host: host.to_owned(),
            port: 25,
            tls: TlsRequirement::default(),
        }
    }

    /// A rule whose smarthost is called like its rule.
    fn rule(route: &str, priority: i32, rule: &str, position: usize, domains: &[&str]) -> Rule {
        Rule {
            route: route.to_owned(),
            priority,
            rule: rule.to_owned(),
            position,
            recipient_domains: domains.iter().map(|d| DomainPattern::new(d)).collect(),
            action: Action::Smarthost(smarthost(rule)),
        }
    }

    #[test]
    fn more_specific_wins_then_priority_then_name_then_position() {
        let mut direct = rule("a", 0, "direct", 3, &["direct.example"]);
        direct.action = Action::Mx;
        let mut rules = vec![
            rule("a", 0, "any", 0, &["*"]),
            rule("a", 0, "wide", 1, &["*.example"]),
            rule("a", 0, "narrow", 2, &["*.corp.example"]),
            direct,
            rule("a", 0, "exact", 4, &["Mail.Corp.Example", "twice.test"]),
            rule("b", 0, "by-name", 0, &["*.corp.example", "twice.test"]),
            rule("c", 9, "by-priority", 0, &["twice.test"]),
            rule("c", 9, "by-position", 1, &["twice.test"]),
        ];
        for _ in 0..2 {
            let routes = Routes::new(rules.clone());
            let check = |domain: &str, expected: &str| {
                assert_eq!(routes.route(domain), expected, "{domain}");
            };
            check("mail.corp.example", "rule:a/exact");
            check("a.b.corp.example", "rule:a/narrow");
            check("corp.example", "rule:a/wide");
            check("example", "rule:a/any");
            check("elsewhere.test", "rule:a/any");
            check("direct.example", "mx:direct.example");
            check("twice.test", "rule:c/by-priority");
            check("[192.0.2.1]", "rule:a/any");
            rules.reverse();
        }
    }

    #[test]
    fn without_rules_it_is_the_mail_exchangers() {
        let routes = Routes::default();
        assert_eq!(routes.route("example.com"), "mx:example.com");
        assert_eq!(
            routes.resolve("mx:example.com", "example.com"),
            Target::Mx {
                domain: "example.com".to_owned()
            }
        );
    }

    #[test]
    fn names_are_resolved_at_each_attempt() {
        let before = Routes::new([rule("corp", 0, "old", 0, &["corp.example"])]);
        let name = before.route("corp.example");
        let mut changed = rule("corp", 0, "old", 0, &["elsewhere.example"]);
        changed.action = Action::Smarthost(smarthost("new-host"));
        let after = Routes::new([changed]);
        assert_eq!(
            after.resolve(&name, "corp.example"),
            Target::Smarthost(smarthost("new-host")),
            "a changed target serves queued mail, even where the rule matches it no longer"
        );

        let gone = Routes::new([rule("other", 0, "any", 0, &["*"])]);
        let any = Target::Smarthost(smarthost("any"));
        assert_eq!(gone.resolve(&name, "corp.example"), any);
        assert_eq!(gone.resolve("nonsense", "corp.example"), any);
        assert_eq!(gone.resolve("mx:", "corp.example"), any);
        assert_eq!(
            Routes::default().resolve(&name, "corp.example"),
            Target::Mx {
                domain: "corp.example".to_owned()
            }
        );
    }

    #[test]
    fn all_to_one_host() {
        let routes = Routes::all_to(smarthost("127.0.0.1"));
        let name = routes.route("example.com");
        assert_eq!(name, "rule:local/smarthost");
        assert_eq!(
            routes.resolve(&name, "example.com"),
            Target::Smarthost(smarthost("127.0.0.1"))
        );
    }
}
