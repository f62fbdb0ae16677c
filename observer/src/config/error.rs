//! Mistakes in the configuration, each with the place to mend it.

use super::VARIABLE_PREFIX;
use std::fmt;
use std::path::PathBuf;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A key of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A flag, by its name without dashes.
    Flag(&'static str),
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it is.
    pub origin: Origin,
    /// What is wrong, and what would be right. Names the key when the origin does not.
    pub message: String,
}

/// All mistakes, one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigError {
    /// A mistake in a setting's value. In a file the line holds more than the key, so the key is named.
    pub(super) fn about(key: &str, origin: Origin, message: &str) -> Self {
        let message = match origin {
            Origin::File { .. } => format!("{key}: {message}"),
            _ => message.to_owned(),
        };
        Self { origin, message }
    }
}

impl Origin {
    /// The variable of a setting.
    pub(super) fn variable_of(key: &str) -> String {
        format!("{VARIABLE_PREFIX}{}", key.replace('-', "_").to_ascii_uppercase())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{} line {line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.message)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
