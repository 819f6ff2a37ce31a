//! What is to be counted: texts of the command line, files, folders, standard input.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failure};

/// One thing to count.
pub(super) enum Input {
    Text(String),
    File(PathBuf),
    Stdin,
}

impl Input {
    /// What it is called in answers. A text is not repeated there.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Text(_) => "text".to_owned(),
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "standard input".to_owned(),
        }
    }

    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.clone().into_bytes()),
            Self::File(path) => std::fs::read(path).map_err(|error| error.to_string()),
            Self::Stdin => {
                let mut bytes = Vec::new();
                std::io::stdin()
                    .read_to_end(&mut bytes)
                    .map_err(|error| error.to_string())?;
                Ok(bytes)
            }
        }
    }
}

/// The inputs in the order they were named; a folder's files in the order of their names.
pub(super) fn collect(paths: &[PathBuf], texts: &[String]) -> Result<Vec<Input>, Failure> {
    let mut inputs: Vec<Input> = texts.iter().cloned().map(Input::Text).collect();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            walk(path, &mut inputs)?;
        } else {
            inputs.push(Input::File(path.clone()));
        }
    }
    if paths.is_empty() && texts.is_empty() {
        inputs.push(Input::Stdin);
    }
    Ok(inputs)
}

/// Hidden files and folders are left out, as are symbolic links, which may lead in circles.
fn walk(folder: &Path, inputs: &mut Vec<Input>) -> Result<(), Failure> {
    let refused =
        |error: std::io::Error| Failure::new(Exit::Input, format!("{}: {error}", folder.display()));
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(refused)? {
        entries.push(entry.map_err(refused)?);
    }
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(refused)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), inputs)?;
        } else if kind.is_file() {
            inputs.push(Input::File(entry.path()));
        }
    }
    Ok(())
}
