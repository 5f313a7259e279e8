//! Answers of the management API, for people.

use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::Value;

/// Columns as wide as they must be, the last as wide as it is.
pub(super) fn tasks(out: &mut dyn Write, list: &Value) -> io::Result<()> {
    let tasks = list["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let mut rows = vec![
        [
            "TASK", "PLACE", "WHEN", "AGE", "SIZE", "TRIES", "FROM", "TO", "WHY",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for task in tasks {
        rows.push(vec![
            text(&task["task"]),
            place(task),
            when(task),
            age(&task["received"]),
            task["size"].as_u64().map_or_else(unknown, size),
            task["attempts"].to_string(),
            sender(&task["sender"]),
            recipients(task),
            why(task),
        ]);
    }
    columns(out, &rows)
}

pub(super) fn message(out: &mut dyn Write, message: &Value) -> io::Result<()> {
    let mut line = |name: &str, value: String| writeln!(out, "{name:<12}{value}");
    line("message", text(&message["message"]))?;
    if let Some(why) = message["unreadable"].as_str() {
        line("unreadable", why.to_owned())?;
    }
    if message["sender"].is_string() {
        line("sender", sender(&message["sender"]))?;
        line("tenant", text(&message["tenant"]))?;
        let received = &message["received"];
        line(
            "received",
            format!("{} ({} ago)", text(received), age(received)),
        )?;
        line("expires", text(&message["expires"]))?;
        line("size", message["size"].as_u64().map_or_else(unknown, size))?;
        line("accepted by", text(&message["acceptedBy"]))?;
        line("trace", text(&message["trace"]))?;
    }
    for task in message["tasks"].as_array().into_iter().flatten() {
        writeln!(out)?;
        let mut line = |name: &str, value: String| writeln!(out, "{name:<12}{value}");
        line("task", text(&task["task"]))?;
        line("place", format!("{} {}", place(task), when(task)))?;
        line("route", text(&task["route"]))?;
        line("attempts", task["attempts"].to_string())?;
        if let Some(reason) = task["holdReason"].as_str() {
            line("held", reason.to_owned())?;
        }
        for recipient in task["recipients"].as_array().into_iter().flatten() {
            let outcome = recipient["outcome"].as_str().unwrap_or("open");
            let said = match (recipient["host"].as_str(), recipient["lastReply"].as_str()) {
                (Some(host), Some(reply)) => format!(": {host} said {}", one_line(reply)),
                (None, Some(reply)) => format!(": {}", one_line(reply)),
                _ => String::new(),
            };
            line(
                "recipient",
                format!("{} {outcome}{said}", text(&recipient["address"])),
            )?;
        }
    }
    Ok(())
}

pub(super) fn results(out: &mut dyn Write, results: &Value) -> io::Result<()> {
    let results = results["results"].as_array().into_iter().flatten();
    let rows: Vec<_> = results
        .map(|result| vec![text(&result["task"]), text(&result["result"])])
        .collect();
    columns(out, &rows)
}

fn columns(out: &mut dyn Write, rows: &[Vec<String>]) -> io::Result<()> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(unknown, one_line)
}

/// Nothing that a peer said moves the cursor.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn unknown() -> String {
    "-".to_owned()
}

fn place(task: &Value) -> String {
    let place = text(&task["place"]);
    match (task["dropped"].as_bool(), task["begun"].as_bool()) {
        (Some(true), _) => format!("{place}, dropped"),
        (_, Some(true)) => format!("{place}, begun"),
        _ => place,
    }
}

fn when(task: &Value) -> String {
    match (task["dueInSeconds"].as_u64(), task["sinceSeconds"].as_u64()) {
        (Some(due), _) => format!("in {}", duration(due)),
        (_, Some(since)) => format!("for {}", duration(since)),
        _ => unknown(),
    }
}

fn age(received: &Value) -> String {
    let received: Option<Timestamp> = received.as_str().and_then(|text| text.parse().ok());
    let age = received.map(|received| Timestamp::now().as_second() - received.as_second());
    age.map_or_else(unknown, |age| duration(u64::try_from(age).unwrap_or(0)))
}

fn sender(sender: &Value) -> String {
    match sender.as_str() {
        Some("") => "<>".to_owned(),
        Some(sender) => one_line(sender),
        None => unknown(),
    }
}

/// The first, and how many others.
fn recipients(task: &Value) -> String {
    let recipients = task["recipients"].as_array().map_or(&[][..], Vec::as_slice);
    match recipients {
        [] => unknown(),
        [one] => text(&one["address"]),
        [first, others @ ..] => format!("{} +{}", text(&first["address"]), others.len()),
    }
}

fn why(task: &Value) -> String {
    let reasons = ["unreadable", "holdReason", "lastReply"];
    let reason = reasons.iter().find_map(|name| task[*name].as_str());
    reason.map(one_line).unwrap_or_default()
}

/// The largest two units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (days, hours, _) => format!("{days}d{hours}h"),
    }
}

fn size(octets: u64) -> String {
    const UNITS: [&str; 4] = ["B", "kB", "MB", "GB"];
    let (mut unit, mut scale) = (0, 1);
    while octets / scale >= 1000 && unit + 1 < UNITS.len() {
        unit += 1;
        scale *= 1000;
    }
    let (whole, tenth) = (octets / scale, octets % scale * 10 / scale);
    match (unit, whole) {
        (0, whole) => format!("{whole} B"),
        (unit, 0..10) => format!("{whole}.{tenth} {}", UNITS[unit]),
        (unit, whole) => format!("{whole} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_and_sizes_are_short() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3600, "1h0m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (octets, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_500, "1.5 kB"),
            (52_428_800, "52 MB"),
            (5_000_000_000_000, "5000 GB"),
        ] {
            assert_eq!(size(octets), expected);
        }
    }

    #[test]
    fn tasks_stand_in_columns_and_peers_cannot_move_the_cursor() {
        let list = json!({"tasks": [
            {"task": "a.0", "place": "deferred", "dueInSeconds": 61, "sender": "", "attempts": 2,
             "size": 1500, "recipients": [{"address": "x@example.org"}, {"address": "y@example.org"}],
             "lastReply": "450\u{1b}[2J busy"},
            {"task": "b.10", "place": "held", "sinceSeconds": 5, "attempts": 0, "recipients": [],
             "unreadable": "version 9"},
        ]});
        let mut out = Vec::new();
        tasks(&mut out, &list).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{out}");
        let place = lines[0].find("PLACE").unwrap();
        assert!(lines[1][place..].starts_with("deferred  in 1m1s"), "{out}");
        assert!(lines[1].contains("<>") && lines[1].contains("x@example.org +1"));
        assert!(lines[1].ends_with("450 [2J busy"), "{out}");
        assert!(lines[2][place..].starts_with("held      for 5s"), "{out}");
    }
}
