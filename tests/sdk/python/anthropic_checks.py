"""The Anthropic SDK: messages, whole and streamed, sync and async, and counting."""

import asyncio
from typing import Any

import anthropic

from checks import BASE_URL, KEY, MODE, Check, Tape, denial_headers, expect, expect_equal, main, reference_events, reference_json, untimed

PATH = "/v1/messages"
VERSION = {"anthropic-version": "2023-06-01"}
MESSAGE: dict[str, Any] = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 40,
    "metadata": {"mock_output_tokens": 25},
    "system": "Be brief.",
    "messages": [{"role": "user", "content": "Name the seas."}],
}
COUNTED: dict[str, Any] = {"model": "claude-sonnet-4-6", "messages": MESSAGE["messages"]}


def client(tape: Tape) -> anthropic.Anthropic:
    http = anthropic.DefaultHttpxClient(event_hooks=tape.hooks())
    return anthropic.Anthropic(base_url=BASE_URL, api_key=KEY, http_client=http, default_headers=denial_headers())


def plain(value: Any) -> Any:
    return untimed(value.to_dict(mode="json"))


def compare_whole(answer: Any) -> None:
    expect_equal(plain(answer), reference_json(PATH, MESSAGE, VERSION), "answer")


def compare_stream(events: list[Any]) -> None:
    # The SDK keeps pings to itself.
    expected = [event for event in reference_events(PATH, MESSAGE, VERSION) if event["type"] != "ping"]
    expect(len(expected) > 4, "the reference stream is empty")
    expect_equal([plain(event) for event in events if event.type != "ping"], expected, "events")


def compare_final(message: Any) -> None:
    got, expected = plain(message), reference_json(PATH, MESSAGE, VERSION)
    for part in ("id", "model", "stop_reason"):
        expect_equal(got[part], expected[part], part)
    expect_equal(got["content"][0]["text"], expected["content"][0]["text"], "text")
    for part in ("input_tokens", "output_tokens"):
        expect_equal(got["usage"][part], expected["usage"][part], part)


def helper(tape: Tape) -> Any:
    def call() -> Any:
        with client(tape).messages.stream(**MESSAGE) as stream:
            text = "".join(stream.text_stream)
            message = stream.get_final_message()
        expect_equal(text, message.content[0].text, "text of the stream")
        return message

    return call


def async_messages(tape: Tape) -> Any:
    async def run() -> Any:
        http = anthropic.DefaultAsyncHttpxClient(event_hooks=tape.async_hooks())
        async with anthropic.AsyncAnthropic(
            base_url=BASE_URL, api_key=KEY, http_client=http, default_headers=denial_headers()
        ) as sdk:
            return await sdk.messages.create(**MESSAGE)

    return lambda: asyncio.run(run())


def compare_count(answer: Any) -> None:
    expect_equal(plain(answer), reference_json(f"{PATH}/count_tokens", COUNTED, VERSION), "count")


def checks() -> list[Check]:
    listed = [
        Check("messages", lambda t: lambda: client(t).messages.create(**MESSAGE), compare_whole),
        Check("messages_stream", lambda t: lambda: list(client(t).messages.create(stream=True, **MESSAGE)), compare_stream),
        Check("messages_stream_helper", helper, compare_final),
        Check("async_messages", async_messages, compare_whole),
    ]
    if MODE == "pass":
        counting = lambda t: lambda: client(t).messages.count_tokens(**COUNTED)
        listed.append(Check("count_tokens", counting, compare_count))
    return listed


if __name__ == "__main__":
    main("anthropic-python", checks())
