//! Lines that are longer than the window is wide.

use textwrap::{Options, WordSplitter};

/// The lines of a text; those after the first begin so many columns in, or a third of the width where that is less.
pub(super) fn wrapped(text: &str, width: u16, hang: usize) -> Vec<String> {
    let width = usize::from(width).max(1);
    let indent = " ".repeat(hang.min(width / 3));
    let options = Options::new(width).subsequent_indent(&indent).word_splitter(WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_lost_and_no_line_is_longer_than_the_window() {
        let text = "    12 MB     to pod shop/a-name-of-some-length-0 [2001:db8::1]:443 tcp, internet";
        for width in 1..100 {
            let lines = wrapped(text, width, 14);
            assert!(lines.iter().all(|line| line.chars().count() <= usize::from(width)), "{width}: {lines:?}");
            let letters = |text: &str| text.replace(' ', "");
            assert_eq!(letters(&lines.concat()), letters(text), "{width}");
        }
        assert_eq!(wrapped(text, 100, 14), [text]);
        assert_eq!(wrapped("a bb cc", 4, 14), ["a bb", " cc"]);
        assert_eq!(wrapped("", 40, 0), [""]);
    }
}
