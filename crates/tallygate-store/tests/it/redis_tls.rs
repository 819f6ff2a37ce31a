//! Sets of servers that talk over TLS, to each other as to the user that docs/redis.md describes.
use crate::failover::keeps_up;
use crate::live::{admitted, call, layered, taken, until, used};
use crate::redis::{conforms_in, few_of_each_group};
use crate::redis_rights::{documented, make, refusals};
use crate::support::ask;
use tallygate_sim::servers::{Cluster, Engine, Sentinels, Server};
use tallygate_store::{RedisOptions, RedisStore, Store};

const CERTIFICATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls");

/// What servers are told that have certificates; with what more a set of them needs.
fn lines(more: &[&str]) -> Vec<String> {
    let own = [
        format!("tls-cert-file {CERTIFICATES}/server.pem"),
        format!("tls-key-file {CERTIFICATES}/server.key"),
        format!("tls-ca-cert-file {CERTIFICATES}/ca.pem"),
        "tls-auth-clients no".to_owned(),
        "tls-replication yes".to_owned(),
    ];
    let more = more.iter().map(|line| (*line).to_owned());
    own.into_iter().chain(more).collect()
}

/// Where the user logs in.
fn url(of: &str) -> String {
    let url = of.replacen("://", "://tallygate:PASSWORD@", 1);
    format!("{url}?ca={CERTIFICATES}/ca.pem")
}

fn refuse_nothing(servers: &[Server]) {
    for server in servers {
        assert_eq!(refusals(server), Vec::<Vec<String>>::new());
    }
}

/// Three primaries, and a copy of one.
#[test]
fn a_cluster_conforms_over_tls() {
    let lines = lines(&["tls-cluster yes"]);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let cluster = Cluster::start(Engine::Redis, 3, 1, &lines).expect("a cluster forms");
    let nodes = cluster.nodes();
    nodes.iter().for_each(|node| make(node, &documented()));
    conforms_in(url(&cluster.tls_url()), "tg:t", few_of_each_group(1));
    refuse_nothing(nodes);
}

/// A reservation outlives the primary that it was made on, and is settled at the next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_with_sentinels_fails_over_over_tls() {
    let lines = lines(&[]);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let set = Sentinels::start(Engine::Redis, &lines).expect("a set");
    set.servers()
        .iter()
        .for_each(|server| make(server, &documented()));
    let url = format!("{}&timeout=5s", url(&set.tls_url()));
    let options = RedisOptions::parse(&url).expect("a URL");
    let store = RedisStore::open(options, &layered(100, 100, 100)).await;
    let store = store.unwrap_or_else(|error| panic!("{error}"));
    let subject = [("user", "u"), ("tenant", "t")];
    let held = admitted(store.reserve(ask(&subject, call(10))).await);
    tokio::task::block_in_place(|| {
        let [primary, replica] = [set.primary(), set.replica()].map(|one| one.expect("a server"));
        keeps_up(primary, replica);
        set.fail_over().expect("another takes over");
    });
    until("settlement", async || {
        // Where it could not be delivered it is kept, and stands.
        let _ = store.settle(held.id, used(7)).await;
        taken(&*store, &subject).await == [(7, 0); 3]
    })
    .await;
    refuse_nothing(set.servers());
}
