//! What other processes see: a test without its server, and a server without its test.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use tallygate_sim::servers::{Engine, Server};

/// Set where this program is started by its own tests.
const VICTIM: &str = "TALLYGATE_TEST_VICTIM";

#[test]
fn a_missing_server_fails_a_test_and_says_the_mend() {
    let output = victim()
        .env("TALLYGATE_REDIS_SERVER", "nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("cargo xtask ci --only servers"), "{said}");
}

#[test]
fn a_server_dies_with_the_process_that_started_it() {
    let mut process = victim().stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let port = lines.find_map(|line| Some(line.split_once("victim ")?.1.parse().unwrap()));
    let mut connection = TcpStream::connect(("127.0.0.1", port.unwrap())).unwrap();
    connection
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();

    process.kill().unwrap();
    process.wait().unwrap();

    let end = connection.read(&mut [0; 1]);
    assert!(
        matches!(&end, Ok(0)) || end.as_ref().is_err_and(is_reset),
        "{end:?}"
    );
}

fn is_reset(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::ConnectionReset
}

/// This test program, told to run [`starts_a_server_and_waits_to_be_killed`] alone.
fn victim() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "servers::processes::starts_a_server_and_waits_to_be_killed",
        ])
        .arg("--nocapture")
        .env(VICTIM, "yes");
    command
}

/// The other side of the two tests above; by itself it checks that a server starts.
#[test]
fn starts_a_server_and_waits_to_be_killed() {
    let server = Server::start(Engine::Redis, &[]).unwrap();
    if std::env::var_os(VICTIM).is_some() {
        #[expect(
            clippy::print_stdout,
            reason = "it is how the test that started us learns the port"
        )]
        {
            println!("victim {}", server.port());
        }
        loop {
            std::thread::park();
        }
    }
}
