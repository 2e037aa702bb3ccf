use super::postgres::Remote;
use super::{Store, StoreError, TlsError, query};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::path::PathBuf;
use std::sync::OnceLock;
use wavepass_test_postgres::{Options, Server, Tls};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn authority(name: &str) -> Authority {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate of an authority, and its key, in PEM.
fn issue(authority: &Authority, common_name: &str, names: &[&str]) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = params(common_name, names).signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// A server whose certificate is for `localhost` and not for the address, and files that whoever connects may have.
struct House {
    server: Server,
    dir: tempfile::TempDir,
}

impl House {
    fn get() -> &'static Self {
        static HOUSE: OnceLock<House> = OnceLock::new();
        HOUSE.get_or_init(|| {
            let [ours, other, clients] = ["ours", "another", "the clients'"].map(authority);
            let (certificate, key) = issue(&ours, "the server", &["localhost"]);
            let tls = Tls { certificate, key, clients: clients.pem() };
            let server = Server::start(Options { tcp: true, tls: Some(tls), ..Options::default() }).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let (own, own_key) = issue(&clients, "gateway-1", &[]);
            let (strange, strange_key) = issue(&other, "gateway-2", &[]);
            for (name, text) in [
                ("ca.crt", ours.pem()),
                ("other.crt", other.pem()),
                ("own.crt", own),
                ("own.key", own_key),
                ("strange.crt", strange),
                ("strange.key", strange_key),
                ("letter.txt", "Dear Anna".into()),
            ] {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            Self { server, dir }
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The URL of a new database by one of the server's names; a `@FILE` in the query is a file of the house's.
    fn url(&self, host: &str, query: &str) -> String {
        let database = self.server.new_database().unwrap();
        let query = query.replace('@', &format!("{}/", self.dir.path().display()));
        format!("postgres://postgres@{host}:{}/{database}?{query}", self.server.port())
    }

    async fn open(&self, host: &str, query: &str) -> Result<(Store, tempfile::TempDir), StoreError> {
        let dir = tempfile::tempdir().unwrap();
        Ok((Store::open(&self.url(host, query), dir.path()).await?, dir))
    }

    async fn refused(&self, host: &str, query: &str) -> String {
        self.open(host, query).await.err().unwrap().to_string()
    }
}

/// What the server says of each kind of connection of a store: encrypted or not, and by what certificate of the client's.
async fn seen(store: &Store) -> Vec<(String, String)> {
    // All three kinds of connections are there.
    store.begin().await.unwrap().commit().await.unwrap();
    store.begin_shard(0).await.unwrap().commit().await.unwrap();
    let text = "SELECT DISTINCT application_name, concat_ws(' ', CASE WHEN ssl THEN version ELSE 'in clear' END, client_dn) \
                FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) \
                WHERE datname = current_database() AND application_name LIKE 'wavepass-%' ORDER BY 1, 2";
    query(text).rows(store.pool()).await.unwrap()
}

fn both(what: &str) -> Vec<(String, String)> {
    ["wavepass-reader", "wavepass-writer"].map(|name| (name.to_owned(), what.to_owned())).to_vec()
}

#[tokio::test]
async fn every_connection_is_encrypted_where_the_authority_and_the_name_are_right() {
    let house = House::get();
    for (host, query) in [
        ("localhost", "sslmode=verify-full&sslrootcert=@ca.crt"),
        // Who names an authority means to have it asked.
        ("localhost", "sslrootcert=@ca.crt"),
        // Any name will do.
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=@ca.crt"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", ""),
    ] {
        let (store, _dir) = house.open(host, query).await.unwrap();
        assert_eq!(seen(&store).await, both("TLSv1.3"), "{host} {query}");
    }
    let (store, _dir) = house.open("localhost", "sslmode=disable").await.unwrap();
    assert_eq!(seen(&store).await, both("in clear"));
}

#[tokio::test]
async fn another_authority_or_another_name_is_refused_with_what_to_do() {
    let house = House::get();
    // `require` with an authority is `verify-ca`, as with PostgreSQL's own programs.
    for mode in ["verify-full", "verify-ca", "require"] {
        let told = house.refused("localhost", &format!("sslmode={mode}&sslrootcert=@other.crt")).await;
        assert!(told.contains(&format!("at localhost:{}", house.server.port())), "{told}");
        let asked = if mode == "require" { "verify-ca" } else { mode };
        assert!(
            told.contains("does not verify (") && told.contains(&format!("sslmode={asked} asks")),
            "{told}"
        );
        assert!(told.contains("name the authority that issued it by sslrootcert=FILE"), "{told}");
    }
    // The system's store does not have it.
    let told = house.refused("localhost", "sslmode=verify-full").await;
    assert!(told.contains("sslrootcert=FILE"), "{told}");

    let told = house.refused("127.0.0.1", "sslmode=verify-full&sslrootcert=@ca.crt").await;
    assert!(told.contains("at 127.0.0.1:") && told.contains("localhost"), "{told}");
    assert!(told.contains("connect by a name that it is for"), "{told}");
}

#[tokio::test]
async fn a_server_without_tls_is_refused_by_name_where_it_is_asked_for() {
    let server = Server::start(Options { tcp: true, ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let url = format!("{}?sslmode=require", server.url(&server.new_database().unwrap()));
    let told = Store::open(&url, dir.path()).await.err().unwrap();
    assert!(matches!(&told, StoreError::Tls(TlsError::None { .. })), "{told}");
    let told = told.to_string();
    assert!(told.contains(&format!("test_0 at 127.0.0.1:{}", server.port())), "{told}");
    assert!(told.contains("sslmode=require asks for it") && told.contains("turn on `ssl`"), "{told}");

    let store = Store::open(&url.replace("require", "prefer"), dir.path()).await.unwrap();
    assert_eq!(seen(&store).await, both("in clear"));
    store.close().await;
}

#[tokio::test]
async fn the_gateway_shows_a_certificate_of_its_own() {
    let house = House::get();
    let (store, _dir) =
        house.open("localhost", "sslmode=require&sslcert=@own.crt&sslkey=@own.key").await.unwrap();
    assert_eq!(seen(&store).await, both("TLSv1.3 /CN=gateway-1"));
    for query in ["sslcert=@strange.crt&sslkey=@strange.key", "sslcert=@own.crt&sslkey=@strange.key"] {
        let told = house.refused("localhost", &format!("sslmode=require&{query}")).await;
        assert!(told.contains("at localhost:") && told.contains("sslcert and sslkey"), "{told}");
    }
    // Who only prefers it goes on without.
    let (store, _dir) =
        house.open("localhost", "sslmode=prefer&sslcert=@strange.crt&sslkey=@strange.key").await.unwrap();
    assert_eq!(seen(&store).await, both("in clear"));
}

#[tokio::test]
async fn what_is_not_obeyed_is_refused_before_anybody_is_asked() {
    let house = House::get();
    for (query, told) in [
        ("sslmode=allow", "sslmode=allow"),
        ("sslmode=yes", "disable, prefer, require, verify-ca or verify-full"),
        ("sslmode=verify-ca", "sslrootcert=FILE"),
        ("ssl_mode=require", "`ssl_mode`"),
        ("sslcrl=revoked.pem", "`sslcrl`"),
        ("sslmode=require&channel_binding=require", "`channel_binding`"),
        ("sslrootcert=@nowhere.crt", "nowhere.crt: No such file"),
        ("sslrootcert=@letter.txt", "letter.txt: it holds no certificate"),
        ("sslcert=@own.crt", "sslkey is missing"),
        ("sslkey=@own.key", "sslcert is missing"),
        ("sslcert=@own.crt&sslkey=@own.crt", "own.crt: it holds no private key"),
    ] {
        let refused = super::check_url(&house.url("127.0.0.1", query)).unwrap_err().to_string();
        assert!(refused.contains(told), "{query}: {refused}");
    }
    let key = std::fs::read_to_string(house.file("own.key")).unwrap();
    let environment = |variable: &str| (variable == "PGSSLKEY").then(|| key.clone());
    let refused = Remote::parse_in("postgres://localhost/db", environment).unwrap_err().to_string();
    assert!(refused.contains("PGSSLKEY") && !refused.contains("PRIVATE"), "{refused}");
}

/// What becomes of a URL: its mode, and whether it may be read on the way.
fn mode(url: &str, environment: Option<&str>) -> String {
    let environment = environment.map(str::to_owned);
    let remote = Remote::parse_in(url, |variable| environment.clone().filter(|_| variable == "PGSSLMODE"));
    let remote = remote.unwrap();
    let clear = if remote.tls.may_be_in_clear() { ", may be in clear" } else { "" };
    format!("{:?}{clear}", remote.options.get_ssl_mode())
}

#[test]
fn a_server_on_another_machine_is_verified_unless_somebody_says_otherwise() {
    for (url, is) in [
        ("postgres://db.example/wavepass", "VerifyFull"),
        ("postgres://10.0.0.7/wavepass", "VerifyFull"),
        ("postgres://[2001:db8::7]/wavepass", "VerifyFull"),
        ("postgres://localhost.example/wavepass", "VerifyFull"),
        ("postgres://localhost/wavepass?host=db.example", "VerifyFull"),
        ("postgres://localhost/wavepass?hostaddr=10.0.0.7", "VerifyFull"),
        ("postgres://db.example/wavepass?sslmode=require", "Require"),
        ("postgres://db.example/wavepass?sslmode=prefer", "Prefer, may be in clear"),
        ("postgres://db.example/wavepass?sslmode=disable", "Disable, may be in clear"),
        ("postgres://localhost/wavepass", "Prefer"),
        ("postgres://127.0.0.2/wavepass", "Prefer"),
        ("postgres://[::1]/wavepass", "Prefer"),
        // A socket has no TLS, whatever is asked for.
        ("postgres://%2Frun%2Fpostgresql/wavepass", "Disable"),
        ("postgres://db.example/wavepass?host=/run/postgresql&sslmode=verify-full", "Disable"),
    ] {
        assert_eq!(mode(url, None), is, "{url}");
    }
    assert_eq!(mode("postgres://db.example/wavepass", Some("require")), "Require");
    assert_eq!(mode("postgres://db.example/wavepass?sslmode=verify-full", Some("disable")), "VerifyFull");
}

#[test]
fn the_default_is_told_where_it_is_what_refuses() {
    let remote = Remote::parse_in("postgres://db.example/wavepass", |_| None).unwrap();
    let error = sqlx::Error::Tls("server does not support TLS".into());
    let told = remote.tls.told("wavepass at db.example:5432", &error).unwrap().to_string();
    assert!(told.contains("as for any server on another machine by default"), "{told}");
}
