//! What is wrong with a configuration, where, and how to mend it.

use std::fmt;
use std::sync::Arc;

use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use serde::Serialize;
use tallygate_core::text::printable;

/// What sort of mistake a [`Problem`] is; a stable word for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// Not YAML at all.
    Syntax,
    /// A key, name or word that is not known.
    Unknown,
    /// The same key, name, id or hash twice.
    Duplicate,
    /// Something required is absent.
    Missing,
    /// A value of the wrong form or outside its range.
    Value,
    /// Two settings that contradict each other.
    Conflict,
    /// An environment variable that is not set.
    Environment,
    /// A feature that this version does not have.
    NotBuilt,
}

/// Whether a problem keeps the configuration from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but the author should know.
    Warning,
}

/// A stretch of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) offset: usize,
    /// Its bytes.
    pub(super) length: usize,
    /// Its first line, from 1.
    pub(super) line: usize,
    /// Its first column in characters, from 1.
    pub(super) column: usize,
}

impl Place {
    /// The very beginning of the file.
    pub(super) fn start() -> Self {
        Self {
            offset: 0,
            length: 0,
            line: 1,
            column: 1,
        }
    }

    /// The place of a line and column, both from 1, in `source`.
    pub(super) fn of_line(source: &str, line: usize, column: usize) -> Self {
        let before: usize = source
            .split_inclusive('\n')
            .take(line.saturating_sub(1))
            .map(str::len)
            .sum();
        let rest = source.get(before..).unwrap_or_default();
        let inside = rest.char_indices().nth(column.saturating_sub(1));
        Self {
            offset: before + inside.map_or(0, |(offset, _)| offset),
            length: 0,
            line,
            column,
        }
    }

    /// The text at this place, or nothing where the place is outside `source`.
    pub(super) fn text_in(self, source: &str) -> &str {
        source
            .get(self.offset..self.offset.saturating_add(self.length))
            .unwrap_or_default()
    }

    /// This place, cut so that it lies inside `source` and on its first line.
    pub(super) fn within(self, source: &str) -> Self {
        let offset = floor_boundary(source, self.offset);
        let rest = source.get(offset..).unwrap_or_default();
        let line = rest.find('\n').unwrap_or(rest.len());
        let length = self.length.min(line);
        Self {
            offset,
            length,
            ..self
        }
    }
}

fn floor_boundary(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset = offset.saturating_sub(1);
    }
    offset
}

/// One mistake in a configuration, or one thing its author should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    severity: Severity,
    kind: Kind,
    line: usize,
    column: usize,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
    #[serde(skip)]
    at: (usize, usize),
}

impl Problem {
    pub(super) fn error(kind: Kind, at: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            kind,
            line: at.line.max(1),
            column: at.column.max(1),
            message: printable(&message.into()).into_owned(),
            mend: None,
            at: (at.offset, at.length),
        }
    }

    pub(super) fn warning(kind: Kind, at: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(kind, at, message)
        }
    }

    /// Adds how to mend it.
    #[must_use]
    pub(super) fn mend(mut self, how: impl Into<String>) -> Self {
        self.mend = Some(printable(&how.into()).into_owned());
        self
    }

    /// Whether it keeps the configuration from being used.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// What sort of mistake it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The line it stands on, from 1.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column it starts at in characters, from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, in one sentence that names the value.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How to mend it, where that is known.
    #[must_use]
    pub fn mending(&self) -> Option<&str> {
        self.mend.as_deref()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.mend
            .as_ref()
            .map(|how| Box::new(how) as Box<dyn fmt::Display>)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(
            None, self.at,
        ))))
    }
}

/// Why a configuration cannot be used: every mistake of the file in its order, warnings included, with the file itself so
/// that each is shown beside its line.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    source: NamedSource<Arc<str>>,
    problems: Vec<Problem>,
}

impl ConfigErrors {
    pub(super) fn new(name: &str, source: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.at);
        // What stands behind an anchor is read once for each of its uses.
        problems.dedup();
        Self {
            source: NamedSource::new(printable(name), Arc::from(source)),
            problems,
        }
    }

    /// The problems, in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The name the file was read under.
    #[must_use]
    pub fn name(&self) -> &str {
        self.source.name()
    }

    /// All problems with their lines of the file, for a person, without colours; 100 columns wide.
    #[must_use]
    pub fn render(&self) -> String {
        render(self, GraphicalTheme::unicode_nocolor())
    }

    /// As [`Self::render`], coloured for a terminal.
    #[must_use]
    pub fn render_coloured(&self) -> String {
        render(self, GraphicalTheme::unicode())
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }
}

fn render(diagnostic: &dyn Diagnostic, theme: GraphicalTheme) -> String {
    let mut shown = String::new();
    let handler = GraphicalReportHandler::new_themed(theme).with_width(100);
    // Writing into a String cannot fail; a formatter's own error would leave what was written so far.
    let _ = handler.render_report(&mut shown, diagnostic);
    shown
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        match (errors, warnings) {
            (0, n) => write!(f, "{}: {}", self.name(), counted(n, "warning")),
            (n, 0) => write!(f, "{} cannot be used: {}", self.name(), counted(n, "error")),
            (n, m) => write!(
                f,
                "{} cannot be used: {}, {}",
                self.name(),
                counted(n, "error"),
                counted(m, "warning")
            ),
        }
    }
}

fn counted(number: usize, word: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {word}{plural}")
}

impl std::error::Error for ConfigErrors {}

impl Diagnostic for ConfigErrors {
    fn severity(&self) -> Option<miette::Severity> {
        let worst = if self.count(Severity::Error) > 0 {
            miette::Severity::Error
        } else {
            miette::Severity::Warning
        };
        Some(worst)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems
                .iter()
                .map(|problem| problem as &dyn Diagnostic),
        ))
    }
}

/// What `check --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The file's name.
    pub file: String,
    /// Whether the configuration can be used.
    pub usable: bool,
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// All of them, in the order of the file.
    pub problems: Vec<Problem>,
}

impl CheckReport {
    /// The report on a file read under `name`.
    #[must_use]
    pub fn new(name: &str, problems: &[Problem]) -> Self {
        let errors = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count();
        let warnings = problems.len() - errors;
        Self {
            file: name.to_owned(),
            usable: errors == 0,
            errors,
            warnings,
            problems: problems.to_vec(),
        }
    }
}
