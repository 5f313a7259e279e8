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

use config::{Action, DomainPattern, Route, Smarthost};

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
    pub fn new(routes: &[Route]) -> Self {
        let mut compiled = Self::default();
        for route in routes {
            for (position, rule) in route.rules.iter().enumerate() {
                let rank = Rank {
                    priority: Reverse(route.priority),
                    route: route.name.clone(),
                    position,
                };
                let name = match &rule.action {
                    // Called `mx:<domain>` as if there were no rule, so that the mail of a domain
                    // has one queue.
                    Action::Mx => None,
                    Action::Smarthost(smarthost) => {
                        let name = RouteName::Rule {
                            route: &route.name,
                            rule: &rule.name,
                        };
                        let name: Arc<str> = name.to_string().into();
                        let target = Target::Smarthost(smarthost.clone());
                        compiled.targets.insert(Arc::clone(&name), target);
                        Some(name)
                    }
                };
                let matched = Ranked { rank, name };
                let patterns = match rule.r#match.recipient_domains.as_slice() {
                    [] => &[DomainPattern::Any],
                    patterns => patterns,
                };
                for pattern in patterns {
                    compiled.insert(pattern, &matched);
                }
            }
        }
        compiled
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

    /// Names that lead somewhere else than they did `before`, or have gone or come.
    pub fn changed_from(&self, before: &Self) -> Vec<String> {
        let names = self.targets.keys().chain(before.targets.keys());
        let mut changed: Vec<String> = names
            .filter(|name| self.targets.get(*name) != before.targets.get(*name))
            .map(|name| name.to_string())
            .collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    fn decide(&self, domain: &str) -> Target {
        self.matching(domain)
            .and_then(|matched| self.targets.get(matched.name.as_deref()?))
            .cloned()
            .unwrap_or_else(|| Target::Mx {
                domain: domain.to_owned(),
            })
    }

    fn insert(&mut self, pattern: &DomainPattern, matched: &Ranked) {
        let better = |held: &Ranked| matched.rank < held.rank;
        match pattern {
            DomainPattern::Exact(domain) => {
                if self.exact.get(domain).is_none_or(better) {
                    self.exact.insert(domain.clone(), matched.clone());
                }
            }
            DomainPattern::Below(domain) => {
                if self.wildcard.get(domain).is_none_or(better) {
                    self.wildcard.insert(domain.clone(), matched.clone());
                }
            }
            DomainPattern::Any => {
                if self.any.as_ref().is_none_or(better) {
                    self.any = Some(matched.clone());
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

/// Where an attempt goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// The mail exchangers of `domain` (RFC 5321 §5.1), or the host of an address literal.
    Mx {
        domain: String,
    },
    Smarthost(Smarthost),
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
    use config::delivery::NextHopTls;
    use config::route::{Match, Rule};

    use super::*;

    fn smarthost(host: &str) -> Smarthost {
        Smarthost {
            host: host.to_owned(),
            port: 25,
            tls: NextHopTls::Opportunistic,
        }
    }

    /// A rule with a smarthost of the same name, or by MX.
    fn rule(name: &str, domains: &[&str]) -> Rule {
        Rule {
            name: name.to_owned(),
            r#match: Match {
                recipient_domains: domains.iter().map(|d| d.parse().unwrap()).collect(),
            },
            action: match name {
                "mx" => Action::Mx,
                host => Action::Smarthost(smarthost(host)),
            },
            limits: None,
        }
    }

    fn route(name: &str, priority: i32, rules: impl IntoIterator<Item = Rule>) -> Route {
        Route {
            name: name.to_owned(),
            priority,
            rules: rules.into_iter().collect(),
        }
    }

    #[test]
    fn more_specific_wins_then_priority_then_name_then_position() {
        let mut configured = vec![
            route(
                "a",
                0,
                [
                    rule("any", &[]),
                    rule("wide", &["*.example"]),
                    rule("narrow", &["*.corp.example"]),
                    rule("mx", &["direct.example"]),
                    rule("exact", &["Mail.Corp.Example", "twice.test"]),
                    rule("second", &["*"]),
                ],
            ),
            route("b", 0, [rule("by-name", &["*.corp.example", "twice.test"])]),
            route(
                "c",
                9,
                [
                    rule("by-priority", &["twice.test"]),
                    rule("by-position", &["twice.test"]),
                ],
            ),
        ];
        for _ in 0..2 {
            let routes = Routes::new(&configured);
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
            configured.reverse();
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
        let before = Routes::new(&[route("corp", 0, [rule("old", &["corp.example"])])]);
        let name = before.route("corp.example");
        let mut changed = rule("old", &["elsewhere.example"]);
        changed.action = Action::Smarthost(smarthost("new-host"));
        let after = Routes::new(&[route("corp", 0, [changed])]);
        assert_eq!(
            after.resolve(&name, "corp.example"),
            Target::Smarthost(smarthost("new-host")),
            "a changed target serves queued mail, even where the rule matches it no longer"
        );

        let gone = Routes::new(&[route("other", 0, [rule("any", &["*"])])]);
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
}
