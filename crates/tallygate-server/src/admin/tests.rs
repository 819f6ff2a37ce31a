use std::collections::BTreeSet;

use http::Request;
use serde_json::Value;
use tallygate_tokens::Endpoint;

use super::{OPENAPI, routes};
use crate::gateway::{Destination, destination};

/// The paths of the document that have `tag`, each with its method.
fn documented(tag: &str) -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").iter();
    let operations = paths.flat_map(|(path, methods)| {
        methods
            .as_object()
            .expect("methods")
            .iter()
            .map(move |m| (path, m))
    });
    let tagged = operations.filter(|(_, (_, operation))| operation["tags"][0] == tag);
    tagged
        .map(|(path, (method, _))| (method.to_uppercase(), path.replace("{model}", "m")))
        .collect()
}

#[test]
fn the_admin_paths_are_the_documented_ones() {
    let served: BTreeSet<_> = routes()
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .collect();
    assert_eq!(
        documented("admin").into_iter().collect::<BTreeSet<_>>(),
        served
    );
}

#[test]
fn every_endpoint_is_documented_and_every_documented_path_is_one() {
    let mut found = BTreeSet::new();
    for (method, path) in documented("gateway") {
        let request = Request::builder()
            .method(method.as_str())
            .uri(&path)
            .body(())
            .expect("a request");
        match destination(&request) {
            Destination::Sized(asked) => found.insert(asked.endpoint),
            other => panic!("{path} leads to {other:?}"),
        };
    }
    let all = [
        Endpoint::ChatCompletions,
        Endpoint::Responses,
        Endpoint::Completions,
        Endpoint::Embeddings,
        Endpoint::Messages,
        Endpoint::CountTokens,
        Endpoint::GenerateContent,
        Endpoint::StreamGenerateContent,
    ];
    assert_eq!(found, BTreeSet::from(all));
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
    let mut left = vec![&document];
    while let Some(value) = left.pop() {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("a reference inside");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        match value {
            Value::Object(fields) => left.extend(fields.values()),
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
}
