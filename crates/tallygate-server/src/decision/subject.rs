//! Whom a question is about.

use std::borrow::Cow;

use tallygate_core::DOWNGRADED;
use tallygate_core::text::is_printable;

use super::fields::{FieldError, Fields};
use crate::identify::{Identity, KEY_LABEL, MAX_LABEL_VALUE};

/// Labels that a question may name.
const MAX_LABELS: usize = 32;

/// Labels that say what is called, not who calls: the server sets them.
const CALL_LABELS: [&str; 4] = ["model", "upstream", "endpoint", DOWNGRADED];

/// Labels and their values.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Subject<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Subject<'a> {
    /// The caller's own labels. A key bound to a tenant, say, speaks for no other.
    pub(super) fn of(identity: &'a Identity) -> Self {
        let own = identity.labels().iter();
        Self(
            own.map(|(label, value)| (Cow::from(label), Cow::from(value)))
                .collect(),
        )
    }

    /// Adds the labels of the object `subject`.
    ///
    /// # Errors
    /// When a label is the server's to set, or the caller's key says otherwise, or there are too many.
    pub(super) fn add_fields(&mut self, fields: &mut Fields<'_>) -> Result<(), FieldError> {
        let Some(mut labels) = fields.object("subject")? else {
            return Ok(());
        };
        for name in labels.names() {
            if let Some(value) = labels.text(&name)? {
                let wrong = |wanted| labels.wrong(&name, wanted);
                self.add(&name, value).map_err(wrong)?;
            }
        }
        labels.end()
    }

    /// Adds one label.
    ///
    /// # Errors
    /// What it should be instead.
    pub(super) fn add(&mut self, label: &str, value: String) -> Result<(), &'static str> {
        if CALL_LABELS.contains(&label) {
            return Err("left out: the server sets it");
        }
        if !is_label_text(label) {
            return Err("called by a text of at most 256 bytes without control characters");
        }
        if !is_label_text(&value) {
            return Err("a text of at most 256 bytes without control characters");
        }
        match self.get(label) {
            Some(own) if own == value => return Ok(()),
            Some(_) if label == KEY_LABEL => return Err("left out: the server sets it"),
            Some(_) => return Err("what the api key is bound to"),
            None => {}
        }
        if self.0.len() >= MAX_LABELS {
            return Err("left out: there are 32 labels already");
        }
        self.0.push((Cow::from(label.to_owned()), Cow::from(value)));
        Ok(())
    }

    /// The value of one label.
    pub(super) fn get(&self, label: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(name, _)| name == label)
            .map(|(_, value)| &**value)
    }

    /// All labels, and those of the call.
    pub(super) fn labels<'b>(&'b self, call: &[(&'b str, &'b str)]) -> Vec<(&'b str, &'b str)> {
        let own = self.0.iter().map(|(label, value)| (&**label, &**value));
        own.chain(call.iter().copied()).collect()
    }
}

/// Labels end up in reports, logs and at terminals.
fn is_label_text(text: &str) -> bool {
    text.len() <= MAX_LABEL_VALUE && is_printable(text)
}
