//! Deliveries, against a receiver that is told how to behave.

use std::collections::VecDeque;

use http::Response;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::Config;
use crate::SigningKey;
use crate::events::EventKind;

/// What arrived: id, timestamp, signature, body.
type Arrival = (String, i64, String, Bytes);

/// Answers with these statuses in turn, then with 204.
async fn receiver(statuses: &[u16]) -> (String, UnboundedReceiver<Arrival>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, arrivals) = unbounded_channel();
    let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
            let service = service_fn(move |request| {
                let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
                async move {
                    Ok::<_, std::convert::Infallible>(answer(request, &sender, &statuses).await)
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (url, arrivals)
}

async fn answer(
    request: Request<Incoming>,
    sender: &UnboundedSender<Arrival>,
    statuses: &Mutex<VecDeque<u16>>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let header = |name: &str| {
        let value = head.headers.get(name);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    };
    let body = body.collect().await.unwrap().to_bytes();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let arrival = (
        header("webhook-id"),
        timestamp,
        header("webhook-signature"),
        body,
    );
    let _ = sender.send(arrival);
    let status = statuses.lock().pop_front().unwrap_or(204);
    Response::builder()
        .status(status)
        .header("location", "http://127.0.0.1:1/elsewhere")
        .body(Full::default())
        .unwrap()
}

#[derive(Default)]
struct Log(Mutex<Vec<(Told, String)>>);

impl HookLog for Log {
    fn told(&self, _: &str, told: Told, why: &str) {
        self.0.lock().push((told, why.to_owned()));
    }
}

impl Log {
    fn all(&self) -> Vec<Told> {
        self.0.lock().iter().map(|(told, _)| *told).collect()
    }
}

fn hooks(text: &str) -> Vec<Arc<Webhook>> {
    let config = Config::parse(text, "hooks.yaml", &|_| None);
    config.expect("a good file").webhooks().to_vec()
}

fn event(id: &str, kind: EventKind) -> Arc<Event> {
    Arc::new(Event {
        id: id.to_owned(),
        kind,
        timestamp: "2026-11-22T00:00:00.000Z".to_owned(),
        data: json!({ "limit": "day" }),
    })
}

struct Post {
    events: broadcast::Sender<Arc<Event>>,
    hooks: watch::Sender<Vec<Arc<Webhook>>>,
    log: Arc<Log>,
}

impl Post {
    fn open(hooks: Vec<Arc<Webhook>>) -> Self {
        let pace = Pace {
            first_pause: Duration::from_millis(1),
            tries: 3,
            ..Pace::default()
        };
        Self::paced(hooks, pace)
    }

    fn paced(hooks: Vec<Arc<Webhook>>, pace: Pace) -> Self {
        let post = Self {
            events: broadcast::channel(4 * QUEUE).0,
            hooks: watch::Sender::new(hooks),
            log: Arc::default(),
        };
        let log = Arc::clone(&post.log) as Arc<dyn HookLog>;
        let running = Hooks { log, pace };
        tokio::spawn(running.run(post.events.subscribe(), post.hooks.subscribe()));
        post
    }

    fn send(&self, event: Arc<Event>) {
        self.events.send(event).unwrap();
    }
}

#[tokio::test]
async fn an_event_is_signed_and_tried_again() {
    let (url, mut arrivals) = receiver(&[500, 429]).await;
    let secret = "a secret of some length";
    let post = Post::open(hooks(&format!(
        "webhooks: [{{ url: \"{url}\", secret: \"{secret}\" }}]"
    )));
    post.send(event("evt_1", EventKind::Threshold));
    for _ in 0..3 {
        let (id, timestamp, signed, body) = arrivals.recv().await.unwrap();
        assert_eq!(id, "evt_1");
        let expected = SigningKey::read(secret)
            .expect("a key")
            .sign(&id, timestamp, &body);
        assert_eq!(signed, expected);
        let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(told["type"], "limit.threshold");
    }
    post.send(event("evt_2", EventKind::Denied));
    assert_eq!(arrivals.recv().await.unwrap().0, "evt_2");
    let before = [Told::Retried, Told::Retried, Told::Delivered];
    assert_eq!(post.log.all()[..3], before);
}

#[tokio::test]
async fn who_never_takes_an_event_does_not_hold_up_the_next() {
    let (url, mut arrivals) = receiver(&[500, 302, 404]).await;
    let post = Post::open(hooks(&format!("webhooks: [{{ url: \"{url}\" }}]")));
    post.send(event("evt_1", EventKind::Denied));
    post.send(event("evt_2", EventKind::Denied));
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(arrivals.recv().await.unwrap().0);
    }
    assert_eq!(ids, ["evt_1", "evt_1", "evt_1", "evt_2"]);
    let lost = post.log.0.lock()[2].clone();
    assert_eq!(lost, (Told::GivenUp, "it answered 404".to_owned()));
}

#[tokio::test]
async fn each_is_told_of_what_it_asked_for_only() {
    let (some, mut some_arrivals) = receiver(&[]).await;
    let (all, mut all_arrivals) = receiver(&[]).await;
    let text =
        format!("webhooks: [{{ url: \"{some}\", events: [downgraded] }}, {{ url: \"{all}\" }}]");
    let post = Post::open(hooks(&text));
    post.send(event("evt_1", EventKind::Denied));
    post.send(event("evt_2", EventKind::Downgraded));
    assert_eq!(some_arrivals.recv().await.unwrap().0, "evt_2");
    assert_eq!(all_arrivals.recv().await.unwrap().0, "evt_1");
    assert_eq!(all_arrivals.recv().await.unwrap().0, "evt_2");
}

#[tokio::test]
async fn hooks_come_and_go_with_the_configuration() {
    let (old, mut old_arrivals) = receiver(&[]).await;
    let (new, mut new_arrivals) = receiver(&[]).await;
    let post = Post::open(hooks(&format!("webhooks: [{{ url: \"{old}\" }}]")));
    post.send(event("evt_1", EventKind::Denied));
    assert_eq!(old_arrivals.recv().await.unwrap().0, "evt_1");
    post.hooks
        .send(hooks(&format!("webhooks: [{{ url: \"{new}\" }}]")))
        .unwrap();
    // Which of the two is noticed first is open, so that it may be told of an event or two still.
    let first_of_new = loop {
        post.send(event("evt_2", EventKind::Denied));
        tokio::task::yield_now().await;
        if let Ok(arrival) = new_arrivals.try_recv() {
            break arrival;
        }
    };
    assert_eq!(first_of_new.0, "evt_2");
    while old_arrivals.try_recv().is_ok() {}
    post.send(event("evt_3", EventKind::Denied));
    while new_arrivals.recv().await.unwrap().0 != "evt_3" {}
    while let Ok(arrival) = old_arrivals.try_recv() {
        assert_ne!(arrival.0, "evt_3");
    }
}

/// What is yet to be tried again or to be sent is not sent to one that was taken out of the file.
#[tokio::test]
async fn what_waits_for_a_hook_goes_with_it() {
    let (old, mut old_arrivals) = receiver(&[500; 100]).await;
    let pace = Pace {
        first_pause: Duration::from_millis(50),
        tries: 100,
        ..Pace::default()
    };
    let post = Post::paced(hooks(&format!("webhooks: [{{ url: \"{old}\" }}]")), pace);
    for id in ["evt_1", "evt_2", "evt_3"] {
        post.send(event(id, EventKind::Denied));
    }
    assert_eq!(old_arrivals.recv().await.unwrap().0, "evt_1");
    post.hooks.send(Vec::new()).unwrap();
    while post
        .log
        .all()
        .iter()
        .filter(|told| **told == Told::Dropped)
        .count()
        < 2
    {
        tokio::task::yield_now().await;
    }
    while old_arrivals.try_recv().is_ok() {}
    // Another one is tried as often, with pauses of the same length: by the third the old one's turn would have come.
    let (new, mut new_arrivals) = receiver(&[500, 500, 500]).await;
    post.hooks
        .send(hooks(&format!("webhooks: [{{ url: \"{new}\" }}]")))
        .unwrap();
    while new_arrivals.is_empty() {
        post.send(event("evt_4", EventKind::Denied));
        tokio::task::yield_now().await;
    }
    for _ in 0..3 {
        assert_eq!(new_arrivals.recv().await.unwrap().0, "evt_4");
    }
    assert!(old_arrivals.try_recv().is_err(), "it was tried again");
}

#[tokio::test]
async fn a_full_queue_drops_what_comes_and_says_so() {
    // Nobody accepts here: the first event stays with its courier.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let post = Post::open(hooks(&format!("webhooks: [{{ url: \"{url}\" }}]")));
    let surplus = 10;
    for at in 0..=QUEUE + surplus {
        post.send(event(&format!("evt_{at}"), EventKind::Denied));
        tokio::task::yield_now().await;
    }
    while post.log.all().len() < surplus {
        tokio::task::yield_now().await;
    }
    assert!(post.log.all().iter().all(|told| *told == Told::Dropped));
}
