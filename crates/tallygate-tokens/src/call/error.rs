//! Why a request body cannot be sized.

use crate::json::Json;

/// Why a request body was not understood. Every message is fit to be shown to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The body is no JSON, or is nested too deeply.
    #[error("request body is not valid JSON at line {line}, column {column}: {reason}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 at the very end of a line.
        column: usize,
        /// What was found there, without the body's text.
        reason: String,
    },
    /// A field that sizing needs is absent or `null`.
    #[error("{path} is missing")]
    Missing {
        /// The field's path, for example `messages`.
        path: String,
    },
    /// A field is given more than once.
    #[error("{path} is given more than once")]
    Repeated {
        /// The field's name.
        path: String,
    },
    /// A field is not of its documented type.
    #[error("{} must be {expected}, not {found}", place(path))]
    WrongType {
        /// The field's path, for example `messages[2].content`; empty for the body itself.
        path: String,
        /// What is documented, for example "a string or an array".
        expected: &'static str,
        /// What was found, for example "a number".
        found: &'static str,
    },
}

impl CallError {
    pub(crate) fn malformed(error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let reason = text
            .rsplit_once(" at line ")
            .map_or(&*text, |(head, _)| head);
        Self::Malformed {
            line: error.line(),
            column: error.column(),
            reason: reason.to_owned(),
        }
    }

    pub(crate) fn missing(path: &str) -> Self {
        Self::Missing {
            path: path.to_owned(),
        }
    }

    pub(crate) fn wrong(path: &str, expected: &'static str, found: &Json<'_>) -> Self {
        Self::WrongType {
            path: path.to_owned(),
            expected,
            found: found.kind(),
        }
    }

    /// The same error seen from the object that holds `parent`.
    pub(crate) fn within(self, parent: &str) -> Self {
        let join = |path: String| match path.as_str() {
            "" => parent.to_owned(),
            inner if inner.starts_with('[') => format!("{parent}{inner}"),
            inner => format!("{parent}.{inner}"),
        };
        match self {
            Self::Missing { path } => Self::Missing { path: join(path) },
            Self::WrongType {
                path,
                expected,
                found,
            } => Self::WrongType {
                path: join(path),
                expected,
                found,
            },
            Self::Repeated { path } => Self::Repeated { path: join(path) },
            malformed @ Self::Malformed { .. } => malformed,
        }
    }

    /// The same error seen from the array of which this was element `index`.
    pub(crate) fn at(self, index: usize) -> Self {
        self.within(&format!("[{index}]"))
    }
}

fn place(path: &str) -> &str {
    if path.is_empty() {
        "request body"
    } else {
        path
    }
}
