//! Messages in the queue, for people: what there is, where, why, and what is to become of it.
//!
//! Everything here is about tasks, of which a message has one for each domain of its recipients; the
//! id of a message stands for all of its tasks. Answers are JSON; so are errors, `{"error": "..."}`.

mod act;
mod content;
mod filter;
mod view;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use queue::id::{Handle, MessageId, TaskId};
use queue::operation::{List, PlaceName, Seen};
use queue::record::Header;
use queue::{QueueError, RecordError};
use serde::Serialize;

use self::act::{Order, Results};
use self::filter::Wanted;
use self::view::{MessageView, TaskView};
use super::Admin;

/// `GET /v1/messages`: tasks that are as wanted, page by page. Each answer comes after a bounded number
/// of looks, so one may have no tasks and there are more: those behind its cursor.
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Json<Tasks>, Problem> {
    let Query(wanted) = wanted.map_err(|error| Problem::bad(error.body_text()))?;
    let limit = usize::from(wanted.limit.unwrap_or(LIMIT).clamp(1, LIMIT));
    let (mut list, filter) = wanted.parse()?;
    let mut tasks: Vec<TaskView> = Vec::new();
    let mut looks = LOOKS;
    for _ in 0..CALLS {
        let left = u16::try_from(limit - tasks.len()).unwrap_or(LIMIT);
        list.looks = left.min(looks);
        looks -= list.looks;
        let page = admin.worker.list(&list).await?;
        let headers = headers(&admin, page.tasks.iter().map(|seen| &seen.handle)).await?;
        tasks.extend(page.tasks.iter().filter_map(|seen| {
            let header = headers.get(&seen.handle.task.message);
            filter
                .takes(seen, header)
                .then(|| TaskView::of(seen, header))
        }));
        list.after = page.next;
        if list.after.is_none() || tasks.len() == limit || looks == 0 {
            break;
        }
    }
    Ok(Json(Tasks {
        tasks,
        cursor: list.after.map(|cursor| cursor.to_string()),
    }))
}

#[derive(Serialize)]
pub(super) struct Tasks {
    tasks: Vec<TaskView>,
    /// What to ask with for more; none after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}

/// `GET /v1/messages/{id}`: everything that is known of a message and its tasks.
pub(super) async fn show(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<MessageView>, Problem> {
    let found = Found::find(&admin, id.parse()?).await?;
    Ok(Json(MessageView::of(&found)))
}

/// `GET /v1/messages/{id}/content`: the message as it will be sent, in the form of RFC 5322.
pub(super) async fn content(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let target: Target = id.parse()?;
    content::export(&admin, target.message()).await
}

/// `POST /v1/messages/{id}/retry`, `hold`, `release` or `drop`: does it to a message or to one task.
/// The body is JSON, which no page of a browser can send here unasked.
pub(super) async fn act(
    State(admin): State<Arc<Admin>>,
    Path((id, action)): Path<(String, String)>,
    order: Result<Json<Order>, JsonRejection>,
) -> Result<Json<Results>, Problem> {
    let Json(order) = order.map_err(|error| Problem(error.status(), error.body_text()))?;
    let found = Found::find(&admin, id.parse()?).await?;
    act::act(&admin, &found, action.parse()?, &order)
        .await
        .map(Json)
}

/// What an id in a path names.
#[derive(Clone, Copy)]
enum Target {
    Message(MessageId),
    Task(TaskId),
}

impl Target {
    fn message(self) -> MessageId {
        match self {
            Self::Message(message) => message,
            Self::Task(task) => task.message,
        }
    }

    fn is_of(self, task: TaskId) -> bool {
        match self {
            Self::Message(message) => task.message == message,
            Self::Task(wanted) => task == wanted,
        }
    }
}

impl std::str::FromStr for Target {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        if let Ok(message) = text.parse() {
            return Ok(Self::Message(message));
        }
        let task = text.parse().map(Self::Task);
        task.map_err(|_| Problem::bad(format!("{text} is not the id of a message or a task")))
    }
}

/// A message, and those of its tasks that are asked for and there.
struct Found {
    message: MessageId,
    header: Result<Header, RecordError>,
    tasks: Vec<Seen>,
}

impl Found {
    async fn find(admin: &Admin, target: Target) -> Result<Self, Problem> {
        let message = target.message();
        let header = admin.worker.headers(&[message]).await?.pop().flatten();
        let header = header.ok_or_else(|| Problem::missing(message))?;
        let tasks = match &header {
            Ok(header) => {
                let tasks = (0..).zip(&header.tasks).map(|(ordinal, task)| {
                    Handle::new(TaskId::new(message, ordinal), task.queue.clone())
                });
                let handles: Vec<_> = tasks.filter(|handle| target.is_of(handle.task)).collect();
                let mut seen = Vec::new();
                for handles in handles.chunks(AT_ONCE) {
                    seen.extend(admin.worker.look(handles).await?.into_iter().flatten());
                }
                seen
            }
            Err(_) => held_tasks(admin, target).await?,
        };
        if tasks.is_empty() {
            return Err(Problem::missing(message));
        }
        Ok(Self {
            message,
            header,
            tasks,
        })
    }
}

/// The names of an unreadable message's tasks stand only where these are.
async fn held_tasks(admin: &Admin, target: Target) -> Result<Vec<Seen>, Problem> {
    let mut list = List {
        place: Some(PlaceName::Held),
        looks: 1000,
        ..List::default()
    };
    let mut found = Vec::new();
    loop {
        let page = admin.worker.list(&list).await?;
        let tasks = page.tasks.into_iter();
        found.extend(tasks.filter(|seen| target.is_of(seen.handle.task)));
        list.after = page.next;
        if list.after.is_none() {
            return Ok(found);
        }
    }
}

async fn headers(
    admin: &Admin,
    handles: impl Iterator<Item = &Handle>,
) -> Result<HashMap<MessageId, Result<Header, RecordError>>, Problem> {
    let mut messages: Vec<MessageId> = handles.map(|handle| handle.task.message).collect();
    messages.sort_unstable();
    messages.dedup();
    let headers = admin.worker.headers(&messages).await?;
    let found = messages.into_iter().zip(headers);
    Ok(found
        .filter_map(|(message, header)| Some((message, header?)))
        .collect())
}

/// Why a request is not answered as asked.
pub(super) struct Problem(StatusCode, String);

impl Problem {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }

    fn missing(message: MessageId) -> Self {
        Self(
            StatusCode::NOT_FOUND,
            format!("{message} is not in the queue (any more)"),
        )
    }
}

impl From<QueueError> for Problem {
    fn from(error: QueueError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        (self.0, Json(Body { error: self.1 })).into_response()
    }
}

/// Tasks in one answer at most, and where nothing is said.
const LIMIT: u16 = 100;
/// Tasks and queues looked at for one answer, and calls of the queue made.
const LOOKS: u16 = 500;
const CALLS: usize = 8;
/// Tasks in one call of the queue.
const AT_ONCE: usize = 500;
