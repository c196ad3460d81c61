//! A bound on what a YAML text stands for. With aliases a short text can stand for one that no machine
//! holds ("billion laughs"), so a text that somebody else wrote is counted, aliases where they stand,
//! before it is built. Counting keeps nothing and stops at the bound.

use std::cell::Cell;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

use super::nesting::is_too_deep;
use super::{Problem, Problems};

/// Most values: a node or key as it is exported has about fifteen.
const VALUES: usize = 100_000;
/// Most bytes of all texts together.
const BYTES: usize = 4 << 20;

/// Refuses a text that stands for more than a fleet can be. What is not valid YAML passes: who reads it
/// says where.
pub(crate) fn refuse_endless(text: &str) -> Result<(), Problems> {
    // of JSON serde_json knows the depth, and in no time
    let is_json = serde_json::from_str::<IgnoredAny>(text).is_ok();
    if !is_json && is_too_deep(text) {
        return Err(refused(
            "is nested too deeply, or has quotes that hide how deeply".to_owned(),
        ));
    }
    // libyaml compares each with all before it
    if text.lines().any(|line| line.starts_with("%TAG")) {
        return Err(refused(
            "has a %TAG directive, for which there is no use here".to_owned(),
        ));
    }
    let left = Cell::new((VALUES, BYTES));
    let counted = Count { left: &left }.deserialize(serde_yaml::Deserializer::from_str(text));
    if counted.is_ok() || left.get() != SPENT {
        return Ok(());
    }
    Err(refused(format!(
        "stands for more than {VALUES} values or {} MiB of text, aliases (`*name`) counted where they stand",
        BYTES >> 20
    )))
}

fn refused(message: String) -> Problems {
    Problems::of(vec![Problem {
        key: String::new(),
        line: None,
        message,
    }])
}

/// No honest count ends here: the last value and the last byte do not go together.
const SPENT: (usize, usize) = (0, usize::MAX);

/// Counts one value and all within.
#[derive(Clone, Copy)]
struct Count<'a> {
    left: &'a Cell<(usize, usize)>,
}

impl Count<'_> {
    fn take<E: Error>(self, bytes: usize) -> Result<(), E> {
        let (values, text) = self.left.get();
        let left = values.checked_sub(1).zip(text.checked_sub(bytes));
        self.left.set(left.unwrap_or(SPENT));
        left.map(drop).ok_or_else(|| E::custom("too much"))
    }
}

impl<'de> DeserializeSeed<'de> for Count<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Count<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        self.take(0)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        self.take(0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.take(text.len())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.take(0)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.take(0)?;
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.take(0)?;
        while map.next_key_seed(self)?.is_some() {
            map.next_value_seed(self)?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, value) = tagged.variant::<IgnoredAny>()?;
        value.newtype_variant_seed(self)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn what_grows_by_aliases_is_refused_before_it_is_built() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            let _ = writeln!(laughs, "a{level}: &a{level} [{before}]");
        }
        let wide = format!(
            "a: &a [{}]\nb: [{}]\n",
            "x, ".repeat(50_000),
            "*a, ".repeat(50_000)
        );
        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(100_000),
            "*a, ".repeat(50_000)
        );
        for text in [laughs, wide, long] {
            let problems = refuse_endless(&text).unwrap_err().to_string();
            assert!(problems.contains("aliases"), "{problems}");
        }
    }

    #[test]
    fn what_would_hold_the_parser_for_minutes_does_not_reach_it() {
        for (piece, words) in [
            ("[", "nested"),
            ("{a: ", "nested"),
            ("%TAG !a! x\n", "%TAG"),
        ] {
            let problems = refuse_endless(&piece.repeat(200_000)).unwrap_err();
            assert!(problems.to_string().contains(words), "{problems}");
        }
    }

    #[test]
    fn honest_documents_and_what_is_no_yaml_pass() {
        let mut fleet = "nodes:\n".to_owned();
        for number in 0..5000 {
            let _ = writeln!(
                fleet,
                "  - {{name: n{number}, url: \"http://h:1\", labels: {{a: b}}, weight: 2}}"
            );
        }
        let labels = "nodes:\n  - {name: a, labels: &l {zone: b}}\n  - {name: b, labels: *l}\n";
        for text in [
            &fleet,
            labels,
            "",
            "a: [",
            "!tag {a: .nan, b: ~, c: -1}",
            "a: *b",
        ] {
            assert!(refuse_endless(text).is_ok());
        }
    }
}
