//! The benchmark's switches.

use super::Outcome;

pub(super) struct Options {
    pub(super) rounds: usize,
    pub(super) seconds: u64,
    pub(super) connections: usize,
    pub(super) stream: bool,
    pub(super) json: bool,
}

impl Options {
    pub(super) fn from_args(mut args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            rounds: 5,
            seconds: 4,
            connections: 32,
            stream: false,
            json: false,
        };
        while let Some(arg) = args.next() {
            let mut number = || {
                args.next()
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or(format!("{arg} needs a number"))
            };
            match arg.as_str() {
                "--rounds" => options.rounds = number()?.max(1) as usize,
                "--seconds" => options.seconds = number()?.max(1),
                "--connections" => options.connections = number()?.max(2) as usize,
                "--stream" => options.stream = true,
                "--json" => options.json = true,
                // Cargo's own.
                "--bench" => {}
                other => return Err(format!("unknown argument `{other}`").into()),
            }
        }
        Ok(options)
    }
}
