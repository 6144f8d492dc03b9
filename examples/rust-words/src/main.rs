//! Counts the words of its arguments, or of its standard input: the most frequent first.

use std::collections::HashMap;
use std::io::{self, Read};

fn counted(text: &str) -> Vec<(String, usize)> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
        *counts.entry(word.to_lowercase()).or_default() += 1;
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sorted
}

fn main() -> io::Result<()> {
    let mut text = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    if text.is_empty() {
        io::stdin().read_to_string(&mut text)?;
    }
    for (word, count) in counted(&text) {
        println!("{count} {word}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn frequent_words_are_first() {
        let pair = |word: &str, count| (word.to_string(), count);
        assert_eq!(counted("b a, B!"), [pair("b", 2), pair("a", 1)]);
    }

    #[test]
    fn nothing_has_no_words() {
        assert!(counted(" - ").is_empty());
    }
}
