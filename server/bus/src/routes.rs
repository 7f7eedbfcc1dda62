//! Who listens to what in this instance.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::Message;
use crate::queue::Queue;

/// The subscribers of one subject. Replaced as a whole when one comes or goes, so that a delivery holds
/// no lock while it waits for room.
type Subscribers = Arc<Vec<Arc<Queue>>>;

#[derive(Default)]
pub(crate) struct Routes {
    table: RwLock<HashMap<String, Subscribers>>,
    inboxes: AtomicU64,
}

impl Routes {
    pub(crate) fn add(&self, subject: &str) -> Arc<Queue> {
        let queue = Arc::new(Queue::new());
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let subscribers = table.entry(subject.to_owned()).or_default();
        let mut all = Vec::with_capacity(subscribers.len() + 1);
        all.extend(subscribers.iter().cloned());
        all.push(Arc::clone(&queue));
        *subscribers = Arc::new(all);
        queue
    }

    pub(crate) fn remove(&self, subject: &str, queue: &Arc<Queue>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let Some(subscribers) = table.get_mut(subject) else {
            return;
        };
        let rest: Vec<_> = subscribers
            .iter()
            .filter(|other| !Arc::ptr_eq(other, queue))
            .cloned()
            .collect();
        if rest.is_empty() {
            table.remove(subject);
        } else {
            *subscribers = Arc::new(rest);
        }
    }

    /// A subject of this instance that nobody else has.
    pub(crate) fn inbox(&self) -> String {
        format!(
            "{LOCAL_INBOX}{}",
            self.inboxes.fetch_add(1, Ordering::Relaxed)
        )
    }

    fn subscribers(&self, subject: &str) -> Option<Subscribers> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.get(subject).cloned()
    }

    /// Whether anybody here still takes messages for `subject`.
    pub(crate) fn has(&self, subject: &str) -> bool {
        self.subscribers(subject)
            .is_some_and(|all| all.iter().any(|queue| queue.is_open()))
    }

    /// Hands a message to every subscriber here; how many took it. Waits for those that are slow.
    pub(crate) async fn deliver(&self, message: Message) -> usize {
        let Some(subscribers) = self.subscribers(&message.subject) else {
            return 0;
        };
        let mut taken = 0;
        if let Some((last, others)) = subscribers.split_last() {
            for queue in others {
                taken += usize::from(queue.send(message.clone()).await);
            }
            taken += usize::from(last.send(message).await);
        }
        taken
    }
}

/// Answers to requests within this instance go to subjects that begin so.
pub(crate) const LOCAL_INBOX: &str = "_local.";
