//! Who answers what: the admin socket's calls, and metrics and health.
//!
//! Owns the paths. `GET /status`, `GET /maps`, `GET /routes`, `POST /explain`, `/flows` and `/flows/follow` (body: the
//! question as JSON), `POST /bpf-log-level` (body: the level), `POST /stop`, and `POST /apply`, `/diff`, `/delete` and `/get` (body: JSON, as
//! the command line sends it) on the admin socket; `GET /metrics`, `/healthz`, `/readyz` on the port for metrics.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::events::Ask;
use super::flows::{self, Answered, Refused};
use super::objects::{ObjectsAsk, Reply};
use super::{figures, words};
use crate::admin::view::QuestionView;
use crate::admin::{self, Answer, Call, Handler, Socket};
use crate::dataplane::LogLevel;
use crate::metrics;

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Starts to serve both.
pub(super) fn serve(
    socket: &Socket,
    metrics: TcpListener,
    board: &Arc<Board>,
    asks: mpsc::Sender<Ask>,
) -> io::Result<()> {
    let admin = tokio::net::UnixListener::from_std(socket.listener()?)?;
    let metrics = tokio::net::TcpListener::from_std(metrics)?;
    let shown = Arc::clone(board);
    let on_admin: Handler = Arc::new(move |call| {
        let (board, asks) = (Arc::clone(&shown), asks.clone());
        Box::pin(async move { answer_admin(&call, &board, &asks).await })
    });
    let shown = Arc::clone(board);
    let on_metrics: Handler = Arc::new(move |call| {
        let board = Arc::clone(&shown);
        Box::pin(async move { answer_metrics(&call, &board) })
    });
    tokio::spawn(admin::serve_unix(admin, on_admin));
    tokio::spawn(admin::serve_tcp(metrics, on_metrics));
    Ok(())
}

async fn answer_admin(call: &Call, board: &Board, asks: &mpsc::Sender<Ask>) -> Answer {
    match (call.method.as_str(), call.path.as_str()) {
        ("GET", "/status") => Answer::json(&board.status()),
        ("GET", "/maps") => match figures::maps(board) {
            Ok(view) => Answer::json(&view),
            Err(error) => Answer::text(500, words(&error)),
        },
        ("POST", "/explain") => match serde_json::from_slice::<QuestionView>(&call.body) {
            Ok(question) => Answer::json(&board.explain(&question).await),
            Err(error) => Answer::text(400, words(&error)),
        },
        ("POST", "/flows") => answer(&call.body, |question| flows::page(board.flows(), question)),
        ("POST", "/flows/follow") => answer(&call.body, |question| flows::follow(board.flows(), question)),
        ("GET", "/routes") => Answer::json(&board.routes().await),
        ("POST", "/bpf-log-level") => {
            let level: LogLevel = match String::from_utf8_lossy(&call.body).parse() {
                Ok(level) => level,
                Err(error) => return Answer::text(400, words(&error)),
            };
            let (answer, answered) = oneshot::channel();
            if asks.send(Ask::BpfLogLevel(level, answer)).await.is_err() {
                return stopping();
            }
            match answered.await {
                Ok(Ok(())) => Answer::text(200, ""),
                Ok(Err(error)) => Answer::text(500, error),
                Err(_) => stopping(),
            }
        }
        ("POST", "/apply") => {
            ask(call, asks, |call, reply| Ask::Objects(ObjectsAsk::Apply(call, reply))).await
        }
        ("POST", "/diff") => ask(call, asks, |call, reply| Ask::Objects(ObjectsAsk::Diff(call, reply))).await,
        ("POST", "/delete") => {
            ask(call, asks, |call, reply| Ask::Objects(ObjectsAsk::Delete(call, reply))).await
        }
        ("POST", "/get") => ask(call, asks, |call, reply| Ask::Objects(ObjectsAsk::Get(call, reply))).await,
        ("POST", "/stop") => match asks.send(Ask::Stop).await {
            Ok(()) => Answer::text(202, ""),
            Err(_) => stopping(),
        },
        _ => unknown(call),
    }
}

/// Answers a question about flows.
fn answer<Q: DeserializeOwned, A: Serialize>(body: &[u8], to: impl FnOnce(&Q) -> Answered<A>) -> Answer {
    match serde_json::from_slice(body) {
        Ok(question) => match to(&question) {
            Ok(view) => Answer::json(&view),
            Err(error @ Refused::Filter(_)) => Answer::text(400, words(&error)),
            Err(error) => Answer::text(500, words(&error)),
        },
        Err(error) => Answer::text(400, error.to_string()),
    }
}

/// Has the loop answer a call whose body is JSON.
async fn ask<T: DeserializeOwned, A: Serialize>(
    call: &Call,
    asks: &mpsc::Sender<Ask>,
    to_ask: impl FnOnce(T, Reply<A>) -> Ask,
) -> Answer {
    let asked = match serde_json::from_slice(&call.body) {
        Ok(asked) => asked,
        Err(error) => return Answer::text(400, error.to_string()),
    };
    let (reply, answered) = oneshot::channel();
    if asks.send(to_ask(asked, reply)).await.is_err() {
        return stopping();
    }
    match answered.await {
        Ok(Ok(view)) => Answer::json(&view),
        Ok(Err(error)) => Answer::text(500, error),
        Err(_) => stopping(),
    }
}

fn answer_metrics(call: &Call, board: &Board) -> Answer {
    match (call.method.as_str(), call.path.as_str()) {
        ("GET" | "HEAD", "/metrics") => {
            Answer { status: 200, content_type: METRICS, body: metrics::render(figures::facts(board)) }
        }
        ("GET" | "HEAD", "/healthz") => {
            if board.alive() {
                Answer::text(200, "ok\n")
            } else {
                Answer::text(503, "the agent's loop is stuck\n")
            }
        }
        ("GET" | "HEAD", "/readyz") => match board.not_ready() {
            None => Answer::text(200, "ready\n"),
            Some(why) => Answer::text(503, format!("{why}\n")),
        },
        _ => unknown(call),
    }
}

fn stopping() -> Answer {
    Answer::text(503, "the agent is stopping")
}

fn unknown(call: &Call) -> Answer {
    Answer::text(404, format!("there is no {} {}", call.method, call.path))
}
