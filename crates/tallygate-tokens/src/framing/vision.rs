//! What images cost, by the providers' documents.

use crate::dialect::Method;
use crate::image::{self, Size};
use crate::model;

/// A number of tokens and how it is known.
pub(super) type Cost = (u64, Method);

/// How a model family of OpenAI charges images (OpenAI, "Images and vision").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vision {
    /// A base, and an amount a tile of 512² pixels.
    Tiles { base: u64, tile: u64 },
    /// Patches of 32² pixels, at most [`MAX_PATCHES`], times a factor.
    Patches { per_mille: u64 },
}

impl Vision {
    /// The rule of a model by its bare name.
    pub(super) fn of(name: &str) -> Self {
        model::by_prefix(&FAMILIES, name).unwrap_or(Self::Tiles {
            base: 85,
            tile: 170,
        })
    }

    /// An image behind a URL: a `data:` URL is looked into; what is elsewhere is taken at the
    /// most it can cost.
    pub(super) fn of_url(self, url: &str, detail: Option<&str>) -> Cost {
        if let (Self::Tiles { base, .. }, Some("low")) = (self, detail) {
            return (base, Method::Framed);
        }
        match data_url(url).and_then(|(_, data)| image::size_of_base64(data)) {
            Some(size) => (self.of_size(size), Method::Framed),
            None => (self.most(), Method::Bound),
        }
    }

    fn of_size(self, size: Size) -> u64 {
        match self {
            Self::Tiles { base, tile } => base + tile * tiles(size),
            Self::Patches { per_mille } => (patches(size) * per_mille).div_ceil(1_000),
        }
    }

    /// The most an image can cost.
    pub(super) fn most(self) -> u64 {
        match self {
            Self::Tiles { base, tile } => base + tile * MAX_TILES,
            Self::Patches { per_mille } => (MAX_PATCHES * per_mille).div_ceil(1_000),
        }
    }
}

const FAMILIES: [(&str, Vision); 13] = [
    ("gpt-4o-mini", tiled(2_833, 5_667)),
    ("gpt-4.1-mini", patched(1_620)),
    ("gpt-4.1-nano", patched(2_460)),
    ("gpt-5-mini", patched(1_620)),
    ("gpt-5-nano", patched(2_460)),
    ("o4-mini", patched(1_720)),
    ("gpt-5", tiled(70, 140)),
    ("o1", tiled(75, 150)),
    ("o3", tiled(75, 150)),
    ("computer-use", tiled(65, 129)),
    ("gpt-4o", tiled(85, 170)),
    ("gpt-4.1", tiled(85, 170)),
    ("gpt-4.5", tiled(85, 170)),
];

const fn tiled(base: u64, tile: u64) -> Vision {
    Vision::Tiles { base, tile }
}

const fn patched(per_mille: u64) -> Vision {
    Vision::Patches { per_mille }
}

/// The media type and the base64 text of a `data:` URL.
pub(super) fn data_url(url: &str) -> Option<(&str, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media = head.split(';').next().unwrap_or(head);
    head.ends_with(";base64").then_some((media, data))
}

/// Tiles of 512² after the image was fitted into 2048² and its shorter side brought down to 768:
/// both together shrink it to the smallest of three scales, so whole numbers suffice.
fn tiles(size: Size) -> u64 {
    let long = size.width.max(size.height);
    let short = size.width.min(size.height);
    let scales = [(1, 1), (2_048, long), (768, short)];
    let along = |side: u64| {
        let fitted =
            scales.map(|(num, den)| (u128::from(side) * num).div_ceil(512 * u128::from(den)));
        fitted.into_iter().min().unwrap_or(1).max(1)
    };
    let tiles = along(size.width) * along(size.height);
    u64::try_from(tiles).unwrap_or(MAX_TILES).min(MAX_TILES)
}

/// 768 × 2048 pixels: two by four tiles.
const MAX_TILES: u64 = 8;

/// Patches of 32², the image shrunk until it has at most [`MAX_PATCHES`] of them. The documented
/// rule is in real numbers; a double is exact enough for pixels, and the result is bounded.
fn patches(size: Size) -> u64 {
    const PATCH: f64 = 32.0;
    let whole = size
        .width
        .div_ceil(32)
        .saturating_mul(size.height.div_ceil(32));
    if whole <= MAX_PATCHES {
        return whole;
    }
    let (width, height) = (size.width as f64 / PATCH, size.height as f64 / PATCH);
    let shrink = (MAX_PATCHES as f64 / (width * height)).sqrt();
    let fit = |side: f64| (side * shrink).floor().max(1.0) / (side * shrink);
    let shrink = shrink * fit(width).min(fit(height));
    let along = |side: f64| (side * shrink - 1e-6).ceil().max(1.0) as u64;
    along(width).saturating_mul(along(height)).min(MAX_PATCHES)
}

const MAX_PATCHES: u64 = 1_536;

/// Claude: pixels ÷ 750 after the long edge was brought down to 1,568 (from 4.7 on 2,576) pixels
/// (Anthropic, "Vision"). Without a size, the most.
pub(super) fn claude(size: Option<Size>, generation: (u32, u32)) -> u64 {
    let (edge, most) = if generation >= (4, 7) {
        (2_576, 4_784)
    } else {
        (1_568, 1_600)
    };
    let Some(size) = size else {
        return most;
    };
    let long = u128::from(size.width.max(size.height));
    let fitted = long.min(edge);
    let pixels = u128::from(size.width) * u128::from(size.height);
    let tokens = (pixels * fitted * fitted).div_ceil(long * long * 750);
    u64::try_from(tokens).unwrap_or(most).clamp(1, most)
}

/// Gemini: 258 for an image up to 384², else 258 for each tile of 768² (Google, "Understand and
/// count tokens"). Without a size, sixteen tiles.
pub(super) fn gemini(size: Option<Size>) -> u64 {
    const TILE: u64 = 258;
    match size {
        None => 16 * TILE,
        Some(size) if size.width.max(size.height) <= 384 => TILE,
        Some(size) => {
            let tiles = size
                .width
                .div_ceil(768)
                .saturating_mul(size.height.div_ceil(768));
            tiles.min(MAX_GEMINI_TILES) * TILE
        }
    }
}

/// No image file that fits into a request has more tiles worth believing.
const MAX_GEMINI_TILES: u64 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u64, height: u64) -> Size {
        Size { width, height }
    }

    #[test]
    fn tiles_are_as_documented() {
        let vision = Vision::of("gpt-4o");
        for (width, height, tokens) in [
            (1_024, 1_024, 765),
            (2_048, 4_096, 1_105),
            (512, 512, 255),
            (1, 1, 255),
            (10_000, 10, 765),
        ] {
            assert_eq!(
                vision.of_size(size(width, height)),
                tokens,
                "{width}x{height}"
            );
        }
        assert_eq!(
            vision.of_url("https://example.com/a.png", Some("low")).0,
            85
        );
    }

    #[test]
    fn patches_are_as_documented() {
        assert_eq!(patches(size(1_024, 1_024)), 1_024);
        assert_eq!(patches(size(1_800, 2_400)), 1_452);
        assert_eq!(
            Vision::of("gpt-4.1-mini-2025-04-14").of_size(size(1_024, 1_024)),
            1_659
        );
    }

    #[test]
    fn no_size_costs_more_than_the_most() {
        for (name, vision) in FAMILIES {
            for side in [1, 31, 512, 769, 2_049, 60_000, u64::from(u32::MAX)] {
                for other in [1, 400, 1_000, u64::from(u32::MAX)] {
                    let cost = vision.of_size(size(side, other));
                    assert!(
                        (1..=vision.most()).contains(&cost),
                        "{name} {side}x{other}: {cost}"
                    );
                }
            }
        }
    }

    #[test]
    fn other_providers_count_pixels_and_tiles() {
        assert_eq!(claude(Some(size(1_000, 1_000)), (4, 5)), 1_334);
        assert_eq!(claude(Some(size(200, 200)), (3, 0)), 54);
        assert_eq!(claude(Some(size(9_000, 9_000)), (4, 5)), 1_600);
        assert_eq!(claude(Some(size(9_000, 9_000)), (4, 7)), 4_784);
        assert_eq!(gemini(Some(size(384, 300))), 258);
        assert_eq!(gemini(Some(size(960, 540))), 516);
    }
}
