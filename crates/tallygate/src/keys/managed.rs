//! Keys that a server keeps.

mod stopped;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use http::Method;
use serde_json::{Map, Value, json};
use tallygate_server::identify::Role;

use crate::exit::{Exit, Failure};
use crate::length::{Until, instant, length, until};
use crate::remote::{Whom, escaped};
use crate::screen::Screen;
use crate::table::table;
use stopped::Stopped;

pub(super) const EXAMPLES: &str = "\
Examples:
  tallygate keys create alice --user alice --tenant acme --tier free
  tallygate keys create batch --role call --role decide --expires 90d
  tallygate keys create root --role admin --data ./tallygate-data   (the server is stopped)";

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The key's name in lists and logs
    id: String,

    /// The label `user` of whoever shows it
    #[arg(long)]
    user: Option<String>,

    /// The label `tenant`
    #[arg(long)]
    tenant: Option<String>,

    /// The label `tier`
    #[arg(long)]
    tier: Option<String>,

    /// Another label, as team=search
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// What it may do; may be given several times
    #[arg(long = "role", value_name = "ROLE", default_value = "call", value_parser = roles())]
    roles: Vec<String>,

    /// Whether its calls may be served by a cheaper model of the tier's ladder
    #[arg(long, value_name = "WORD", value_parser = PossibleValuesParser::new(["allow", "never"]))]
    downgrade: Option<String>,

    /// When it ends by itself: 90d from now, or 2027-01-31
    #[arg(long, value_name = "WHEN", value_parser = until)]
    expires: Option<Until>,

    /// Make it in this data folder, whose server is stopped; --config names its configuration, so that the keys there count too
    #[arg(long, value_name = "FOLDER", conflicts_with = "admin")]
    data: Option<PathBuf>,

    #[command(flatten)]
    whom: Whom,
}

/// Where the keys are.
#[derive(Debug, Args)]
struct Place {
    /// The data folder of a server that is stopped, instead of a running server; --config names its configuration
    #[arg(long, value_name = "FOLDER", conflicts_with = "admin")]
    data: Option<PathBuf>,

    #[command(flatten)]
    whom: Whom,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    place: Place,
}

pub(super) const ENDS: &str = "\
Examples:
  tallygate keys expire alice --in 30d
  tallygate keys expire alice --at 2027-01-31
  tallygate keys expire alice --never";

#[derive(Debug, Args)]
pub(crate) struct Expire {
    /// The key's id
    id: String,

    #[command(flatten)]
    end: End,

    #[command(flatten)]
    place: Place,
}

/// When a key ends.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct End {
    /// The instant, as 2027-01-31T18:00:00Z, or the day, as 2027-01-31, which is its midnight UTC
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<String>,

    /// How long from now, as 30d
    #[arg(long = "in", value_name = "LENGTH", value_parser = length)]
    after: Option<Duration>,

    /// It has no end any more
    #[arg(long)]
    never: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Rotate {
    /// The key's id
    id: String,

    /// How long the old key is good beside the new one, as 24h; not at all unless given
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    grace: Option<Duration>,

    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The key's id
    id: String,

    #[command(flatten)]
    place: Place,
}

fn roles() -> PossibleValuesParser {
    PossibleValuesParser::new(Role::WORDS.map(|(word, _)| word))
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write a label as name=value, for example team=search".to_owned()),
    }
}

impl Create {
    pub(super) async fn run(&self, screen: &Screen) -> Result<(), Failure> {
        self.check_labels()?;
        let made = match &self.data {
            Some(folder) => {
                Stopped::open(folder, &self.whom)
                    .await?
                    .create(self)
                    .await?
            }
            None => {
                let body = self.body();
                let remote = self.whom.open()?;
                remote.ask(Method::POST, "/api/keys", Some(&body)).await?
            }
        };
        screen.answer(&made, &told(&made));
        Ok(())
    }

    fn body(&self) -> Value {
        let mut body = json!({ "id": self.id, "roles": self.roles, "subject": self.subject() });
        match &self.expires {
            Some(Until::Instant(text)) => body["expires"] = text.as_str().into(),
            Some(Until::Length(length)) => body["ttl_ms"] = millis(*length).into(),
            None => {}
        }
        if let Some(downgrade) = &self.downgrade {
            body["downgrade"] = downgrade.as_str().into();
        }
        body
    }

    /// Whoever is said to be two is none of them for sure.
    fn check_labels(&self) -> Result<(), Failure> {
        let mut seen = BTreeSet::new();
        match self.labels().find(|(label, _)| !seen.insert(*label)) {
            Some((label, _)) => {
                let message = format!("the label `{label}` is given twice");
                Err(Failure::new(Exit::Usage, message).mend("leave one out"))
            }
            None => Ok(()),
        }
    }

    fn subject(&self) -> Map<String, Value> {
        let labels = self.labels();
        labels
            .map(|(label, value)| (label.to_owned(), Value::from(value)))
            .collect()
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let named = [
            ("user", &self.user),
            ("tenant", &self.tenant),
            ("tier", &self.tier),
        ];
        let named = named.into_iter();
        let named = named.filter_map(|(label, value)| Some((label, value.as_deref()?)));
        let others = self
            .labels
            .iter()
            .map(|(label, value)| (&**label, &**value));
        named.chain(others)
    }
}

/// A length that was read from whole milliseconds.
pub(crate) fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

impl List {
    pub(super) async fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let told = match &self.place.data {
            Some(folder) => stopped::list(folder, &self.place.whom)?,
            None => self.place.whom.open()?.get("/api/keys").await?,
        };
        screen.answer(&told, &list(&told));
        Ok(())
    }
}

impl Expire {
    pub(super) async fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let body = self.end.body();
        let told = match &self.place.data {
            Some(folder) => {
                let folder = Stopped::existing(folder, &self.place.whom).await?;
                folder.expire(&self.id, &body.to_string()).await?
            }
            None => {
                let path = format!("/api/keys/{}", escaped(&self.id));
                let remote = self.place.whom.open()?;
                remote.ask(Method::PATCH, &path, Some(&body)).await?
            }
        };
        let text = match told["expires"].as_str() {
            Some(end) => format!("{} ends {end}", self.id),
            None => format!("{} has no end", self.id),
        };
        screen.answer(&told, &text);
        Ok(())
    }
}

impl End {
    /// As the API has it.
    fn body(&self) -> Value {
        match (&self.at, self.after) {
            (Some(instant), _) => json!({ "expires": instant }),
            (None, Some(length)) => json!({ "ttl_ms": millis(length) }),
            (None, None) => json!({ "expires": "never" }),
        }
    }
}

impl Rotate {
    pub(super) async fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let grace = self.grace.filter(|grace| !grace.is_zero());
        let made = match &self.place.data {
            Some(folder) => {
                let folder = Stopped::existing(folder, &self.place.whom).await?;
                folder.rotate(&self.id, grace).await?
            }
            None => {
                let body = json!({ "grace_ms": grace.map_or(0, millis) });
                let path = format!("/api/keys/{}/rotate", escaped(&self.id));
                let remote = self.place.whom.open()?;
                remote.ask(Method::POST, &path, Some(&body)).await?
            }
        };
        screen.answer(&made, &self::told(&made));
        Ok(())
    }
}

impl Revoke {
    pub(super) async fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let told = match &self.place.data {
            Some(folder) => {
                let folder = Stopped::existing(folder, &self.place.whom).await?;
                folder.revoke(&self.id).await?
            }
            None => {
                let path = format!("/api/keys/{}", escaped(&self.id));
                let remote = self.place.whom.open()?;
                remote.ask(Method::DELETE, &path, None).await?
            }
        };
        let text = format!("{} lets nobody in any more", self.id);
        screen.answer(&told, &text);
        Ok(())
    }
}

/// A key that was just made.
fn told(made: &Value) -> String {
    let mut lines = vec![
        format!("key   {}", text(made, "key")),
        String::new(),
        format!(
            "The key of {} is for the caller and is shown this once.",
            text(made, "id")
        ),
    ];
    match (made["old_key_until"].as_str(), made["rotated"].is_string()) {
        (Some(until), _) => lines.push(format!("The old key is good until {until}.")),
        (None, true) => lines.push("The old key lets nobody in any more.".to_owned()),
        (None, false) => {}
    }
    let warnings = made["warnings"].as_array().into_iter().flatten();
    lines.extend(
        warnings
            .filter_map(Value::as_str)
            .map(|warning| format!("Note: {warning}.")),
    );
    lines.join("\n")
}

fn list(told: &Value) -> String {
    let keys = told["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<[String; 6]> = keys.iter().map(row).collect();
    let mut lines = Vec::new();
    match rows.is_empty() {
        true => lines.push("no key was made at this server".to_owned()),
        false => lines.push(table(
            ["id", "state", "roles", "subject", "expires", "made by"],
            &rows,
        )),
    }
    let filed = told["of_configuration"].as_array().into_iter().flatten();
    let filed: Vec<&str> = filed.filter_map(Value::as_str).collect();
    if !filed.is_empty() {
        lines.push(format!("\nin the configuration: {}", filed.join(", ")));
    }
    lines.join("\n")
}

fn row(key: &Value) -> [String; 6] {
    let roles = key["roles"].as_array().into_iter().flatten();
    let roles: Vec<&str> = roles.filter_map(Value::as_str).collect();
    let subject = key["subject"].as_object().into_iter().flatten();
    let subject: Vec<String> = subject
        .map(|(label, value)| format!("{label}={}", value.as_str().unwrap_or_default()))
        .collect();
    let mut state = text(key, "state");
    if let Some(until) = key["old_key_until"].as_str() {
        state.push_str(&format!(" (old key until {until})"));
    }
    [
        text(key, "id"),
        state,
        roles.join(","),
        subject.join(" "),
        key["expires"].as_str().unwrap_or("never").to_owned(),
        text(key, "by"),
    ]
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}
