//! The wish that the agent stops, as everything that waits can see it.

use tokio::sync::watch;

/// Asks everything that holds a [`Stop`] to come to an end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Sees a request to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

/// A request that was not made yet, and the end that sees it.
#[must_use]
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks. Asking twice is asking once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Never asked: for verbs that nobody stops in good order.
    #[must_use]
    pub fn never() -> Self {
        pair().1
    }

    /// Whether a stop was asked for.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns when a stop is asked for; never, when nobody can ask any more.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
