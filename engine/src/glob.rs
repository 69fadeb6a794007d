//! Glob patterns of `KEYS`, `SCAN MATCH`, `PSUBSCRIBE` and `CONFIG GET`.
//!
//! The language is Redis' `stringmatchlen`: `*`, `?`, `[abc]`, `[^a-z]`, and `\x` for a literal `x`,
//! over bytes. Every token but `*` takes exactly one byte, so only the last `*` ever needs to be
//! retried and a match costs at most pattern times text, however hostile the pattern.

/// A pattern that needs more stars than this to match does not match: Redis' limit to its recursion.
const MAX_STARS: usize = 1000;

/// Whether `text` as a whole matches `pattern`; `nocase` folds ASCII letters.
///
/// One oddity is kept: no pattern but the empty one matches the empty text, not even `*`
/// (commands that care treat a lone `*` before they get here, as in Redis).
pub fn glob_match(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let (mut p, mut t) = (0, 0);
    // Where to resume after a mismatch: behind the last star, one byte further into the text.
    let mut retry: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            stars += 1;
            if stars > MAX_STARS {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        match match_one(&pattern[p..], text[t], nocase) {
            Some(width) => {
                p += width;
                t += 1;
            }
            None => match &mut retry {
                Some((after_star, start)) => {
                    *start += 1;
                    (p, t) = (*after_star, *start);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// Matches one byte against the token at the start of `pattern`; the token's width if it matches.
#[inline]
fn match_one(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    match *pattern {
        [] => None,
        [b'?', ..] => Some(1),
        [b'[', ..] => match_class(pattern, byte, nocase),
        [b'\\', literal, ..] => same(literal, byte, nocase).then_some(2),
        [literal, ..] => same(literal, byte, nocase).then_some(1),
    }
}

#[inline]
fn same(a: u8, b: u8, nocase: bool) -> bool {
    a == b || (nocase && a.eq_ignore_ascii_case(&b))
}

/// A bracket class. Without its closing bracket it extends to the end of the pattern.
fn match_class(pattern: &[u8], byte: u8, nocase: bool) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut matched = false;
    let width = loop {
        match pattern[at..] {
            [] => break at,
            [b']', ..] => break at + 1,
            // An escaped byte is compared as it stands, whatever the case rule: Redis does so too.
            [b'\\', literal, ..] => {
                matched |= literal == byte;
                at += 2;
            }
            [from, b'-', to, ..] => {
                let (low, high) = if from <= to { (from, to) } else { (to, from) };
                matched |= if nocase {
                    let range = low.to_ascii_lowercase()..=high.to_ascii_lowercase();
                    range.contains(&byte.to_ascii_lowercase())
                } else {
                    (low..=high).contains(&byte)
                };
                at += 3;
            }
            [literal, ..] => {
                matched |= same(literal, byte, nocase);
                at += 1;
            }
        }
    };
    (matched != negated).then_some(width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, text: &str) -> bool {
        glob_match(pattern.as_bytes(), text.as_bytes(), false)
    }

    #[test]
    fn the_documented_forms_match() {
        for (pattern, text) in [
            ("h?llo", "hallo"),
            ("h*llo", "heeeello"),
            ("h*llo", "hllo"),
            ("h[ae]llo", "hello"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            (r"h\*llo", "h*llo"),
            (r"[\]]", "]"),
            ("a**", "a"),
            ("*a*b*", "xxaxxbxx"),
            ("a[^", "ab"),
            ("[abc", "c"),
            ("a\\", "a\\"),
            ("*", "x"),
            ("", ""),
            ("[a-]", "]"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("h?llo", "hllo"),
            ("h[^e]llo", "hello"),
            ("a", "ab"),
            ("ab", "a"),
            ("*a", "ab"),
            ("", "a"),
            ("*", ""),
            ("[", "["),
            (r"h\*llo", "hello"),
            ("[]", "]"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn case_folds_only_when_asked() {
        assert!(glob_match(b"MaxMem*", b"maxmemory", true));
        assert!(glob_match(b"[A-C]x", b"bX", true));
        assert!(!glob_match(b"[\\A]", b"a", true));
        assert!(!glob_match(b"MaxMem*", b"maxmemory", false));
    }

    #[test]
    fn a_pattern_of_very_many_stars_matches_nothing() {
        let text = vec![b'a'; 5000];
        assert!(glob_match(&b"*?".repeat(MAX_STARS), &text, false));
        assert!(!glob_match(&b"*?".repeat(MAX_STARS + 1), &text, false));
    }

    #[test]
    fn hostile_patterns_cost_no_more_than_their_product() {
        let text = vec![b'a'; 20_000];
        let pattern = [b"a*".repeat(500), b"b".to_vec()].concat();
        assert!(!glob_match(&pattern, &text, false));
    }

    /// The definition, written without regard to cost.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.first(), text.first()) {
            (Some(b'*'), _) => (0..=text.len()).any(|n| by_definition(&pattern[1..], &text[n..])),
            (Some(_), Some(&byte)) => match_one(pattern, byte, false)
                .is_some_and(|width| by_definition(&pattern[width..], &text[1..])),
            (None, None) => true,
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn one_retry_point_is_enough(pattern in r"[ab*?\[\]^\-\\]{0,10}", text in "[ab]{1,10}") {
            prop_assert_eq!(
                glob_match(pattern.as_bytes(), text.as_bytes(), false),
                by_definition(pattern.as_bytes(), text.as_bytes())
            );
        }
    }
}
