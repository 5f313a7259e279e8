//! Processes: what /proc says of them, and their end.

use std::{
    collections::{HashMap, HashSet},
    fs,
    process::Child,
    thread,
    time::{Duration, Instant},
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// What /proc/PID/stat says, of what matters here.
#[derive(Debug)]
pub(crate) struct Stat {
    pub(crate) name: String,
    /// A zombie is not: it has given back everything but its number, which its parent holds.
    pub(crate) alive: bool,
    /// By a signal: it does nothing until it is told to go on.
    stopped: bool,
    pub(crate) parent: u32,
    /// In clock ticks, of itself and of its children that have ended and been waited for.
    pub(crate) cpu: u64,
    /// In clock ticks after boot. A process id comes back; with its start time it does not.
    pub(crate) started: u64,
}

/// `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Every process there is.
pub(crate) fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process, its parent, and so on.
pub(crate) fn ancestors(pid: u32) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next.filter(|pid| *pid > 0) {
        found.insert(pid);
        next = stat(pid).map(|stat| stat.parent);
    }
    found
}

/// The process, its children, and so on.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in all() {
        if let Some(stat) = stat(pid) {
            children.entry(stat.parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        if let Some(more) = children.get(pid) {
            found.extend(more);
        }
        next += 1;
    }
    found
}

/// Ends a child and all that descends from it, at once.
pub(crate) fn kill_tree(child: &mut Child) {
    // Stopped first, each before its children are listed: what is stopped starts no more. Only then
    // killed: the children of the dead have another parent and would not be found.
    let mut stopped = Vec::new();
    loop {
        let new: Vec<_> = tree(child.id())
            .into_iter()
            .filter(|pid| !stopped.contains(pid))
            .collect();
        if new.is_empty() {
            break;
        }
        new.iter().for_each(|pid| signal(*pid, Signal::STOP));
        wait_for_stop(&new);
        stopped.extend(new);
    }
    stopped.iter().for_each(|pid| signal(*pid, Signal::KILL));
    let _ = child.wait();
}

/// A process that was told to stop does what it is in the kernel for first, and that may be a fork.
fn wait_for_stop(processes: &[u32]) {
    let deadline = Instant::now() + STOPPED_BY;
    let still = |pid: &u32| stat(*pid).is_none_or(|stat| stat.stopped || !stat.alive);
    while !processes.iter().all(still) && Instant::now() < deadline {
        thread::yield_now();
    }
}

/// One that waits for a disk, say, does not stop sooner; it is killed all the same.
const STOPPED_BY: Duration = Duration::from_secs(5);

/// Sends a signal; that the process is gone already is as good.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// proc_pid_stat(5). The name is in parentheses and may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (before, after) = text.rsplit_once(") ")?;
    let (_, name) = before.split_once('(')?;
    // The first of these is field 3 of the manual page.
    let fields: Vec<_> = after.split(' ').collect();
    let field = |number: usize| fields.get(number - 3);
    let number = |at| field(at)?.parse::<u64>().ok();
    let state = *field(3)?;
    let cpu = [14, 15, 16, 17].map(number);
    Some(Stat {
        name: name.to_owned(),
        alive: !matches!(state, "Z" | "X"),
        stopped: state == "T",
        parent: field(4)?.parse().ok()?,
        cpu: cpu.into_iter().flatten().sum(),
        started: number(22)?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::command;

    #[test]
    fn stat_lines() {
        let line = "42 (a) b) S 7 42 42 0 -1 4194560 1 0 0 0 1 20 300 4000 20 0 1 0 9876 1 1";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.alive), ("a) b", true));
        assert_eq!((stat.parent, stat.started, stat.cpu), (7, 9876, 4321));
        assert!(!parse_stat(&line.replace(" S ", " Z ")).unwrap().alive);
        assert!(!stat.stopped && parse_stat(&line.replace(" S ", " T ")).unwrap().stopped);
        assert!(parse_stat("").is_none());
    }

    #[test]
    fn this_process_has_a_parent_which_has_it_in_its_tree() {
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        assert_eq!(stat(own).unwrap().parent, parent);
        assert!(ancestors(own).is_superset(&[own, parent].into()));
        assert!(tree(parent).contains(&own));
        assert!(!tree(own).contains(&parent));
    }

    #[test]
    fn a_tree_is_killed_whole_while_it_grows() {
        // It grows for as long as the test needs, and not for ever on a machine that is slow to look.
        let script = "for _ in $(seq 1000); do sleep 60 & done; wait";
        let mut child = Command::new("sh").args(["-c", script]).spawn().unwrap();
        let growing = || Ok((tree(child.id()).len() > 3).then_some(()));
        command::wait_until("it grows", Duration::from_secs(30), growing).unwrap();
        // Whoever is left after this has another parent and the same script's sleep.
        let before: Vec<_> = tree(child.id());
        kill_tree(&mut child);
        let alive = |pid: &&u32| stat(**pid).is_some_and(|stat| stat.alive);
        let gone = || Ok((before.iter().filter(alive).count() == 0).then_some(()));
        command::wait_until("all are gone", Duration::from_secs(30), gone).unwrap();
    }
}
