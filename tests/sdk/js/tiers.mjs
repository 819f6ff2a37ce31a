// The tiers of a product, seen by its users through the OpenAI SDK for JavaScript: refused, served by a cheaper model, and told so.

import OpenAI from "openai";

const baseUrl = (process.env.TALLYGATE_BASE_URL ?? "").replace(/\/+$/, "");
const keys = JSON.parse(process.env.TALLYGATE_KEYS ?? "{}");

const short = { metadata: { mock_output_tokens: "25" } };
const chat = {
  model: "gpt-4o",
  messages: [{ role: "user", content: "Name the seas." }],
  max_tokens: 40,
  ...short,
};
const response = { model: "gpt-4o", input: "Name the lakes.", max_output_tokens: 40, ...short };

const of = (user) => new OpenAI({ baseURL: `${baseUrl}/v1`, apiKey: keys[user] });
const told = ({ headers }) => [headers.get("x-tallygate-model"), headers.get("x-tallygate-asked")];

const asAsked = [null, null];
const down = ["gpt-4o-mini", "gpt-4o"];

function expectEqual(got, expected, what) {
  const [one, other] = [JSON.stringify(got), JSON.stringify(expected)];
  if (one !== other) throw new Error(`${what}: got ${one}, expected ${other}`);
}

async function refused(call, status, code) {
  const failure = await call.then(() => null, (error) => error);
  expectEqual([failure?.status, failure?.code], [status, code], "the refusal");
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

// In this order: the first call of a pro user is what its day has.
const checks = {
  async free_user_is_refused_and_served_on_the_mini() {
    await refused(of("free").chat.completions.create(chat), 403, "model_not_found");
    const call = of("free").chat.completions.create({ ...chat, model: "gpt-4o-mini" });
    const { data, response: answer } = await call.withResponse();
    expectEqual([told(answer), data.model], [asAsked, "gpt-4o-mini"], "the mini");
  },
  async pro_user_is_downgraded_at_the_daily_limit_and_told_so() {
    for (const [headers, model] of [[asAsked, "gpt-4o"], [down, "gpt-4o-mini"]]) {
      const { data, response: answer } = await of("pro").chat.completions.create(chat).withResponse();
      expectEqual([told(answer), data.model], [headers, model], "the answer");
    }
    const never = { headers: { "x-tallygate-downgrade": "never" }, maxRetries: 0 };
    await refused(of("pro").chat.completions.create(chat, never), 429, "insufficient_quota");
  },
  async streams_say_so_before_their_first_chunk() {
    const call = of("pro").chat.completions.create({ ...chat, stream: true });
    const { data, response: answer } = await call.withResponse();
    expectEqual(told(answer), down, "headers");
    const models = new Set((await all(data)).map((chunk) => chunk.model));
    expectEqual([...models], ["gpt-4o-mini"], "models of the chunks");
  },
  async responses_too() {
    const call = of("pro").responses.create({ ...response, stream: true });
    const { data, response: answer } = await call.withResponse();
    expectEqual(told(answer), down, "headers");
    const last = (await all(data)).at(-1);
    expectEqual([last.type, last.response.model], ["response.completed", "gpt-4o-mini"], "last event");
  },
};

let failures = 0;
for (const [name, check] of Object.entries(checks)) {
  const line = { suite: "tiers-js", check: name };
  try {
    await check();
    line.ok = true;
  } catch (error) {
    failures += 1;
    Object.assign(line, { ok: false, error: `${error}`.slice(0, 600) });
  }
  console.log(JSON.stringify(line));
}
process.exit(failures === 0 ? 0 : 1);
