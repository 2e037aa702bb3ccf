//! What comes back over HTTP, read with a limit: nobody at the other end decides how much memory it takes.

use ureq::Body;
use ureq::http::Response;

/// Why an answer is not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// It is longer than whoever asked reads.
    #[error("the answer has more than {limit} bytes, the most that is read of one")]
    TooLong {
        /// How many.
        limit: u64,
    },
    /// It broke off.
    #[error(transparent)]
    Broken(ureq::Error),
}

/// Reads the body of an answer, of at most so many bytes.
pub(crate) fn read(response: &mut Response<Body>, limit: u64) -> Result<Vec<u8>, AnswerError> {
    response.body_mut().with_config().limit(limit).read_to_vec().map_err(|error| match error {
        ureq::Error::BodyExceedsLimit(limit) => AnswerError::TooLong { limit },
        error => AnswerError::Broken(error),
    })
}
