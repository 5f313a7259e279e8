//! What administrators do, and the record of it.

use std::str::FromStr;

use axum::http::StatusCode;
use queue::operation::{Act, Acted, Action, Seen};
use queue::record::Record;
use serde::{Deserialize, Serialize};

use super::{AT_ONCE, Found, Problem};
use crate::admin::Admin;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deed {
    Drop,
    Hold,
    Release,
    Retry,
}

impl Deed {
    const ALL: [Self; 4] = [Self::Drop, Self::Hold, Self::Release, Self::Retry];

    fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
        }
    }
}

impl FromStr for Deed {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let found = Self::ALL.into_iter().find(|deed| deed.as_str() == text);
        found.ok_or_else(|| {
            Problem(
                StatusCode::NOT_FOUND,
                format!("{text} is nothing that can be done to a message"),
            )
        })
    }
}

/// How it is to be done, and what is to stand in the audit log.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::admin) struct Order {
    /// Why; of a hold it stays with the task.
    reason: Option<String>,
    /// Who, as they say themselves.
    user: Option<String>,
    /// Whether the sender of what is dropped is told.
    #[serde(default)]
    notify: bool,
}

#[derive(Serialize)]
pub(in crate::admin) struct Results {
    results: Vec<TaskResult>,
}

#[derive(Serialize)]
struct TaskResult {
    task: String,
    /// `done`; `pending` until the claim ends; `unchanged`; `missing`; `refused`.
    result: &'static str,
}

pub(super) async fn act(
    admin: &Admin,
    found: &Found,
    deed: Deed,
    order: &Order,
) -> Result<Results, Problem> {
    if order.notify && deed != Deed::Drop {
        return Err(Problem::bad("notify: only a drop can be told of"));
    }
    let reason = order.reason.as_deref().unwrap_or_default();
    let reason = &reason[..reason.floor_char_boundary(MAX_REASON)];
    let record = if order.notify {
        Some(readable(admin, found).await?)
    } else {
        None
    };
    let action = |seen: &Seen| match deed {
        Deed::Drop => {
            let why = match reason {
                "" => "it was taken out of the queue by an administrator".to_owned(),
                why => format!("it was taken out of the queue by an administrator: {why}"),
            };
            let notice = record.as_ref();
            let notice =
                notice.and_then(|record| admin.delivery.notice_of_drop(record, seen, &why));
            Action::Drop { notice }
        }
        Deed::Hold => Action::Hold {
            reason: match reason {
                "" => "by an administrator".to_owned(),
                why => why.to_owned(),
            },
        },
        Deed::Release => Action::Release,
        Deed::Retry => Action::Retry,
    };
    let mut results = Vec::new();
    for tasks in found.tasks.chunks(AT_ONCE) {
        let acts: Vec<Act> = tasks
            .iter()
            .map(|seen| Act {
                handle: seen.handle.clone(),
                action: action(seen),
            })
            .collect();
        let acted = admin.worker.act(&acts).await;
        for (position, act) in acts.iter().enumerate() {
            let result = match &acted {
                Ok(acted) => acted.get(position).copied().map_or("missing", word),
                Err(_) => "unknown",
            };
            audit(deed, act, order, reason, result);
            results.push(TaskResult {
                task: act.handle.task.to_string(),
                result,
            });
        }
        acted?;
    }
    if results.iter().any(|result| result.result == "refused") {
        return Err(Problem(
            StatusCode::CONFLICT,
            "a task is in flight, or somebody has got the message meanwhile, so what the sender \
             would be told is not certain: hold it first, then drop it"
                .to_owned(),
        ));
    }
    Ok(Results { results })
}

/// What a notice returns to the sender.
async fn readable(admin: &Admin, found: &Found) -> Result<Record, Problem> {
    match admin.worker.record(found.message).await? {
        // Of a large message the notice returns what is in its first chunk.
        Some(Ok(mut record)) if record.header.body.chunks > 0 => {
            let body = &record.header.body;
            let first = admin.worker.chunk(body, found.message, 0).await;
            record.content = first.into_iter().collect();
            Ok(record)
        }
        Some(Ok(record)) => Ok(record),
        Some(Err(error)) => Err(Problem(
            StatusCode::CONFLICT,
            format!("nobody can be told, as the record cannot be read: {error}"),
        )),
        None => Err(Problem::missing(found.message)),
    }
}

/// One line for one action on one task.
fn audit(deed: Deed, act: &Act, order: &Order, reason: &str, result: &str) {
    tracing::info!(
        target: "audit",
        action = deed.as_str(),
        queue_id = %act.handle.task.message,
        task = %act.handle.task,
        tenant = act.handle.queue.tenant,
        user = order.user.as_deref(),
        reason,
        notify = order.notify,
        result,
        "an administrator acted"
    );
}

fn word(acted: Acted) -> &'static str {
    match acted {
        Acted::Done => "done",
        Acted::Missing => "missing",
        Acted::Pending => "pending",
        Acted::Refused => "refused",
        Acted::Unchanged => "unchanged",
    }
}

const MAX_REASON: usize = 500;
