//! `tallygate count`: how many tokens a text, a file or a request body is, and how that is known.

mod body;
mod inputs;

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use tallygate_tokens::{
    Counter, Endpoint, Estimate, Method, OutputPolicy, encoding_of, output_estimate,
};

use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::screen::{Screen, tell};
use body::Form;
use inputs::Input;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tallygate count --text 'Hello world'
  tallygate count --model gpt-4 src/ README.md
  tallygate count --body request.json
  cat prompt.txt | tallygate count")]
pub(crate) struct CountArgs {
    /// Files, or folders with all their files; `-` is standard input, which is also read when nothing is named
    paths: Vec<PathBuf>,

    /// Count this text; may be repeated
    #[arg(short, long)]
    text: Vec<String>,

    /// The model whose tokens are counted, where a body does not name its own
    #[arg(short, long, default_value = "gpt-4o")]
    model: String,

    /// Each input is a request body: messages, tools and images are counted as the provider frames them
    #[arg(long, value_enum, value_name = "ENDPOINT", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    body: Option<Form>,
}

/// What is known of one input.
struct Row {
    name: String,
    model: String,
    endpoint: Option<Endpoint>,
    tokens: u64,
    method: Method,
    output: Option<Estimate>,
}

pub(crate) fn run(args: &CountArgs, screen: &Screen) -> Result<(), Failure> {
    let inputs = inputs::collect(&args.paths, &args.text)?;
    // Nothing is counted twice in one run, so nothing is remembered.
    let counter = Counter::new([0, 0], 0);
    let mut progress = Progress::new("counting", inputs.len());
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    for input in &inputs {
        progress.step();
        match count(input, args, &counter) {
            Ok(row) => rows.push(row),
            Err(reason) => refused.push((input.name(), reason)),
        }
    }
    progress.finish();
    screen.answer(&as_json(&rows, &refused), &as_text(&rows));
    report(&refused)
}

fn count(input: &Input, args: &CountArgs, counter: &Counter) -> Result<Row, String> {
    let bytes = input.read()?;
    match args.body {
        Some(form) => {
            let call = body::parse(form, &args.model, &bytes)?;
            let counted = counter.input(&call);
            let policy = OutputPolicy::for_model(call.model());
            Ok(Row {
                name: input.name(),
                model: call.model().to_owned(),
                endpoint: Some(call.endpoint()),
                tokens: counted.tokens,
                method: counted.method,
                output: Some(output_estimate(&call, counted.tokens, &policy, None)),
            })
        }
        None => {
            let text =
                std::str::from_utf8(&bytes).map_err(|error| format!("not UTF-8 text: {error}"))?;
            let counted = counter.text(&args.model, text);
            Ok(Row {
                name: input.name(),
                model: args.model.clone(),
                endpoint: None,
                tokens: counted.tokens,
                method: counted.method,
                output: None,
            })
        }
    }
}

fn report(refused: &[(String, String)]) -> Result<(), Failure> {
    for (name, reason) in refused {
        tell(&format!("tallygate: {name}: {reason}"));
    }
    match refused.len() {
        0 => Ok(()),
        1 => Err(Failure::new(Exit::Input, "one input could not be counted")),
        several => Err(Failure::new(
            Exit::Input,
            format!("{several} inputs could not be counted"),
        )),
    }
}

fn as_json(rows: &[Row], refused: &[(String, String)]) -> Value {
    let inputs: Vec<Value> = rows.iter().map(row_json).collect();
    let refused: Vec<Value> = refused
        .iter()
        .map(|(name, reason)| json!({ "input": name, "error": reason }))
        .collect();
    json!({ "inputs": inputs, "total": total(rows), "refused": refused })
}

fn row_json(row: &Row) -> Value {
    let mut shown = json!({
        "input": row.name,
        "model": row.model,
        "encoding": encoding_of(&row.model).name,
        "input_tokens": row.tokens,
        "method": row.method.name(),
    });
    if let Some(endpoint) = row.endpoint {
        shown["endpoint"] = json!(endpoint.name());
    }
    if let Some(output) = row.output {
        shown["output_tokens"] = json!(output.tokens);
        shown["output_method"] = json!(output.method);
    }
    shown
}

fn as_text(rows: &[Row]) -> String {
    match rows {
        [] => String::new(),
        [row] => sentence(row),
        several => table(several),
    }
}

fn sentence(row: &Row) -> String {
    let encoding = encoding_of(&row.model).name;
    let known = format!("({}: {}, {encoding})", row.method.name(), row.model);
    match row.output {
        Some(output) => format!(
            "{} input tokens {known}\n{} output tokens expected",
            row.tokens, output.tokens
        ),
        None => format!("{} tokens {known}", row.tokens),
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!("{:>12}  {:<9}  input", "tokens", "method")];
    lines.extend(
        rows.iter()
            .map(|row| format!("{:>12}  {:<9}  {}", row.tokens, row.method.name(), row.name)),
    );
    lines.push(format!("{:>12}  {:<9}  total", total(rows), ""));
    lines.join("\n")
}

fn total(rows: &[Row]) -> u64 {
    rows.iter()
        .fold(0, |sum, row| sum.saturating_add(row.tokens))
}
