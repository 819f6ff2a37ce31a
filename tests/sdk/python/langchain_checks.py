"""LangChain on the OpenAI SDK: invoke and stream, sync and async."""

import asyncio
from typing import Any

import openai
from langchain_openai import ChatOpenAI

from checks import BASE_URL, KEY, Check, Tape, denial_headers, expect_equal, main, reference_json

PATH = "/v1/chat/completions"
PROMPT = "Name the seas."
CHAT: dict[str, Any] = {
    "model": "gpt-4o",
    # In LangChain's order: the mock's answers follow from the prompt as it is written.
    "messages": [{"content": PROMPT, "role": "user"}],
    "max_completion_tokens": 40,
}


def model(tape: Tape) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o",
        base_url=f"{BASE_URL}/v1",
        api_key=KEY,
        max_tokens=40,
        stream_usage=True,
        http_client=openai.DefaultHttpxClient(event_hooks=tape.hooks()),
        http_async_client=openai.DefaultAsyncHttpxClient(event_hooks=tape.async_hooks()),
        default_headers=denial_headers(),
    )


def compare(message: Any) -> None:
    expected = reference_json(PATH, CHAT)
    expect_equal(message.content, expected["choices"][0]["message"]["content"], "text")
    told = expected["usage"]
    usage = message.usage_metadata
    expect_equal(usage["input_tokens"], told["prompt_tokens"], "input_tokens")
    expect_equal(usage["output_tokens"], told["completion_tokens"], "output_tokens")
    expect_equal(usage["total_tokens"], told["total_tokens"], "total_tokens")
    finish = expected["choices"][0]["finish_reason"]
    expect_equal(message.response_metadata["finish_reason"], finish, "finish_reason")


def stream(tape: Tape) -> Any:
    def call() -> Any:
        whole = None
        for chunk in model(tape).stream(PROMPT):
            whole = chunk if whole is None else whole + chunk
        return whole

    return call


def async_invoke(tape: Tape) -> Any:
    async def run() -> Any:
        return await model(tape).ainvoke(PROMPT)

    return lambda: asyncio.run(run())


def checks() -> list[Check]:
    return [
        Check("invoke", lambda t: lambda: model(t).invoke(PROMPT), compare),
        Check("stream", stream, compare),
        Check("async_invoke", async_invoke, compare),
    ]


if __name__ == "__main__":
    main("langchain-openai", checks())
