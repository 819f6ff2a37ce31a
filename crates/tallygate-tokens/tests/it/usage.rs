//! Usage of whole answers, against golden files.

use serde_json::json;
use tallygate_tokens::{Dialect, Endpoint, Usage, usage_of_body, usage_of_value};

use crate::corpus;

fn usage(amounts: [u64; 6]) -> Option<Usage> {
    let [input, output, cached, written, reasoning, audio] = amounts;
    Some(Usage {
        input_tokens: input,
        output_tokens: output,
        cached_input_tokens: cached,
        cache_write_tokens: written,
        reasoning_tokens: reasoning,
        audio_tokens: audio,
    })
}

#[test]
fn answers_tell_their_usage_in_one_form() {
    const MOST: u64 = 1 << 53;
    for (endpoint, file, expected) in [
        (
            Endpoint::ChatCompletions,
            "chat.json",
            usage([19, 6, 4, 0, 3, 3]),
        ),
        (
            Endpoint::Responses,
            "responses.json",
            usage([37, 75, 32, 0, 64, 0]),
        ),
        (
            Endpoint::Embeddings,
            "embeddings.json",
            usage([8, 0, 0, 0, 0, 0]),
        ),
        (
            Endpoint::Messages,
            "messages.json",
            usage([6_196, 503, 2_050, 2_051, 0, 0]),
        ),
        (Endpoint::CountTokens, "count-tokens.json", usage([0; 6])),
        (Endpoint::CountTokens, "null.json", None),
        (
            Endpoint::GenerateContent,
            "gemini.json",
            usage([269, 82, 200, 0, 70, 258]),
        ),
        (
            Endpoint::StreamGenerateContent,
            "gemini-array.json",
            usage([8, 45, 3, 0, 40, 0]),
        ),
        (Endpoint::ChatCompletions, "null.json", None),
        (
            Endpoint::ChatCompletions,
            "odd-amounts.json",
            usage([0, 8, 0, 0, 0, 0]),
        ),
        (
            Endpoint::Messages,
            "huge.json",
            usage([MOST, MOST, MOST, 0, 0, 0]),
        ),
        (Endpoint::ChatCompletions, "truncated.json", None),
        (Endpoint::ChatCompletions, "deep.json", None),
    ] {
        let body = corpus(&format!("usage/{file}"));
        assert_eq!(usage_of_body(endpoint, &body), expected, "{file}");
    }
    assert_eq!(usage_of_body(Endpoint::Messages, b""), None);
    assert_eq!(usage_of_body(Endpoint::Messages, b" [1, 2]"), None);
}

#[test]
fn a_usage_object_is_read_by_its_dialect() {
    let anthropic = json!({"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 2});
    assert_eq!(
        usage_of_value(Dialect::Anthropic, &anthropic),
        usage([15, 2, 5, 0, 0, 0])
    );
    assert_eq!(
        usage_of_value(Dialect::OpenAi, &anthropic),
        usage([10, 2, 0, 0, 0, 0])
    );
    assert_eq!(
        usage_of_value(Dialect::OpenAi, &json!({"seconds": 3})),
        None
    );
    assert_eq!(usage_of_value(Dialect::OpenAi, &json!(null)), None);
}
