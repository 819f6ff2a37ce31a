//! What is sent again, and for how long.
use super::*;
use std::sync::atomic::AtomicUsize;

/// A way on which the first calls fail.
struct Faulty {
    /// How many fail.
    failures: AtomicUsize,
    refuses: bool,
    sent: AtomicUsize,
    circuits: watch::Sender<usize>,
}

impl Faulty {
    fn new(failures: usize) -> Arc<Self> {
        Arc::new(Self {
            failures: AtomicUsize::new(failures),
            refuses: false,
            sent: AtomicUsize::new(0),
            circuits: watch::Sender::new(0),
        })
    }

    fn sent(&self) -> usize {
        self.sent.swap(0, Ordering::SeqCst)
    }

    fn answer(&self) -> Result<Vec<Value>, LinkError> {
        self.sent.fetch_add(1, Ordering::SeqCst);
        let left = self.failures.load(Ordering::SeqCst);
        self.failures
            .store(left.saturating_sub(1), Ordering::SeqCst);
        match (left, self.refuses) {
            (0, _) => Ok(Vec::new()),
            (_, true) => Err(LinkError::Refused {
                reason: "OOM".to_owned(),
            }),
            (_, false) => Err(LinkError::Down {
                reason: "it is gone".to_owned(),
                retry_after: Duration::from_millis(10),
            }),
        }
    }
}

impl Carrier for Faulty {
    fn call<'a>(&'a self, _: &'a Call) -> BoxFuture<'a, Result<Vec<Value>, LinkError>> {
        Box::pin(async { self.answer() })
    }

    fn route(&self, tag: Tag) -> Route {
        Route::Slot(u16::try_from(tag).unwrap())
    }

    fn is_cluster(&self) -> bool {
        true
    }

    fn subscribe(&self, _: Vec<String>) -> mpsc::Receiver<Notice> {
        mpsc::channel(1).1
    }

    fn open_circuits(&self) -> watch::Receiver<usize> {
        self.circuits.subscribe()
    }
}

const DEADLINE: Duration = Duration::from_secs(1);

fn patient(faulty: &Arc<Faulty>) -> Patient {
    Patient::new(faulty.clone(), DEADLINE, Arc::new(Notify::new()))
}

fn call(tag: Tag) -> Call {
    Call {
        tag,
        keys: Vec::new(),
        args: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_failed_is_sent_again() {
    let faulty = Faulty::new(3);
    let patient = patient(&faulty);
    assert_eq!(patient.trouble().last(), None);
    assert!(Carrier::call(&patient, &call(1)).await.is_ok());
    assert_eq!((faulty.sent(), patient.trouble().resent()), (4, 3));
    assert_eq!(patient.trouble().last(), None, "it went well in the end");
    assert_eq!(patient.trouble().latest(), "it is gone");
}

/// The total deadline is one for all who call on the same way, so that a queue does not wait once for each.
#[tokio::test(start_paused = true)]
async fn patience_ends_once_for_a_route() {
    let faulty = Faulty::new(usize::MAX);
    let patient = patient(&faulty);
    let began = Instant::now();
    assert!(Carrier::call(&patient, &call(1)).await.is_err());
    assert!(began.elapsed() >= DEADLINE);
    assert!(began.elapsed() < DEADLINE + 2 * PAUSES[1]);
    assert_eq!(patient.trouble().last(), Some("it is gone".to_owned()));
    faulty.sent();
    assert!(Carrier::call(&patient, &call(1)).await.is_err());
    assert_eq!(faulty.sent(), 1, "patience is at its end there");
    faulty.failures.store(2, Ordering::SeqCst);
    assert!(Carrier::call(&patient, &call(2)).await.is_ok());
    assert_eq!(faulty.sent(), 3, "but not elsewhere");
    assert!(Carrier::call(&patient, &call(1)).await.is_ok());
    faulty.sent();
    faulty.failures.store(2, Ordering::SeqCst);
    assert!(Carrier::call(&patient, &call(1)).await.is_ok());
    assert_eq!(faulty.sent(), 3, "it begins anew once all is well");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_again_while_a_circuit_is_open() {
    let faulty = Faulty::new(1);
    let patient = patient(&faulty);
    faulty.circuits.send_replace(1);
    assert!(Carrier::call(&patient, &call(1)).await.is_err());
    assert_eq!(faulty.sent(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_sent_again() {
    let mut faulty = Faulty::new(1);
    Arc::get_mut(&mut faulty).unwrap().refuses = true;
    let patient = patient(&faulty);
    assert!(Carrier::call(&patient, &call(1)).await.is_err());
    assert_eq!(faulty.sent(), 1);
    assert_eq!(patient.trouble().last(), Some("OOM".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_an_outage_and_what_is_sent_again_is_none() {
    let faulty = Faulty::new(3);
    let patient = patient(&faulty);
    assert!(Carrier::call(&patient, &call(1)).await.is_ok());
    assert_eq!(patient.trouble().outages(), 0);
    for gone in 1..=2 {
        faulty.circuits.send_replace(1);
        faulty.failures.store(2, Ordering::SeqCst);
        for _ in 0..2 {
            assert!(Carrier::call(&patient, &call(1)).await.is_err());
            assert_eq!(patient.trouble().outages(), gone);
        }
        faulty.circuits.send_replace(0);
        assert!(Carrier::call(&patient, &call(1)).await.is_ok());
        assert_eq!(patient.trouble().outages(), gone);
    }
}
