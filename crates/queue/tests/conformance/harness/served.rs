use std::collections::HashMap;
use std::sync::Arc;

use queue::Queue;
use queue::model::Remains;
use queue::redis::Redis;

use super::Harness;
use crate::clock::Clock;
use crate::redis_fixture::{PREFIX, settings};
use crate::redis_server::RedisServer;
use crate::redis_topology::Servers;

/// On servers of its own, which go by the clock of the test.
pub(crate) struct Served {
    clock: Clock,
    servers: Arc<dyn Servers>,
    queue: Arc<Redis>,
}

impl Harness for Served {
    fn start() -> Self {
        Self::start_on(|clock| RedisServer::start_with(&[], &clock.environment()))
    }

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    fn clock(&self) -> &Clock {
        &self.clock
    }

    async fn remains(&self) -> Remains {
        let kinds = self.kinds();
        let kind = |name: &str| kinds.get(name).copied().unwrap_or_default();
        let remains = Remains {
            rows: kind("m").keys,
            bodies: kind("b").keys,
            messages: kind("exp").members,
            tasks: kind("q").members + kind("c").members + kind("hold").members,
            expiries: kind("exp").members,
            held: kind("hold").members,
            queues: kind("qs").members,
            wakes: kind("wake").members,
            active_tenants: kind("ten").members,
            blocked: kind("blk").members,
            parked: kind("pk").members,
            slots: kind("cw").members,
            workers: kind("ws").members,
        };
        // Everything else is part of one of these.
        let parts = [
            ("act", kind("act").keys, remains.active_tenants),
            ("bs", kind("bs").members, kind("blk").keys),
            ("ct", kind("ct").members, remains.slots),
            ("cs", kind("cs").members, kind("c").members),
            ("rc", kind("rc").members, remains.messages),
            ("rcl", kind("rcl").members, remains.tasks),
            ("t", kind("t").keys, remains.tasks),
            ("wk", kind("wk").members, remains.workers),
            ("wks", kind("wks").members, remains.workers),
        ];
        for (name, parts, wholes) in parts {
            assert!(parts <= wholes, "{name} is left behind: {kinds:?}");
        }
        let known = [
            "m", "b", "exp", "q", "c", "hold", "qs", "wake", "ten", "blk", "cw", "ln", "pk", "ws",
        ];
        // What stays: the journal, limits, counters, and whose queue it is; how far ahead of its rate a
        // site is, until a beat finds it passed.
        let stays = ["ev", "g", "lim", "meta", "st", "sus"];
        for name in kinds.keys().map(String::as_str) {
            let is_part = parts.iter().any(|(part, ..)| *part == name);
            assert!(
                is_part || known.contains(&name) || stays.contains(&name),
                "nobody owns {name}"
            );
        }
        remains
    }
}

impl Served {
    pub(crate) fn start_on<S: Servers + 'static>(start: impl FnOnce(&Clock) -> S) -> Self {
        let clock = Clock::shown();
        let harness = Self::on(Arc::new(start(&clock)), clock);
        assert_eq!(harness.time_of_server(), harness.clock.now());
        harness
    }

    fn on(servers: Arc<dyn Servers>, clock: Clock) -> Self {
        let mut settings = settings(String::new());
        settings.locator = servers.locator();
        settings.level = servers.level();
        let queue = Redis::open(&settings).expect("settings that can be used");
        Self {
            clock,
            servers,
            queue: Arc::new(queue),
        }
    }

    /// The same servers, empty, for another test.
    pub(crate) fn again(&self) -> Self {
        self.forget();
        Self::on(Arc::clone(&self.servers), self.clock.clone())
    }

    /// Nothing is left of what was there before, so that one server serves many tests in turn.
    pub(crate) fn forget(&self) {
        redis::cmd("FLUSHALL")
            .exec(&mut self.servers.holder().client())
            .expect("an empty server");
    }

    fn time_of_server(&self) -> u64 {
        let (seconds, microseconds): (u64, u64) = redis::cmd("TIME")
            .query(&mut self.servers.holder().client())
            .expect("the time");
        seconds * 1000 + microseconds / 1000
    }

    fn kinds(&self) -> HashMap<String, Kind> {
        let mut client = self.servers.holder().client();
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut client).unwrap();
        let mut kinds: HashMap<String, Kind> = HashMap::new();
        let members: Vec<String> = redis::cmd("SMEMBERS")
            .arg(format!("{PREFIX}ws"))
            .query(&mut client)
            .unwrap();
        for key in keys {
            let name = key.strip_prefix(PREFIX).expect("one prefix for all keys");
            let (name, of) = name.split_once(':').unwrap_or((name, ""));
            if let "c" | "cs" | "cw" | "ln" = name {
                assert!(
                    members.iter().any(|member| member == of),
                    "{key} has no owner"
                );
            }
            let count = match name {
                "act" | "blk" | "c" | "exp" | "hold" | "pk" | "q" | "qs" | "ten" | "wake"
                | "wk" => Some("ZCARD"),
                "cs" | "ct" | "cw" | "g" | "rc" | "rcl" | "wks" => Some("HLEN"),
                "bs" | "ws" => Some("SCARD"),
                _ => None,
            };
            let members: usize = count.map_or(0, |count| {
                redis::cmd(count).arg(&key).query(&mut client).unwrap()
            });
            let kind = kinds.entry(name.to_owned()).or_default();
            kind.keys += 1;
            kind.members += members;
        }
        kinds
    }
}

#[derive(Clone, Copy, Default, Debug)]
struct Kind {
    keys: usize,
    members: usize,
}
