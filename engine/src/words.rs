//! Words of a line: how a line is split into words, and how a word is quoted so that it splits back into itself.
//!
//! The quoting is that of redis.conf: double quotes with `\n \r \t \a \b \"` and `\xHH` escapes, single
//! quotes with `\'` only, a closing quote followed by space or the end of the line. The same rules serve inline
//! commands, configuration files, the command line, `CONFIG REWRITE` and manifests. Everything is bytes: a
//! password need not be UTF-8.

/// Splits `line` into words, or `None` when its quotes do not balance.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|b| !is_space(*b)).unwrap_or(rest.len());
        rest = &rest[start..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, used) = next_word(rest)?;
        words.push(word);
        rest = &rest[used..];
    }
}

/// `isspace` of the C locale, and NUL, at which the C parser this imitates would have stopped.
pub(crate) fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c | 0)
}

/// One word at the start of `text` (which starts with a non-space), and how many bytes it took.
fn next_word(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b if is_space(b) => break,
            b'"' => at += quoted(&text[at..], &mut word)?,
            b'\'' => at += single_quoted(&text[at..], &mut word)?,
            b => {
                word.push(b);
                at += 1;
                continue;
            }
        }
        // A quoted part ends its word, and only space may follow it.
        if at < text.len() && !is_space(text[at]) {
            return None;
        }
        break;
    }
    Some((word, at))
}

/// Reads a `"..."` part into `word`; returns its length with both quotes.
fn quoted(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => {
                let escape = *text.get(at + 1)?;
                if escape == b'x'
                    && let (Some(high), Some(low)) =
                        (text.get(at + 2).and_then(hex), text.get(at + 3).and_then(hex))
                {
                    word.push(high << 4 | low);
                    at += 4;
                    continue;
                }
                word.push(match escape {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

/// Reads a `'...'` part into `word`; returns its length with both quotes.
fn single_quoted(text: &[u8], word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 1;
    loop {
        match *text.get(at)? {
            b'\'' => return Some(at + 1),
            b'\\' if text.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            b => {
                word.push(b);
                at += 1;
            }
        }
    }
}

fn hex(b: &u8) -> Option<u8> {
    (*b as char).to_digit(16).map(|d| d as u8)
}

/// `value` in double quotes, escaped so that [`split`] gives it back.
pub fn quote(value: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for &b in value {
        match b {
            b'\\' | b'"' => out.extend([b'\\', b]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            0x20..=0x7e => out.push(b),
            other => out.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    out.push(b'"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        split(line.as_bytes())
            .expect("balanced")
            .into_iter()
            .map(|w| String::from_utf8_lossy(&w).into_owned())
            .collect()
    }

    #[test]
    fn splits_plain_and_quoted_words() {
        assert_eq!(words("  save 900  1\r\n"), ["save", "900", "1"]);
        assert_eq!(
            words(r#"requirepass "a b\"c\x41\n" 'it\'s' """#),
            ["requirepass", "a b\"cA\n", "it's", ""]
        );
        assert_eq!(words(r#"ab"cd e""#), ["abcd e"]);
        assert_eq!(words(""), Vec::<String>::new());
    }

    #[test]
    fn refuses_unbalanced_quotes() {
        for bad in [r#"bind "a"#, r#""a"b"#, "'a", r#""a\"#, r#""\x4"#] {
            assert_eq!(split(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn quoting_is_undone_by_splitting() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(split(&quote(&all)), Some(vec![all]));
    }
}
