//! The second stage: writes groups, each in one transaction, on PostgreSQL several at the same time.
//!
//! A gate's batches are written in their order: groups that name the same key id follow each other, and in the store a transaction
//! locks the watermarks of its key ids first, which hold off other gateways.

use super::prepare::{Content, Group, Prepared};
use super::walk::{At, OpenGaps, Walk, keys_of};
use super::{Gap, IntakeError, Item, Parts, Receipt, Verdict};
use crate::gates;
use crate::store::{Store, StoreError, again_if_met, sql};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use wavepass_fares::ServiceDay;
use wavepass_protocol::dukpt::KeyId;

/// Writes groups until there are no more, as many at the same time as the store takes, in the order of each gate's batches.
pub(super) async fn stage(parts: Parts, mut groups: mpsc::Receiver<Group>) {
    let gaps = Arc::new(OpenGaps::default());
    let mut writing = JoinSet::new();
    // The key ids of each group that is being written.
    let mut written: HashMap<Id, HashSet<KeyId>> = HashMap::new();
    while let Some(group) = groups.recv().await {
        let keys: HashSet<KeyId> = group.keys().collect();
        let meets = |other: &HashSet<KeyId>| !other.is_disjoint(&keys);
        while written.len() >= parts.store.lanes() || written.values().any(meets) {
            let Some(done) = writing.join_next_with_id().await else { break };
            written.remove(&ended(done));
        }
        let task = writing.spawn(write_group(parts.clone(), group, gaps.clone()));
        written.insert(task.id(), keys);
    }
    while let Some(done) = writing.join_next_with_id().await {
        ended(done);
    }
}

/// Which group it was. One that panicked has dropped its replies, which their senders see as "stopped".
fn ended(done: Result<(Id, ()), JoinError>) -> Id {
    match done {
        Ok((id, ())) => id,
        Err(error) => {
            tracing::error!(%error, "intake: a group could not be written");
            error.id()
        }
    }
}

async fn write_group(parts: Parts, group: Group, gaps: Arc<OpenGaps>) {
    let now = parts.clock.now();
    let began = std::time::Instant::now();
    let mut directory = parts.directory.current();
    if group.keys().any(|id| directory.by_key(id).is_none()) {
        // A gate commissioned since. Where the store fails, so will the transaction below.
        let _ = parts.directory.refresh(&parts.store).await;
        directory = parts.directory.current();
    }
    // Only what is brought is counted by it: where the calendar ends, on one day.
    let day = parts.day_clock.day_of(sql::ms(now)).map_or(0, ServiceDay::number);
    let at = At { now, day, set_aside_a_day: parts.set_aside_a_day };
    let outcome = again_if_met(|| write(&parts.store, &group.jobs, &directory, &gaps, at)).await;
    metrics::histogram!("wavepass_intake_commit_seconds").record(began.elapsed().as_secs_f64());
    answer(group.jobs, outcome);
}

fn answer(jobs: Vec<Prepared>, outcome: Result<Vec<Receipt>, StoreError>) {
    match outcome {
        Ok(receipts) => {
            for (job, receipt) in jobs.into_iter().zip(receipts) {
                for verdict in &receipt.verdicts {
                    metrics::counter!("wavepass_intake_entries_total", "verdict" => verdict.word())
                        .increment(1);
                }
                // Whoever has gone away sends again and is told "repeated".
                let _ = job.reply.send(Ok(receipt));
            }
        }
        Err(error) => {
            tracing::error!(%error, "intake: a group could not be written");
            let error = IntakeError::Store(Arc::new(error));
            for job in jobs {
                let _ = job.reply.send(Err(error.clone()));
            }
        }
    }
}

impl Group {
    /// Every key id that the group names, with repetitions.
    fn keys(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.jobs.iter().flat_map(keys_of)
    }
}

/// Whether all of it opened and nothing of it is told to be lost: then it concerns its own gates' rows alone.
fn is_plain(job: &Prepared) -> bool {
    let plain = |(item, content): (&Item, &Content)| {
        matches!(item, Item::Entry(_)) && matches!(content, Content::Open { .. })
    };
    job.items.iter().zip(&job.contents).all(plain)
}

async fn write(
    store: &Store,
    jobs: &[Prepared],
    directory: &gates::Directory,
    open_gaps: &OpenGaps,
    at: At,
) -> Result<Vec<Receipt>, StoreError> {
    // Groups are written beside each other, each behind the locks on its gates' watermarks. What others share, such as how
    // much may be set aside today, is for one at a time.
    let mut tx = match jobs.iter().all(is_plain) {
        true => store.begin_beside().await?,
        false => store.begin().await?,
    };
    let mut walk = Walk::begin(&mut tx, jobs, directory, open_gaps, at).await?;
    let mut receipts = Vec::with_capacity(jobs.len());
    for job in jobs {
        let (mut receipt, first) = (Receipt::default(), walk.accepted.len());
        for (item, content) in job.items.iter().zip(&job.contents) {
            let verdict = walk.take(&mut tx, job.source, item, content).await?;
            if let Verdict::Gap { due } = verdict
                && receipt.gap.is_none()
            {
                receipt.gap = Some(Gap { due, instead: item.sealed().into() });
            }
            receipt.verdicts.push(verdict);
        }
        let accepted = walk.accepted[first..].iter().map(|a| (a.header.ksn.key_id, a.header.sequence));
        walk.brought.batch(job.source, &receipt.verdicts, accepted);
        receipts.push(receipt);
    }
    walk.write(&mut tx).await?;
    for (job, receipt) in jobs.iter().zip(&mut receipts) {
        receipt.acknowledged = walk.acknowledged(job);
    }
    tx.commit().await?;
    Ok(receipts)
}
