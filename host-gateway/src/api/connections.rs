//! HTTP connections: so many at a time, and none that a slow client holds for ever.
//!
//! A connection is always in one [`Phase`], and ends when that lasts longer than its limit. Whoever can act on it is answered first:
//! 408 where a head or a body does not come, 503 where a request takes too long or there is no room.

use super::ApiError;
use crate::config::HttpSection;
use crate::seldom::Seldom;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::IntoResponse;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};

/// How long accepting pauses after the system refused it (out of file handles, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// What is held of a connection at a time, and with it the longest head of a request: a signed one has less than 2 KiB.
const MAX_HELD: usize = 64 << 10;

/// A request's way here: who sent it, as the socket says. Behind a proxy that is the proxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves HTTP until `stop` turns true or its sender is gone; ends when the last connection has.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    section: &HttpSection,
    mut stop: watch::Receiver<bool>,
) {
    let limits = Limits::of(section);
    let places = Arc::new(Semaphore::new(section.max_connections));
    let (mut connections, told) = (tokio::task::JoinSet::new(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "HTTP: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            ended("too_many");
            if let Some(held_back) = told.admits() {
                tracing::warn!(%peer, held_back, "HTTP: more connections than allowed");
            }
            last_words(&stream, "503 Service Unavailable", ApiError::no_room());
            continue;
        };
        let (router, stop) = (router.clone(), stop.clone());
        connections.spawn(async move {
            run(stream, peer, router, limits, stop).await;
            drop(place);
        });
    }
    while connections.join_next().await.is_some() {}
}

async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small and awaited; the default would hold them back.
    let _ = stream.set_nodelay(true);
    let phases = Phases::begin(limits);
    let io = TokioIo::new(Watched { stream, phases: phases.clone() });
    let (router, of_requests) = (TowerToHyperService::new(router), phases.clone());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let (phases, ends) = (of_requests.clone(), of_requests.request());
        let mut request = request.map(|body| Body::new(Timely { body, stall: limits.body, limit: None }));
        request.extensions_mut().insert(Peer(peer));
        let answer = router.call(request);
        async move {
            let answer = match timeout_at(ends, answer).await {
                Ok(answer) => answer?,
                Err(_) => ApiError::too_long().into_response(),
            };
            phases.answer(ends);
            Ok::<_, Infallible>(answer.map(|body| Answer { body, phases }))
        }
    });
    let mut connection = http1::Builder::new().max_buf_size(MAX_HELD).serve_connection(io, service);
    let mut limit = pin!(sleep_until(phases.ends().unwrap_or_else(Instant::now)));
    let mut stopping = Some(Box::pin(stop.wait_for(|stop| *stop)));
    let overdue = std::future::poll_fn(|cx| {
        if stopping.as_mut().is_some_and(|stopping| stopping.as_mut().poll(cx).is_ready()) {
            stopping = None;
            Pin::new(&mut connection).graceful_shutdown();
        }
        // A client that goes away, or speaks something else, is its own affair.
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        // The phase moves only while the connection is polled.
        let Some(ends) = phases.ends() else { return Poll::Pending };
        if limit.deadline() != ends {
            limit.as_mut().reset(ends);
        }
        limit.as_mut().poll(cx).map(|()| Some(phases.word()))
    })
    .await;
    if let Some(word) = overdue {
        ended(word);
        tracing::debug!(%peer, why = word, "HTTP: a connection took too long");
        if word == "slow_head" {
            let stream = connection.into_parts().io.into_inner().stream;
            last_words(&stream, "408 Request Timeout", ApiError::slow_head());
        }
    }
}

fn ended(why: &'static str) {
    metrics::counter!("wavepass_http_ends_total", "why" => why).increment(1);
}

/// An answer to what was no request, as far as it fits without waiting.
fn last_words(stream: &TcpStream, status: &str, error: ApiError) {
    let body = error.into_json();
    let length = body.len();
    let head = "content-type: application/json\r\nconnection: close";
    let text = format!("HTTP/1.1 {status}\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}");
    // Whoever does not take it sees that the connection ends.
    let _ = stream.try_write(text.as_bytes());
}

/// How long each phase may last.
#[derive(Debug, Clone, Copy)]
struct Limits {
    head: Duration,
    body: Duration,
    request: Duration,
    idle: Duration,
}

impl Limits {
    const fn of(section: &HttpSection) -> Self {
        Self {
            head: Duration::from_secs(section.head_s),
            body: Duration::from_secs(section.body_s),
            request: Duration::from_secs(section.request_s),
            idle: Duration::from_secs(section.idle_s),
        }
    }
}

/// What a connection waits for, and until when.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The first byte of a request.
    Idle(Instant),
    /// The rest of its head.
    Head(Instant),
    /// Its body and our own work, which have limits of their own.
    Request,
    /// That the client takes the answer.
    Answer(Instant),
    /// The same, with all of it handed to the connection.
    Sending(Instant),
}

#[derive(Clone)]
struct Phases {
    limits: Limits,
    phase: Arc<Mutex<Phase>>,
}

impl Phases {
    /// A connection was made to say something: its first request has no longer than its head.
    fn begin(limits: Limits) -> Self {
        Self { limits, phase: Arc::new(Mutex::new(Phase::Idle(Instant::now() + limits.head))) }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    fn came(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(Instant::now() + self.limits.head);
        }
    }

    /// A head is whole; gives when its request must be done.
    fn request(&self) -> Instant {
        *self.phase() = Phase::Request;
        Instant::now() + self.limits.request
    }

    /// There is an answer to a request that ends then; the client has at least as long as between two requests.
    fn answer(&self, ends: Instant) {
        *self.phase() = Phase::Answer(ends.max(Instant::now() + self.limits.idle));
    }

    /// The answer's last byte is with the connection.
    fn sending(&self) {
        let mut phase = self.phase();
        if let Phase::Answer(ends) = *phase {
            *phase = Phase::Sending(ends);
        }
    }

    /// What was with the connection is with the system.
    fn sent(&self) {
        let mut phase = self.phase();
        if matches!(*phase, Phase::Sending(_)) {
            *phase = Phase::Idle(Instant::now() + self.limits.idle);
        }
    }

    fn ends(&self) -> Option<Instant> {
        match *self.phase() {
            Phase::Idle(ends) | Phase::Head(ends) | Phase::Answer(ends) | Phase::Sending(ends) => Some(ends),
            Phase::Request => None,
        }
    }

    /// Why a connection ends in this phase.
    fn word(&self) -> &'static str {
        match *self.phase() {
            Phase::Idle(_) => "idle",
            Phase::Head(_) => "slow_head",
            Phase::Request => "slow_request",
            Phase::Answer(_) | Phase::Sending(_) => "slow_answer",
        }
    }
}

/// A socket that tells when bytes come and when they have gone.
struct Watched {
    stream: TcpStream,
    phases: Phases,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.phases.came();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // Only asked once everything before it is written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.phases.sent();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A body of which nothing more came.
#[derive(Debug, thiserror::Error)]
#[error("nothing more of the body came for as long as `[http] body_s` allows")]
pub(super) struct SlowBody;

/// A request's body that must go on coming while somebody waits for it.
struct Timely {
    body: Incoming,
    stall: Duration,
    limit: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Timely {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.limit = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = this.limit.get_or_insert_with(|| Box::pin(sleep(this.stall)));
        limit.as_mut().poll(cx).map(|()| {
            ended("slow_body");
            Some(Err(SlowBody.into()))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body that tells when the connection has all of it.
struct Answer {
    body: Body,
    phases: Phases,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.phases.sending();
    }
}

#[cfg(test)]
mod tests;
