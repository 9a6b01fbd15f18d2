//! Descriptions of topics, for many tables with one request.
//!
//! In: a topic's name. Out: its id and partitions, as the broker had them after the question was put.
//! A commit needs to know that the records in hand are of the topic whose id the table records. A reader goes by names: a
//! topic that was deleted and created again is read on as if nothing had happened. Topic ids never come back, so if the
//! id is the recorded one after the last record of the commit was read, all its records are of that topic. An answer
//! that was requested before would prove nothing, hence no cache. Questions that come while a request is under way wait
//! and go into the next one together: however many tables commit, one request is under way.
//! Must never happen: an answer to a request that was sent before its question came.

use std::sync::{Arc, Mutex, PoisonError};

use mesh_bus::{Bus, BusError, TopicDescription};
use tokio::sync::oneshot;

use crate::error::IngestError;
use crate::pipeline::fetch::same_error;

type Answer = Result<TopicDescription, BusError>;
/// Topics that were asked for, each with who waits for its description.
type Waiting = Vec<(String, oneshot::Sender<Answer>)>;

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct TopicDescriptions {
    bus: Bus,
    waiting: Arc<Mutex<Waiting>>,
    /// The task that holds it sends the next request.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl TopicDescriptions {
    pub fn new(bus: Bus) -> Self {
        Self { bus, waiting: Arc::default(), turn: Arc::default() }
    }

    /// A topic as it is now; an error if it does not exist.
    pub async fn describe(&self, topic: &str) -> Result<TopicDescription, IngestError> {
        loop {
            let (answer, answered) = oneshot::channel();
            self.waiting().push((topic.to_owned(), answer));
            let turn = self.turn.lock().await;
            let questions = std::mem::take(&mut *self.waiting());
            if !questions.is_empty() {
                self.answer(questions).await;
            }
            drop(turn);
            // Without an answer the task that sent the request was stopped meanwhile: another turn.
            if let Ok(answer) = answered.await {
                return Ok(answer?);
            }
        }
    }

    async fn answer(&self, questions: Vec<(String, oneshot::Sender<Answer>)>) {
        let mut names: Vec<&str> = questions.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let found = match self.bus.describe_topics(&names).await {
            Ok(found) => Ok(found),
            // One that may not be described fails the request for all.
            Err(_) if names.len() > 1 => {
                for (name, answer) in questions {
                    let _ = answer.send(self.bus.describe_topic(&name).await);
                }
                return;
            }
            Err(error) => Err(error),
        };
        for (name, answer) in questions {
            let one = match &found {
                Ok(found) => found.iter().find(|topic| topic.name == name).cloned().ok_or_else(|| {
                    BusError::TopicMissing { topic: name, address: self.bus.config().bootstrap.clone() }
                }),
                Err(error) => Err(same_error(error)),
            };
            // A table that was stopped does not wait any more.
            let _ = answer.send(one);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(String, oneshot::Sender<Answer>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
