// The OpenAI SDK for JavaScript: chat and Responses, whole and streamed.

import OpenAI from "openai";
import { Tape, baseUrl, denialHeaders, expect, expectEqual, key, main, referenceEvents, referenceJson, untimed } from "./checks.mjs";

const short = { metadata: { mock_output_tokens: "25" } };
const chat = {
  model: "gpt-4o",
  messages: [{ role: "system", content: "Be brief." }, { role: "user", content: "Name the seas." }],
  max_tokens: 40,
  ...short,
};
const response = { model: "gpt-4o", input: "Name the lakes.", max_output_tokens: 40, ...short };
const withUsage = { stream_options: { include_usage: true } };
const chatPath = "/v1/chat/completions";
const responsesPath = "/v1/responses";

const client = (/** @type {Tape} */ tape) =>
  new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: key, fetch: tape.fetch, defaultHeaders: denialHeaders() });

async function all(stream) {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
}

const whole = (path, body) => async (answer) => expectEqual(untimed(answer), await referenceJson(path, body), "answer");

/** A gateway asks for usage that the caller did not; the provider then writes a null into every chunk. */
function withoutNullUsage(event) {
  const { usage, ...rest } = event;
  return usage === null ? rest : event;
}

const streamed = (path, body) => async (events) => {
  const expected = await referenceEvents(path, body);
  expect(expected.length > 2, "the reference stream is empty");
  expectEqual(untimed(events).map(withoutNullUsage), expected.map(withoutNullUsage), "events");
};

async function compareFinal(final) {
  const [got, expected] = [untimed(final), await referenceJson(chatPath, chat)];
  expectEqual([got.id, got.model], [expected.id, expected.model], "id and model");
  expectEqual(got.choices[0].message.content, expected.choices[0].message.content, "text");
  expectEqual(got.usage, expected.usage, "usage");
}

await main("openai-js", [
  {
    name: "chat",
    call: (tape) => client(tape).chat.completions.create(chat),
    compare: whole(chatPath, chat),
  },
  {
    name: "chat_stream",
    call: (tape) => all(client(tape).chat.completions.create({ ...chat, stream: true })),
    compare: streamed(chatPath, chat),
  },
  {
    name: "chat_stream_usage",
    call: (tape) => all(client(tape).chat.completions.create({ ...chat, ...withUsage, stream: true })),
    compare: streamed(chatPath, { ...chat, ...withUsage }),
  },
  {
    name: "chat_stream_helper",
    call: (tape) => client(tape).chat.completions.stream({ ...chat, ...withUsage }).finalChatCompletion(),
    compare: compareFinal,
  },
  {
    name: "responses",
    call: (tape) => client(tape).responses.create(response),
    compare: whole(responsesPath, response),
  },
  {
    name: "responses_stream",
    call: (tape) => all(client(tape).responses.create({ ...response, stream: true })),
    compare: streamed(responsesPath, response),
  },
]);
