//! Where each key of a YAML text stands: `serde_yaml` gives values without positions, so a second,
//! position-keeping parse maps paths such as `nodes[2].url` to lines.

use std::collections::HashMap;

use saphyr::{LoadableYamlNode, MarkedYaml, YamlData};

/// Lines of the keys of one text; empty where the text does not parse.
#[derive(Debug, Default)]
pub(crate) struct Lines(HashMap<String, usize>);

impl Lines {
    /// Reads the positions of every key and list item in `text`.
    pub(crate) fn of(text: &str) -> Self {
        let mut lines = Self::default();
        if let Ok(documents) = MarkedYaml::load_from_str(text)
            && let Some(root) = documents.first()
        {
            lines.walk(root, "");
        }
        lines
    }

    /// The line (from 1) of `path`, or of its nearest parent that is known.
    pub(crate) fn find(&self, path: &str) -> Option<usize> {
        let mut path = path;
        loop {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            path = match path.rfind(['.', '[']) {
                Some(end) => &path[..end],
                None => return None,
            };
        }
    }

    fn walk(&mut self, node: &MarkedYaml<'_>, path: &str) {
        match &node.data {
            YamlData::Mapping(map) => {
                for (key, value) in map {
                    let Some(name) = key.data.as_str() else {
                        continue;
                    };
                    let child = if path.is_empty() {
                        name.to_owned()
                    } else {
                        format!("{path}.{name}")
                    };
                    self.0.insert(child.clone(), key.span.start.line());
                    self.walk(value, &child);
                }
            }
            YamlData::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let child = format!("{path}[{index}]");
                    self.0.insert(child.clone(), item.span.start.line());
                    self.walk(item, &child);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_items_are_found_on_their_lines() {
        let lines =
            Lines::of("strategy: x\nnodes:\n  - name: a\n    url: u\n  - {name: b, url: v}\n");
        assert_eq!(lines.find("strategy"), Some(1));
        assert_eq!(lines.find("nodes[0].url"), Some(4));
        assert_eq!(lines.find("nodes[1].url"), Some(5));
        assert_eq!(lines.find("nodes[1].missing"), Some(5));
        assert_eq!(lines.find("nowhere"), None);
    }
}
