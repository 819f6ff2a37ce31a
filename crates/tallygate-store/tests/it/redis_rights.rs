//! The user that docs/redis.md describes: its rights are enough, and each is needed or said to be spared.
use crate::live::layered;
use crate::redis::{conforms_in, few_of_each_group};
use tallygate_sim::servers::{Cluster, Engine, Server};
use tallygate_store::{RedisOptions, RedisStore};

/// These tests share their machine with others, so that an answer may take its time.
const PATIENT: &str = "connect_timeout=20s&timeout=10s";

/// The words of the command that makes the user, as the page has them.
pub(crate) fn documented() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/redis.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, block) = page.split_once("```acl\n").expect("a block");
    let (command, _) = block.split_once("\n```").expect("its end");
    command.split_whitespace().map(str::to_owned).collect()
}

/// Makes it.
pub(crate) fn make(server: &Server, words: &[String]) {
    server.command(words).expect("a user");
}

/// Where it logs in.
pub(crate) fn url(server: &Server) -> String {
    format!("redis://tallygate:PASSWORD@{}", server.addr())
}

fn cluster_url(cluster: &Cluster) -> String {
    let url = cluster.url();
    let (scheme, nodes) = url.split_once("://").expect("a scheme");
    format!("{scheme}://tallygate:PASSWORD@{nodes}")
}

/// Where the command is known, the user may have it too, and is otherwise refused it once, at the start.
const MANY: &str = "msetex";

/// What else the user was refused.
pub(crate) fn refusals(server: &Server) -> Vec<Vec<String>> {
    let all: Vec<Vec<String>> = server.ask(&["ACL", "LOG"]).expect("an answer");
    all.into_iter()
        .filter(|entry| entry.iter().any(|word| word == "tallygate"))
        .filter(|entry| !entry.iter().any(|word| word == MANY))
        .collect()
}

#[test]
fn the_documented_user_conforms() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        make(&server, &documented());
        conforms_in(url(&server), "tg:t", few_of_each_group(3));
        assert_eq!(refusals(&server), Vec::<Vec<String>>::new());
    }
}

#[test]
fn the_documented_user_conforms_on_a_cluster() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &[]).expect("a cluster forms");
    for node in cluster.nodes() {
        make(node, &[documented(), vec![format!("+{MANY}")]].concat());
    }
    conforms_in(cluster_url(&cluster), "tg:t", few_of_each_group(3));
    for node in cluster.nodes() {
        assert_eq!(refusals(node), Vec::<Vec<String>>::new());
    }
}

/// Rights without which a server alone can be used.
const FOR_A_CLUSTER: [&str; 3] = ["+cluster|slots", "+cluster|info", "+asking"];

/// Rights without which any can: for another database, for a name in `CLIENT LIST`, for nothing but politeness.
const SPARED: [&str; 3] = ["+select", "+client|setname", "+unsubscribe"];

/// What is said of a store whose user lacks one right.
async fn opened_without(word: &str, (servers, url): (&[Server], &str)) -> Result<(), String> {
    let words: Vec<String> = documented();
    let words: Vec<String> = words.into_iter().filter(|one| one != word).collect();
    servers.iter().for_each(|server| make(server, &words));
    let options = RedisOptions::parse(&format!("{url}?{PATIENT}")).expect("a URL");
    let opened = RedisStore::open(options, &layered(1, 1, 1)).await;
    opened.map(drop).map_err(|error| error.to_string())
}

/// Whether an error says which command lacks, and how to mend it.
fn names(error: &str, word: &str) -> bool {
    let name = word.trim_start_matches('+').split('|').next();
    let name = name.expect("a name").to_uppercase();
    let hint = word == "+time" || error.contains("ACL SETUSER");
    error.contains(&name) && hint && !error.contains("PASSWORD")
}

async fn each_right_counts(servers: &[Server], url: &str, spared: &[&str]) {
    for word in documented().iter().filter(|word| word.starts_with('+')) {
        let opened = opened_without(word, (servers, url)).await;
        match opened {
            Ok(()) => assert!(spared.contains(&word.as_str()), "{word} was not missed"),
            Err(error) => {
                assert!(!spared.contains(&word.as_str()), "{word}: {error}");
                assert!(names(&error, word), "{word}: {error}");
            }
        }
    }
    // Keys and channels of others.
    for word in ["~tg:*", "&tg:*"] {
        let error = opened_without(word, (servers, url)).await;
        let error = error.expect_err("it lacks a right");
        assert!(error.contains("ACL SETUSER"), "{word}: {error}");
        assert!(error.contains("~tg:* and &tg:*"), "{word}: {error}");
    }
    assert_eq!(opened_without("", (servers, url)).await, Ok(()));
}

#[tokio::test]
async fn a_right_that_lacks_is_named() {
    for engine in Engine::ALL {
        let server = Server::start(engine, &[]).expect("a server");
        let url = url(&server);
        let spared = [SPARED, FOR_A_CLUSTER].concat();
        each_right_counts(std::slice::from_ref(&server), &url, &spared).await;
    }
}

#[tokio::test]
async fn a_right_that_lacks_on_a_cluster_is_named() {
    let cluster = Cluster::start(Engine::Valkey, 3, 0, &[]).expect("a cluster forms");
    let url = cluster_url(&cluster);
    // Nodes do not know of each other's subscribers: nobody asks.
    let spared = [&SPARED[..], &["+pubsub|numsub"]].concat();
    each_right_counts(cluster.nodes(), &url, &spared).await;
}

/// Memory that is full when the script comes, and not before: an error, and no silence.
#[tokio::test]
async fn a_full_server_is_said_to_be_full() {
    let server = Server::start(Engine::Redis, &["maxmemory-policy noeviction"]).expect("a server");
    server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .expect("set");
    let options = RedisOptions::parse(&format!("{}?{PATIENT}", server.url())).expect("a URL");
    let opened = RedisStore::open(options, &layered(1, 1, 1)).await;
    let error = opened.expect_err("it is full").to_string();
    assert!(
        error.contains("out of memory") && error.contains("maxmemory"),
        "{error}"
    );
}
