//! How many files and connections this process may have open. Many systems let a process have 1,024 unless it asks.

use rustix::process::{Resource, getrlimit, setrlimit};

/// What is open beside gates' connections: the store's, those of HTTP, files on their way.
const BESIDE: u64 = 512;

/// The system allows fewer than are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{connections} connections need {needed} open files, and the system allows this process {allowed}: raise its hard limit \
     (`ulimit -Hn`, `LimitNOFILE=`), or let fewer connect"
)]
pub struct TooFewFiles {
    /// Connections that there may be.
    pub connections: usize,
    /// Open files that they need, with what is beside them.
    pub needed: u64,
    /// What the system allows.
    pub allowed: u64,
}

/// Raises this process's limit as far as so many connections need it, if the system allows that.
pub fn raise(connections: usize) -> Result<(), TooFewFiles> {
    let needed = BESIDE.saturating_add(connections as u64);
    let mut limit = getrlimit(Resource::Nofile);
    // No limit is none.
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let allowed = limit.maximum.unwrap_or(u64::MAX);
    limit.current = Some(needed.min(allowed));
    // What the system refuses all the same is found when a file cannot be opened, and told then.
    let _ = setrlimit(Resource::Nofile, limit);
    if allowed < needed { Err(TooFewFiles { connections, needed, allowed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_open_files_is_raised_as_far_as_it_goes_and_what_is_missing_is_named() {
        let now = || getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        raise(1).unwrap();
        assert!(now() >= BESIDE);
        let Some(allowed) = getrlimit(Resource::Nofile).maximum else { return };
        let connections = usize::try_from(allowed).unwrap();
        let missing = raise(connections).unwrap_err();
        assert_eq!(missing, TooFewFiles { connections, needed: allowed + BESIDE, allowed });
        assert!(missing.to_string().contains("LimitNOFILE"), "{missing}");
        assert_eq!(now(), allowed);
    }
}
