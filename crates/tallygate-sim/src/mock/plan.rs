//! What the provider is going to answer, worked out before the first byte is sent.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tallygate_tokens::{Counter, Encoding, Endpoint, Method, encoding_of};

use super::asked::Asked;
use super::switches::{Lie, Switches};
use crate::rng::{Rng, Sizes};
use crate::words;

/// An answer, whole or streamed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) endpoint: Endpoint,
    /// The model as asked for.
    pub(crate) model: String,
    /// The model as a JSON string.
    pub(crate) model_json: String,
    /// Names the answer; follows from the prompt, so that equal calls get equal answers.
    pub(crate) id: String,
    /// Unix seconds.
    pub(crate) created: u64,
    pub(crate) input: u64,
    pub(crate) reasoning: u64,
    pub(crate) choices: Vec<Choice>,
    /// What the usage will say, if anything.
    pub(crate) reported: Option<Reported>,
    /// The caller wants usage in an OpenAI stream.
    pub(crate) include_usage: bool,
    /// `max_tokens`, for the Responses dialect, which repeats it.
    pub(crate) max_output: Option<u64>,
}

/// One choice of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    seed: u64,
    /// Words of the text.
    pub(crate) words: u64,
    /// Tokens of the text.
    pub(crate) tokens: u64,
    pub(crate) finish: Finish,
}

/// Why a choice ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
}

/// Usage as told: inclusive input and output, in the form of the wire reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

/// What a plan is made from.
pub(crate) struct Source<'a> {
    pub(crate) counter: &'a Counter,
    pub(crate) seed: u64,
    pub(crate) sizes: Sizes,
    pub(crate) created: u64,
}

impl Plan {
    /// Plans the answer to `asked`, whose true input is `input` tokens.
    pub(crate) fn new(
        asked: &Asked<'_>,
        input: u64,
        switches: &Switches,
        source: &Source<'_>,
    ) -> Self {
        let model = asked.model();
        let seed = prompt_seed(source.seed, model, asked.prompt());
        let mut rng = Rng::new(seed);
        let id = format!("{:016x}{:08x}", rng.next_u64(), rng.next_u64() >> 32);
        let cap = asked.max_output().unwrap_or(u64::MAX);
        let fixed = switches.output_tokens.or(asked.output_tokens());
        let reasoning = switches.reasoning_tokens.unwrap_or(0).min(cap);
        let ruler = Ruler {
            counter: source.counter,
            model,
        };
        let choose = |_| {
            let wanted = fixed.unwrap_or_else(|| source.sizes.draw(&mut rng));
            ruler.choice(
                rng.next_u64(),
                wanted.saturating_sub(reasoning),
                cap - reasoning,
            )
        };
        let choices = (0..asked.texts()).map(choose).collect();
        let mut plan = Self {
            endpoint: asked.endpoint,
            model: model.to_owned(),
            model_json: serde_json::Value::from(model).to_string(),
            id,
            created: source.created,
            input,
            reasoning,
            choices,
            reported: None,
            include_usage: asked.include_usage(),
            max_output: asked.max_output(),
        };
        plan.reported = plan.report(switches);
        plan
    }

    /// True output: the tokens of all texts, and the reasoning.
    pub(crate) fn output(&self) -> u64 {
        self.choices.iter().map(|choice| choice.tokens).sum::<u64>() + self.reasoning
    }

    fn report(&self, switches: &Switches) -> Option<Reported> {
        let per_mille = match switches.usage {
            None => 1_000,
            Some(Lie::Missing) => return None,
            Some(Lie::Zero) => 0,
            Some(Lie::PerMille(per_mille)) => u64::from(per_mille),
        };
        let told = |truth: u64| truth.saturating_mul(per_mille) / 1_000;
        Some(Reported {
            input: told(self.input),
            cached: told(switches.cached_tokens.unwrap_or(0).min(self.input)),
            output: told(self.output()),
            reasoning: told(self.reasoning),
        })
    }
}

impl Choice {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::with_capacity(usize::try_from(self.words * 7).unwrap_or(0));
        let mut writer = self.writer();
        while !writer.is_done() {
            writer.push(self.words, &mut out);
        }
        out
    }

    /// Writes the text piece by piece.
    pub(crate) fn writer(&self) -> Writer {
        Writer {
            rng: Rng::new(self.seed),
            words: self.words,
            tokens: self.tokens,
            done: 0,
        }
    }
}

/// Writes the text of a choice.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    rng: Rng,
    words: u64,
    tokens: u64,
    done: u64,
}

impl Writer {
    pub(crate) fn is_done(&self) -> bool {
        self.done == self.words
    }

    /// Appends up to `words` more words; returns how many tokens they are. The tokens of all pieces
    /// add up to those of the text.
    pub(crate) fn push(&mut self, words: u64, out: &mut String) -> u64 {
        let before = self.produced();
        let end = self.words.min(self.done + words);
        while self.done < end {
            words::push_word(&mut self.rng, self.done, out);
            self.done += 1;
        }
        self.produced() - before
    }

    fn produced(&self) -> u64 {
        (self.tokens * self.done)
            .checked_div(self.words)
            .unwrap_or(0)
    }
}

/// Measures texts with a model's own tokenizer.
struct Ruler<'a> {
    counter: &'a Counter,
    model: &'a str,
}

impl Ruler<'_> {
    /// A choice of `wanted` tokens, cut off at `cap`.
    fn choice(&self, seed: u64, wanted: u64, cap: u64) -> Choice {
        let finish = if wanted > cap {
            Finish::Length
        } else {
            Finish::Stop
        };
        let target = wanted.min(cap);
        let whole = Choice {
            seed,
            words: target,
            tokens: target,
            finish,
        };
        if is_word_per_token(&encoding_of(self.model)) {
            whole
        } else {
            self.fit(whole, target)
        }
    }

    /// The longest text of at most `target` tokens, for encodings in which a word is not a token.
    fn fit(&self, mut choice: Choice, target: u64) -> Choice {
        let (mut fits, mut over) = (0, target.saturating_mul(2).saturating_add(1));
        choice.tokens = 0;
        while over - fits > 1 {
            choice.words = fits + (over - fits) / 2;
            match self.counter.output(self.model, &choice.text()) {
                tokens if tokens <= target => (fits, choice.tokens) = (choice.words, tokens),
                _ => over = choice.words,
            }
        }
        choice.words = fits;
        choice
    }
}

fn is_word_per_token(encoding: &Encoding) -> bool {
    let known = encoding.name.starts_with("o200k") || encoding.name.starts_with("cl100k");
    known && encoding.method == Method::Exact && encoding.scale_per_mille == 1_000
}

/// Prompts that differ anywhere get different answers; parameters do not matter, so that a call keeps
/// its answer when something on the way adds one.
fn prompt_seed<'a>(seed: u64, model: &str, prompt: impl Iterator<Item = &'a str>) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(seed, 0x616e_7377_6572);
    hasher.write(model.as_bytes());
    for part in prompt {
        hasher.write_u8(0xff);
        write_json(&mut hasher, part.as_bytes());
    }
    hasher.finish()
}

/// Hashes JSON without the blanks between its parts, which writers choose as they like.
fn write_json(hasher: &mut SipHasher13, json: &[u8]) {
    let (mut in_string, mut escaped, mut start) = (false, false, 0);
    for (index, &byte) in json.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\n' | b'\r' | b'\t' if !in_string => {
                hasher.write(&json[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    hasher.write(&json[start..]);
}
