//! The reference names every key, and only keys that exist.

use super::*;
use crate::config::written::all_keys;

const REFERENCE: &str = include_str!("../../../docs/configuration.md");

#[test]
fn every_key_is_documented() {
    for (section, keys) in all_keys() {
        for key in keys.known {
            assert!(
                REFERENCE.contains(&format!("`{key}`")),
                "docs/configuration.md does not name `{key}` of {section:?}"
            );
        }
        for key in keys.later {
            let name = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
            let named = REFERENCE.contains(&format!("`{name}`"));
            assert!(named, "docs/configuration.md does not say that `{name}` is not supported yet");
        }
    }
}

#[test]
fn every_yaml_block_of_the_reference_compiles() {
    let mut blocks = 0;
    for block in REFERENCE.split("```yaml\n").skip(1) {
        let text = block.split("```").next().unwrap_or_default();
        if let Err(mistakes) = compile(text) {
            panic!("{text}\n{mistakes}");
        }
        blocks += 1;
    }
    assert!(blocks > 0, "the reference shows examples");
}
