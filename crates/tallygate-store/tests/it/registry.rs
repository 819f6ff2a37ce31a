//! Keys, overrides and the audit log: one suite for every registry.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tallygate_store::BoxFuture;
use tallygate_store::registry::{
    AUDIT_KEPT, AuditEntry, AuditPage, Author, Change, ChangeError, Grant, Keeper, KeyState,
    MemoryRegistry, Override, Records, Refusal, Registry, Right, Stamp,
};

mod folder;
mod redis;
mod rights;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where registries of one place are opened.
trait Place: Sync {
    /// One without records.
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Registry>>;

    /// The same place in another process; `None` if there is no such thing.
    fn another<'a>(&'a self, of: &'a Arc<dyn Registry>)
    -> BoxFuture<'a, Option<Arc<dyn Registry>>>;

    /// The place after a restart; `None` if nothing outlives the process.
    fn again<'a>(&'a self, of: Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>>;
}

struct Memory;

impl Place for Memory {
    fn fresh(&self) -> BoxFuture<'_, Arc<dyn Registry>> {
        Box::pin(async { MemoryRegistry::new() as Arc<dyn Registry> })
    }

    fn another<'a>(&'a self, _: &'a Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        Box::pin(async { None })
    }

    fn again<'a>(&'a self, _: Arc<dyn Registry>) -> BoxFuture<'a, Option<Arc<dyn Registry>>> {
        Box::pin(async { None })
    }
}

#[tokio::test]
async fn the_registry_in_memory_conforms() {
    conforms(&Memory).await;
}

/// Notes so many things, and tells the numbers of the first and last entry that are left.
async fn noted(registry: &Arc<dyn Registry>, count: usize) -> (u64, u64) {
    for _ in 0..count {
        make(registry, Change::Reloaded, 10).await;
    }
    let page = AuditPage {
        before: None,
        limit: usize::MAX,
    };
    let entries = registry.audit(page).await.expect("a log");
    assert!(entries.len() <= AUDIT_KEPT);
    let seq = |entry: Option<&AuditEntry>| entry.map_or(0, |entry| entry.seq);
    (seq(entries.last()), seq(entries.first()))
}

#[tokio::test]
async fn the_log_in_memory_keeps_the_latest() {
    let registry: Arc<dyn Registry> = MemoryRegistry::new();
    assert_eq!(noted(&registry, AUDIT_KEPT).await, (1, 10_000));
    assert_eq!(noted(&registry, 1).await, (2, 10_001));
}

async fn conforms(place: &dyn Place) {
    a_key_from_its_making_to_its_end(place).await;
    overrides_are_set_replaced_and_cleared(place).await;
    the_log_is_paged_from_the_latest_on(place).await;
    refusals_change_nothing(place).await;
    random_changes_leave_the_records_of_the_model(place).await;
    changes_at_once_are_all_kept(place).await;
    rights::conforms(place).await;
}

fn at(millis: u64) -> Author {
    Author {
        by: "root".to_owned(),
        from: "10.0.0.1".to_owned(),
        at: Stamp::from_millis(millis),
        right: Right::Elsewhere,
        elsewhere: Keeper::Lasting,
    }
}

/// What stands for the hash of a key.
fn hash(text: &str) -> String {
    let digits: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits:0>64}")
}

fn grant(id: &str) -> Grant {
    Grant {
        id: id.to_owned(),
        hash: hash(id),
        subject: BTreeMap::from([("user".to_owned(), id.to_owned())]),
        roles: vec!["call".to_owned()],
        ..Grant::default()
    }
}

fn create(id: &str) -> Change {
    Change::CreateKey(grant(id))
}

fn rotate(id: &str, text: &str, grace: Option<u64>) -> Change {
    Change::RotateKey {
        id: id.to_owned(),
        hash: hash(text),
        grace: grace.map(Stamp::from_millis),
    }
}

fn expire(id: &str, end: Option<u64>) -> Change {
    Change::ExpireKey {
        id: id.to_owned(),
        end: end.map(Stamp::from_millis),
    }
}

fn revoke(id: &str) -> Change {
    Change::RevokeKey { id: id.to_owned() }
}

fn set(limit: &str, amount: u64, until: u64) -> Change {
    Change::SetOverride(Override {
        limit: limit.to_owned(),
        metric: "tokens".to_owned(),
        amount,
        burst: None,
        since: Stamp::default(),
        until: Stamp::from_millis(until),
        by: String::new(),
        reason: "a busy day".to_owned(),
    })
}

fn clear(limit: &str) -> Change {
    Change::ClearOverride {
        limit: limit.to_owned(),
        metric: None,
    }
}

async fn make(registry: &Arc<dyn Registry>, change: Change, millis: u64) -> Arc<Records> {
    let author = at(millis);
    registry.change(change, &author).await.expect("it is made")
}

async fn log(registry: &Arc<dyn Registry>) -> Vec<AuditEntry> {
    let page = AuditPage {
        before: None,
        limit: 1_000,
    };
    registry.audit(page).await.expect("a log")
}

/// The records as another process and as the next one find them.
async fn found(place: &dyn Place, registry: Arc<dyn Registry>) {
    let (records, entries) = (
        registry.load().await.expect("records"),
        log(&registry).await,
    );
    if let Some(other) = place.another(&registry).await {
        assert_eq!(other.load().await.expect("records"), records);
        assert_eq!(log(&other).await, entries);
    }
    if let Some(later) = place.again(registry).await {
        assert_eq!(later.load().await.expect("records"), records);
        assert_eq!(log(&later).await, entries);
    }
}

async fn a_key_from_its_making_to_its_end(place: &dyn Place) {
    let registry = place.fresh().await;
    let wanted = Grant {
        expires: Some(Stamp::from_millis(1_000)),
        ..grant("alice")
    };
    make(&registry, Change::CreateKey(wanted), 10).await;
    make(&registry, rotate("alice", "second", Some(500)), 20).await;
    let records = make(&registry, rotate("alice", "third", Some(600)), 30).await;
    let alice = records.key("alice").expect("a key").clone();
    assert_eq!((alice.created.as_millis(), &*alice.by), (10, "root"));
    assert_eq!(alice.hash, hash("third"));
    let former = alice.former.clone().expect("a former key");
    assert_eq!(
        (&former.hash, former.until.as_millis()),
        (&hash("second"), 600)
    );
    assert_eq!(alice.state(Stamp::from_millis(999)), KeyState::Live);
    assert_eq!(alice.state(Stamp::from_millis(1_000)), KeyState::Expired);
    let records = make(&registry, expire("alice", None), 35).await;
    assert_eq!(records.key("alice").expect("a key").expires, None);
    let records = make(&registry, expire("alice", Some(2_000)), 36).await;
    let alice = records.key("alice").expect("a key");
    assert_eq!(alice.state(Stamp::from_millis(1_999)), KeyState::Live);
    assert_eq!(alice.state(Stamp::from_millis(2_000)), KeyState::Expired);
    let records = make(&registry, revoke("alice"), 40).await;
    let alice = records.key("alice").expect("it is remembered");
    assert_eq!(alice.state(Stamp::from_millis(41)), KeyState::Revoked);
    assert_eq!(alice.former, None, "both keys have ended");
    let actions: Vec<String> = log(&registry)
        .await
        .iter()
        .map(|entry| {
            format!(
                "{} {} {} {}",
                entry.seq, entry.action, entry.target, entry.from
            )
        })
        .collect();
    assert_eq!(
        actions,
        [
            "6 key.revoke alice 10.0.0.1",
            "5 key.expire alice 10.0.0.1",
            "4 key.expire alice 10.0.0.1",
            "3 key.rotate alice 10.0.0.1",
            "2 key.rotate alice 10.0.0.1",
            "1 key.create alice 10.0.0.1"
        ]
    );
    found(place, registry).await;
}

async fn overrides_are_set_replaced_and_cleared(place: &dyn Place) {
    let registry = place.fresh().await;
    make(&registry, set("day", 5, 100), 10).await;
    make(&registry, set("hour", 6, 100), 11).await;
    let records = make(&registry, set("day", 7, 200), 12).await;
    let day: Vec<_> = records.overrides_of("day").collect();
    assert_eq!(day.len(), 1);
    assert_eq!(
        (day[0].amount, &*day[0].by, day[0].since.as_millis()),
        (7, "root", 12)
    );
    let records = make(&registry, clear("day"), 13).await;
    assert_eq!(records.overrides().count(), 1);
    let author = at(100);
    let gone = registry.change(clear("hour"), &author).await;
    assert_eq!(
        gone,
        Err(Refusal::NoOverride("hour".to_owned()).into()),
        "it has ended"
    );
    let entries = log(&registry).await;
    assert_eq!(entries[1].detail["amount"], 7);
    assert_eq!(entries[1].detail["reason"], "a busy day");
    found(place, registry).await;
}

async fn the_log_is_paged_from_the_latest_on(place: &dyn Place) {
    let registry = place.fresh().await;
    for number in 0..7 {
        make(&registry, create(&format!("k{number}")), 10).await;
    }
    let mut before = None;
    let mut seen = Vec::new();
    loop {
        let page = AuditPage { before, limit: 3 };
        let entries = registry.audit(page).await.expect("a page");
        seen.extend(entries.iter().map(|entry| entry.seq));
        match entries.last() {
            Some(last) => before = Some(last.seq),
            None => break,
        }
    }
    assert_eq!(seen, [7, 6, 5, 4, 3, 2, 1]);
}

async fn refusals_change_nothing(place: &dyn Place) {
    let registry = place.fresh().await;
    make(&registry, create("alice"), 10).await;
    let before = make(&registry, set("day", 5, 100), 11).await;
    let text = |length: usize| "x".repeat(length);
    let grant = |change: fn(&mut Grant)| {
        let mut wanted = grant("bob");
        change(&mut wanted);
        Change::CreateKey(wanted)
    };
    let wrong = [
        create("alice"),
        grant(|bob| bob.hash = hash("alice")),
        grant(|bob| bob.id = String::new()),
        grant(|bob| bob.id = "a\nb".to_owned()),
        grant(|bob| bob.id = "x".repeat(257)),
        grant(|bob| bob.roles.clear()),
        grant(|bob| bob.expires = Some(Stamp::from_millis(12))),
        grant(|bob| bob.subject = (0..33).map(|n| (n.to_string(), "x".to_owned())).collect()),
        rotate("bob", "other", None),
        rotate("alice", "alice", None),
        rotate("alice", "other", Some(12)),
        revoke("bob"),
        expire("bob", Some(100)),
        expire("alice", Some(12)),
        set("day", 5, 12),
        set(&text(257), 5, 100),
        clear("hour"),
    ];
    let author = at(12);
    for change in wrong {
        let refused = registry.change(change.clone(), &author).await;
        assert!(
            matches!(refused, Err(ChangeError::Refused(_))),
            "{change:?}: {refused:?}"
        );
    }
    assert_eq!(registry.load().await.expect("records"), before);
    assert_eq!(log(&registry).await.len(), 2);
}

/// The same changes applied to plain records and to the registry, refusals included.
async fn random_changes_leave_the_records_of_the_model(place: &dyn Place) {
    let registry = place.fresh().await;
    let mut model = Records::default();
    let mut entries = Vec::new();
    let mut state = 7_u64;
    let mut dice = |faces: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % faces
    };
    for step in 0..120 {
        let (name, other) = (format!("n{}", dice(6)), format!("hash {step}"));
        let until = step + dice(30);
        let change = match dice(8) {
            0 | 1 => create(&name),
            2 => rotate(&name, &other, (dice(2) == 0).then_some(until)),
            3 => revoke(&name),
            7 => expire(&name, (dice(3) > 0).then_some(until)),
            4 | 5 => set(&name, dice(100) + 1, until),
            _ => clear(&name),
        };
        let author = at(step);
        let expected = model.apply(&change, &author);
        let made = registry.change(change, &author).await;
        match expected {
            Ok(entry) => {
                assert_eq!(*made.expect("it is possible"), model);
                entries.insert(0, entry);
            }
            Err(refusal) => assert_eq!(made, Err(refusal.into())),
        }
    }
    assert!(entries.len() > 40, "{} changes", entries.len());
    assert_eq!(*registry.load().await.expect("records"), model);
    assert_eq!(log(&registry).await, entries);
    found(place, registry).await;
}

/// Two processes, ten tasks each; who waits for a change hears of it.
async fn changes_at_once_are_all_kept(place: &dyn Place) {
    let registry = place.fresh().await;
    let other = place.another(&registry).await;
    let other = other.unwrap_or_else(|| Arc::clone(&registry));
    let listener = Arc::clone(&other);
    let hearing = tokio::spawn(async move {
        let mut seen = 0;
        while seen < 20 {
            listener.changed(seen).await;
            seen = listener.load().await.expect("records").version();
        }
    });
    let tasks = (0..20).map(|number| {
        let registry = Arc::clone(if number % 2 == 0 { &registry } else { &other });
        tokio::spawn(async move { make(&registry, create(&format!("k{number}")), 10).await })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.expect("it ends");
    }
    let heard = tokio::time::timeout(PATIENCE, hearing).await;
    heard.expect("in time").expect("it hears of all");
    assert_eq!(registry.load().await.expect("records").keys().count(), 20);
    let seqs: Vec<u64> = log(&registry).await.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=20).rev().collect::<Vec<_>>());
}
