//! The bank on its socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use wavepass_fares::Fen;
use wavepass_gateway::bank::embedded::{
    AccountError, Deposit, EAccount, Limits, NewAccount, deposit_in, open_in, page_in,
};
use wavepass_gateway::bank::wire::{
    self, Account, Accounts, Answered, Answers, Deductions, Deposits, Differences, HoldAnswered, HoldAnswers,
    Holds, Line, Refused, Releases, SharedKey, Statement, StatementQuery,
};
use wavepass_gateway::bank::{BankConnector, BankError, EmbeddedBank};
use wavepass_gateway::store::Store;

use crate::Failure;
use crate::trouble::{Draw, Draws, Trouble};

/// Where a running bank listens: the ready file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Running {
    /// Process number.
    pub pid: u32,
    /// Where requests are taken.
    pub http: SocketAddr,
}

/// A bank that listens.
pub struct Bank {
    parts: Arc<Parts>,
    listener: TcpListener,
}

struct Parts {
    store: Store,
    bank: EmbeddedBank,
    key: SharedKey,
    draws: Draws,
    no_holds: bool,
}

impl Bank {
    /// Opens the bank's folder, made where it is missing, and listens.
    pub async fn open(
        data: &Path,
        key_file: &Path,
        listen: SocketAddr,
        trouble: Trouble,
    ) -> Result<Self, Failure> {
        let key = SharedKey::read(key_file).map_err(|e| e.0)?;
        std::fs::create_dir_all(data).map_err(|e| format!("{}: {e}", data.display()))?;
        let store = Store::open(&format!("sqlite:{}", data.join("bank.db").display()), data).await?;
        let declining = trouble.clone();
        let bank = EmbeddedBank::new(store.clone(), Limits::default())?
            .refusing(Arc::new(move |id| declining.declines(id)));
        let listener = TcpListener::bind(listen).await.map_err(|e| format!("{listen}: {e}"))?;
        let no_holds = trouble.no_holds;
        let parts = Arc::new(Parts { store, bank, key, draws: Draws::new(trouble), no_holds });
        Ok(Self { parts, listener })
    }

    /// Where it listens.
    pub fn running(&self) -> Result<Running, Failure> {
        Ok(Running { pid: std::process::id(), http: self.listener.local_addr()? })
    }

    /// Answers until `stop` is done.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Failure> {
        let router = Router::new().fallback(take).with_state(self.parts.clone());
        let listener = Door { listener: self.listener, parts: self.parts.clone() };
        axum::serve(listener, router).with_graceful_shutdown(stop).await?;
        self.parts.store.close().await;
        Ok(())
    }
}

/// Lets connections in, but for the share that is refused.
struct Door {
    listener: TcpListener,
    parts: Arc<Parts>,
}

impl axum::serve::Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let came = axum::serve::Listener::accept(&mut self.listener).await;
            if !self.parts.draws.hits(Draw::Connection) {
                return came;
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Why a request is not done.
struct Denied(StatusCode, String);

impl Denied {
    fn bad(why: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, why.into())
    }
}

impl From<BankError> for Denied {
    fn from(error: BankError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.0)
    }
}

impl From<AccountError> for Denied {
    fn from(error: AccountError) -> Self {
        let status = match error {
            AccountError::Unknown(_) | AccountError::Refused { .. } | AccountError::Overflow(_) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            AccountError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(status, error.to_string())
    }
}

/// One request: proven, done, answered, or in trouble.
async fn take(State(parts): State<Arc<Parts>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let mac = header(&head.headers, wire::MAC).to_owned();
    let done = async {
        let body = to_bytes(body, wire::MAX_BODY)
            .await
            .map_err(|e| Denied(StatusCode::PAYLOAD_TOO_LARGE, e.to_string()))?;
        let target = head.uri.path_and_query().map_or("/", |p| p.as_str());
        parts.prove(&head.method, target, &head.headers, &body)?;
        if parts.draws.hits(Draw::Error) {
            return Err(Denied(StatusCode::INTERNAL_SERVER_ERROR, "trouble, as ordered".into()));
        }
        parts.answer(&head.method, head.uri.path(), head.uri.query().unwrap_or_default(), &body).await
    };
    let done = done.await;
    tokio::time::sleep(parts.draws.delay()).await;
    if done.is_ok() && parts.draws.hits(Draw::Answer) {
        // Until the caller hangs up.
        std::future::pending::<()>().await;
    }
    match done {
        Ok(body) => {
            let proof = parts.key.answer(&mac, &body);
            ([(wire::MAC, proof.as_str()), ("content-type", "application/json")], Body::from(body))
                .into_response()
        }
        Err(Denied(status, error)) => (status, axum::Json(Refused { error })).into_response(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Parts {
    fn prove(&self, method: &Method, target: &str, headers: &HeaderMap, body: &Bytes) -> Result<(), Denied> {
        let no = |why: &str| Denied(StatusCode::UNAUTHORIZED, why.to_owned());
        let date = header(headers, wire::DATE);
        if !self.key.is_request(method.as_str(), target, date, body, header(headers, wire::MAC)) {
            return Err(no("the request is not signed with the shared key"));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |past| past.as_secs());
        match date.parse::<u64>() {
            Ok(date) if date.abs_diff(now) <= wire::MAX_SKEW_S => Ok(()),
            _ => Err(no("the request's date is too far from the bank's clock")),
        }
    }

    async fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> Result<Vec<u8>, Denied> {
        match (method.as_str(), path) {
            ("POST", wire::DEDUCTIONS) => written(&self.deduct(read(body)?).await?),
            ("POST", wire::HOLDS) if !self.no_holds => written(&self.hold(read(body)?).await?),
            ("POST", wire::RELEASES) if !self.no_holds => written(&self.release(read(body)?).await?),
            ("GET", wire::STATEMENT) => written(&self.statement(asked(query)?).await?),
            ("GET", wire::DIFFERENCES) => {
                written(&Differences { differences: self.bank.own_differences().await? })
            }
            ("POST", wire::ACCOUNTS) => written(&self.open(read(body)?).await?),
            ("GET", wire::ACCOUNTS) => written(&self.list(asked(query)?).await?),
            ("POST", wire::DEPOSITS) => written(&self.fill(read(body)?).await?),
            _ => Err(Denied(StatusCode::NOT_FOUND, format!("there is no {method} {path}"))),
        }
    }

    /// The bank as it is now: by this time, holds expire.
    fn now(&self) -> EmbeddedBank {
        self.bank.clone().at(now_ms())
    }

    async fn deduct(&self, asked: Deductions) -> Result<Answers, Denied> {
        within(asked.deductions.len())?;
        let requests: Option<Vec<_>> = asked.deductions.into_iter().map(|d| d.request()).collect();
        let requests = requests.ok_or_else(|| {
            Denied::bad("an attempt's name has 56 hexadecimal digits, and that of a hold 40")
        })?;
        let asked: Vec<_> =
            requests.iter().map(|(hold, request)| (hold.filter(|_| !self.no_holds), request)).collect();
        let answers = self.now().answer(&asked).await?;
        let answers = asked.iter().zip(answers).map(|((_, r), answer)| Answered::of(r.id, answer)).collect();
        Ok(Answers { answers })
    }

    async fn hold(&self, asked: Holds) -> Result<HoldAnswers, Denied> {
        within(asked.holds.len())?;
        let requests: Option<Vec<_>> = asked.holds.into_iter().map(|h| h.request()).collect();
        let requests = requests.ok_or_else(|| {
            Denied::bad("a hold's name has 40 hexadecimal digits, and its amount is above zero")
        })?;
        let answers = self.now().authorise(&requests).await?;
        let answers =
            requests.iter().zip(answers).map(|(r, answer)| HoldAnswered::of(r.id, answer)).collect();
        Ok(HoldAnswers { answers })
    }

    async fn release(&self, asked: Releases) -> Result<Releases, Denied> {
        within(asked.releases.len())?;
        let releases: Option<Vec<_>> = asked.releases.iter().map(wire::Released::release).collect();
        let releases = releases.ok_or_else(|| Denied::bad("a hold's name has 40 hexadecimal digits"))?;
        self.now().release(&releases).await?;
        Ok(asked)
    }

    async fn statement(&self, page: StatementQuery) -> Result<Statement, Denied> {
        let after = match page.after.as_str() {
            "" => None,
            name => Some(wire::attempt_of(name).ok_or_else(|| Denied::bad("`after` is no attempt's name"))?),
        };
        let lines = self.bank.statement(page.service_day, after, page.limit.min(wire::MAX_ITEMS)).await?;
        Ok(Statement { lines: lines.iter().map(Line::of).collect() })
    }

    async fn open(&self, asked: Accounts) -> Result<Accounts, Denied> {
        within(asked.accounts.len())?;
        let new: Vec<NewAccount> = asked
            .accounts
            .iter()
            .map(|a| NewAccount { account_id: a.account.clone(), class: a.class })
            .collect();
        let mut tx = self.store.begin().await.map_err(AccountError::from)?;
        open_in(&mut tx, &new).await?;
        tx.commit().await.map_err(AccountError::from)?;
        Ok(asked)
    }

    async fn list(&self, page: Page) -> Result<Accounts, Denied> {
        let mut conn = self.store.pool().acquire().await.map_err(AccountError::from)?;
        let found = page_in(&mut conn, &page.after, page.limit.min(wire::MAX_ITEMS), true).await;
        let accounts = found.map_err(AccountError::from)?.into_iter();
        let now_ms = now_ms();
        let account = |a: EAccount| -> Result<Account, Denied> {
            let held = a.held(now_ms).map_err(AccountError::from)?;
            Ok(Account {
                account: a.account_id,
                class: a.class,
                balance_fen: Some(a.balance.0),
                held_fen: Some(held.0),
            })
        };
        Ok(Accounts { accounts: accounts.map(account).collect::<Result<_, _>>()? })
    }

    async fn fill(&self, asked: Deposits) -> Result<Deposits, Denied> {
        within(asked.deposits.len())?;
        let at_ms = now_ms();
        let deposit = |d: &wire::Filling| Deposit {
            account_id: d.account.clone(),
            name: d.name.clone(),
            amount: Fen(d.amount_fen),
            at_ms,
        };
        let deposits: Vec<Deposit> = asked.deposits.iter().map(deposit).collect();
        // Under such a name it would be an attempt's.
        if deposits.iter().any(|d| !(1..=64).contains(&d.name.len()) || d.name.len() == 28) {
            return Err(Denied::bad("a deposit's name has 1 to 64 bytes, and not 28"));
        }
        let mut tx = self.store.begin().await.map_err(AccountError::from)?;
        deposit_in(&mut tx, &Limits::default(), &deposits).await?;
        tx.commit().await.map_err(AccountError::from)?;
        Ok(asked)
    }
}

/// Which page of the accounts.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    after: String,
    limit: u32,
}

/// The bank's clock, in milliseconds since 1970-01-01 UTC.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

fn within(items: usize) -> Result<(), Denied> {
    match items <= wire::MAX_ITEMS as usize {
        true => Ok(()),
        false => Err(Denied::bad(format!("{items} at once; the limit is {}", wire::MAX_ITEMS))),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Denied> {
    serde_json::from_slice(body).map_err(|e| Denied::bad(e.to_string()))
}

fn asked<T: DeserializeOwned>(query: &str) -> Result<T, Denied> {
    let uri = format!("/?{query}").parse().map_err(|_| Denied::bad("the query is none"))?;
    let found = axum::extract::Query::try_from_uri(&uri).map_err(|e| Denied::bad(e.to_string()))?;
    Ok(found.0)
}

fn written(answer: &impl Serialize) -> Result<Vec<u8>, Denied> {
    serde_json::to_vec(answer).map_err(|e| Denied(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))
}
