//! Reading a caller's body, within its bounds of bytes and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::config::Bounds;
use crate::wire::ApiError;

/// What of a body is allocated before any of it has come, however long it says it is.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// How much of a body is read, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntakeBounds {
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

impl IntakeBounds {
    /// Those of a listener.
    pub(crate) fn of(bounds: &Bounds) -> Self {
        Self {
            bytes: bounds.max_body,
            time: bounds.body_time,
        }
    }
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IntakeError {
    /// It is, or says it is, larger than the bound.
    #[error("the request body is larger than {0} bytes")]
    TooLarge(usize),
    /// It took longer than the bound.
    #[error("the request body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// The caller broke off.
    #[error("reading the request body: {0}")]
    Broken(#[from] hyper::Error),
}

impl From<IntakeError> for ApiError {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::TooLarge(bytes) => Self::TooLarge(bytes),
            IntakeError::TooSlow(time) => Self::TooSlow(time),
            IntakeError::Broken(_) => Self::invalid("the request body broke off", None),
        }
    }
}

/// Reads `body` to its end. A body that came in one piece is not copied.
///
/// # Errors
/// [`IntakeError`]; an overlong body is refused before it is read when it tells its length.
pub(crate) async fn collect(
    mut body: Incoming,
    bounds: IntakeBounds,
) -> Result<Bytes, IntakeError> {
    if body.size_hint().lower() > bounds.bytes as u64 {
        return Err(IntakeError::TooLarge(bounds.bytes));
    }
    match timeout(bounds.time, read(&mut body, bounds.bytes)).await {
        Ok(read) => read,
        Err(_) => Err(IntakeError::TooSlow(bounds.time)),
    }
}

async fn read(body: &mut Incoming, bound: usize) -> Result<Bytes, IntakeError> {
    let Some(first) = next(body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > bound {
        return Err(IntakeError::TooLarge(bound));
    }
    let Some(second) = next(body).await? else {
        return Ok(first);
    };
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let mut whole =
        BytesMut::with_capacity(first.len() + second.len() + expected.min(FIRST_ALLOCATION));
    whole.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(data) = piece {
        if whole.len() + data.len() > bound {
            return Err(IntakeError::TooLarge(bound));
        }
        whole.extend_from_slice(&data);
        piece = next(body).await?;
    }
    Ok(whole.freeze())
}

/// The next piece of data; `None` at the end. Trailers are skipped.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while !body.is_end_stream() {
        match body
            .frame()
            .await
            .transpose()?
            .map(http_body::Frame::into_data)
        {
            Some(Ok(data)) => return Ok(Some(data)),
            Some(Err(_trailers)) => {}
            None => break,
        }
    }
    Ok(None)
}
