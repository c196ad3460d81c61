//! A node's two names. `name` is what operators wrote: any text up to 100 characters, as with the
//! predecessor, and what a GET gives back. `slug` goes where only a safe alphabet may: the fleet
//! document, metrics, logs, `x-aivonx-node`. A name that is safe already is its own slug; of another,
//! runs of other characters become one `-`. The store adds `-2`, `-3`, … where a slug is taken.

/// Longest slug, as the fleet document allows it.
const LONGEST: usize = 63;

/// The slug of a name: 1 to 63 letters, digits, `-`, `_` or `.`.
pub fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len().min(LONGEST));
    let mut pending = false;
    for letter in name.chars() {
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.') {
            if pending && !slug.is_empty() {
                slug.push('-');
            }
            slug.push(letter);
            pending = false;
        } else {
            pending = true;
        }
    }
    slug.truncate(LONGEST);
    if slug.is_empty() {
        slug.push_str("node");
    }
    slug
}

/// The slug with a number behind it, within the bounds of its length.
pub(crate) fn numbered(slug: &str, number: u32) -> String {
    let number = format!("-{number}");
    let kept = slug.len().min(LONGEST - number.len());
    format!("{}{number}", &slug[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn safe_names_are_kept_and_others_made_safe() {
        for (name, expected) in [
            ("gpu-1.lab_a", "gpu-1.lab_a"),
            ("CPU node", "CPU-node"),
            ("  GPU (rack 2) ", "GPU-rack-2"),
            ("節點", "node"),
            ("節點 7", "7"),
        ] {
            assert_eq!(slug(name), expected, "{name}");
        }
        let long = "x".repeat(100);
        assert_eq!(slug(&long).len(), 63);
        assert_eq!(numbered(&slug(&long), 12), format!("{}-12", "x".repeat(60)));
        assert_eq!(numbered("gpu", 2), "gpu-2");
    }
}
