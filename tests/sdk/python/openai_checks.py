"""The OpenAI SDK: chat and Responses, whole and streamed, sync and async."""

import asyncio
from typing import Any

import openai

from checks import BASE_URL, KEY, Check, Tape, denial_headers, expect, expect_equal, main, reference_events, reference_json, untimed

MODEL = "gpt-4o"
SHORT = {"metadata": {"mock_output_tokens": "25"}}
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name the seas."}],
    "max_tokens": 40,
    **SHORT,
}
RESPONSE: dict[str, Any] = {"model": MODEL, "input": "Name the lakes.", "max_output_tokens": 40, **SHORT}
EMBEDDING: dict[str, Any] = {"model": "text-embedding-3-small", "input": ["one", "two"], "encoding_format": "float"}
WITH_USAGE = {"stream_options": {"include_usage": True}}


def client(tape: Tape) -> openai.OpenAI:
    http = openai.DefaultHttpxClient(event_hooks=tape.hooks())
    return openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, http_client=http, default_headers=denial_headers())


def run_async(tape: Tape, call: Any) -> Any:
    async def run() -> Any:
        http = openai.DefaultAsyncHttpxClient(event_hooks=tape.async_hooks())
        headers = denial_headers()
        async with openai.AsyncOpenAI(
            base_url=f"{BASE_URL}/v1", api_key=KEY, http_client=http, default_headers=headers
        ) as sdk:
            return await call(sdk)

    return asyncio.run(run())


def plain(value: Any) -> Any:
    return untimed(value.to_dict(mode="json"))


def whole(path: str, body: dict[str, Any]) -> Any:
    return lambda answer: expect_equal(plain(answer), reference_json(path, body), "answer")


def without_null_usage(event: Any) -> Any:
    """A gateway asks for usage that the caller did not; the provider then writes a null into every chunk."""
    return {name: value for name, value in event.items() if name != "usage" or value is not None}


def streamed(path: str, body: dict[str, Any]) -> Any:
    def compare(events: list[Any]) -> None:
        expected = [without_null_usage(event) for event in reference_events(path, body)]
        expect(len(expected) > 2, "the reference stream is empty")
        expect_equal([without_null_usage(plain(event)) for event in events], expected, "events")

    return compare


def async_chat(tape: Tape) -> Any:
    async def call(sdk: openai.AsyncOpenAI) -> Any:
        return await sdk.chat.completions.create(**CHAT)

    return lambda: run_async(tape, call)


def async_chat_stream(tape: Tape) -> Any:
    async def call(sdk: openai.AsyncOpenAI) -> Any:
        return [event async for event in await sdk.chat.completions.create(stream=True, **CHAT)]

    return lambda: run_async(tape, call)


def async_responses_stream(tape: Tape) -> Any:
    async def call(sdk: openai.AsyncOpenAI) -> Any:
        return [event async for event in await sdk.responses.create(stream=True, **RESPONSE)]

    return lambda: run_async(tape, call)


def helper_text(tape: Tape) -> Any:
    """The SDK's own accumulation of a stream."""

    def call() -> Any:
        with client(tape).chat.completions.stream(**CHAT, **WITH_USAGE) as stream:
            return stream.get_final_completion()

    return call


def compare_helper(final: Any) -> None:
    expected = reference_json("/v1/chat/completions", CHAT)
    got = plain(final)
    for part in ("id", "model", "usage"):
        expect_equal(got[part], expected[part], part)
    message = expected["choices"][0]["message"]["content"]
    expect_equal(got["choices"][0]["message"]["content"], message, "text")


def checks() -> list[Check]:
    chat, responses = "/v1/chat/completions", "/v1/responses"
    return [
        Check("chat", lambda t: lambda: client(t).chat.completions.create(**CHAT), whole(chat, CHAT)),
        Check("chat_stream", lambda t: lambda: list(client(t).chat.completions.create(stream=True, **CHAT)), streamed(chat, CHAT)),
        Check(
            "chat_stream_usage",
            lambda t: lambda: list(client(t).chat.completions.create(stream=True, **CHAT, **WITH_USAGE)),
            streamed(chat, CHAT | WITH_USAGE),
        ),
        Check("chat_stream_helper", helper_text, compare_helper),
        Check("responses", lambda t: lambda: client(t).responses.create(**RESPONSE), whole(responses, RESPONSE)),
        Check(
            "responses_stream",
            lambda t: lambda: list(client(t).responses.create(stream=True, **RESPONSE)),
            streamed(responses, RESPONSE),
        ),
        Check("embeddings", lambda t: lambda: client(t).embeddings.create(**EMBEDDING), whole("/v1/embeddings", EMBEDDING)),
        Check("async_chat", async_chat, whole(chat, CHAT)),
        Check("async_chat_stream", async_chat_stream, streamed(chat, CHAT)),
        Check("async_responses_stream", async_responses_stream, streamed(responses, RESPONSE)),
    ]


if __name__ == "__main__":
    main("openai-python", checks())
