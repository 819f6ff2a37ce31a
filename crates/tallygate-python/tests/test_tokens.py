"""Counting, estimating and pricing."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tallygate import _native, tokens
from tallygate.tokens import Count, count_tokens, estimate_total_tokens

HELLO = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello world"}]}


def test_text_is_counted_by_the_models_own_tokenizer() -> None:
    assert count_tokens("Hello world") == 2
    assert count_tokens("Hello world", "gpt-4o") == 2
    assert tokens.count("Hello world", "gpt-4o-2024-08-06") == Count(2, "exact")
    assert tokens.count("Hello world", "claude-opus-4-7").method == "estimated"
    assert tokens.count("Hello world", "nobody-knows-it") == Count(4, "estimated")
    assert count_tokens("", "gpt-4o") == 0
    assert count_tokens("<|endoftext|>", "gpt-4o") > 1, "special tokens in a text are text"


def test_long_texts_are_counted_as_short_ones_are() -> None:
    line = "The quick brown fox jumps over the lazy dog.\n"
    assert count_tokens(line * 1_000, "gpt-4o") == 1_000 * count_tokens(line, "gpt-4o")


@pytest.mark.parametrize(
    ("request_body", "tokens_of_it"),
    [
        (HELLO, 9),
        ({"model": "gpt-4o", "input": "Hello world"}, 9),
        ({"model": "text-embedding-3-small", "input": ["Hello world", "Hello"]}, 3),
        ({"model": "gpt-3.5-turbo-instruct", "prompt": "Hello world"}, 2),
    ],
)
def test_a_request_says_itself_what_it_is_for(request_body: dict[str, Any], tokens_of_it: int) -> None:
    assert tokens.count_request(request_body).tokens == tokens_of_it
    assert tokens.count_request(json.dumps(request_body)).tokens == tokens_of_it
    without = {key: value for key, value in request_body.items() if key != "model"}
    assert _native.count_request(request_body["model"], json.dumps(without).encode()) == tokens_of_it


def test_messages_of_claude_are_anthropics() -> None:
    request = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": HELLO["messages"]}
    assert _native.size_request(json.dumps(request).encode(), None, "claude-sonnet-4-5").endpoint == "messages"
    assert tokens.count_request(request).method == "estimated"


def test_a_wrong_request_is_told_where_it_is_wrong() -> None:
    with pytest.raises(ValueError, match="line 1, column 13"):
        tokens.count_request(b'{"messages":}', "gpt-4o")
    with pytest.raises(ValueError, match=r"messages\[0\].role must be a string, not a number"):
        tokens.count_request({"model": "gpt-4o", "messages": [{"role": 3}]})
    with pytest.raises(ValueError, match="model is missing"):
        tokens.count_request({"messages": []})
    with pytest.raises(ValueError, match="endpoint `chat` is unknown: it is one of chat_completions"):
        _native.size_request(b"{}", "chat")
    with pytest.raises(TypeError, match="request holds a set"):
        tokens.count_request({"model": "gpt-4o", "messages": {1}})


def test_objects_of_a_client_are_read_as_the_json_they_stand_for() -> None:
    class Message:
        def model_dump(self, *, mode: str, exclude_none: bool) -> dict[str, str]:
            return {"role": "user", "content": "Hello world"}

    assert tokens.count_request({"model": "gpt-4o", "messages": [Message()]}).tokens == 9


def test_output_is_a_multiple_of_the_input_within_bounds() -> None:
    assert estimate_total_tokens(1_000, "gpt-4") == 2_500
    assert estimate_total_tokens(1_000, "gpt-4o") == 2_200
    assert estimate_total_tokens(1_000, "gpt-3.5-turbo") == 2_000
    assert estimate_total_tokens(1_000, "claude-3-sonnet") == 2_300
    assert estimate_total_tokens(1_000, "another") == 2_200
    assert estimate_total_tokens(10, "gpt-4o") == 10 + 64, "ten tokens say nothing about the answer"
    assert estimate_total_tokens(1_000, "gpt-4o", max_tokens=50) == 1_050
    assert estimate_total_tokens(10**6, "gpt-4o") == 10**6 + 16_384, "no more than the model can produce"


def test_prices_are_exact() -> None:
    price = tokens.price_of("gpt-4o-2024-08-06")
    assert price is not None and price.rates.input == Decimal("2.5") and price.rates.output == Decimal(10)
    assert tokens.cost("gpt-4o", 1_000, 100) == 3_500
    assert tokens.cost("gpt-4o", 1_000, 100, cached_input_tokens=400) == 3_000
    assert tokens.cost("gpt-4o", 1, 0) == 3, "a fraction of a micro-dollar is charged as one"
    assert tokens.cost_bound("gpt-4o", 1_000, 100) == 3_500
    assert tokens.dollars(3_500) == Decimal("0.0035")
    assert len(tokens.prices_date()) == 10


def test_an_unknown_price_is_not_free() -> None:
    assert tokens.price_of("house-blend") is None
    with pytest.raises(LookupError, match="no price of 'house-blend' is known"):
        tokens.cost("house-blend", 1, 1)
    with pytest.raises(LookupError, match="house-blend"):
        tokens.cost_bound("house-blend", 1, 1)


@pytest.mark.parametrize("amount", [-1, 2**53 + 1])
def test_amounts_out_of_range_are_refused_by_name(amount: int) -> None:
    with pytest.raises(ValueError, match="input_tokens must be from 0"):
        tokens.cost("gpt-4o", amount, 0)
    with pytest.raises(ValueError, match="input_tokens must be from 0"):
        estimate_total_tokens(amount, "gpt-4o")


@pytest.mark.parametrize("amount", [True, 1.5, "1", None])
def test_amounts_of_the_wrong_kind_are_refused_by_name(amount: Any) -> None:
    with pytest.raises(TypeError, match="output_tokens must be a whole number"):
        tokens.cost("gpt-4o", 0, amount)


def test_texts_of_the_wrong_kind_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="text must be a str, not bytes"):
        count_tokens(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="model must be a str, not NoneType"):
        count_tokens("x", None)  # type: ignore[arg-type]


def chunk(delta: dict[str, Any]) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode()


USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n'


def test_a_stream_tells_its_usage_and_loses_the_chunk_nobody_asked_for() -> None:
    reader = _native.AnswerReader("chat_completions", "gpt-4o", "text/event-stream; charset=utf-8", drop_usage=True)
    assert reader.push(chunk({"content": "Hello world"})) == chunk({"content": "Hello world"})
    assert reader.push(USAGE) == b""
    assert reader.push(b"data: [DONE]\n\n") == b"data: [DONE]\n\n"
    rest, used = reader.finish()
    assert rest == b"" and used is not None
    assert (used.input_tokens, used.output_tokens, used.reported) == (9, 2, True)
    with pytest.raises(RuntimeError, match="over already"):
        reader.push(b"more")


def test_a_stream_that_breaks_off_counts_what_passed() -> None:
    reader = _native.AnswerReader("chat_completions", "gpt-4o", "text/event-stream")
    reader.push(chunk({"content": "Hello world"}))
    used = reader.abandon()
    assert used is not None
    assert (used.input_tokens, used.output_tokens, used.reported) == (None, 2, False)


def test_an_answer_without_usage_is_counted() -> None:
    reader = _native.AnswerReader("chat_completions", "gpt-4o", "application/json")
    reader.push(b'{"choices":[{"message":{"role":"assistant",')
    reader.push(b'"content":"Hello world"}}]}')
    used = reader.finish()[1]
    assert used is not None and (used.input_tokens, used.output_tokens) == (None, 2)


def test_an_answer_that_is_still_being_written_tells_nothing() -> None:
    reader = _native.AnswerReader("responses", "gpt-4o", "application/json")
    reader.push(b'{"status":"queued","output":[],"usage":null}')
    assert reader.finish()[1] is None


@pytest.mark.parametrize(("kind", "encoding"), [("text/html", ""), ("application/json", "gzip")])
def test_what_cannot_be_read_passes_unread(kind: str, encoding: str) -> None:
    reader = _native.AnswerReader("chat_completions", "gpt-4o", kind, content_encoding=encoding)
    assert reader.push(b'{"usage":{"prompt_tokens":9,"completion_tokens":2}}')
    assert reader.finish() == (b"", None)


def test_usage_of_whole_answers() -> None:
    used = _native.read_usage("messages", b'{"usage":{"input_tokens":5,"cache_read_input_tokens":3,"output_tokens":7}}')
    assert used is not None
    assert (used.input_tokens, used.cached_input_tokens, used.output_tokens) == (8, 3, 7)
    assert _native.read_usage("messages", b"{}") is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/chat/completions", ("chat_completions", None)),
        ("/api/v1/responses", ("responses", None)),
        ("/v1/messages/count_tokens", ("count_tokens", None)),
        ("/v1beta/models/gemini-2.5-pro:generateContent", ("generate_content", "gemini-2.5-pro")),
        ("/openai/deployments/house-4o/chat/completions", ("chat_completions", "house-4o")),
        ("/v1/models", None),
        ("/v1beta/models/a/b:generateContent", None),
        ("/v1/models/gpt-4o:cancel", None),
    ],
)
def test_paths_lead_to_endpoints(path: str, found: tuple[str, str | None] | None) -> None:
    assert _native.endpoint_of_path(path) == found
