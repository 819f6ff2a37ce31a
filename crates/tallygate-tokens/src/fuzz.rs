//! Entry points for fuzzers: plain functions of bytes, which must not panic and assert what holds
//! for every input. Their corpora are in `corpus/` and are replayed by the tests.

use crate::{
    Call, Counter, Dialect, Endpoint, Seen, SseSplitter, StreamOptions, StreamReader,
    usage_of_body, usage_of_value,
};

/// Streams: the same events and readings however the bytes are cut, and the same bytes out.
pub fn sse(data: &[u8]) {
    let step = 1 + data.first().map_or(0, |byte| usize::from(byte % 16));
    assert_eq!(events(data, step), events(data, usize::MAX));
    for endpoint in Endpoint::ALL {
        for drop_usage_chunk in [false, true] {
            let options = StreamOptions { drop_usage_chunk };
            let cut = pass(endpoint, options, (data, step));
            let whole = pass(endpoint, options, (data, usize::MAX));
            assert_eq!(cut, whole);
            assert!(drop_usage_chunk || whole.1 == data);
            assert!(whole.1.len() <= data.len());
        }
    }
}

fn events(data: &[u8], step: usize) -> Vec<(Option<String>, Vec<u8>)> {
    let mut splitter = SseSplitter::new();
    let mut found = Vec::new();
    let mut keep = |event: crate::SseEvent<'_>| {
        found.push((event.event.map(str::to_owned), event.data.to_vec()));
    };
    for chunk in data.chunks(step) {
        splitter.push(chunk).for_each(&mut keep);
    }
    splitter.finish().into_iter().for_each(&mut keep);
    found
}

fn pass(endpoint: Endpoint, options: StreamOptions, cut: (&[u8], usize)) -> (Seen, Vec<u8>) {
    let mut reader = StreamReader::new(endpoint, options);
    let mut out = Vec::new();
    for chunk in cut.0.chunks(cut.1) {
        reader.push(chunk, &mut out);
    }
    (reader.finish(&mut out), out)
}

/// Answers: amounts stay within what a counter can hold, and both ways of reading agree.
pub fn usage(data: &[u8]) {
    const MOST: u64 = 1 << 53;
    for endpoint in Endpoint::ALL {
        if let Some(usage) = usage_of_body(endpoint, data) {
            assert!(usage.input_tokens <= MOST && usage.output_tokens <= MOST);
        }
        let _ = Counter::new([0, 0], 0).output_of_body(endpoint, "gpt-4o", data);
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        let _ = usage_of_value(dialect, &value);
    }
}

/// Requests: a count lies within its bounds, and the changed bodies are read as meant.
pub fn sizing(data: &[u8]) {
    let counter = Counter::new([1, 2], 16);
    for endpoint in Endpoint::ALL {
        let Ok(call) = Call::parse(endpoint, Some("gpt-4o"), data) else {
            continue;
        };
        let (low, high) = counter.bounds(&call);
        let count = counter.input(&call).tokens;
        assert!(
            (low..=high).contains(&count),
            "{count} not in {low}..{high}"
        );
        assert!(call.choices() >= 1);
        let renamed = Call::parse(endpoint, None, &call.with_model("gpt-4"));
        assert_eq!(renamed.as_ref().map(Call::model), Ok("gpt-4"));
        if let Some(changed) = call.with_usage_requested() {
            let again = Call::parse(endpoint, Some("gpt-4o"), &changed);
            assert!(again.is_ok_and(|call| call.with_usage_requested().is_none()));
        }
    }
}
