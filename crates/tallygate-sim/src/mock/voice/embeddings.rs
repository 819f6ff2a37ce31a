//! `/v1/embeddings`.

use super::put;
use crate::mock::asked::Asked;
use crate::mock::plan::Plan;
use crate::rng::Rng;

/// What vectors are asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vectors {
    pub(crate) inputs: u64,
    pub(crate) dimensions: u64,
    pub(crate) base64: bool,
}

impl Vectors {
    pub(crate) fn of(asked: &Asked<'_>) -> Self {
        Self {
            inputs: asked.inputs(),
            dimensions: asked.dimensions(),
            base64: asked.wants_base64(),
        }
    }
}

/// The whole answer: a vector for each input, following from the prompt alone.
pub(crate) fn embeddings(plan: &Plan, vectors: Vectors) -> String {
    let mut out = String::from(r#"{"object":"list","data":["#);
    let mut rng = Rng::new(u64::from_str_radix(&plan.id[..16], 16).unwrap_or_default());
    for index in 0..vectors.inputs {
        let comma = if index == 0 { "" } else { "," };
        put!(
            &mut out,
            r#"{comma}{{"object":"embedding","index":{index},"embedding":"#
        );
        vector(&mut rng, vectors, &mut out);
        out.push('}');
    }
    put!(&mut out, r#"],"model":{}"#, plan.model_json);
    if let Some(told) = &plan.reported {
        put!(
            &mut out,
            r#","usage":{{"prompt_tokens":{0},"total_tokens":{0}}}"#,
            told.input
        );
    }
    out.push('}');
    out
}

/// One vector of numbers k / 1024 with |k| < 1024, which JSON and single floats both hold exactly.
fn vector(rng: &mut Rng, vectors: Vectors, out: &mut String) {
    let draw = |rng: &mut Rng| {
        f32::from(i16::try_from(rng.below(2_047)).unwrap_or_default() - 1_023) / 1_024.0
    };
    if vectors.base64 {
        let bytes: Vec<u8> = (0..vectors.dimensions)
            .flat_map(|_| draw(rng).to_le_bytes())
            .collect();
        out.push('"');
        base64(&bytes, out);
        out.push('"');
        return;
    }
    out.push('[');
    for index in 0..vectors.dimensions {
        let comma = if index == 0 { "" } else { "," };
        put!(out, "{comma}{}", draw(rng));
    }
    out.push(']');
}

/// Standard base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            let index = (word >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= group.len() {
                char::from(DIGITS[index])
            } else {
                '='
            });
        }
    }
}
