//! Tool definitions as OpenAI's models are shown them.
//!
//! The models see functions as a TypeScript namespace. Counting that text gives the figures
//! OpenAI's cookbook states and those its API was measured to charge, for nested schemas too.

use std::fmt::{self, Write};

use crate::json::Json;

/// Functions as text, and whether every schema is of the simple kind whose count is certain.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) text: String,
    pub(super) flat: bool,
}

/// Renders function definitions (`name`, `description`, `parameters`). `None` without any.
pub(super) fn namespace<'j>(functions: &[&'j Json<'j>]) -> Option<Namespace> {
    if functions.is_empty() {
        return None;
    }
    let mut text = String::from("namespace functions {\n\n");
    for function in functions {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", Function(function));
    }
    text.push_str("} // namespace functions");
    let flat = functions.iter().all(|function| is_flat(function));
    Some(Namespace { text, flat })
}

struct Function<'a>(&'a Json<'a>);

impl fmt::Display for Function<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(description) = self.0.text("description") {
            writeln!(out, "// {description}")?;
        }
        let name = self.0.text("name").unwrap_or_default();
        match self
            .0
            .get("parameters")
            .filter(|schema| has_properties(schema))
        {
            None => write!(out, "type {name} = () => any;\n\n"),
            Some(schema) => {
                writeln!(out, "type {name} = (_: {{")?;
                properties(out, schema, 0)?;
                write!(out, "}}) => any;\n\n")
            }
        }
    }
}

fn has_properties(schema: &Json<'_>) -> bool {
    let properties = schema.get("properties").map(Json::entries);
    properties.is_some_and(|properties| !properties.is_empty())
}

/// The members of an object, a line each. Descriptions are shown on the two outer levels only.
fn properties(out: &mut fmt::Formatter<'_>, schema: &Json<'_>, indent: usize) -> fmt::Result {
    let members = schema.get("properties").map_or(&[][..], Json::entries);
    let required = schema.items("required");
    for (name, member) in members {
        if let Some(description) = member.text("description").filter(|_| indent < 2) {
            writeln!(out, "{:indent$}// {description}", "")?;
        }
        let needed = required.iter().any(|key| key.as_str() == Some(name));
        let mark = if needed { "" } else { "?" };
        write!(out, "{:indent$}{name}{mark}: ", "")?;
        type_of(out, member, indent)?;
        out.write_str(",\n")?;
    }
    Ok(())
}

fn type_of(out: &mut fmt::Formatter<'_>, schema: &Json<'_>, indent: usize) -> fmt::Result {
    let values = schema.items("enum");
    if !values.is_empty() {
        return joined(out, values, |out, value| write!(out, "{value}"));
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let variants = schema.items(key);
        if !variants.is_empty() {
            return joined(out, variants, |out, variant| type_of(out, variant, indent));
        }
    }
    match schema.get("type") {
        Some(Json::String(kind)) => named_type(out, kind, (schema, indent)),
        Some(Json::Array(kinds)) => joined(out, kinds, |out, kind| {
            named_type(out, kind.as_str().unwrap_or("any"), (schema, indent))
        }),
        _ => out.write_str("any"),
    }
}

fn named_type(
    out: &mut fmt::Formatter<'_>,
    kind: &str,
    (schema, indent): (&Json<'_>, usize),
) -> fmt::Result {
    match kind {
        "integer" => out.write_str("number"),
        "array" => {
            match schema.get("items") {
                Some(items) => type_of(out, items, indent)?,
                None => out.write_str("any")?,
            }
            out.write_str("[]")
        }
        "object" => {
            out.write_str("{\n")?;
            properties(out, schema, indent + 2)?;
            out.write_str("}")
        }
        simple => out.write_str(simple),
    }
}

fn joined<T>(
    out: &mut fmt::Formatter<'_>,
    items: &[T],
    mut write: impl FnMut(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.write_str(" | ")?;
        }
        write(out, item)?;
    }
    Ok(())
}

/// Whether a function's parameters are scalars, enums and lists of these.
fn is_flat(function: &Json<'_>) -> bool {
    let Some(schema) = function.get("parameters") else {
        return true;
    };
    let members = schema.get("properties").map_or(&[][..], Json::entries);
    let extra = ["$defs", "definitions", "anyOf", "oneOf", "allOf"];
    extra.iter().all(|key| schema.get(key).is_none())
        && members.iter().all(|(_, member)| is_scalar_or_list(member))
}

fn is_scalar_or_list(schema: &Json<'_>) -> bool {
    match schema.text("type") {
        Some("array") => schema.get("items").is_none_or(is_scalar),
        _ => is_scalar(schema),
    }
}

fn is_scalar(schema: &Json<'_>) -> bool {
    matches!(
        schema.text("type"),
        Some("string" | "number" | "integer" | "boolean")
    )
}
