//! Rules that outlive the process, in a folder beside the counters that are theirs.
//!
//! A store drops the counters of rules that are no longer in force. A process names its rules one after the other, as it comes to need
//! them, so those of the process before stay in force until this one names or forgets them.
use crate::failure;
use crate::rules::Written;
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use tallygate_store::folder::DataFolder;

const FILE: &str = "python/rules.json";

/// What a process before had in force and this one has not named yet, and where all that is written.
#[derive(Default)]
pub(crate) struct Kept {
    folder: Option<Arc<DataFolder>>,
    before: Named,
    written: Vec<u8>,
}

/// Rules by their names.
pub(crate) type Named = BTreeMap<String, Written>;

impl Kept {
    /// What a folder has.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn of(folder: Arc<DataFolder>) -> PyResult<Self> {
        let written = read(&folder)?;
        let rules = understood(&folder, &written)?;
        let named = rules.into_iter().map(|rule| (rule.0.clone(), rule));
        Ok(Self {
            before: named.collect(),
            folder: Some(folder),
            written,
        })
    }

    /// Rules of the process before that this one has not named.
    pub(crate) fn before(&self) -> Vec<Written> {
        self.before.values().cloned().collect()
    }

    /// The names of those that are for this value of a label.
    pub(crate) fn names_for(&self, label: &str, value: &str) -> Vec<String> {
        let is_for = |rule: &Written| {
            let values = rule.1.get(label);
            values.is_some_and(|values| values.iter().any(|known| known == value))
        };
        let of_it = self.before.iter().filter(|(_, rule)| is_for(rule));
        of_it.map(|(name, _)| name.clone()).collect()
    }

    /// Writes what is to be in force once this process, which had `named` these rules, `put` some and let others be `gone`. It goes
    /// before any counter of it.
    ///
    /// # Errors
    /// When the disk fails; nothing has changed then.
    pub(crate) fn change(
        &mut self,
        named: &Named,
        (put, gone): (&[Written], &[String]),
    ) -> PyResult<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut all: BTreeMap<&str, &Written> = BTreeMap::new();
        all.extend(
            self.before
                .iter()
                .chain(named)
                .map(|(name, rule)| (&**name, rule)),
        );
        for name in gone {
            all.remove(name.as_str());
        }
        all.extend(put.iter().map(|rule| (&*rule.0, rule)));
        let all: Vec<&Written> = all.into_values().collect();
        let text = serde_json::to_vec_pretty(&all)
            .map_err(|error| failure::unopened(error.to_string()))?;
        if text != self.written {
            let done = folder.files().replace(FILE, &text);
            done.map_err(|error| {
                let path = folder.path().display();
                failure::unopened(format!("the rules cannot be written to {path}: {error}"))
            })?;
            self.written = text;
        }
        let told = put.iter().map(|rule| &rule.0).chain(gone);
        told.for_each(|name| {
            self.before.remove(name);
        });
        Ok(())
    }
}

fn read(folder: &DataFolder) -> PyResult<Vec<u8>> {
    match folder.files().read(FILE) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failure::unopened(error.to_string())),
    }
}

fn understood(folder: &DataFolder, text: &[u8]) -> PyResult<Vec<Written>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice(text).map_err(|error| {
        failure::unopened(format!(
            "{FILE} in {} is damaged ({error}): take it away, and its counters begin anew",
            folder.path().display()
        ))
    })
}
