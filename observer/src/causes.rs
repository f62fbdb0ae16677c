//! An error with its causes in one line, for logs, metrics and messages.

use std::error::Error;

/// The error and its causes, each once; libraries that repeat a cause in their own text are not repeated.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_and_a_newline_is_a_blank() {
        let cause = anyhow::anyhow!("no\nroute");
        let told = in_one_line(cause.context("connect: no\nroute").context("list").as_ref());
        assert_eq!(told, "list: connect: no route");
    }
}
