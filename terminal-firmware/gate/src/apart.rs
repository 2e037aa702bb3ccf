//! Stack frames of their own for futures.
//!
//! The compiler joins the futures that a task awaits into one function, whose frame is as large as all of them need
//! together, for as long as any of them runs. [`apart`] keeps one out of that: what it needs of the stack is free
//! again when it has returned.

use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};

/// Runs the future in frames of its own. It is handed over pinned, `apart(pin!(work())).await`, so that no second
/// place is kept for it.
pub async fn apart<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    poll_fn(|context| poll(future.as_mut(), context)).await
}

#[inline(never)]
fn poll<F: Future>(future: Pin<&mut F>, context: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(context)
}

/// [`apart`] for a large result: it is put in its place, so that no frame of those who wait for it holds a copy.
pub(crate) async fn apart_into<T, E, F: Future<Output = Result<T, E>>>(
    place: &mut Option<T>,
    mut future: Pin<&mut F>,
) -> Result<(), E> {
    poll_fn(|context| poll_into(place, future.as_mut(), context)).await
}

#[inline(never)]
fn poll_into<T, E, F: Future<Output = Result<T, E>>>(
    place: &mut Option<T>,
    future: Pin<&mut F>,
    context: &mut Context<'_>,
) -> Poll<Result<(), E>> {
    future.poll(context).map_ok(|result| *place = Some(result))
}
