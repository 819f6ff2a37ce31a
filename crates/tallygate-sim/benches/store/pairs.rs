//! Reserve and settle, two limits of one user: our store beside the yardstick, many at once and one by one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tallygate_core::{Amounts, Decision};
use tallygate_sim::Rng;
use tallygate_sim::servers::{Engine, Server};
use tallygate_store::{Reserve, SettledBy, Store, WaitsFor};

use super::again::{self, Tape};
use super::crew::Crew;
use super::histogram::Histogram;
use super::options::Options;
use super::report::{Figure, Report, Table, Wanted};
use super::worker::{self, Post};
use super::yardstick::Yardstick;
use super::{Outcome, machine, policies};

/// Users whose counters are charged at random.
const USERS: u64 = 10_000;
const PROCESSES: usize = 4;
const TASKS: usize = 64;
/// Processes of one task each: every decision goes alone, and the server has enough to do all the same. Where it has not, as
/// with a single task, its CPU time is mostly that of falling asleep and waking up.
const UNBATCHED: usize = 16;
const LAP: Duration = Duration::from_secs(2);

/// The least share of the yardstick's pairs a second.
const RATE_BAR: f64 = 0.8;
/// The most server CPU a pair, in microseconds: one at a time, and many. They were found on a machine on which a GET, sixteen of
/// them under way, took [`get_there`]; decisions that go alone were measured like that too.
const ALONE_BAR: f64 = 14.0;
const LOADED_BAR: f64 = 7.0;

/// In microseconds.
fn get_there(engine: Engine) -> f64 {
    match engine {
        Engine::Redis => 0.63,
        Engine::Valkey => 0.69,
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Duty {
    client: Client,
    tasks: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Client {
    /// [`tallygate_store::RedisStore`].
    Ours,
    /// [`Yardstick`].
    Bare,
}

/// Pairs that were made.
#[derive(Default, Serialize, Deserialize)]
struct Pairs {
    reserve: Histogram,
    settle: Histogram,
    /// How often the store was said to be out of reach.
    down: usize,
}

/// What a worker did in a lap.
#[derive(Serialize, Deserialize)]
struct Did {
    pairs: Pairs,
    seconds: f64,
    cpu: Duration,
}

/// One of those who take turns.
struct Contestant {
    name: String,
    crew: Crew,
    laps: Vec<Lap>,
}

/// A lap of all workers of a contestant.
struct Lap {
    pairs_a_second: f64,
    server_micros: f64,
    /// What the server counts as spent in scripts.
    script_micros: f64,
    client_micros: f64,
    commands: f64,
    pairs: Pairs,
}

pub(super) fn run(options: &Options, report: &mut Report) -> Outcome {
    let mut table = Table::new(
        "pairs",
        format!(
            "reserve + settle, 2 limits of one of {USERS} users, on {}",
            options.engine
        ),
    );
    let server = Server::start(options.engine, &[])?;
    let mut contestants = [
        (Client::Ours, PROCESSES, TASKS),
        (Client::Bare, PROCESSES, TASKS),
        (Client::Ours, UNBATCHED, 1),
        (Client::Bare, UNBATCHED, 1),
        (Client::Ours, 1, 1),
        (Client::Bare, 1, 1),
    ]
    .into_iter()
    .map(|contestant| Contestant::start(&server, contestant))
    .collect::<Outcome<Vec<_>>>()?;
    // The first lap warms up.
    for lap in 0..=options.laps {
        for contestant in &mut contestants {
            let measured = contestant.lap(&server)?;
            if lap > 0 {
                contestant.laps.push(measured);
            }
        }
    }
    for contestant in &contestants {
        table.row(contestant.name.clone(), contestant.figures());
    }
    let [ours, bare, unbatched, ..] = &contestants[..] else {
        return Err("contestants are missing".into());
    };
    let rate = |contestant: &Contestant| median(contestant, |lap| lap.pairs_a_second);
    let cpu = |contestant: &Contestant| median(contestant, |lap| lap.server_micros);
    table.bar(
        "pairs a second, of the yardstick's",
        rate(ours) / rate(bare),
        Wanted::AtLeast(RATE_BAR),
    );
    table.bar(
        "server CPU a pair alone, µs",
        cpu(unbatched),
        Wanted::AtMost(ALONE_BAR),
    );
    table.bar(
        "server CPU a pair under load, µs",
        cpu(ours),
        Wanted::AtMost(LOADED_BAR),
    );
    add_again(&mut table, options, cpu(ours))?;
    report.add(table);
    Ok(())
}

/// The same decisions alone, sixteen under way, and all of it beside what a GET costs here and on the machine of the bars.
fn add_again(table: &mut Table, options: &Options, loaded: f64) -> Outcome {
    let server = Server::start(options.engine, &[])?;
    let calls = [
        taken_down(&server, Client::Ours)?,
        taken_down(&server, Client::Bare)?,
    ];
    let (mut pairs, mut gets) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..options.laps {
        for (laps, calls) in pairs.iter_mut().zip(&calls) {
            laps.push(2.0 * micros(again::replay(&server, calls)?));
        }
        gets.push(micros(again::get(&server)?));
    }
    let [ours, bare] = pairs.map(|laps| Figure::of("server µs/pair", laps));
    let get = Figure::of("server µs", gets);
    let (alone, here) = (ours.median(), get.median());
    let under_way = again::AT_ONCE;
    table.row(format!("tallygate, alone, by {under_way}"), vec![ours]);
    table.row(format!("bare script, alone, by {under_way}"), vec![bare]);
    table.row(format!("GET, by {under_way}"), vec![get]);
    let there = get_there(options.engine);
    for (what, value, bar) in [
        ("alone", alone, ALONE_BAR),
        ("under load", loaded, LOADED_BAR),
    ] {
        table.bar(
            format!("server CPU a pair {what}, in GETs"),
            value / here,
            Wanted::AtMost(bar / there),
        );
    }
    Ok(())
}

/// What a process with one task calls in a lap.
fn taken_down(server: &Server, client: Client) -> Outcome<Vec<redis::Cmd>> {
    let tape = Tape::begin(server.addr())?;
    let duty = worker::Duty::Pairs(Duty { client, tasks: 1 });
    let mut crew = Crew::start(1, &tape.url(), &duty)?;
    crew.lap::<Did>("go")?;
    Ok(tape.calls())
}

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

fn median(contestant: &Contestant, figure: fn(&Lap) -> f64) -> f64 {
    Figure::of("", contestant.laps.iter().map(figure)).median()
}

impl Contestant {
    fn start(server: &Server, (client, processes, tasks): (Client, usize, usize)) -> Outcome<Self> {
        let who = match client {
            Client::Ours => "tallygate",
            Client::Bare => "bare script client",
        };
        let duty = worker::Duty::Pairs(Duty { client, tasks });
        Ok(Self {
            name: format!("{who}, {processes} x {tasks}"),
            crew: Crew::start(processes, &server.url(), &duty)?,
            laps: Vec::new(),
        })
    }

    fn lap(&mut self, server: &Server) -> Outcome<Lap> {
        let before = (server.used_cpu()?, Scripts::so_far(server)?);
        let did: Vec<Did> = self.crew.lap("go")?;
        let cpu = server.used_cpu()? - before.0;
        let scripts = Scripts::so_far(server)?;
        let mut pairs = Pairs::default();
        did.iter().for_each(|did| pairs.add(&did.pairs));
        let count = pairs.settle.count() as f64;
        let micros = |span: Duration| span.as_secs_f64() * 1e6 / count;
        Ok(Lap {
            pairs_a_second: did
                .iter()
                .map(|did| did.pairs.settle.count() as f64 / did.seconds)
                .sum(),
            server_micros: micros(cpu),
            script_micros: (scripts.micros - before.1.micros) as f64 / count,
            client_micros: micros(did.iter().map(|did| did.cpu).sum()),
            commands: (scripts.calls - before.1.calls) as f64 / count,
            pairs,
        })
    }

    fn figures(&self) -> Vec<Figure> {
        let figure =
            |measure, value: &dyn Fn(&Lap) -> f64| Figure::of(measure, self.laps.iter().map(value));
        vec![
            figure("pairs/s", &|lap| lap.pairs_a_second),
            figure("server µs/pair", &|lap| lap.server_micros),
            figure("in scripts µs", &|lap| lap.script_micros),
            figure("client µs/pair", &|lap| lap.client_micros),
            figure("commands/pair", &|lap| lap.commands),
            figure("reserve p50 µs", &|lap| micros(lap.pairs.reserve.at(0.5))),
            figure("p99", &|lap| micros(lap.pairs.reserve.at(0.99))),
            figure("settle p50 µs", &|lap| micros(lap.pairs.settle.at(0.5))),
            figure("p99", &|lap| micros(lap.pairs.settle.at(0.99))),
            figure("store down", &|lap| lap.pairs.down as f64),
        ]
    }
}

/// Scripts that the server has run.
struct Scripts {
    calls: u64,
    micros: u64,
}

impl Scripts {
    fn so_far(server: &Server) -> Outcome<Self> {
        let stats = server.info("commandstats")?;
        let sum = |name: &str| {
            let of = |command: &str| {
                let mut fields = stats.get(command)?.split(',');
                fields
                    .find_map(|field| field.strip_prefix(name))?
                    .parse::<u64>()
                    .ok()
            };
            ["cmdstat_evalsha", "cmdstat_eval"]
                .into_iter()
                .filter_map(of)
                .sum()
        };
        Ok(Self {
            calls: sum("calls="),
            micros: sum("usec="),
        })
    }
}

impl Pairs {
    fn add(&mut self, more: &Self) {
        self.reserve.merge(&more.reserve);
        self.settle.merge(&more.settle);
        self.down += more.down;
    }
}

/// What the tasks of a worker share.
enum Target {
    Ours(Arc<dyn Store>),
    Bare(Yardstick),
}

pub(super) async fn work(post: &Post, duty: Duty) -> Outcome {
    let target = Arc::new(match duty.client {
        Client::Ours => Target::Ours(post.store(&policies::plenty_a_user()?).await?),
        Client::Bare => Target::Bare(Yardstick::open(&post.url).await?),
    });
    worker::say_ready();
    let mut seed = post.number as u64;
    while worker::order().await?.is_some() {
        seed += 1_000;
        let (start, cpu) = (Instant::now(), machine::own_cpu()?);
        let tasks: Vec<_> = (0..duty.tasks)
            .map(|task| {
                tokio::spawn(pairs(
                    target.clone(),
                    start + LAP,
                    seed * 1_000 + task as u64,
                ))
            })
            .collect();
        let mut pairs = Pairs::default();
        for task in tasks {
            pairs.add(&task.await??);
        }
        worker::say(&Did {
            pairs,
            seconds: start.elapsed().as_secs_f64(),
            cpu: machine::own_cpu()? - cpu,
        })?;
    }
    Ok(())
}

/// One task: pair after pair until `end`.
async fn pairs(target: Arc<Target>, end: Instant, seed: u64) -> Outcome<Pairs> {
    let mut users = Rng::new(seed);
    let mut pairs = Pairs::default();
    let mut began = Instant::now();
    while began < end {
        let user = format!("user-{}", users.below(USERS));
        let (held, settled) = match &*target {
            Target::Ours(store) => ours(&**store, &user, &mut pairs.down).await?,
            Target::Bare(yardstick) => bare(yardstick, &user).await?,
        };
        pairs.reserve.add(held.duration_since(began));
        pairs.settle.add(settled.duration_since(held));
        began = settled;
    }
    Ok(pairs)
}

/// A pair; when it was held, and when it was settled.
async fn ours(store: &dyn Store, user: &str, down: &mut usize) -> Outcome<(Instant, Instant)> {
    let ask = Reserve {
        subject: &[("user", user)],
        demand: Amounts::call(1_200, 800),
        ttl: Duration::from_secs(60),
        max_wait: Duration::ZERO,
        idempotency_key: None,
        waits_for: WaitsFor::Anything,
        settled_by: SettledBy::AnyNode,
    };
    let Decision::Admit(admission) = worker::reserve(store, ask, down).await? else {
        return Err("the limits are wide enough".into());
    };
    let held = Instant::now();
    let used = Amounts::call(1_180, 213);
    worker::settle(store, (admission.id, used), down).await?;
    Ok((held, Instant::now()))
}

async fn bare(yardstick: &Yardstick, user: &str) -> Outcome<(Instant, Instant)> {
    let held = yardstick.reserve(user, 2_000).await?;
    let at = Instant::now();
    yardstick.settle(&held, 1_393).await?;
    Ok((at, Instant::now()))
}
