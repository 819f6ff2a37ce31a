//! A process that may stand in line.
use crate::redis::script::Node;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

/// A process: alive as long as it listens.
pub(super) struct Process {
    pub(super) node: Node,
    pub(super) ears: Option<BufReader<TcpStream>>,
}

impl Process {
    pub(super) fn listens(&mut self, port: u16) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let name = String::from_utf8(self.node.name.to_vec()).unwrap();
        let line = format!("SUBSCRIBE {}:n:{name}\r\n", self.node.prefix);
        stream.write_all(line.as_bytes()).unwrap();
        self.ears = Some(BufReader::new(stream));
        self.hears();
    }

    pub(super) fn is_alive(&self) -> bool {
        self.ears.is_some()
    }

    /// What it was told: letter and rest of each message.
    pub(super) fn hears(&mut self) -> Vec<Vec<u8>> {
        let Some(ears) = &mut self.ears else {
            return Vec::new();
        };
        ears.get_mut().write_all(b"PING fence\r\n").unwrap();
        let mut told = Vec::new();
        loop {
            let words = array(ears);
            match &words[0][..] {
                b"message" => told.push(words[2].clone()),
                b"pong" => return told,
                _ => {}
            }
        }
    }
}

/// The name of process number `at`.
pub(super) fn name(at: u64) -> [u8; 8] {
    *format!("node{at:04}").as_bytes().first_chunk().unwrap()
}

fn line(from: &mut impl BufRead) -> String {
    let mut text = String::new();
    from.read_line(&mut text).unwrap();
    text.trim_end().to_owned()
}

/// An array of strings and numbers.
fn array(from: &mut BufReader<TcpStream>) -> Vec<Vec<u8>> {
    let count: usize = line(from)[1..].parse().unwrap();
    let word = |_| {
        let head = line(from);
        if head.starts_with(':') {
            return head.into_bytes();
        }
        let mut word = vec![0; head[1..].parse::<usize>().unwrap() + 2];
        from.read_exact(&mut word).unwrap();
        word.truncate(word.len() - 2);
        word
    };
    (0..count).map(word).collect()
}
