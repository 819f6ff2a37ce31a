//! What is logged, and how. Prompts, answers and keys never are: nobody hands them to the log.
//!
//! What somebody else wrote is logged: names, and what servers say. None of it moves a terminal's cursor or begins a line.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tallygate_core::text::{printable, printable_json};
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

use crate::screen::Screen;

/// Starts logging to standard error; `TALLYGATE_LOG` says what.
pub(crate) fn start(screen: &Screen) {
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .with_env_var("TALLYGATE_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A line that cannot be written would else be reported where it cannot be written either: that panics, in the
        // middle of whatever was being told of.
        .log_internal_errors(false);
    let log = match io::stderr().is_terminal() {
        true => log,
        false => log.with_ansi(false),
    };
    // A second start would be refused; there is none.
    drop(if screen.is_json() {
        log.json().with_writer(json_lines(io::stderr)).try_init()
    } else {
        log.fmt_fields(fields()).with_writer(io::stderr).try_init()
    });
}

/// Fields as text, each value on one line.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    debug_fn(
        |out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
            let value = format!("{value:?}");
            let value = printable(&value);
            match field.name() {
                "message" => out.write_str(&value),
                name => write!(out, "{}={value}", name.trim_start_matches("r#")),
            }
        },
    )
    .delimited(" ")
}

/// Lines of JSON for what `make` makes.
fn json_lines<M: Fn() -> W + Send + Sync + 'static, W: Write>(
    make: M,
) -> impl for<'w> MakeWriter<'w> + Send + Sync + 'static {
    move || JsonLines(make())
}

/// Whole lines of JSON, with escapes for what is not to be seen.
struct JsonLines<W>(W);

impl<W: Write> Write for JsonLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(printable_json(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::{fields, json_lines};

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn speak() {
        let said = "gone\u{9b}2J\u{202e}\n2026 INFO all is well";
        tracing::warn!(error = %said, text = said, count = 7, "it said {said}");
    }

    #[test]
    fn a_line_of_text_is_one_line_and_moves_no_cursor() {
        let page = Page::default();
        let log = tracing_subscriber::fmt()
            .with_ansi(false)
            .fmt_fields(fields());
        let to = page.clone();
        let log = log.with_writer(move || to.clone()).finish();
        tracing::subscriber::with_default(log, speak);
        let text = page.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("it said gone\u{fffd}2J\u{fffd}\u{fffd}2026"),
            "{text}"
        );
        assert!(
            text.contains(" error=gone\u{fffd}2J") && text.contains(" count=7"),
            "{text}"
        );
        assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text}");
    }

    #[test]
    fn a_line_of_json_says_the_same() {
        let page = Page::default();
        let to = page.clone();
        let log = tracing_subscriber::fmt()
            .json()
            .with_writer(json_lines(move || to.clone()))
            .finish();
        tracing::subscriber::with_default(log, speak);
        let text = page.text();
        assert!(!text.contains(['\u{9b}', '\u{202e}']), "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            line["fields"]["text"],
            "gone\u{9b}2J\u{202e}\n2026 INFO all is well"
        );
    }
}
