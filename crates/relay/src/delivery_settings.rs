//! What delivery takes of the configuration in force, as long as it lasts.

use std::sync::Arc;

use config::Action;
use config::route::RuleLimits;
use jiff::Timestamp;
use nexthop::LocalHost;
use queue::operation::{HeldExpiry, Limits, Rate};
use smtp::HeloName;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::active::Active;
use crate::delivery::{Retry, Settings};
use crate::routing::RouteName;

/// Settings that follow `active` until `ended`.
pub(crate) fn follow(
    mut active: watch::Receiver<Arc<Active>>,
    pod_name: String,
    ended: &CancellationToken,
) -> watch::Receiver<Arc<Settings>> {
    let first = settings(&active.borrow_and_update(), &pod_name);
    let (sender, receiver) = watch::channel(Arc::new(first));
    let ended = ended.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Ok(()) = active.changed() => {}
                () = ended.cancelled() => return,
            }
            let changed = settings(&active.borrow_and_update(), &pod_name);
            sender.send_replace(Arc::new(changed));
        }
    });
    receiver
}

fn settings(active: &Active, pod_name: &str) -> Settings {
    let config = &active.loaded.config;
    let delivery = &config.delivery;
    let mut settings = Settings::new(
        active.hostname.clone(),
        HeloName::from(active.hostname.clone()),
    );
    settings.pod = pod_name.to_owned();
    settings.routes = Arc::clone(&active.routes);
    settings.local = LocalHost {
        names: vec![(&active.hostname).into()],
        addresses: Vec::new(),
    };
    settings.tls = delivery.tls;
    settings.resolver.name_server = delivery.dns.servers.first().copied();
    settings.retry = Retry {
        initial: config.queue.retry.initial,
        max: config.queue.retry.max,
    };
    settings.limits = Limits {
        // The last to read a configuration writes its limits: all relays of a queue read the same
        // in the end.
        generation: u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0),
        concurrency_default: delivery.concurrency_per_destination,
        concurrency: of_rules(active, |limits| limits.concurrency),
        rate_default: delivery.rate.map(rate),
        rates: of_rules(active, |limits| limits.rate.map(rate)),
        weights: config
            .tenants
            .iter()
            .map(|tenant| (tenant.name.clone(), tenant.weight))
            .collect(),
        held: match config.queue.held_expiry {
            config::queue::HeldExpiry::Expire => HeldExpiry::Expire,
            config::queue::HeldExpiry::Keep => HeldExpiry::Keep,
        },
    };
    settings.delay_notice = config.queue.delay_notice;
    settings.journal = config.queue.journal.entries > 0;
    settings.messages_per_connection = delivery.messages_per_connection;
    settings
}

/// A limit by the site that each rule with a smarthost is.
fn of_rules<T>(active: &Active, of: impl Fn(&RuleLimits) -> Option<T>) -> Vec<(String, T)> {
    let mut limits = Vec::new();
    for route in &active.loaded.routes {
        for rule in &route.rules {
            if let (Action::Smarthost(_), Some(limit)) =
                (&rule.action, rule.limits.as_ref().and_then(&of))
            {
                let (route, rule) = (route.name.as_str(), rule.name.as_str());
                limits.push((RouteName::Rule { route, rule }.to_string(), limit));
            }
        }
    }
    limits
}

fn rate(rate: config::delivery::Rate) -> Rate {
    Rate {
        messages: rate.messages,
        per: rate.per,
        burst: rate.burst,
    }
}
