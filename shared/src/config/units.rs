//! Durations and sizes as people write them: `15m`, `250ms`, `64 MiB`; a bare number is seconds
//! or bytes.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// A duration in a configuration file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

/// A number of bytes in a configuration file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) u64);

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("must be a duration such as 2s, 250ms or 15m");
        match NumberOrText::deserialize(input).map_err(|_| wrong())? {
            NumberOrText::Number(seconds) => Duration::try_from_secs_f64(seconds)
                .map(Span)
                .map_err(|_| wrong()),
            NumberOrText::Text(text) => humantime::parse_duration(&text)
                .map(Span)
                .map_err(|_| wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let wrong = || D::Error::custom("must be a size such as 64 MiB or a number of bytes");
        match NumberOrText::deserialize(input).map_err(|_| wrong())? {
            NumberOrText::Number(bytes) if bytes >= 0.0 && bytes.fract() == 0.0 => {
                Ok(Size(bytes as u64))
            }
            NumberOrText::Number(_) => Err(wrong()),
            NumberOrText::Text(text) => text
                .parse::<bytesize::ByteSize>()
                .map(|size| Size(size.as_u64()))
                .map_err(|_| wrong()),
        }
    }
}
