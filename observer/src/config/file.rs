//! The configuration file: which of its keys say what, on which line.
//!
//! The TOML parser's spanned tree is walked here rather than by serde, which stops at the first mistake.

use super::{
    ConfigError, Origin,
    settings::{SETTINGS, Setting},
};
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value that a source gives: the setting's key, the values as written, and where they are.
pub(super) type Given = (&'static str, Vec<String>, Origin);

/// Reads a file's text. What is wrong with it is added to `errors`; what is right is returned all the same, so that its
/// values are checked in the same go.
pub(super) fn read(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Given> {
    let at = |byte: usize| {
        let before = text.as_bytes().iter().take(byte);
        Origin::File { path: path.to_owned(), line: before.filter(|byte| **byte == b'\n').count() + 1 }
    };
    let (table, mistakes) = DeTable::parse_recoverable(text);
    for mistake in mistakes {
        let origin = at(mistake.span().map_or(0, |span| span.start));
        errors.push(ConfigError { origin, message: format!("not valid TOML: {}", mistake.message()) });
    }
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut given = Vec::new();
    for (key, value) in entries {
        let origin = at(key.span().start);
        let name = key.get_ref();
        match SETTINGS.iter().find(|setting| setting.key == name) {
            None => errors.push(ConfigError { origin, message: unknown(name) }),
            Some(setting) => match values(value, setting) {
                Ok(values) => given.push((setting.key, values, origin)),
                Err(wanted) => errors.push(ConfigError::about(setting.key, origin, wanted)),
            },
        }
    }
    given
}

fn unknown(name: &str) -> String {
    let spelt = name.replace('_', "-").to_ascii_lowercase();
    if let Some(meant) = SETTINGS.iter().find(|setting| setting.key == spelt) {
        return format!("unknown key {name:?}; write {}", meant.key);
    }
    let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    format!("unknown key {name:?}; the keys are {}", known.join(", "))
}

/// A string, a number, `true` or `false` for a switch, or for a list an array of strings. The error says what is wanted instead.
fn values(value: &Spanned<DeValue<'_>>, setting: &Setting) -> Result<Vec<String>, &'static str> {
    match value.get_ref() {
        DeValue::String(text) => Ok(vec![text.clone().into_owned()]),
        DeValue::Boolean(switch) if setting.is_switch => Ok(vec![switch.to_string()]),
        _ if setting.is_switch => Err("must be true or false"),
        DeValue::Integer(number) => Ok(vec![number.to_string()]),
        DeValue::Array(items) if setting.is_list => {
            let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
            items.iter().map(text).collect::<Option<_>>().ok_or("every item must be a string in quotes")
        }
        _ if setting.is_list => Err("must be an array of strings, such as [\"10.0.0.0/8\"]"),
        _ => Err("must be a string in quotes or a whole number"),
    }
}
