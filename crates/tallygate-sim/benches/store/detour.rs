//! A longer way to a server: what goes either way arrives later by a fixed time, in order and with no other bound.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Outcome, machine};

/// The most bytes that travel as one.
const PIECE: usize = 64 * 1024;

/// Begins to listen on a free loopback port; what comes there goes on to `server`, and back, each way `late`. It lasts as long as
/// this process.
pub(super) fn begin(server: SocketAddr, late: Duration) -> Outcome<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // A client whose way does not exist sees its connection end.
            let _ = connect(client, server, late);
        }
    });
    Ok(address)
}

fn connect(client: TcpStream, server: SocketAddr, late: Duration) -> Outcome {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    carry((client.try_clone()?, server.try_clone()?), late);
    carry((server, client), late);
    Ok(())
}

/// One way: a thread reads, another writes when it is time.
fn carry((mut from, mut to): (TcpStream, TcpStream), late: Duration) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut piece = vec![0; PIECE];
        while let Ok(count @ 1..) = from.read(&mut piece) {
            let arrives = Instant::now() + late;
            if sender.send((arrives, piece[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (arrives, bytes) in receiver {
            machine::pause(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // The other side may have ended it already.
        let _ = to.shutdown(Shutdown::Both);
    });
}
