//! `GET /api/version`: the lowest version in service, because clients gate features on it.

use std::cmp::Ordering;

use super::View;

/// The lowest version of the nodes of a view; `None` where none is known.
pub(crate) fn lowest_version(view: View<'_>) -> Option<String> {
    let versions = view.nodes();
    let versions = versions.filter_map(|node| node.state().version.load_full());
    versions
        .min_by(|a, b| compare(a, b))
        .map(|version| version.to_string())
}

/// Compares by numbers, then a pre-release (`-rc1`) before its release, as semver does.
fn compare(a: &str, b: &str) -> Ordering {
    let split = |text: &str| {
        let (numbers, pre) = text
            .split_once('-')
            .map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let numbers: Vec<u64> = numbers
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect();
        (numbers, pre.map(str::to_owned))
    };
    let ((a_numbers, a_pre), (b_numbers, b_pre)) = (split(a), split(b));
    a_numbers
        .cmp(&b_numbers)
        .then_with(|| match (a_pre, b_pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(&b),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_release() {
        let mut versions = ["0.33.0", "0.5.12", "0.33.0-rc2", "0.100.1"];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(versions, ["0.5.12", "0.33.0-rc2", "0.33.0", "0.100.1"]);
    }
}
