//! Rules that outlive the process, in a folder beside the counters that are theirs.
//!
//! A store drops the counters of rules that are no longer in force. A process names its rules one after the other, as it comes to need
//! them, so those of the process before stay in force until this one names or forgets them.
use crate::failure;
use crate::rules::Written;
use pyo3::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use tallygate_store::folder::DataFolder;

const FILE: &str = "python/rules.json";

/// What a process before had in force and this one has not named yet, and where all that is written.
#[derive(Default)]
pub(crate) struct Kept {
    folder: Option<Arc<DataFolder>>,
    before: BTreeMap<String, Written>,
    written: Vec<Written>,
}

impl Kept {
    /// What a folder has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(folder: Arc<DataFolder>) -> PyResult<Self> {
        let written = read(&folder)?;
        let named = written.iter().map(|rule| (rule.0.clone(), rule.clone()));
        Ok(Self {
            folder: Some(folder),
            before: named.collect(),
            written,
        })
    }

    /// Rules of the process before that this one has not named.
    pub(crate) fn before(&self) -> Vec<Written> {
        self.before.values().cloned().collect()
    }

    /// `rules` with those of the process before that they do not name.
    pub(crate) fn with(&self, rules: Vec<Written>) -> Vec<Written> {
        if self.before.is_empty() {
            return rules;
        }
        let named: BTreeSet<String> = rules.iter().map(|rule| rule.0.clone()).collect();
        let rest = self
            .before
            .iter()
            .filter(|(name, _)| !named.contains(*name));
        let rest = rest.map(|(_, rule)| rule.clone());
        rules.into_iter().chain(rest).collect()
    }

    /// Writes what is to be in force, `named` by this process. It goes before any counter of it.
    ///
    /// # Errors
    /// When the disk fails; nothing has changed then.
    pub(crate) fn keep(&mut self, all: Vec<Written>, named: &BTreeSet<String>) -> PyResult<()> {
        if let Some(folder) = &self.folder
            && all != self.written
        {
            let text = serde_json::to_vec_pretty(&all)
                .map_err(|error| failure::unopened(error.to_string()))?;
            let done = folder.files().replace(FILE, &text);
            done.map_err(|error| {
                let path = folder.path().display();
                failure::unopened(format!("the rules cannot be written to {path}: {error}"))
            })?;
            self.written = all;
        }
        self.before.retain(|name, _| !named.contains(name));
        Ok(())
    }
}

fn read(folder: &DataFolder) -> PyResult<Vec<Written>> {
    let text = match folder.files().read(FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failure::unopened(error.to_string())),
    };
    serde_json::from_slice(&text).map_err(|error| {
        failure::unopened(format!(
            "{FILE} in {} is damaged ({error}): take it away, and its counters begin anew",
            folder.path().display()
        ))
    })
}
