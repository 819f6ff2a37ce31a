//! The benchmark's switches.

use tallygate_sim::servers::Engine;

use super::Outcome;

pub(super) struct Options {
    pub(super) parts: Vec<Part>,
    pub(super) engine: Engine,
    pub(super) laps: usize,
    pub(super) json: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Pairs,
    Drain,
    Flood,
    Wake,
    Kill,
    Memory,
    Durable,
}

impl Part {
    const ALL: [(&str, Self); 7] = [
        ("pairs", Self::Pairs),
        ("drain", Self::Drain),
        ("flood", Self::Flood),
        ("wake", Self::Wake),
        ("kill", Self::Kill),
        ("memory", Self::Memory),
        ("durable", Self::Durable),
    ];
}

impl Options {
    pub(super) fn from_args(mut args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut options = Self {
            parts: Vec::new(),
            engine: Engine::Valkey,
            laps: 5,
            json: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            match arg.as_str() {
                "--engine" => options.engine = engine(&value()?)?,
                "--laps" => options.laps = value()?.parse::<usize>()?.max(1),
                "--json" => options.json = true,
                // Cargo's own.
                "--bench" => {}
                name => options.parts.push(part(name)?),
            }
        }
        if options.parts.is_empty() {
            options.parts = Part::ALL.iter().map(|(_, part)| *part).collect();
        }
        Ok(options)
    }
}

fn engine(name: &str) -> Outcome<Engine> {
    match name {
        "redis" => Ok(Engine::Redis),
        "valkey" => Ok(Engine::Valkey),
        other => Err(format!("unknown engine `{other}`: redis or valkey").into()),
    }
}

fn part(name: &str) -> Outcome<Part> {
    let known = Part::ALL.iter().find(|(known, _)| *known == name);
    known.map(|(_, part)| *part).ok_or_else(|| {
        let names: Vec<_> = Part::ALL.iter().map(|(name, _)| *name).collect();
        format!("unknown part `{name}`: one of {}", names.join(", ")).into()
    })
}
