// What the checks share: settings, the tape of attempts, and the three modes. See ../README.md.

import { isDeepStrictEqual } from "node:util";
import { randomUUID } from "node:crypto";

const env = process.env;
export const baseUrl = (env.TALLYGATE_BASE_URL ?? "").replace(/\/+$/, "");
export const key = env.TALLYGATE_KEY ?? "";
export const mode = env.MODE ?? "pass";
const referenceUrl = (env.TALLYGATE_REFERENCE_URL ?? baseUrl).replace(/\/+$/, "");
const referenceKey = env.TALLYGATE_REFERENCE_KEY ?? key;
const byLimit = env.TALLYGATE_DENIAL === "limit";
const slackMs = Number(env.TALLYGATE_SLACK_MS ?? 500);

const SHORT_WAIT_MS = 700;
const LONG_WAIT_MS = 86_400_000;
const LONGEST_SHORT_WAIT_MS = 60_000;
// Far below the wait that is told, and above any stall of a busy machine; a retry shows in the attempts.
const AT_ONCE_MS = 60_000;

export function expect(held, what) {
  if (!held) throw new Error(what);
}

export function expectEqual(got, expected, what) {
  if (!isDeepStrictEqual(got, expected)) throw new Error(`${what}: ${difference(got, expected)}`);
}

/** Where two values first differ, in few words. */
function difference(got, expected) {
  const nested = (value) => typeof value === "object" && value !== null;
  if (!nested(got) || !nested(expected)) {
    return `got ${JSON.stringify(got)?.slice(0, 200)}, expected ${JSON.stringify(expected)?.slice(0, 200)}`;
  }
  const names = Object.keys({ ...expected, ...got });
  const name = names.find((name) => !isDeepStrictEqual(got[name], expected[name]));
  return `${name}: ${difference(got[name], expected[name])}`;
}

/** Records the attempts that an SDK makes through `fetch`. */
export class Tape {
  attempts = [];

  fetch = async (url, init) => {
    const retryCount = new Headers(init?.headers).get("x-stainless-retry-count");
    const attempt = { sent: performance.now(), retryCount };
    this.attempts.push(attempt);
    const response = await fetch(url, init);
    attempt.answered = performance.now();
    attempt.status = response.status;
    attempt.headers = response.headers;
    return response;
  };

  statuses() {
    return this.attempts.map((attempt) => attempt.status);
  }
}

/** Headers that make the mock deny the first attempt, or every one. */
export function denialHeaders() {
  if (mode === "pass" || byLimit) return {};
  const short = mode === "short-denial";
  const headers = {
    "x-mock-status": "429",
    "x-mock-id": randomUUID(),
    "x-mock-times": short ? "1" : "1000",
    "x-mock-retry-after-ms": String(short ? SHORT_WAIT_MS : LONG_WAIT_MS),
  };
  return short ? headers : { ...headers, "x-mock-should-retry": "false" };
}

async function reference(path, body) {
  const headers = { authorization: `Bearer ${referenceKey}`, "content-type": "application/json" };
  const response = await fetch(referenceUrl + path, { method: "POST", headers, body: JSON.stringify(body) });
  expectEqual(response.status, 200, "status of the reference");
  return response.text();
}

/** The answer to the same call, made by hand. */
export async function referenceJson(path, body) {
  return untimed(JSON.parse(await reference(path, body)));
}

/** The JSON events of the same call's stream. */
export async function referenceEvents(path, body) {
  const text = await reference(path, { ...body, stream: true });
  const data = text.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
  return data.filter((item) => item !== "[DONE]").map((item) => untimed(JSON.parse(item)));
}

/** The value without what differs from call to call (when an answer was made) or is the SDK's own. */
export function untimed(value) {
  const dropped = ["created", "created_at", "output_text"];
  return JSON.parse(JSON.stringify(value, (name, item) => (dropped.includes(name) ? undefined : item)));
}

function checkShortDenial(tape) {
  expectEqual(tape.statuses(), [429, 200], "statuses of the attempts");
  const [denied, passed] = tape.attempts;
  const wait = Number(denied.headers.get("retry-after-ms") ?? Number.NaN);
  expect(wait > 0 && wait <= LONGEST_SHORT_WAIT_MS, `the wait is not short: ${wait} ms`);
  const seconds = Number(denied.headers.get("retry-after"));
  expect(seconds >= Math.max(1, wait / 1000), "retry-after is not the wait rounded up");
  expect(denied.headers.get("x-should-retry") !== "false", "the denial forbids the retry");
  const gap = passed.sent - denied.answered;
  expect(gap >= wait - 5 && gap <= wait + slackMs, `retried after ${gap} ms, asked for ${wait} ms`);
  expectEqual(passed.retryCount, "1", "x-stainless-retry-count of the retry");
  return { wait_ms: wait, gap_ms: Math.round(gap) };
}

function checkLongDenial(tape, error, elapsed) {
  expectEqual(error.status, 429, "status of the error");
  expectEqual(error.constructor.name, "RateLimitError", "type of the error");
  expectEqual(tape.statuses(), [429], "statuses of the attempts");
  const headers = tape.attempts[0].headers;
  expectEqual(headers.get("x-should-retry"), "false", "x-should-retry");
  expect(elapsed < AT_ONCE_MS, `the error took ${elapsed} ms`);
  return { elapsed_ms: Math.round(elapsed), retry_after: headers.get("retry-after") };
}

async function runInMode(check) {
  const tape = new Tape();
  if (mode === "pass") {
    await check.compare(await check.call(tape));
    expectEqual(tape.statuses(), [200], "statuses of the attempts");
    return {};
  }
  if (byLimit) await spend(check);
  const started = performance.now();
  let answer;
  try {
    answer = await check.call(tape);
  } catch (error) {
    if (mode === "long-denial") return checkLongDenial(tape, error, performance.now() - started);
    throw error;
  }
  expect(mode === "short-denial", "the call was not denied");
  await check.compare(answer);
  return checkShortDenial(tape);
}

/** Uses the limit up, with a client of its own. For a long denial it may be used up already. */
async function spend(check) {
  try {
    await check.call(new Tape());
  } catch (error) {
    if (mode !== "long-denial" || error.status !== 429) throw error;
  }
}

/** Runs the checks and sets the exit code. */
export async function main(suite, checks) {
  if (!baseUrl || !key || !["pass", "short-denial", "long-denial"].includes(mode)) {
    console.error("set TALLYGATE_BASE_URL, TALLYGATE_KEY and MODE (pass, short-denial, long-denial)");
    process.exit(1);
  }
  const chosen = checks.filter((check) => check.name.includes(env.ONLY ?? ""));
  let failures = chosen.length === 0 ? 1 : 0;
  for (const check of chosen) {
    const line = { suite, mode, check: check.name };
    try {
      Object.assign(line, { ok: true }, await runInMode(check));
    } catch (error) {
      failures += 1;
      Object.assign(line, { ok: false, error: `${error.constructor.name}: ${error.message}`.slice(0, 600) });
    }
    console.log(JSON.stringify(line));
  }
  process.exitCode = failures > 0 ? 1 : 0;
}
