//! The load: wrk posts chat requests of about a kilobyte, a thousand different ones in turn.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;
use super::options::Options;

/// The caller's key.
pub(super) const KEY: &str = "tallygate-bench";

/// What a run of the load gave.
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) failures: u64,
    pub(super) seconds: f64,
}

pub(super) fn script(folder: &Path, stream: bool) -> Outcome<PathBuf> {
    let path = folder.join("load.lua");
    std::fs::write(
        &path,
        SCRIPT
            .replace("@KEY@", KEY)
            .replace("@STREAM@", if stream { "true" } else { "false" }),
    )?;
    Ok(path)
}

pub(super) fn run(address: &str, script: &Path, options: &Options) -> Outcome<Load> {
    let output = Command::new("wrk")
        .args([
            "--threads",
            "1",
            "--connections",
            &options.connections.to_string(),
        ])
        .args(["--duration", &format!("{}s", options.seconds), "--script"])
        .arg(script)
        .arg(address)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix("load "));
    let line =
        line.ok_or_else(|| format!("wrk: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    let numbers: Vec<u64> = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [requests, failures, micros] = numbers[..] else {
        return Err(format!("wrk said `{line}`").into());
    };
    Ok(Load {
        requests,
        failures,
        seconds: micros as f64 / 1e6,
    })
}

const SCRIPT: &str = r#"
local requests, at = {}, 0
local words = { "river", "invoice", "policy", "window", "counter", "harbour", "quota", "letter", "engine", "garden" }

local function text(number, length)
  local parts = { "Question " .. number .. ":" }
  for i = 1, length do parts[#parts + 1] = words[(number * 7 + i * 3 + i * i) % #words + 1] end
  return table.concat(parts, " ")
end

function init()
  wrk.method = "POST"
  wrk.headers["content-type"] = "application/json"
  wrk.headers["authorization"] = "Bearer @KEY@"
  for number = 1, 1000 do
    wrk.body = '{"model":"gpt-4o","max_tokens":32,"stream":@STREAM@,"messages":[{"role":"system","content":"'
      .. text(0, 40) .. '"},{"role":"user","content":"' .. text(number, 90) .. '"}]}'
    requests[number] = wrk.format(nil, "/v1/chat/completions")
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary)
  local errors = summary.errors
  local failures = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("load %d %d %d\n", summary.requests, failures, summary.duration))
end
"#;
