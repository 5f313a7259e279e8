//! Where mail goes.

use serde::{Deserialize, Serialize};

use crate::delivery::{NextHopTls, Rate};
use crate::hostname::is_domain;
use crate::pattern::DomainPattern;

/// An ordered set of rules under one name. Precedence over all routes: exact domain, longest
/// wildcard, any; then higher `priority`; then name. Mail that no rule matches goes by MX.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    pub name: String,
    #[serde(default)]
    pub priority: i32,
    pub rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    #[serde(default)]
    pub r#match: Match,
    pub action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<RuleLimits>,
}

/// What holds for a rule's smarthost instead of what holds for every destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleLimits {
    /// Connections at a time, over all relays of the queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl RuleLimits {
    /// What is wrong with them in a rule with this action.
    pub fn problem(&self, action: &Action) -> Option<&'static str> {
        if matches!(action, Action::Mx) {
            return Some("limits are of a smarthost: with type MX leave them out");
        }
        if self.concurrency == Some(0) {
            return Some("concurrency must not be zero");
        }
        self.rate.as_ref().and_then(Rate::problem)
    }
}

/// All members that are set must match; an empty list matches everything.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    pub recipient_domains: Vec<DomainPattern>,
}

/// Written as `{type: MX}` or `{type: Smarthost, smarthost: {..}}`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "ActionDocument", into = "ActionDocument")]
pub enum Action {
    /// RFC 5321 §5: the mail exchangers of the recipient's domain.
    Mx,
    Smarthost(Smarthost),
}

impl Action {
    /// The action that sends everything to one host.
    ///
    /// # Errors
    /// Names the member that cannot be used.
    pub fn smarthost(smarthost: Smarthost) -> Result<Self, &'static str> {
        let host = smarthost.host.trim_end_matches('.');
        if !is_domain(host) && host.parse::<std::net::IpAddr>().is_err() {
            return Err("smarthost.host must be a host name or an address");
        }
        if smarthost.port == 0 {
            return Err("smarthost.port must be from 1 to 65535");
        }
        Ok(Self::Smarthost(smarthost))
    }
}

/// One host that takes all mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Smarthost {
    /// A host name (its address records are used, not MX) or an address.
    pub host: String,
    #[serde(default = "default_port")]
    pub port: u16,
    #[serde(default = "default_tls")]
    pub tls: NextHopTls,
}

fn default_port() -> u16 {
    25
}

fn default_tls() -> NextHopTls {
    NextHopTls::Opportunistic
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ActionDocument {
    r#type: ActionType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    smarthost: Option<Smarthost>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum ActionType {
    #[serde(rename = "MX")]
    Mx,
    Smarthost,
}

impl TryFrom<ActionDocument> for Action {
    type Error = &'static str;

    fn try_from(document: ActionDocument) -> Result<Self, &'static str> {
        match (document.r#type, document.smarthost) {
            (ActionType::Mx, None) => Ok(Self::Mx),
            (ActionType::Smarthost, Some(smarthost)) => Self::smarthost(smarthost),
            (ActionType::Mx, Some(_)) => Err("type MX has no member `smarthost`"),
            (ActionType::Smarthost, None) => Err("type Smarthost needs the member `smarthost`"),
        }
    }
}

impl From<Action> for ActionDocument {
    fn from(action: Action) -> Self {
        match action {
            Action::Mx => Self {
                r#type: ActionType::Mx,
                smarthost: None,
            },
            Action::Smarthost(smarthost) => Self {
                r#type: ActionType::Smarthost,
                smarthost: Some(smarthost),
            },
        }
    }
}
