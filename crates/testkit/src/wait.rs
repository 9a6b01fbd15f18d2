//! Waiting for a condition rather than for a time.

use std::future::Future;
use std::time::Duration;

/// Repeats a question until there is an answer; an error that says what was waited for if there is none in time.
pub async fn eventually<T, F, A>(what: &str, within: Duration, mut ask: F) -> anyhow::Result<T>
where
    F: FnMut() -> A,
    A: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(within, asking).await.map_err(|_| anyhow::anyhow!("waited {within:?} in vain for: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_answer_comes_as_soon_as_there_is_one() -> anyhow::Result<()> {
        let mut calls = 0;
        let answer = eventually("three", Duration::from_secs(5), || {
            calls += 1;
            let answer = (calls == 3).then_some(calls);
            async move { answer }
        });
        assert_eq!(answer.await?, 3);
        Ok(())
    }

    #[tokio::test]
    async fn what_never_comes_is_named() {
        let never = eventually("the impossible", Duration::from_millis(20), || async { None::<()> }).await;
        assert!(never.is_err_and(|error| error.to_string().contains("the impossible")));
    }
}
