//! Where notices wait for their subscriber, in bounded room.
use tokio::sync::mpsc;

use super::Notice;

/// Passes notices on. What finds no room is dropped, and the subscriber is told of the gap once there is room again.
pub(super) struct Outbox {
    to: mpsc::Sender<Notice>,
    /// Something was dropped since the last notice.
    is_behind: bool,
}

impl Outbox {
    pub(super) fn new(to: mpsc::Sender<Notice>) -> Self {
        Self {
            to,
            is_behind: false,
        }
    }

    pub(super) fn post(&mut self, notice: Notice) {
        if !self.is_behind {
            self.is_behind = self.to.try_send(notice).is_err();
        }
    }

    /// Waits for room after something was dropped, and tells of it; for ever if nothing was.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn catch_up(&mut self) {
        if self.is_behind
            && let Ok(room) = self.to.reserve_many(2).await
        {
            let notices = [Notice::Interrupted, Notice::Resumed];
            for (place, notice) in room.zip(notices) {
                place.send(notice);
            }
            self.is_behind = false;
            return;
        }
        std::future::pending().await
    }

    /// Tells that nothing arrives any more. Waits for room: there is nothing to miss meanwhile.
    pub(super) async fn interrupt(&mut self) {
        self.is_behind = self.to.send(Notice::Interrupted).await.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8) -> Notice {
        Notice::Message {
            channel: "c".to_owned(),
            payload: vec![number],
        }
    }

    #[tokio::test]
    async fn who_is_slow_is_told_what_he_missed() {
        let (to, mut from) = mpsc::channel(3);
        let mut outbox = Outbox::new(to);
        for number in 0..10 {
            outbox.post(message(number));
        }
        for number in 0..3 {
            assert_eq!(from.recv().await, Some(message(number)));
        }
        outbox.catch_up().await;
        outbox.post(message(10));
        for expected in [Notice::Interrupted, Notice::Resumed, message(10)] {
            assert_eq!(from.recv().await, Some(expected));
        }
        outbox.interrupt().await;
        assert_eq!(from.recv().await, Some(Notice::Interrupted));
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_nothing_to_catch_up_with_while_nothing_is_lost() {
        let (to, _from) = mpsc::channel(3);
        let mut outbox = Outbox::new(to);
        outbox.post(message(1));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(60), outbox.catch_up());
        assert!(waited.await.is_err());
    }
}
