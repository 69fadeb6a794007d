//! What newer primaries write into their stream, in words we know.
//!
//! A primary logs what happened, and newer ones have shorter words for it: Redis 8 logs `HINCRBYFLOAT` as `HSETEX`. Where the effect
//! is one we can have, it is said with our commands. Conditions (`FNX`, `IFEQ`…) were decided by the primary: what it
//! logs took place. Expiries of single fields are not ours to have: such a command stays what it is, and fails.

/// A command's words.
pub(super) type Words<'a> = Vec<&'a [u8]>;

/// Our commands for one of a newer server's, in order; none where there are none, or it needs none.
pub(super) fn translate<'a>(args: &[&'a [u8]]) -> Option<Vec<Words<'a>>> {
    let name = *args.first()?;
    if name.eq_ignore_ascii_case(b"set") {
        return set(args);
    }
    if name.eq_ignore_ascii_case(b"hsetex") {
        return hsetex(args);
    }
    if name.eq_ignore_ascii_case(b"msetex") {
        return msetex(args);
    }
    let deletes = name.eq_ignore_ascii_case(b"delex") || name.eq_ignore_ascii_case(b"delifeq");
    (deletes && args.len() > 1).then(|| vec![vec![&b"DEL"[..], args[1]]])
}

fn is_one_of(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
}

/// `SET key value … IFEQ other …`
fn set<'a>(args: &[&'a [u8]]) -> Option<Vec<Words<'a>>> {
    let options = args.get(3..)?;
    let at = options.iter().position(|w| is_one_of(w, &["IFEQ", "IFNE", "IFDEQ", "IFDNE"]))?;
    options.get(at + 1)?;
    let (before, after) = (&options[..at], &options[at + 2..]);
    Some(vec![[&args[..3], before, after].concat()])
}

/// `HSETEX key [FNX | FXX] [KEEPTTL | EX … ] FIELDS n field value …`
fn hsetex<'a>(args: &[&'a [u8]]) -> Option<Vec<Words<'a>>> {
    let key = *args.get(1)?;
    let options = args.get(2..)?;
    let at = options.iter().position(|w| !is_one_of(w, &["FNX", "FXX", "KEEPTTL"]))?;
    let [word, count, pairs @ ..] = &options[at..] else { return None };
    let counted = sluice_engine::internals::num::parse_i64(count).and_then(|n| usize::try_from(n).ok());
    let whole = word.eq_ignore_ascii_case(b"fields")
        && !pairs.is_empty()
        && counted.and_then(|n| n.checked_mul(2)) == Some(pairs.len());
    whole.then(|| vec![[&[&b"HSET"[..], key], pairs].concat()])
}

/// `MSETEX n key value … [NX | XX] [KEEPTTL | PXAT …]`
fn msetex<'a>(args: &[&'a [u8]]) -> Option<Vec<Words<'a>>> {
    let n = usize::try_from(sluice_engine::internals::num::parse_i64(args.get(1)?)?).ok()?;
    let rest = args.get(2..)?;
    let pairs = rest.get(..n.checked_mul(2)?)?;
    let options = rest[pairs.len()..].iter().copied().filter(|w| !is_one_of(w, &["NX", "XX"]));
    let options: Words<'a> = options.collect();
    let all = pairs.chunks(2).map(|pair| [&[&b"SET"[..]], pair, &options].concat()).collect::<Vec<_>>();
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Option<String> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let words = translate(&args)?;
        let lines: Vec<String> = words.iter().map(|w| String::from_utf8(w.join(&b' ')).unwrap()).collect();
        Some(lines.join("; "))
    }

    #[test]
    fn what_newer_primaries_say_has_its_effect_in_our_words() {
        for (theirs, ours) in [
            ("HSETEX h KEEPTTL FIELDS 1 f 1.5", "HSET h f 1.5"),
            ("hsetex h FNX FIELDS 2 a 1 b 2", "HSET h a 1 b 2"),
            ("MSETEX 2 a 1 b 2", "SET a 1; SET b 2"),
            ("MSETEX 1 a 1 NX PXAT 9000000000000", "SET a 1 PXAT 9000000000000"),
            ("SET k v IFEQ w", "SET k v"),
            ("SET k v PXAT 9000000000000 IFEQ w", "SET k v PXAT 9000000000000"),
            ("DELEX k IFEQ v", "DEL k"),
            ("DELIFEQ k v", "DEL k"),
        ] {
            assert_eq!(said(theirs).as_deref(), Some(ours), "{theirs}");
        }
    }

    #[test]
    fn what_we_cannot_have_and_what_needs_no_words_stays_as_it_is() {
        for theirs in [
            "HSETEX h PXAT 9000000000000 FIELDS 1 f v",
            "HSETEX h FIELDS 2 f v",
            "HSETEX h FIELDS",
            "HSETEX h",
            "MSETEX 2 a 1 b",
            "MSETEX 9223372036854775807 a 1",
            "MSETEX",
            "SET k v",
            "SET k v PXAT 9000000000000",
            "SET k v IFEQ",
            "SET",
            "DELEX",
            "GET k",
        ] {
            assert_eq!(said(theirs), None, "{theirs}");
        }
    }
}
