//! Calls of scripts, taken down as they pass, and made again many at a time: what the server spends on deciding, without what it
//! spends on falling asleep, waking up and reading each call by itself. A GET made so is the measure of the machine.

use std::io::{BufReader, Write, copy};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use redis::{Cmd, Parser, Value};
use tallygate_sim::servers::Server;

use super::Outcome;

/// How many are under way at once.
pub(super) const AT_ONCE: usize = 16;

/// The keys that are read in turn.
const KEYS: usize = 10_000;

/// A listener that passes on what it hears, and keeps the calls.
pub(super) struct Tape {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Cmd>>>,
}

impl Tape {
    /// Listens on a free loopback port as long as this process lasts; what comes there goes on to `server`.
    pub(super) fn begin(server: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tape = Self {
            address: listener.local_addr()?,
            calls: Arc::default(),
        };
        let calls = tape.calls.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let calls = calls.clone();
                // A client whose way does not exist sees its connection end.
                thread::spawn(move || carry(&client, server, &calls));
            }
        });
        Ok(tape)
    }

    pub(super) fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The calls that have passed.
    pub(super) fn calls(&self) -> Vec<Cmd> {
        kept(&self.calls).clone()
    }
}

fn kept(calls: &Mutex<Vec<Cmd>>) -> MutexGuard<'_, Vec<Cmd>> {
    calls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection, until either side ends it.
fn carry(client: &TcpStream, server: SocketAddr, calls: &Mutex<Vec<Cmd>>) -> Outcome {
    let mut server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        // It ends with either side, and then the other one is to hear of it.
        let _ = copy(&mut answers, &mut back);
        let _ = back.shutdown(Shutdown::Both);
    });
    let (mut parser, mut reader) = (Parser::new(), BufReader::new(client));
    while let Ok(Value::Array(words)) = parser.parse_value(&mut reader) {
        let command = command(&words);
        server.write_all(&command.get_packed_command())?;
        if is_decision(&words) {
            kept(calls).push(command);
        }
    }
    Ok(server.shutdown(Shutdown::Both)?)
}

fn command(words: &[Value]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        if let Value::BulkString(word) = word {
            command.arg(&word[..]);
        }
    }
    command
}

/// Whether it decides about one account and one reservation: the keys of a script.
fn is_decision(words: &[Value]) -> bool {
    let is = |at: usize, wanted: &[u8]| matches!(words.get(at), Some(Value::BulkString(word)) if word == wanted);
    is(0, b"EVALSHA") && is(2, b"2")
}

/// Makes the calls on a server that has forgotten everything but its scripts; what a call costs it.
pub(super) fn replay(server: &Server, calls: &[Cmd]) -> Outcome<Duration> {
    server.command(&["FLUSHALL", "SYNC"])?;
    spent(server, calls)
}

/// What a GET costs the server.
pub(super) fn get(server: &Server) -> Outcome<Duration> {
    let key = |number: usize| format!("get-{}", number % KEYS);
    for number in 0..KEYS {
        server.command(&["SET", &key(number), "0123456789abcdef"])?;
    }
    // Far apart one after the other, as users are.
    let read = |number: usize| redis::cmd("GET").arg(key(number * 7_919)).to_owned();
    let calls: Vec<Cmd> = (0..4 * KEYS).map(read).collect();
    spent(server, &calls)
}

fn spent(server: &Server, calls: &[Cmd]) -> Outcome<Duration> {
    let mut connection = server.connect()?;
    let before = server.used_cpu()?;
    for calls in calls.chunks(AT_ONCE) {
        let mut pipeline = redis::pipe();
        for call in calls {
            pipeline.add_command(call.clone());
        }
        pipeline.query::<Vec<Value>>(&mut connection)?;
    }
    let spent = server.used_cpu()? - before;
    Ok(spent / u32::try_from(calls.len().max(1))?)
}
