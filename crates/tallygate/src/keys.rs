//! `tallygate keys`: callers' keys, of which the configuration and the server hold hashes only.

mod managed;

pub(crate) use managed::millis;

use std::io::Read;

use clap::{Args, Subcommand};
use serde_json::json;
use tallygate_server::identify::{self, KeyHash};

use crate::exit::{Exit, Failure};
use crate::screen::Screen;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key of 256 random bits; it is shown once and stored nowhere
    New(NewKey),
    /// Hash a key read from standard input
    Hash,
    /// Make a key at a running server, or in the data folder of one that is stopped; it is shown once
    #[command(after_help = managed::EXAMPLES)]
    Create(managed::Create),
    /// List the keys of a running server, or of a data folder
    List(managed::List),
    /// Give a key another end, or none
    #[command(after_help = managed::ENDS)]
    Expire(managed::Expire),
    /// Replace a key by a new one under the same id; the new one is shown once
    Rotate(managed::Rotate),
    /// Let nobody in by a key any more
    Revoke(managed::Revoke),
}

#[derive(Debug, Args)]
pub(crate) struct NewKey {
    /// The key's id in the line for the configuration
    #[arg(long, default_value = "alice", value_parser = plain_id)]
    id: String,
}

/// An id that needs no quotes in YAML, so that the line can be pasted as it is.
fn plain_id(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    let fits = text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("letters, digits and - _ . @ make an id".to_owned())
    }
}

pub(crate) async fn run(keys: &Keys, screen: &Screen) -> Result<(), Failure> {
    match keys {
        Keys::New(args) => new(args, screen),
        Keys::Hash => hash(screen),
        Keys::Create(args) => args.run(screen).await,
        Keys::List(args) => args.run(screen).await,
        Keys::Expire(args) => args.run(screen).await,
        Keys::Rotate(args) => args.run(screen).await,
        Keys::Revoke(args) => args.run(screen).await,
    }
}

fn new(args: &NewKey, screen: &Screen) -> Result<(), Failure> {
    let (key, hash) = new_key()?;
    let id = &args.id;
    let text = format!(
        "key   {key}\nhash  {hash}\n\nThe key is for the caller and is shown this once. Under `keys:` of the configuration goes:\n  - {{ id: {id}, hash: \"{hash}\", subject: {{ user: {id} }} }}"
    );
    screen.answer(&json!({ "id": id, "key": key, "hash": hash }), &text);
    Ok(())
}

/// A key and its hash.
fn new_key() -> Result<(String, String), Failure> {
    let key = identify::generate().map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("no random bits from the system: {error}"),
        )
    })?;
    let hash = KeyHash::of(key.as_bytes()).to_string();
    Ok((key, hash))
}

fn hash(screen: &Screen) -> Result<(), Failure> {
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_KEY + 1)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(Exit::Input, format!("the key cannot be read: {error}")))?;
    let key = text.trim_end_matches(['\r', '\n']);
    if key.is_empty() || key.len() as u64 > MAX_KEY || key.contains(char::is_whitespace) {
        return Err(
            Failure::new(Exit::Input, "standard input holds no single key")
                .mend("pipe one in: printf %s \"$KEY\" | tallygate keys hash"),
        );
    }
    let hash = KeyHash::of(key.as_bytes()).to_string();
    screen.answer(&json!({ "hash": hash }), &hash);
    Ok(())
}

/// The longest key that `hash` reads, in bytes.
const MAX_KEY: u64 = 4096;
