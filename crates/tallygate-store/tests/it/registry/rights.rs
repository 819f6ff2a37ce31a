//! Who may change what, held against the records as they are when the change is made.
use std::sync::Arc;
use tallygate_store::registry::{
    Author, Change, ChangeError, Grant, Keeper, LOCAL, NOBODY, Refusal, Registry, Right, Stamp,
};

use super::{Place, at, create, expire, grant, hash, revoke, rotate};

/// All rules, at one place.
pub(super) async fn conforms(place: &dyn Place) {
    the_first_key_opens_every_door(place).await;
    who_lost_the_right_changes_nothing(place).await;
    of_two_who_revoke_each_other_one_stays(place).await;
    somebody_stays_who_may_administer(place).await;
}

/// Somebody who shows a key, as its hash is made of `text`.
fn by(id: &str, text: &str, millis: u64) -> Author {
    Author {
        by: id.to_owned(),
        right: Right::Key(hash(text)),
        elsewhere: Keeper::Nobody,
        ..at(millis)
    }
}

fn nobody(millis: u64) -> Author {
    Author {
        by: NOBODY.to_owned(),
        right: Right::Keyless,
        elsewhere: Keeper::Nobody,
        ..at(millis)
    }
}

fn admin(id: &str) -> Change {
    Change::CreateKey(admins(id))
}

fn admins(id: &str) -> Grant {
    Grant {
        roles: vec!["admin".to_owned()],
        ..grant(id)
    }
}

fn ending(id: &str, millis: u64) -> Change {
    Change::CreateKey(Grant {
        expires: Some(Stamp::from_millis(millis)),
        ..admins(id)
    })
}

async fn made(registry: &Arc<dyn Registry>, change: Change, author: &Author) {
    let made = registry.change(change.clone(), author).await;
    assert!(made.is_ok(), "{change:?}: {made:?}");
}

async fn refused(registry: &Arc<dyn Registry>, change: Change, author: &Author) -> Refusal {
    match registry.change(change.clone(), author).await {
        Err(ChangeError::Refused(refusal)) => refusal,
        other => panic!("{change:?}: {other:?}"),
    }
}

async fn the_first_key_opens_every_door(place: &dyn Place) {
    let registry = place.fresh().await;
    let who = nobody(10);
    for wrong in [
        create("caller"),
        ending("root", 11),
        ending("root", u64::MAX),
    ] {
        let refusal = refused(&registry, wrong, &who).await;
        assert!(matches!(refusal, Refusal::First(_)), "{refusal:?}");
    }
    for id in [NOBODY, LOCAL] {
        let refusal = refused(&registry, admin(id), &who).await;
        assert_eq!(refusal, Refusal::Reserved(id.to_owned()));
    }
    made(&registry, admin("root"), &who).await;
    // Somebody else found no key either, a moment ago.
    assert_eq!(
        refused(&registry, admin("eve"), &who).await,
        Refusal::Closed
    );
    assert_eq!(
        refused(&registry, Change::Reloaded, &who).await,
        Refusal::Closed
    );
}

async fn who_lost_the_right_changes_nothing(place: &dyn Place) {
    let registry = place.fresh().await;
    made(&registry, admin("root"), &nobody(1)).await;
    let root = by("root", "root", 2);
    made(&registry, admin("eve"), &root).await;
    made(&registry, create("caller"), &root).await;
    made(&registry, ending("short", 100), &root).await;
    made(&registry, revoke("eve"), &root).await;
    made(&registry, rotate("root", "newer", Some(50)), &root).await;
    for (author, why) in [
        (by("eve", "eve", 3), "it was revoked"),
        (by("caller", "caller", 3), "it never had it"),
        (by("short", "short", 100), "its time is over"),
        (by("root", "root", 50), "its grace is over"),
        (by("root", "eve", 3), "the key is not that of its id"),
        (by("none", "none", 3), "there is no such key"),
    ] {
        let refusal = refused(&registry, admin("mallory"), &author).await;
        let expected = Refusal::NoAdmin(author.by.clone());
        assert_eq!(refusal, expected, "{why}");
    }
    for author in [
        by("short", "short", 99),
        by("root", "root", 49),
        by("root", "newer", 50),
    ] {
        made(&registry, Change::Reloaded, &author).await;
    }
}

async fn of_two_who_revoke_each_other_one_stays(place: &dyn Place) {
    let registry = place.fresh().await;
    made(&registry, admin("ann"), &nobody(1)).await;
    made(&registry, admin("bob"), &by("ann", "ann", 2)).await;
    let other = place.another(&registry).await;
    let other = other.unwrap_or_else(|| Arc::clone(&registry));
    // The other place knows both of them.
    assert_eq!(other.load().await.expect("records").keys().count(), 2);
    let (ann, bob) = (by("ann", "ann", 3), by("bob", "bob", 3));
    let (one, two) = tokio::join!(
        registry.change(revoke("bob"), &ann),
        other.change(revoke("ann"), &bob),
    );
    let done = [&one, &two].iter().filter(|made| made.is_ok()).count();
    assert_eq!(done, 1, "{one:?} {two:?}");
    let records = registry.load().await.expect("records");
    let live = records.keys().filter(|key| key.revoked.is_none()).count();
    assert_eq!(live, 1);
}

async fn somebody_stays_who_may_administer(place: &dyn Place) {
    let registry = place.fresh().await;
    made(&registry, admin("root"), &nobody(1)).await;
    let root = by("root", "root", 2);
    made(&registry, ending("short", 100), &root).await;
    let last = Refusal::LastAdmin("root".to_owned());
    // Of two keys one ends by itself: then nobody would be left.
    assert_eq!(refused(&registry, revoke("root"), &root).await, last);
    let filed = Author {
        elsewhere: Keeper::Lasting,
        ..root.clone()
    };
    let ends = Author {
        elsewhere: Keeper::Ending,
        ..root.clone()
    };
    assert_eq!(refused(&registry, revoke("root"), &ends).await, last);
    // Nor may the last one that lasts be given an end, unless another one lasts.
    let end = expire("root", Some(1_000));
    for who in [&root, &ends] {
        assert_eq!(refused(&registry, end.clone(), who).await, last);
    }
    made(&registry, end, &filed).await;
    made(&registry, expire("short", Some(200)), &root).await;
    made(&registry, expire("root", None), &root).await;
    made(&registry, revoke("short"), &root).await;
    made(&registry, revoke("root"), &filed).await;
    // Where none lasts, the last one that ends stays.
    let registry = place.fresh().await;
    let local = Author {
        elsewhere: Keeper::Nobody,
        ..at(1)
    };
    made(&registry, ending("a", 100), &local).await;
    made(&registry, ending("b", 100), &local).await;
    made(&registry, revoke("a"), &local).await;
    let refusal = refused(&registry, revoke("b"), &local).await;
    assert_eq!(refusal, Refusal::LastAdmin("b".to_owned()));
}
