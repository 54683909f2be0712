//! Requests to the API server, each for as long as it may take: a connection that has died says nothing.
//!
//! Owns what a request comes to that is not answered, or that comes too late. Must not know what is asked.

use std::time::Duration;

/// So long a write may take.
pub(super) const WRITE: Duration = Duration::from_secs(10);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The API server or the way to it.
    #[error(transparent)]
    Kube(kube::Error),
    /// There was no answer.
    #[error("no answer within {} s", .0.as_secs())]
    Silence(Duration),
}

/// A request, for as long as it may take.
pub(super) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(result) => result.map_err(Failure::Kube),
        Err(_elapsed) => Err(Failure::Silence(limit)),
    }
}

/// Whether nothing can be made any more where it was to be.
pub(super) fn is_of_what_goes(answer: &kube::core::Status) -> bool {
    let causes = answer.details.iter().flat_map(|details| &details.causes);
    matches!(answer.code, 404 | 409) || causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_not_answered_does_not_wait_for_ever() {
        let silent = within(WRITE, std::future::pending::<Result<(), kube::Error>>()).await;
        assert_eq!(silent.unwrap_err().to_string(), "no answer within 10 s");
        assert_eq!(within(WRITE, async { Ok(7) }).await.unwrap(), 7);
    }
}
