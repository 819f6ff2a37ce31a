//! What `serve` says once it listens.

use std::net::SocketAddr;

use serde_json::json;
use tallygate_server::Listeners;
use tallygate_server::config::StoreChoice;

use crate::exit::{Exit, Failure};
use crate::screen::Screen;
use crate::settings::Settings;

/// Both addresses, where the counters are if not in this process, and for the built-in configuration what it is and what to try.
pub(super) fn greet(
    screen: &Screen,
    settings: &Settings,
    store: &StoreChoice,
    listeners: &Listeners,
) -> Result<(), Failure> {
    let unknown = |error: std::io::Error| {
        Failure::new(Exit::Failed, format!("a listener has no address: {error}"))
    };
    let gateway = url(listeners.data.local_addr().map_err(unknown)?);
    let admin = match &listeners.admin {
        Some(admin) => Some(url(admin.local_addr().map_err(unknown)?)),
        None => None,
    };
    let mut text = format!("gateway listening on {gateway}");
    if let Some(admin) = &admin {
        text.push_str(&format!("\nadmin listening on {admin}"));
    }
    match store {
        StoreChoice::Redis(_) => text.push_str(&format!("\ncounting on {store}")),
        StoreChoice::Folder(_) => text.push_str(&format!("\ncounting in {store}")),
        _ => {}
    }
    if settings.is_built_in() {
        text.push_str(&advice(settings, &gateway));
    }
    screen.answer(
        &json!({ "event": "listening", "gateway": gateway, "admin": admin, "store": store.to_string() }),
        &text,
    );
    Ok(())
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}")
}

fn advice(settings: &Settings, gateway: &str) -> String {
    let indented: String = settings
        .text
        .lines()
        .map(|line| format!("  {line}\n"))
        .collect();
    format!(
        "\n\nServing with this configuration; put it into a file and name it with --config to change it:\n\n{indented}\nTry it:\n{}",
        trial(settings, gateway)
    )
}

fn trial(settings: &Settings, gateway: &str) -> String {
    let (path, headers, body) = if settings.text.contains("dialect: openai") {
        (
            "/v1/chat/completions",
            "",
            r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Hello world"}]}"#,
        )
    } else if settings.text.contains("dialect: anthropic") {
        (
            "/v1/messages",
            " -H 'anthropic-version: 2023-06-01'",
            r#"{"model":"claude-haiku-4-5","max_tokens":100,"messages":[{"role":"user","content":"Hello world"}]}"#,
        )
    } else {
        (
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "",
            r#"{"contents":[{"parts":[{"text":"Hello world"}]}]}"#,
        )
    };
    format!(
        "  curl -i {gateway}{path}{headers} \\\n    -H 'content-type: application/json' -d '{body}'\n  curl {gateway}/tallygate/v1/limits"
    )
}
