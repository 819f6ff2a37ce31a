//! What the tests share.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tallygate_sim::{ApiCall, At, Client, Clock, Mock, MockOptions, Reply};

/// A mock on a free port, its client, and the clock that both tests and limits run by.
pub(crate) struct Bench {
    pub(crate) mock: Mock,
    pub(crate) client: Client,
    pub(crate) clock: Clock,
}

pub(crate) const KEY: &str = "sk-test";

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(MockOptions::default()).await
    }

    pub(crate) async fn with(options: MockOptions) -> Self {
        let clock = Clock::manual(At::from_nanos(1_700_000_000_000_000_000));
        let options = MockOptions {
            clock: clock.clone(),
            ..options
        };
        let mock = Mock::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), options)
            .await
            .unwrap();
        let client = Client::new(format!("http://{}", mock.addr())).with_key(KEY);
        Self {
            mock,
            client,
            clock,
        }
    }

    pub(crate) async fn call(&self, call: &ApiCall) -> Reply {
        self.client.call(call).await.unwrap()
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }
}
