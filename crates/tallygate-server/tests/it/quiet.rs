//! G10: no text of a prompt or answer and no key is ever logged.

use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex, Once};

use tallygate_server::identify::KeyHash;
use tallygate_sim::ApiCall;
use tallygate_tokens::Endpoint;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

use crate::world::World;

/// Writes down every event at every level, with all its fields.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("a string");
    }
}

/// Hears everything and keeps nothing.
struct Deaf;

impl Subscriber for Deaf {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Recorder {
    /// Records what this thread does until the guard goes.
    ///
    /// Somebody listens everywhere from now on: where nobody does when a line is first met, by whatever thread, it is remembered
    /// that nobody wants it.
    pub(crate) fn start(&self) -> DefaultGuard {
        static LISTENING: Once = Once::new();
        LISTENING.call_once(|| {
            tracing::subscriber::set_global_default(Deaf).expect("nobody else listens");
        });
        tracing::subscriber::set_default(self.clone())
    }

    /// The lines so far that say this.
    pub(crate) fn lines(&self, words: &str) -> Vec<String> {
        let text = self.0.lock().expect("nobody panicked");
        let lines = text.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }

    fn write(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Line<'_>)) {
        let mut text = self.0.lock().expect("nobody panicked");
        write!(text, "{} {}", metadata.level(), metadata.target()).expect("a string");
        record(&mut Line(&mut text));
        text.push('\n');
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.write(span.metadata(), |line| span.record(line));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = self.0.lock().expect("nobody panicked");
        values.record(&mut Line(&mut text));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.write(event.metadata(), |line| event.record(line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const KEY: &str = "tg-never-logged";
const PROMPT: &str = "a prompt that is nobody's business";

#[tokio::test]
async fn neither_texts_nor_keys_are_logged_at_any_level() {
    let recorder = Recorder::default();
    // The runtime of this test has this thread alone, so all of the server's work is recorded.
    let _recording = recorder.start();
    let hash = KeyHash::of(KEY.as_bytes());
    let settings = format!(
        "limits: [{{ name: all, per: [user], requests: 3, every: 8000h }}]
keys: [{{ id: id-of-alice, hash: '{hash}', subject: {{ user: user-alice }}, role: [call, decide] }}]"
    );
    let world = World::new(&settings).await.keyed(KEY);
    let call = ApiCall::new(Endpoint::ChatCompletions, "gpt-4o", PROMPT)
        .output(30)
        .max_tokens(40);
    let whole = world.call(&call).await;
    assert_eq!(whole.status, 200);
    let answer = String::from_utf8_lossy(&whole.body).into_owned();
    assert_eq!(world.call(&call.clone().streamed()).await.status, 200);
    let ask = format!(
        r#"{{"model":"gpt-4o","request":{{"model":"gpt-4o","messages":[{{"role":"user","content":"{PROMPT}"}}]}}}}"#
    );
    assert_eq!(world.post("/tallygate/v1/reserve", ask).await.status, 200);
    assert_eq!(world.call(&call).await.status, 429);
    assert_eq!(
        world
            .post(
                "/v1/chat/completions",
                format!("{{\"messages\": \"{PROMPT}\"")
            )
            .await
            .status,
        400
    );
    let world = world.keyed("tg-another-key");
    assert_eq!(world.call(&call).await.status, 401);
    let text = recorder.0.lock().expect("nobody panicked").clone();
    assert!(
        text.contains("tallygate::"),
        "something is logged, or this shows nothing"
    );
    let content: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let words = content["choices"][0]["message"]["content"]
        .as_str()
        .expect("an answer")
        .to_owned();
    let hash = hash.to_string();
    for secret in [
        KEY,
        PROMPT,
        "tg-another-key",
        "sk-openai",
        "user-alice",
        "id-of-alice",
        &hash,
        &words,
    ] {
        assert!(!text.contains(secret), "{secret} in\n{text}");
    }
}
