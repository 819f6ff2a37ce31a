//! A limit's numbers, made ready for arithmetic.
use crate::rate::Rate;
use crate::shape::{Calendar, Shape};
use crate::time::Span;
use jiff::tz::TimeZone;

/// The numbers of one limit by its shape.
#[derive(Debug, Clone)]
pub(crate) enum Meter {
    Bucket(Rate),
    Sliding {
        amount: u64,
        every: Span,
    },
    Fixed {
        amount: u64,
        window: Calendar,
        timezone: TimeZone,
    },
    Gauge {
        amount: u64,
    },
}

impl Meter {
    pub(crate) fn new(amount: u64, burst: u64, shape: &Shape) -> Self {
        match shape {
            Shape::Bucket {
                every,
                strict: true,
                ..
            } => Self::Bucket(Rate::new(amount.saturating_sub(burst), *every, burst)),
            Shape::Bucket { every, .. } => Self::Bucket(Rate::new(amount, *every, burst)),
            Shape::Sliding { every } => Self::Sliding {
                amount,
                every: *every,
            },
            Shape::Fixed { window, timezone } => Self::Fixed {
                amount,
                window: *window,
                timezone: timezone.clone(),
            },
            Shape::Concurrency => Self::Gauge { amount },
        }
    }

    /// How long a bucket takes from empty to full.
    pub(crate) fn refill(&self) -> Span {
        match self {
            Self::Bucket(rate) => rate.refill(),
            _ => Span::ZERO,
        }
    }

    /// The most that can be taken at once.
    pub(crate) fn largest(&self) -> u64 {
        match self {
            Self::Bucket(rate) => rate.burst(),
            Self::Sliding { amount, .. } | Self::Fixed { amount, .. } | Self::Gauge { amount } => {
                *amount
            }
        }
    }
}
