//! The scripts: each is the parts it needs in front of its own text, loaded by every connection.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use redis::Cmd;

/// One step of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Script {
    Abort,
    Act,
    Beat,
    Begin,
    Check,
    Counts,
    Expiring,
    Hasten,
    List,
    Look,
    Journal,
    Next,
    Register,
    Resolve,
    Resume,
    SetLimits,
    Suspend,
    Suspensions,
    Unstage,
}

impl Script {
    /// In the order of their declaration, which is their index.
    pub(super) const ALL: [Self; 19] = [
        Self::Abort,
        Self::Act,
        Self::Beat,
        Self::Begin,
        Self::Check,
        Self::Counts,
        Self::Expiring,
        Self::Hasten,
        Self::List,
        Self::Look,
        Self::Journal,
        Self::Next,
        Self::Register,
        Self::Resolve,
        Self::Resume,
        Self::SetLimits,
        Self::Suspend,
        Self::Suspensions,
        Self::Unstage,
    ];

    pub(super) fn text(self) -> &'static str {
        &LOADED[self as usize].text
    }

    /// Its call up to the key; the arguments follow.
    pub(super) fn call(self, prefix: &str) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        let digest = LOADED[self as usize].script.get_hash();
        command.arg(digest).arg(1).arg(prefix);
        command
    }

    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Abort => &[NOW, TURN, TASK, include_str!("lua/abort.lua")],
            Self::Act => &[NOW, TURN, TASK, include_str!("lua/act.lua")],
            Self::Beat => &[NOW, TURN, TASK, include_str!("lua/beat.lua")],
            Self::Begin => &[NOW, TURN, TASK, include_str!("lua/begin.lua")],
            Self::Check => &[NOW, include_str!("lua/check.lua")],
            Self::Counts => &[NOW, include_str!("lua/counts.lua")],
            Self::Expiring => &[NOW, include_str!("lua/expiring.lua")],
            Self::Hasten => &[NOW, include_str!("lua/hasten.lua")],
            Self::Journal => &[NOW, include_str!("lua/journal.lua")],
            Self::List => &[NOW, VIEW, include_str!("lua/list.lua")],
            Self::Look => &[NOW, TURN, TASK, VIEW, include_str!("lua/look.lua")],
            Self::Next => &[
                NOW,
                TURN,
                TASK,
                include_str!("lua/settle.lua"),
                include_str!("lua/claim.lua"),
                include_str!("lua/journaled.lua"),
                include_str!("lua/next.lua"),
            ],
            Self::Register => &[NOW, include_str!("lua/register.lua")],
            Self::Resolve => &[NOW, include_str!("lua/resolve.lua")],
            Self::Resume => &[NOW, include_str!("lua/resume.lua")],
            Self::Suspend => &[NOW, include_str!("lua/suspend.lua")],
            Self::Suspensions => &[NOW, include_str!("lua/suspensions.lua")],
            Self::SetLimits => &[NOW, TURN, include_str!("lua/set_limits.lua")],
            Self::Unstage => &[NOW, include_str!("lua/unstage.lua")],
        }
    }
}

struct Loaded {
    text: String,
    /// Knows the digest by which the server calls it.
    script: redis::Script,
}

static LOADED: LazyLock<Vec<Loaded>> = LazyLock::new(|| {
    let texts = Script::ALL.map(|script| join(ALLOW_OOM, script.parts()));
    let loaded = texts.into_iter().map(|text| Loaded {
        script: redis::Script::new(&text),
        text,
    });
    loaded.collect()
});

/// Sent as text every time: `MULTI; MSET; EVALSHA` of a script a restarted server does not know
/// would commit the bodies and lose the messages.
pub(super) static ENQUEUE: LazyLock<String> =
    LazyLock::new(|| join("#!lua", &[NOW, include_str!("lua/enqueue.lua")]));

/// Schema and owner; part of the set-up of a connection.
pub(super) static ATTACH: LazyLock<String> =
    LazyLock::new(|| join(ALLOW_OOM, &[NOW, include_str!("lua/attach.lua")]));

/// Which of some commands are not permitted.
pub(super) static LACKING: LazyLock<String> =
    LazyLock::new(|| join(ALLOW_OOM, &[include_str!("lua/lacking.lua")]));

/// Commands that the scripts call, and those around them that have a key or none: of any other the
/// server cannot be asked without its arguments.
pub(super) static COMMANDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    let texts = Script::ALL.map(Script::text);
    let texts = texts.into_iter().chain([ENQUEUE.as_str(), &ATTACH]);
    let called = texts
        .flat_map(|text| text.split("call('").skip(1))
        .filter_map(|rest| rest.split('\'').next());
    called
        .chain([
            "EXEC", "HGET", "HSET", "GETRANGE", "MGET", "MSET", "MULTI", "PEXPIRE",
        ])
        .collect()
});

/// A full Redis must drain: beats, settlements and releases go on, only enqueue is refused.
const ALLOW_OOM: &str = "#!lua flags=allow-oom";
const NOW: &str = include_str!("lua/now.lua");
const TURN: &str = include_str!("lua/turn.lua");
const TASK: &str = include_str!("lua/task.lua");
const VIEW: &str = include_str!("lua/view.lua");

/// Without comments and indentation, for what is sent with every batch.
fn join(first: &str, parts: &[&str]) -> String {
    let mut text = first.to_owned();
    for line in parts.iter().flat_map(|part| part.lines()).map(str::trim) {
        if !line.is_empty() && !line.starts_with("--") {
            text.push('\n');
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_stand_at_their_index() {
        for (index, script) in Script::ALL.into_iter().enumerate() {
            assert_eq!(script as usize, index);
        }
    }

    #[test]
    fn only_enqueue_is_refused_by_a_full_store() {
        for script in Script::ALL {
            assert!(
                script
                    .text()
                    .starts_with("#!lua flags=allow-oom\nlocal P, ")
            );
        }
        assert!(ENQUEUE.starts_with("#!lua\nlocal P, "));
    }

    #[test]
    fn every_command_is_known_by_name() {
        let calls = |text: &str| {
            (
                text.matches("call(").count(),
                text.matches("call('").count(),
            )
        };
        for text in Script::ALL.map(Script::text) {
            let (all, by_name) = calls(text);
            assert_eq!(all, by_name, "{text}");
        }
        assert!(COMMANDS.contains("ZADD") && COMMANDS.contains("UNLINK"));
        assert!(
            COMMANDS
                .iter()
                .all(|name| name.chars().all(|c| c.is_ascii_uppercase()))
        );
    }

    #[test]
    fn what_is_sent_with_every_batch_stays_small() {
        assert!(ENQUEUE.len() < 3_000, "{}", ENQUEUE.len());
    }
}
