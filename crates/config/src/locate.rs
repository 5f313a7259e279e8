//! Finds the line of a field after the document has been read.
//!
//! Rules over several fields are checked on the finished value, which knows no lines. Only when one
//! is broken is the text read once more, as a tree with places.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Line and column of the field at `path` (`listeners[0].tls`), or of its nearest parent that is
/// written down. (1, 1) where nothing is.
pub(crate) fn locate(text: &str, path: &str) -> (u64, u64) {
    let Ok(root) = serde_saphyr::from_str::<Spanned<Tree>>(text) else {
        return (1, 1);
    };
    let mut place = (1, 1);
    let mut tree = &root.value;
    for segment in path.split(['.', '[']).filter(|segment| !segment.is_empty()) {
        let child = match tree {
            Tree::Sequence(items) => segment
                .trim_end_matches(']')
                .parse()
                .ok()
                .and_then(|at: usize| items.get(at)),
            Tree::Mapping(entries) => entries
                .iter()
                .find(|(key, _)| key == segment)
                .map(|(_, value)| value),
            Tree::Scalar => None,
        };
        let Some(child) = child else { break };
        place = (child.referenced.line(), child.referenced.column());
        tree = &child.value;
    }
    place
}

enum Tree {
    Scalar,
    Sequence(Vec<Spanned<Self>>),
    Mapping(Vec<(String, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

macro_rules! scalars {
    ($($method:ident: $type:ty),+) => {$(
        fn $method<E>(self, _: $type) -> Result<Tree, E> {
            Ok(Tree::Scalar)
        }
    )+};
}

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    scalars!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            entries.push((key, access.next_value()?));
        }
        Ok(Tree::Mapping(entries))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(inner)?;
        Ok(Tree::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::locate;

    #[test]
    fn places() {
        let text = "a: 1\nlist:\n- name: x\n  tls:\n    mode: m\n- name: y\n";
        for (path, line) in [
            ("a", 1),
            ("list[0].name", 3),
            ("list[0].tls.mode", 5),
            ("list[1].name", 6),
            ("list[1].absent", 6),
            ("absent", 1),
        ] {
            assert_eq!(locate(text, path).0, line, "{path}");
        }
        assert_eq!(locate(": not yaml [", "a"), (1, 1));
    }
}
