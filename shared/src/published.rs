//! The published envelope: a fleet document and its revision, as it stands on the bus and on a data
//! plane's disk: `{"epoch":1,"number":42,"document":{…}}`.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::revision::Revision;

/// A fleet document with its revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", from = "Wire")]
pub struct Published {
    /// Which document this is.
    revision: Revision,
    /// The document, JSON.
    document: String,
}

/// `document` is not JSON.
#[derive(Debug, thiserror::Error)]
#[error("the fleet document is not JSON: {0}")]
pub struct NotJson(serde_json::Error);

/// The envelope as it is written. Keys that a later version adds are passed over; the first two keep
/// their place, because the bus compares them without reading the rest (`revision_of`).
#[derive(Serialize, Deserialize)]
struct Wire {
    epoch: u64,
    number: u64,
    document: Box<RawValue>,
}

impl Published {
    /// Puts a document, as JSON text, under its revision.
    pub fn new(revision: Revision, document: impl Into<String>) -> Result<Self, NotJson> {
        let document = RawValue::from_string(document.into()).map_err(NotJson)?;
        Ok(Self {
            revision,
            document: document.get().to_owned(),
        })
    }

    /// Which document this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The document, JSON: `FleetDoc::from_yaml` reads it. Secrets in it are sealed.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The envelope as it is written.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and a text that was found to be JSON")
    }

    /// Reads an envelope.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

impl From<Published> for Wire {
    fn from(published: Published) -> Self {
        let Revision { epoch, number } = published.revision;
        Self {
            epoch,
            number,
            document: RawValue::from_string(published.document)
                .expect("`new` and `from_json` take nothing but JSON"),
        }
    }
}

impl From<Wire> for Published {
    fn from(wire: Wire) -> Self {
        Self {
            revision: Revision::new(wire.epoch, wire.number),
            document: wire.document.get().to_owned(),
        }
    }
}

/// The revision of an envelope of which only the beginning is at hand.
pub fn revision_of(beginning: &str) -> Option<Revision> {
    let rest = beginning.strip_prefix("{\"epoch\":")?;
    let (epoch, rest) = rest.split_once(",\"number\":")?;
    let (number, _) = rest.split_once([',', '}'])?;
    Some(Revision::new(epoch.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &str = include_str!("../tests/golden/published.json");

    #[test]
    fn the_envelope_is_written_and_read_as_its_fixture_says() {
        let document = r#"{"strategy":"least_active","nodes":[{"name":"gpu-1","url":"http://10.0.0.1:11434","bearer_token":{"sealed":"v1.AAAA"}}]}"#;
        let published = Published::new(Revision::new(1, 42), document).unwrap();
        assert_eq!(published.to_json(), GOLDEN.trim());
        assert_eq!(Published::from_json(GOLDEN).unwrap(), published);
    }

    #[test]
    fn the_documents_text_is_kept_to_the_byte_and_later_keys_are_passed_over() {
        let text = "{\"number\":2,\"later\":[1],\"epoch\":1,\"document\": {\"nodes\" :[ ] } }";
        let read = Published::from_json(text).unwrap();
        assert_eq!(read.document(), "{\"nodes\" :[ ] }");
        assert_eq!(read.revision(), Revision::new(1, 2));
        assert!(Published::from_json("{\"epoch\":1,\"number\":2}").is_err());
        assert!(Published::new(Revision::default(), "nodes: []").is_err());
    }

    #[test]
    fn the_beginning_is_enough_to_know_the_revision() {
        let revision = Revision::new(u64::MAX, 7);
        let text = Published::new(revision, "{\"nodes\":[]}")
            .unwrap()
            .to_json();
        assert_eq!(revision_of(&text), Some(revision));
        assert_eq!(revision_of(&text[..60]), Some(revision));
        for bad in [
            "",
            "{",
            "{\"epoch\":1",
            "{\"epoch\":1,\"number\":2",
            "{\"epoch\":-1,\"number\":2}",
        ] {
            assert_eq!(revision_of(bad), None, "{bad}");
        }
    }
}
