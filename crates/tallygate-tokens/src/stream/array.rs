//! Splitting a JSON array into its elements while it arrives (Gemini without `alt=sse`).

use crate::sse::MAX_EVENT;

/// Splits `[{…},{…}]` into its elements. An element over [`MAX_EVENT`] bytes is not kept.
#[derive(Debug, Default)]
pub(super) struct ArraySplitter {
    element: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    too_large: bool,
    closed: bool,
    oversized: u64,
}

impl ArraySplitter {
    /// Feeds a chunk; `each` gets every element it completes.
    pub(super) fn push(&mut self, chunk: &[u8], mut each: impl FnMut(&[u8])) {
        for &byte in chunk {
            if self.take(byte) {
                each(&self.element);
            }
            if self.depth <= 1 {
                self.element.clear();
                self.too_large = false;
            }
        }
    }

    /// Whether the array's closing bracket has come.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    /// Elements that were not kept.
    pub(super) fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Takes a byte; true when it completes an object that was kept.
    fn take(&mut self, byte: u8) -> bool {
        let was_inside = self.depth > 1;
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
        } else {
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
            self.closed |= byte == b']' && self.depth == 0;
        }
        if self.depth > 1 || was_inside {
            self.keep(byte);
        }
        was_inside && self.depth == 1 && !self.too_large
    }

    fn keep(&mut self, byte: u8) {
        if self.too_large {
            return;
        }
        self.element.push(byte);
        if self.element.len() > MAX_EVENT {
            self.too_large = true;
            self.oversized += 1;
            self.element = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, step: usize) -> (Vec<String>, bool) {
        let mut splitter = ArraySplitter::default();
        let mut found = Vec::new();
        for chunk in text.as_bytes().chunks(step) {
            splitter.push(chunk, |element| {
                found.push(String::from_utf8(element.to_vec()).unwrap());
            });
        }
        (found, splitter.closed())
    }

    #[test]
    fn elements_are_found_however_the_stream_is_cut() {
        let text = "[{\"a\":\"}]\\\"[\"}\n,\r\n{\"b\":[1,[2]]} , {\"é\":{}}]\n";
        let expected = ["{\"a\":\"}]\\\"[\"}", "{\"b\":[1,[2]]}", "{\"é\":{}}"];
        for step in 1..text.len() {
            let (found, closed) = split(text, step);
            assert_eq!(found, expected, "cut every {step} bytes");
            assert!(closed);
        }
        assert!(!split("[{\"a\":1},", 3).1);
    }

    #[test]
    fn an_element_too_large_is_skipped() {
        let large = format!("[{{\"a\":\"{}\"}},{{\"b\":1}}]", "x".repeat(MAX_EVENT));
        let mut splitter = ArraySplitter::default();
        let mut found = 0;
        splitter.push(large.as_bytes(), |_| found += 1);
        assert_eq!((found, splitter.oversized()), (1, 1));
    }
}
