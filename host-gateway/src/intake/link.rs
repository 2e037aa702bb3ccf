//! The link server: accepts gates on TCP and gives each connection a [`session`](super::session).

use super::session::{End, Session};
use super::{Board, Directory, Intake};
use crate::clock::Clock;
use crate::config::LinkSection;
use crate::keys::ClearingKeys;
use crate::lists::Published;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// What every session works with.
#[derive(Clone)]
pub struct LinkParts {
    /// Where entries go.
    pub intake: Intake,
    /// Proves the link key and makes session keys.
    pub clearing: Arc<dyn ClearingKeys>,
    /// Which gates there are.
    pub directory: Arc<Directory>,
    /// Where they are read from.
    pub store: Store,
    /// Where their state is shown.
    pub board: Arc<Board>,
    /// The lists in force.
    pub lists: Arc<Published>,
    /// The time that gates are told.
    pub clock: Arc<dyn Clock>,
    /// Limits.
    pub limits: LinkSection,
    /// Moves when lists are published or a driven clock is set.
    pub news: watch::Receiver<u64>,
}

/// How long accepting pauses after the system refused it (out of file handles, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves gates until `stop` turns true or its sender is gone; ends when the last session has.
pub async fn serve(parts: LinkParts, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(parts.limits.max_connections));
    let mut sessions = tokio::task::JoinSet::new();
    let mut connection = 0u64;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = sessions.join_next() => continue,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "link: accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("wavepass_link_ends_total", "why" => "too_many").increment(1);
            tracing::warn!(%address, "link: more connections than allowed");
            continue;
        };
        connection += 1;
        let (parts, stop) = (parts.clone(), stop.clone());
        sessions.spawn(async move {
            run(parts, stream, address, connection, stop).await;
            drop(place);
        });
    }
    while sessions.join_next().await.is_some() {}
}

async fn run(
    parts: LinkParts,
    mut stream: TcpStream,
    address: std::net::SocketAddr,
    connection: u64,
    mut stop: watch::Receiver<bool>,
) {
    // Acknowledgements are small and awaited; the default would hold them back.
    let _ = stream.set_nodelay(true);
    let board = parts.board.clone();
    let mut session = Session::new(parts, address, connection);
    let end = tokio::select! {
        end = session.run(&mut stream) => end,
        _ = stop.wait_for(|stop| *stop) => End::Stopping,
    };
    if let Some(gate_id) = session.gate_id() {
        board.update(connection, gate_id, |state| state.connected = false);
    }
    metrics::counter!("wavepass_link_ends_total", "why" => end.word()).increment(1);
    let gate = session.gate_id();
    match end {
        End::Closed | End::Stopping | End::Replaced | End::Idle => {
            tracing::debug!(?gate, %address, why = end.word(), "link ended");
        }
        _ => tracing::warn!(?gate, %address, why = end.word(), "link ended"),
    }
}
