//! The parts a message of OpenAI's dialect is made of, in chat and in Responses.

use super::fields::{each, object, text};
use super::media;
use super::vision::{Vision, data_url};
use crate::call::CallError;
use crate::dialect::Method;
use crate::json::Json;
use crate::plan::{Group, Plan};

/// What a message is counted into.
pub(super) struct Sheet<'p> {
    pub(super) plan: &'p mut Plan,
    /// The texts of the message under way.
    pub(super) group: Group,
    pub(super) vision: Vision,
}

impl<'p> Sheet<'p> {
    pub(super) fn new(plan: &'p mut Plan, vision: Vision) -> Self {
        Self {
            plan,
            group: Group::default(),
            vision,
        }
    }

    /// A part nobody documents the cost of, counted as the JSON it is written in.
    pub(super) fn add_unknown(&mut self, part: &Json<'_>) {
        self.plan.weaken(Method::Estimated);
        self.group.push(part.to_string());
    }

    /// The message is complete.
    pub(super) fn close(&mut self) {
        self.plan.add_group(std::mem::take(&mut self.group));
    }

    /// A message's content: text, or parts.
    pub(super) fn add_content(
        &mut self,
        key: &str,
        content: Option<&Json<'_>>,
    ) -> Result<(), CallError> {
        match content {
            None => Ok(()),
            Some(Json::String(text)) => {
                self.group.push(&**text);
                Ok(())
            }
            Some(Json::Array(parts)) => each(key, parts, |part| self.add_part(part)),
            Some(other) => Err(CallError::wrong(key, "a string or an array", other)),
        }
    }

    fn add_part(&mut self, part: &Json<'_>) -> Result<(), CallError> {
        if let Json::String(text) = part {
            self.group.push(&**text);
            return Ok(());
        }
        match text(object(part)?, "type")?.unwrap_or("text") {
            "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => {
                self.group.push(text(part, "text")?.unwrap_or_default());
            }
            "refusal" => self.group.push(text(part, "refusal")?.unwrap_or_default()),
            "image_url" | "input_image" => self.add_image(part)?,
            "input_audio" => self.add_sound(part.get("input_audio").unwrap_or(part)),
            "file" | "input_file" => self.add_file(part.get("file").unwrap_or(part)),
            _ => self.add_unknown(part),
        }
        Ok(())
    }

    /// `image_url` is an object in chat and a string in Responses; a file known to the provider
    /// alone has neither.
    pub(super) fn add_image(&mut self, part: &Json<'_>) -> Result<(), CallError> {
        let (url, detail) = match part.get("image_url") {
            Some(image @ Json::Object(_)) => {
                let url = text(image, "url").map_err(|e| e.within("image_url"))?;
                (url, image.text("detail"))
            }
            Some(_) => (text(part, "image_url")?, part.text("detail")),
            None => (None, part.text("detail")),
        };
        let (tokens, method) = self.vision.of_url(url.unwrap_or_default(), detail);
        self.plan.add_tokens(tokens);
        self.plan.weaken(method);
        Ok(())
    }

    fn add_sound(&mut self, audio: &Json<'_>) {
        let tokens = media::sound(audio.text("data").unwrap_or_default(), SOUND_RATE);
        self.plan.add_tokens(tokens);
        self.plan.weaken(Method::Estimated);
    }

    fn add_file(&mut self, file: &Json<'_>) {
        self.plan.weaken(Method::Estimated);
        let pages = match file.text("file_data") {
            Some(data) => media::pdf_pages(data_url(data).map_or(data, |(_, data)| data)),
            None => UNSEEN_PAGES,
        };
        self.plan.add_tokens(pages * TOKENS_A_PAGE);
    }
}

/// Tokens a second of sound (OpenAI, "Audio": a token for 100 ms).
const SOUND_RATE: u64 = 10;

/// The text of a dense page and its picture.
const TOKENS_A_PAGE: u64 = 3_000;

/// What a document is taken for that only the provider can read.
const UNSEEN_PAGES: u64 = 10;
