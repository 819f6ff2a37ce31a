//! A million subjects with two bucket limits each, charged through the store: bytes of the server's memory a subject.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision, Metric, Policy};
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{Reserve, SettledBy, Store, WaitsFor};

use super::crew::Crew;
use super::options::Options;
use super::report::{Figure, Report, Table};
use super::worker::{self, Post};
use super::{Outcome, policies};

const SUBJECTS: u64 = 1_000_000;
const PROCESSES: usize = 2;
const TASKS: usize = 128;

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty;

pub(super) fn run(_: &Options, report: &mut Report) -> Outcome {
    let about = format!("{SUBJECTS} subjects, 2 bucket limits each, one call of each settled");
    let mut table = Table::new("memory", about);
    for engine in [Engine::Valkey, Engine::Redis] {
        let figures = loaded(engine)?;
        table.row(engine.to_string(), figures);
    }
    report.add(table);
    Ok(())
}

fn loaded(engine: Engine) -> Outcome<Vec<Figure>> {
    let server = Server::start(engine, &[])?;
    let mut crew = Crew::start(PROCESSES, &server.url(), &worker::Duty::Memory(Duty))?;
    let empty = used_memory(&server)?;
    let began = Instant::now();
    let _: Vec<()> = crew.lap("go")?;
    let seconds = began.elapsed().as_secs_f64();
    drop(crew);
    let fresh = used_memory(&server)?;
    remove_receipts(&server)?;
    let rest = used_memory(&server)?;
    let keys: u64 = server.ask(&["DBSIZE"])?;
    let figure = |measure, value| Figure::of(measure, [value]);
    let a_subject = |bytes: u64| bytes.saturating_sub(empty) as f64 / SUBJECTS as f64;
    Ok(vec![
        figure("keys at rest", keys as f64),
        figure("B/subject at rest", a_subject(rest)),
        figure("B with receipts", a_subject(fresh)),
        figure("loading s", seconds),
    ])
}

/// Receipts go two minutes after their calls have ended; here they go now.
fn remove_receipts(server: &Server) -> Outcome {
    const REMOVE: &str =
        "local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 4000)
        for i = 1, #found[2], 1000 do
            redis.call('DEL', unpack(found[2], i, math.min(i + 999, #found[2])))
        end
        return found[1]";
    let mut cursor = "0".to_owned();
    loop {
        cursor = server.ask(&["EVAL", REMOVE, "0", &cursor, "tg:{????????}r*"])?;
        if cursor == "0" {
            return Ok(());
        }
    }
}

fn used_memory(server: &Server) -> Outcome<u64> {
    let info = server.info("memory")?;
    Ok(info
        .get("used_memory")
        .ok_or("INFO memory without used_memory")?
        .parse()?)
}

/// Of a day, so that nothing has come back when memory is measured.
fn policy() -> Outcome<Policy> {
    let day = || policies::bucket(Duration::from_secs(86_400));
    policies::policy(
        &["user"],
        vec![
            (Metric::REQUESTS, 10_000, day()),
            (Metric::TOKENS, 1_000_000, day()),
        ],
    )
}

pub(super) async fn work(post: &Post, _: Duty) -> Outcome {
    let store = post.store(&policy()?).await?;
    worker::say_ready();
    while worker::order().await?.is_some() {
        let next = Arc::new(AtomicU64::new(post.number as u64));
        let step = post.count as u64;
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| tokio::spawn(load(store.clone(), next.clone(), step)))
            .collect();
        for task in tasks {
            task.await??;
        }
        worker::say(&())?;
    }
    Ok(())
}

/// One task: subject after subject.
async fn load(store: Arc<dyn Store>, next: Arc<AtomicU64>, step: u64) -> Outcome {
    let mut down = 0;
    loop {
        let number = next.fetch_add(step, Ordering::Relaxed);
        if number >= SUBJECTS {
            return Ok(());
        }
        let user = format!("user-{number}");
        let ask = Reserve {
            subject: &[("user", &user)],
            demand: amounts(20_000),
            ttl: Duration::from_secs(60),
            max_wait: Duration::ZERO,
            idempotency_key: None,
            waits_for: WaitsFor::Anything,
            settled_by: SettledBy::AnyNode,
        };
        let Decision::Admit(admission) = worker::reserve(&*store, ask, &mut down).await? else {
            return Err("the limits are wide enough".into());
        };
        worker::settle(&*store, (admission.id, amounts(10_000)), &mut down).await?;
    }
}

fn amounts(tokens: u64) -> Amounts {
    Amounts::ZERO
        .with(Metric::REQUESTS, 100)
        .with(Metric::TOKENS, tokens)
}
