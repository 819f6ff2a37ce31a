use std::future::ready;
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use axum::response::IntoResponse;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::{AT_ONCE, MOST_BYTES, Page, Reports, WAITING};
use crate::admin::Refused;

/// Longer than anything here takes; reached only by a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn status(refused: Refused) -> StatusCode {
    refused.into_response().status()
}

/// The runtime has this one thread alone: nothing else would run while a report is written on it.
#[tokio::test]
async fn a_report_is_written_away_from_the_threads_that_serve() {
    let (go_on, waits) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel::<()>();
    let reports = Reports::default();
    let made = tokio::spawn(async move {
        let write = move |text: &&str, page: &mut Page| {
            let _ = begun.send(());
            waits.recv_timeout(PATIENCE).map_err(io::Error::other)?;
            page.write_all(text.as_bytes())
        };
        reports.make(ready(Ok("whole")), write).await
    });
    begins.await.expect("it is begun");
    go_on.send(()).expect("it is written meanwhile");
    assert_eq!(
        made.await.expect("no panic").expect("a report"),
        &b"whole"[..]
    );
}

#[tokio::test]
async fn few_are_made_at_once_some_wait_and_the_rest_are_refused() {
    let reports = Reports::default();
    let gate = std::sync::Arc::new(Semaphore::new(0));
    let (count, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let ask = || {
        let (reports, gate, count) = (reports.clone(), gate.clone(), count.clone());
        async move {
            let asking = async move {
                let _ = count.send(());
                gate.acquire_owned().await.expect("a gate").forget();
                Ok(())
            };
            reports.make(asking, |(), _| Ok(())).await
        }
    };
    // Who leaves has its report made all the same.
    for _ in 0..AT_ONCE {
        let asked = tokio::spawn(ask());
        begun.recv().await.expect("it is begun");
        asked.abort();
        assert!(asked.await.expect_err("it left").is_cancelled());
    }
    let waiting: Vec<_> = (0..WAITING).map(|_| tokio::spawn(ask())).collect();
    while reports.waiting.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    assert!(begun.try_recv().is_err(), "no third one is begun");
    let refused = ask().await.expect_err("there is no room to wait in");
    assert_eq!(status(refused), StatusCode::SERVICE_UNAVAILABLE);
    gate.add_permits(AT_ONCE + WAITING);
    for asked in waiting {
        assert!(asked.await.expect("no panic").is_ok());
    }
}

#[tokio::test]
async fn a_report_has_a_bound_and_is_counted_until_it_is_read() {
    let reports = Reports::default();
    let whole = reports.unread.available_permits();
    let of = |bytes: usize| {
        reports.make(ready(Ok(bytes)), |bytes, page| {
            page.write_all(&vec![b'x'; *bytes])
        })
    };
    let refused = of(MOST_BYTES + 1).await.expect_err("it is too large");
    assert_eq!(status(refused), StatusCode::BAD_REQUEST);
    let body = of(4_097).await.expect("a report");
    assert_eq!(reports.unread.available_permits(), whole - 5);
    drop(body);
    assert_eq!(reports.unread.available_permits(), whole);
}
