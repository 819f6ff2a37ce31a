// The tiers of a product, seen by its users through the OpenAI SDK for JavaScript: refused, served by a cheaper model, and told so.

import OpenAI from "openai";

const baseUrl = (process.env.TALLYGATE_BASE_URL ?? "").replace(/\/+$/, "");
const keys = JSON.parse(process.env.TALLYGATE_KEYS ?? "{}");
const adminUrl = (process.env.TALLYGATE_ADMIN_URL ?? "").replace(/\/+$/, "");
const adminKey = process.env.TALLYGATE_ADMIN_KEY ?? "";
// Micro-dollars: of a user's tier, and for a million tokens.
const budgets = JSON.parse(process.env.TALLYGATE_BUDGETS ?? "{}");
const price = JSON.parse(process.env.TALLYGATE_PRICE ?? "{}");
// How long what was answered may take to be settled.
const patienceMs = 120_000;

const short = { metadata: { mock_output_tokens: "25" } };
const chat = {
  model: "gpt-4o",
  messages: [{ role: "user", content: "Name the seas." }],
  max_tokens: 40,
  ...short,
};
const response = { model: "gpt-4o", input: "Name the lakes.", max_output_tokens: 40, ...short };

// It writes all that it may, so what is held for it is what it costs.
const priced = { ...chat, messages: [{ role: "user", content: "Hello world" }], max_tokens: 25 };

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
  return failure.message;
}

async function all(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function administer(path) {
  const answer = await fetch(`${adminUrl}${path}`, { headers: { authorization: `Bearer ${adminKey}` } });
  expectEqual(answer.status, 200, path);
  return answer.json();
}

// What was answered is settled, if not before the caller has it.
async function expectSoon(read, expected, what) {
  const end = performance.now() + patienceMs;
  let got = await read();
  while (`${got}` !== `${expected}` && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    got = await read();
  }
  expectEqual(`${got}`, `${expected}`, what);
}

// What a call cost by the price, in micro-dollars: rounded up, once. A number with a fraction makes no BigInt.
function costOf({ prompt_tokens: input, completion_tokens: output }) {
  const exact = BigInt(input) * BigInt(price.input) + BigInt(output) * BigInt(price.output);
  return (exact + 999_999n) / 1_000_000n;
}

const dollars = (micros) => `$${micros / 1_000_000n}.${`${micros % 1_000_000n}`.padStart(6, "0")}`;

// What the tier's budget has spent, and what it has left.
async function counted(tier) {
  const { limits } = await administer(`/api/explain?tenant=acme&tier=${tier}`);
  const { used, remaining } = limits.find(({ name }) => name === `${tier}-spend`);
  return [BigInt(used), BigInt(remaining)];
}

// A user's calls, those of them that were denied, and what all cost, by the ledger.
async function booked(user) {
  const { totals } = await administer(`/api/usage?user=${user}`);
  return [BigInt(totals.calls), BigInt(totals.denied), BigInt(totals.cost)];
}

// Makes the calls that a budget has room for and one more, which it refuses; what all of them cost, in micro-dollars.
async function spend(user, calls) {
  const budget = BigInt(budgets[user]);
  let spent = 0n;
  for (let made = 0; made < calls; made += 1) {
    const { usage } = await of(user).chat.completions.create(priced, { maxRetries: 0 });
    spent += costOf(usage);
    await expectSoon(() => counted(user), [spent, budget - spent], "spent and left");
  }
  const refusal = of(user).chat.completions.create(priced, { maxRetries: 0 });
  const said = await refused(refusal, 429, "insufficient_quota");
  for (const part of [
    `in limit ${user}-spend on dollars per month`,
    `Limit ${dollars(budget)}, Used ${dollars(spent)}`,
  ]) {
    expectEqual(said.includes(part), true, `"${part}" in "${said}"`);
  }
  expectEqual(`${await counted(user)}`, `${[spent, budget - spent]}`, "spent and left after the refusal");
  await expectSoon(() => booked(user), [calls + 1, 1, spent], "calls, denied, cost");
  return spent;
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
  async enterprise_budget_stops_at_the_micro_dollar() {
    const spent = await spend("enterprise", 3);
    expectEqual(`${spent}`, `${budgets.enterprise}`, "spent: all of the budget");
    const one = spent / 3n;
    expectEqual(`${await spend("smaller", 2)}`, `${2n * one}`, "spent where there is a micro-dollar less");
    expectEqual(`${BigInt(budgets.smaller) - 2n * one}`, `${one - 1n}`, "left there");
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
