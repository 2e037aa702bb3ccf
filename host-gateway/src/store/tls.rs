//! What a PostgreSQL URL says of TLS, made strict: whom the store trusts, and what a connection that did not come about is
//! told as.
//!
//! The words are PostgreSQL's own (`sslmode`, `sslrootcert`, `sslcert`, `sslkey`, or `PGSSLMODE` and so on in the environment). What
//! differs: a server on another machine is verified unless the URL says otherwise, and what is not obeyed is refused.

use crate::input;
use rustls::CertificateError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The parameters that are obeyed: each with sqlx's other spellings, and its variable.
const MODE: Parameter = Parameter { names: &["sslmode", "ssl-mode"], variable: "PGSSLMODE" };
const ROOT: Parameter =
    Parameter { names: &["sslrootcert", "ssl-root-cert", "ssl-ca"], variable: "PGSSLROOTCERT" };
const CERTIFICATE: Parameter = Parameter { names: &["sslcert", "ssl-cert"], variable: "PGSSLCERT" };
const KEY: Parameter = Parameter { names: &["sslkey", "ssl-key"], variable: "PGSSLKEY" };

/// Why there is no connection, or none as it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A mode that is none, or none that is obeyed.
    #[error("{name}={value} of the PostgreSQL URL: it is disable, prefer, require, verify-ca or verify-full")]
    Mode {
        /// The parameter or variable.
        name: &'static str,
        /// What it says.
        value: String,
    },
    /// A parameter that would be passed over.
    #[error(
        "`{0}` of the PostgreSQL URL is not obeyed: of TLS there are sslmode, sslrootcert, sslcert and sslkey"
    )]
    Unknown(String),
    /// Whom to trust is not said, and anybody's certificate would do.
    #[error(
        "sslmode=verify-ca takes a certificate for any name: name the authority by sslrootcert=FILE, or give sslmode=verify-full"
    )]
    NoAuthority,
    /// Half of what proves who we are.
    #[error("sslcert and sslkey of the PostgreSQL URL are given together: {0} is missing")]
    Half(&'static str),
    /// A file that is not of use.
    #[error("{parameter} of the PostgreSQL URL: {path}: {why}")]
    File {
        /// Which parameter names it.
        parameter: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Not the name of a file.
    #[error("{0} of the PostgreSQL URL is the name of a file, not what is in it")]
    NotAName(&'static str),
    /// The server speaks without TLS only.
    #[error(
        "{server}: the server has no TLS, and {asked}: turn on `ssl` at the server, or give sslmode=disable where nobody can listen on the way"
    )]
    None {
        /// Which database, where.
        server: String,
        /// What asks for it.
        asked: String,
    },
    /// The server's certificate is none that is trusted.
    #[error("{server}: the server's certificate does not verify ({why}), and {asked}: {advice}")]
    Certificate {
        /// Which database, where.
        server: String,
        /// What is wrong with it.
        why: String,
        /// What asks for it.
        asked: String,
        /// What to do.
        advice: &'static str,
    },
    /// The two did not come to an understanding otherwise.
    #[error(
        "{server}: TLS with the server failed: {why}; see whether sslcert and sslkey are what the server takes"
    )]
    Handshake {
        /// Which database, where.
        server: String,
        /// What was found.
        why: String,
    },
}

struct Parameter {
    names: &'static [&'static str],
    variable: &'static str,
}

impl Parameter {
    /// What the URL says, the last time; else the environment. With the name it was found under.
    fn find(
        &self,
        pairs: &[(String, String)],
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Option<(&'static str, String)> {
        let in_url = pairs.iter().rev().find(|(name, _)| self.names.contains(&name.as_str()));
        match in_url {
            Some((_, value)) => Some((self.names[0], value.clone())),
            None => environment(self.variable).map(|value| (self.variable, value)),
        }
    }

    /// The file it names, if any, where `read` finds in it what it should hold.
    fn file(
        &self,
        pairs: &[(String, String)],
        environment: &impl Fn(&str) -> Option<String>,
        read: fn(&[u8]) -> Result<(), String>,
    ) -> Result<Option<PathBuf>, TlsError> {
        let Some((parameter, value)) = self.find(pairs, environment) else { return Ok(None) };
        // Not to be repeated: it may be a key.
        if value.trim_start().starts_with("-----BEGIN") {
            return Err(TlsError::NotAName(parameter));
        }
        let path = PathBuf::from(value);
        let failed = |why: String| TlsError::File { parameter, path: path.clone(), why };
        let text = input::read_text(&path, input::MAX_CONFIG).map_err(|e| failed(e.to_string()))?;
        read(text.as_bytes()).map_err(failed)?;
        Ok(Some(path))
    }
}

/// What a URL and the environment say of TLS, each word understood and each file looked into.
pub struct Said {
    mode: Option<PgSslMode>,
    root: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
}

impl Said {
    /// Reads it from a URL and, where that says nothing, from the environment.
    pub fn read(url: &str, environment: impl Fn(&str) -> Option<String>) -> Result<Self, TlsError> {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let obeyed = [MODE, ROOT, CERTIFICATE, KEY];
        let unknown = pairs.iter().map(|(name, _)| name).find(|name| {
            let of_tls =
                name.starts_with("ssl") || ["channel_binding", "gssencmode"].contains(&name.as_str());
            of_tls && !obeyed.iter().any(|parameter| parameter.names.contains(&name.as_str()))
        });
        if let Some(name) = unknown {
            return Err(TlsError::Unknown(name.clone()));
        }
        let mode = match MODE.find(&pairs, &environment) {
            None => None,
            Some((name, value)) => match value.parse() {
                // sqlx would never encrypt.
                Ok(PgSslMode::Allow) | Err(_) => return Err(TlsError::Mode { name, value }),
                Ok(mode) => Some(mode),
            },
        };
        let root = ROOT.file(&pairs, &environment, certificates)?;
        let certificate = CERTIFICATE.file(&pairs, &environment, certificates)?;
        let key = KEY.file(&pairs, &environment, private_key)?;
        let own = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (None, Some(_)) => return Err(TlsError::Half("sslcert")),
            (Some(_), None) => return Err(TlsError::Half("sslkey")),
        };
        Ok(Self { mode, root, own })
    }

    /// What it means for a server.
    pub fn of(self, options: &PgConnectOptions) -> Result<Tls, TlsError> {
        let local = is_local(options);
        let Self { mode: said, root, own } = self;
        let mode = match said {
            // Whoever names an authority means to have it asked.
            None if local && root.is_none() => PgSslMode::Prefer,
            None => PgSslMode::VerifyFull,
            Some(PgSslMode::VerifyCa) if root.is_none() => return Err(TlsError::NoAuthority),
            // As PostgreSQL's own programs do.
            Some(PgSslMode::Require) if root.is_some() => PgSslMode::VerifyCa,
            Some(mode) => mode,
        };
        // As PostgreSQL's own programs do: a socket has no TLS, whatever is asked for.
        let mode = if has_socket(options) { PgSslMode::Disable } else { mode };
        Ok(Tls { mode, by_default: said.is_none(), local, root, own })
    }
}

/// What a server is asked of TLS.
#[derive(Debug, Clone)]
pub struct Tls {
    mode: PgSslMode,
    /// Nobody said so.
    by_default: bool,
    /// Nothing on the way leaves this machine.
    local: bool,
    root: Option<PathBuf>,
    own: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    /// The options of a connection, with this.
    pub fn apply(&self, mut options: PgConnectOptions) -> PgConnectOptions {
        if let Some(root) = &self.root {
            options = options.ssl_root_cert(root);
        }
        if let Some((certificate, key)) = &self.own {
            options = options.ssl_client_cert(certificate).ssl_client_key(key);
        }
        options.ssl_mode(self.mode)
    }

    /// What is left where TLS came to nothing and nobody insisted on it.
    pub fn without(&self) -> Option<Self> {
        let preferred = matches!(self.mode, PgSslMode::Prefer);
        preferred.then(|| Self { mode: PgSslMode::Disable, ..self.clone() })
    }

    /// True where others on the way could read what is sent.
    pub fn may_be_in_clear(&self) -> bool {
        !self.local && matches!(self.mode, PgSslMode::Disable | PgSslMode::Prefer)
    }

    /// What a failed connection failed of, where that was TLS.
    pub fn told(&self, server: &str, error: &sqlx::Error) -> Option<TlsError> {
        let server = server.to_owned();
        let found: &(dyn std::error::Error + 'static) = match error {
            sqlx::Error::Io(error) => error.get_ref()?,
            sqlx::Error::Tls(error) => error.as_ref(),
            _ => return None,
        };
        match found.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(wrong)) => Some(TlsError::Certificate {
                server,
                why: match wrong {
                    CertificateError::Other(other) => other.0.to_string(),
                    wrong => wrong.to_string(),
                },
                asked: self.asked(),
                advice: advice(wrong),
            }),
            Some(other) => Some(TlsError::Handshake { server, why: other.to_string() }),
            // sqlx has but this sentence for it.
            None if found.to_string() == "server does not support TLS" => {
                Some(TlsError::None { server, asked: self.asked() })
            }
            None if matches!(error, sqlx::Error::Tls(_)) => {
                Some(TlsError::Handshake { server, why: found.to_string() })
            }
            None => None,
        }
    }

    fn asked(&self) -> String {
        let mode = match self.mode {
            PgSslMode::Disable => "disable",
            PgSslMode::Allow => "allow",
            PgSslMode::Prefer => "prefer",
            PgSslMode::Require => "require",
            PgSslMode::VerifyCa => "verify-ca",
            PgSslMode::VerifyFull => "verify-full",
        };
        let default = match (self.by_default, self.local) {
            (false, _) => "",
            (true, false) => ", as for any server on another machine by default",
            (true, true) => ", as wherever there is an sslrootcert by default",
        };
        format!("sslmode={mode} asks for it{default}")
    }
}

/// What makes a certificate one that verifies.
fn advice(wrong: &CertificateError) -> &'static str {
    match wrong {
        CertificateError::UnknownIssuer => {
            "name the authority that issued it by sslrootcert=FILE, or have it in the system's store"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect by a name that it is for, or give the server one for this name (subjectAltName)"
        }
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "renew it, or set the clocks of both machines",
        _ => "give the server one that an authority issued to it, as docs/operating.md shows",
    }
}

fn certificates(pem: &[u8]) -> Result<(), String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(()),
        Ok(_) => Err("it holds no certificate in PEM".into()),
        Err(e) => Err(e.to_string()),
    }
}

fn private_key(pem: &[u8]) -> Result<(), String> {
    let read = PrivateKeyDer::from_pem_slice(pem);
    read.map(drop).map_err(|_| "it holds no private key in PEM, or one under a passphrase".into())
}

fn has_socket(options: &PgConnectOptions) -> bool {
    options.get_socket().is_some() || Path::new(options.get_host()).is_absolute()
}

/// True where the way to the server does not leave this machine.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    let address = host.parse::<IpAddr>().map(|address| address.to_canonical().is_loopback());
    has_socket(options) || host.eq_ignore_ascii_case("localhost") || address.unwrap_or(false)
}
