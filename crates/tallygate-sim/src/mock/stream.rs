//! A streamed answer: which event comes next, when, and what goes into the books.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::body::{Breaking, Cut, Flush};
use super::gzip::Gzip;
use super::ledger::End;
use super::plan::{Plan, Writer};
use super::switches::Fault;
use super::tab::Tab;
use super::voice::{Piece, Voice};

/// A streamed answer.
pub(crate) struct Stream {
    voice: Box<dyn Voice>,
    tab: Tab,
    writers: Vec<Writer>,
    stage: Stage,
    pace: Option<Pace>,
    fault: Option<Fault>,
    gzip: Option<Gzip>,
    chunk_tokens: u64,
    max_stall: Duration,
    reasoning: u64,
    pieces: u64,
    produced: u64,
    event: String,
}

/// How a stream is sent.
pub(crate) struct Manner {
    pub(crate) pace: Option<Pace>,
    pub(crate) fault: Option<Fault>,
    pub(crate) gzip: Option<Gzip>,
    pub(crate) chunk_tokens: u64,
    pub(crate) max_stall: Duration,
}

enum Stage {
    Head,
    Text,
    Tail,
    Terminal,
    Breaking(Breaking),
    Done,
}

impl Stream {
    pub(crate) fn new(plan: &Arc<Plan>, voice: Box<dyn Voice>, tab: Tab, manner: Manner) -> Self {
        Self {
            voice,
            tab,
            writers: plan.choices.iter().map(|choice| choice.writer()).collect(),
            stage: Stage::Head,
            pace: manner.pace,
            fault: manner.fault,
            gzip: manner.gzip,
            chunk_tokens: manner.chunk_tokens,
            max_stall: manner.max_stall,
            reasoning: plan.reasoning,
            pieces: 0,
            produced: 0,
            event: String::new(),
        }
    }

    /// The next bytes to send.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Cut>>> {
        loop {
            match &mut self.stage {
                Stage::Done => return Poll::Ready(None),
                Stage::Breaking(breaking) => {
                    let cut = ready!(breaking.poll(cx));
                    self.tab.end(End::Cut);
                    return Poll::Ready(Some(Err(cut)));
                }
                Stage::Text => ready!(self.poll_pace(cx)),
                Stage::Head | Stage::Tail | Stage::Terminal => {}
            }
            self.event.clear();
            self.step();
            if let Some(bytes) = self.take_bytes() {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }

    /// Waits until the next piece of text is due.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let produced = self.produced;
        self.pace
            .as_mut()
            .map_or(Poll::Ready(()), |pace| pace.poll_due(produced, cx))
    }

    /// Writes the next events and moves to the next stage.
    fn step(&mut self) {
        match self.stage {
            Stage::Head => self.head(),
            Stage::Text => self.text(),
            Stage::Tail => {
                self.voice.tail(self.pieces, &mut self.event);
                self.stage = Stage::Terminal;
            }
            Stage::Terminal => self.terminal(),
            Stage::Breaking(_) | Stage::Done => {}
        }
    }

    fn head(&mut self) {
        self.voice.head(&mut self.event);
        self.produce(self.reasoning);
        self.stage = Stage::Text;
        match self.fault {
            Some(Fault::HugeEvent(bytes)) => {
                self.voice.padding(
                    usize::try_from(bytes).unwrap_or(usize::MAX),
                    &mut self.event,
                );
            }
            Some(Fault::Malformed) => self.event.push_str("data: {\"broken\": \n\n"),
            _ => {}
        }
    }

    /// One piece of text, or the fault that is due in its place.
    fn text(&mut self) {
        match self.fault {
            Some(Fault::CutAfter(after)) if after <= self.pieces => {
                self.stage = Stage::Breaking(Breaking::Now(Flush::Due));
            }
            Some(Fault::StallAfter(after)) if after <= self.pieces => {
                self.stage = Stage::Breaking(Breaking::stalled(self.max_stall));
            }
            Some(Fault::ErrorAfter(after)) if after <= self.pieces => {
                self.voice.error(&mut self.event);
                self.tab.end(End::Cut);
                self.stage = Stage::Done;
            }
            _ => self.piece(),
        }
    }

    fn piece(&mut self) {
        let choices = self.writers.len();
        let first = usize::try_from(self.pieces).unwrap_or(0);
        let open = (0..choices).map(|turn| (first + turn) % choices);
        let Some(choice) = open
            .into_iter()
            .find(|&choice| !self.writers[choice].is_done())
        else {
            self.stage = Stage::Tail;
            return;
        };
        let mut text = String::new();
        let tokens = self.writers[choice].push(self.chunk_tokens, &mut text);
        self.produce(tokens);
        let piece = Piece {
            choice,
            text: &text,
            number: self.pieces,
            produced: self.produced,
        };
        self.voice.delta(&piece, &mut self.event);
        self.pieces += 1;
    }

    fn terminal(&mut self) {
        if self.fault == Some(Fault::OmitTerminal) {
            self.tab.end(End::Cut);
        } else {
            self.voice.terminal(self.pieces, &mut self.event);
            self.tab.end(End::Served);
        }
        self.stage = Stage::Done;
    }

    fn produce(&mut self, tokens: u64) {
        self.produced += tokens;
        self.tab.produce(tokens);
    }

    /// The event as it goes out; `None` if there is nothing to send.
    fn take_bytes(&mut self) -> Option<Bytes> {
        let Some(gzip) = &mut self.gzip else {
            return (!self.event.is_empty()).then(|| Bytes::copy_from_slice(self.event.as_bytes()));
        };
        let mut out = Vec::with_capacity(self.event.len() + 32);
        gzip.push(self.event.as_bytes(), &mut out);
        if matches!(self.stage, Stage::Done) {
            gzip.finish(&mut out);
        }
        (!out.is_empty()).then(|| out.into())
    }
}

/// When the tokens of an answer are due.
pub(crate) struct Pace {
    start: Instant,
    first_token: Duration,
    per_token: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    /// A pace from now on; `None` if there is no delay at all.
    pub(crate) fn new(first_token: Duration, per_token: Duration) -> Option<Self> {
        let delays = first_token + per_token > Duration::ZERO;
        delays.then(|| Self {
            start: Instant::now(),
            first_token,
            per_token,
            sleep: None,
        })
    }

    /// Waits until the token after `produced` others is due. Due times are counted from the start, so
    /// that late wake-ups do not add up.
    fn poll_due(&mut self, produced: u64, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due(produced);
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }

    /// Waits until the last of `tokens` tokens is due.
    pub(crate) async fn wait_for(&self, tokens: u64) {
        tokio::time::sleep_until(self.due(tokens)).await;
    }

    fn due(&self, produced: u64) -> Instant {
        let tokens = u32::try_from(produced).unwrap_or(u32::MAX);
        self.start + self.first_token + self.per_token.saturating_mul(tokens)
    }
}
