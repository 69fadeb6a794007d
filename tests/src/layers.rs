//! Who imports whom inside a crate, and the circles in that.
//!
//! A crate's files are rooms, and imports point down. [`Crate`] reads the sources of one and [`Crate::circles`] names the
//! files that reach each other. Read are the words of the sources, without comments, strings and what is only there for
//! tests: every path that begins with `crate`, `super`, `self` or a module declared in the same file. A name that a module
//! only re-exports counts as the module it comes from, so a front (`mod.rs`) neither hides an arrow nor makes one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A module's path from the root of its crate; the root's is empty.
type Module = Vec<String>;

/// The sources of a crate, each under its module.
#[derive(Default)]
pub struct Crate {
    files: BTreeMap<Module, File>,
}

/// What one file says of others.
#[derive(Default)]
struct File {
    /// Every path in it, from its first word to its last.
    paths: Vec<Vec<String>>,
    /// Names it hands on: the name, and the path it stands for (its last word may be `*`).
    handed_on: Vec<(String, Vec<String>)>,
}

impl Crate {
    /// Of the sources in a folder. Files of tests are left out.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn read(src: &Path) -> std::io::Result<Crate> {
        let mut found = Crate::default();
        let mut folders = vec![src.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() {
                    if name != "tests" {
                        folders.push(path);
                    }
                } else if let Some(stem) = name.strip_suffix(".rs").filter(|stem| *stem != "tests") {
                    let within = path.parent().unwrap_or(src).strip_prefix(src).unwrap_or(Path::new(""));
                    let mut module: Module =
                        within.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                    if !["mod", "lib", "main"].contains(&stem) {
                        module.push(stem.to_owned());
                    }
                    found.add(module, &std::fs::read_to_string(&path)?);
                }
            }
        }
        Ok(found)
    }

    /// Adds a source text under its module.
    pub fn add(&mut self, module: Module, text: &str) {
        self.files.insert(module, File::of(&without_tests(words(text))));
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The circles, each as the files in it by name; empty where every import points down. Where `fronts` do not count,
    /// a part may use what the front of its folder defines, whatever that uses of the part.
    pub fn circles(&self, fronts: bool) -> Vec<Vec<String>> {
        let mut arrows: BTreeMap<&Module, BTreeSet<&Module>> =
            self.files.iter().map(|(from, file)| (from, self.arrows(from, file))).collect();
        if !fronts {
            arrows.iter_mut().for_each(|(from, to)| to.retain(|to| !from.starts_with(to)));
        }
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        let reaches: BTreeMap<&Module, BTreeSet<&Module>> =
            arrows.keys().map(|from| (*from, reached(&arrows, from))).collect();
        for from in arrows.keys() {
            if seen.contains(from) || !reaches[from].contains(from) {
                continue;
            }
            let circle: Vec<&Module> =
                reaches[from].iter().filter(|to| reaches[*to].contains(from)).copied().collect();
            seen.extend(circle.iter().copied());
            circles.push(circle.into_iter().map(shown).collect());
        }
        circles
    }

    fn arrows(&self, from: &Module, file: &File) -> BTreeSet<&Module> {
        let mut to: BTreeSet<&Module> =
            file.paths.iter().filter_map(|path| self.resolve(from, path, HOPS)).collect();
        to.remove(from);
        to
    }

    /// The module a path of `from` leads to.
    fn resolve(&self, from: &Module, path: &[String], hops: usize) -> Option<&Module> {
        let mut at = from.clone();
        let mut rest = path;
        match rest.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            _ => {
                while let Some(word) = rest.first().filter(|word| ["super", "self"].contains(&word.as_str()))
                {
                    if word == "super" {
                        at.pop();
                    }
                    rest = &rest[1..];
                }
            }
        }
        while let Some((word, more)) = rest.split_first() {
            at.push(word.clone());
            if self.files.contains_key(&at) {
                rest = more;
                continue;
            }
            at.pop();
            // No module: an item of `at`, or one that `at` hands on.
            if let Some(target) = self.handed_on(&at, word, hops) {
                return Some(target);
            }
            break;
        }
        self.files.get_key_value(&at).map(|(module, _)| module)
    }

    fn handed_on(&self, front: &Module, name: &str, hops: usize) -> Option<&Module> {
        let file = self.files.get(front).filter(|_| hops > 0)?;
        let (_, path) = file.handed_on.iter().find(|(known, _)| known == name)?;
        self.resolve(front, path, hops - 1)
    }
}

/// Fronts a name may be handed on through, one after the other.
const HOPS: usize = 8;

fn shown(module: &Module) -> String {
    if module.is_empty() { "the root".to_owned() } else { module.join("/") }
}

fn reached<'a>(
    arrows: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&Module> = arrows[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if found.insert(module) {
            next.extend(arrows[module].iter().copied());
        }
    }
    found
}

/// The words and signs of a source text, without comments, strings and characters; `::` is one sign.
fn words(text: &str) -> Vec<String> {
    let bytes: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(&c) = bytes.get(at) {
        let next = bytes.get(at + 1).copied().unwrap_or('\0');
        if c == '/' && next == '/' {
            at += bytes[at..].iter().take_while(|c| **c != '\n').count();
        } else if c == '/' && next == '*' {
            let mut depth = 0;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
                    (Some('*'), Some('/')) => (depth, at) = (depth - 1, at + 2),
                    (None, _) => break,
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if c == '"' {
            at += 1;
            while let Some(&c) = bytes.get(at) {
                at += if c == '\\' { 2 } else { 1 };
                if c == '"' {
                    break;
                }
            }
        } else if c == '\'' {
            // A character, or a lifetime.
            if next == '\\' {
                at += 2;
                while bytes.get(at + 1).is_some_and(|c| *c != '\'') {
                    at += 1;
                }
                at += 2;
            } else {
                at += if bytes.get(at + 2) == Some(&'\'') { 3 } else { 1 };
            }
        } else if is_word(c) {
            let len = bytes[at..].iter().take_while(|c| is_word(**c)).count();
            let word: String = bytes[at..at + len].iter().collect();
            at += len;
            let hashes = bytes[at..].iter().take_while(|c| **c == '#').count();
            if ["r", "br", "cr"].contains(&word.as_str()) && bytes.get(at + hashes) == Some(&'"') {
                let end: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                at += hashes + 1;
                while at < bytes.len() && !bytes[at..].starts_with(&end) {
                    at += 1;
                }
                at += end.len();
            } else {
                found.push(word);
            }
        } else if c == ':' && next == ':' {
            found.push("::".to_owned());
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.to_string());
            }
            at += 1;
        }
    }
    found
}

/// Leaves out every item behind `#[cfg(test)]`.
fn without_tests(words: Vec<String>) -> Vec<String> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        if words[at..].iter().map(String::as_str).take(MARK.len()).eq(MARK) {
            at = end_of_item(&words, at + MARK.len());
        } else {
            kept.push(words[at].clone());
            at += 1;
        }
    }
    kept
}

/// Behind the item (or field, or statement) that begins here: its `;` or `,`, or the end of its block.
fn end_of_item(words: &[String], mut at: usize) -> usize {
    let mut depth = 0usize;
    while let Some(word) = words.get(at) {
        match word.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                if depth == 0 {
                    return at;
                }
                depth -= 1;
                if depth == 0 && word == "}" {
                    return at + 1;
                }
            }
            ";" | "," if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

impl File {
    fn of(words: &[String]) -> File {
        let mut file = File::default();
        let word = |at: usize| words.get(at).map_or("", String::as_str);
        let parts: BTreeSet<&str> = (0..words.len())
            .filter(|at| word(*at) == "mod" && word(at + 2) == ";")
            .map(|at| word(at + 1))
            .collect();
        for at in 0..words.len() {
            let begins = ["crate", "super", "self"].contains(&word(at)) || parts.contains(word(at));
            let before = if at == 0 { "" } else { word(at - 1) };
            if !begins || word(at + 1) != "::" || before == "::" || before == "." {
                continue;
            }
            let mut found = Vec::new();
            tree(words, at, &mut Vec::new(), &mut found);
            let public = before == "use" && is_public(&words[..at - 1]);
            for (path, name) in found {
                if public {
                    file.handed_on.push((name, path));
                } else {
                    file.paths.push(path);
                }
            }
        }
        file
    }
}

/// Whether what stands before a `use` makes it hand on: `pub`, or `pub(crate)` and its like.
fn is_public(before: &[String]) -> bool {
    match before.last().map(String::as_str) {
        Some("pub") => true,
        Some(")") => before.iter().rev().take(4).any(|word| word == "pub"),
        _ => false,
    }
}

/// Reads the paths of a tree that begins at `at`, with the names they get; returns where it ends.
fn tree(
    words: &[String],
    mut at: usize,
    stem: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let depth = stem.len();
    loop {
        if word(at) == "{" {
            at += 1;
            while !["}", ""].contains(&word(at)) {
                at = tree(words, at, stem, found);
                if word(at) == "," {
                    at += 1;
                }
            }
            stem.truncate(depth);
            return at + 1;
        }
        stem.push(word(at).to_owned());
        at += 1;
        // `::<` is an argument, not a part of the path.
        let goes_on = word(at) == "::" && word(at + 1) != "<";
        if !goes_on {
            break;
        }
        at += 1;
    }
    // A macro is known by its crate, not by its module.
    if word(at) != "!" {
        let mut path = stem.clone();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let name = if word(at) == "as" { word(at + 1) } else { path.last().map_or("", String::as_str) };
        found.push((path.clone(), name.to_owned()));
    }
    if word(at) == "as" {
        at += 2;
    }
    stem.truncate(depth);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_up(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        crate_of(files).circles(true)
    }

    fn crate_of(files: &[(&str, &str)]) -> Crate {
        let mut made = Crate::default();
        for (name, text) in files {
            made.add(name.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(), text);
        }
        made
    }

    #[test]
    fn a_circle_is_found_and_its_files_are_named() {
        let found = made_up(&[
            ("", "mod top; mod a; mod b; mod c; mod low;"),
            ("top", "use crate::a::A;"),
            ("a", "use crate::{low::Low, b::{self, B}}; fn f() { b::go() }"),
            ("b", "fn g() { super::c::go(r#\"crate::top\"#) }"),
            ("c", "/* down */ use crate::low; fn h(_: &'static crate::a::A) -> char { '\"' }"),
            ("low", "// use crate::top;\n const TEXT: &str = \"crate::a::A\";"),
        ]);
        assert_eq!(found, [["a", "b", "c"]]);
    }

    #[test]
    fn two_circles_that_do_not_meet_are_two() {
        let found = made_up(&[
            ("", ""),
            ("a", "use super::b;"),
            ("b", "use super::a;"),
            ("c", "use crate::d; use crate::a;"),
            ("d", "use crate::c;"),
        ]);
        assert_eq!(found, [["a", "b"], ["c", "d"]]);
    }

    #[test]
    fn what_is_only_there_for_tests_is_no_arrow() {
        let found = made_up(&[
            ("a", "use crate::b; struct S { #[cfg(test)] seen: crate::b::Seen, x: u8 }"),
            ("b", "#[cfg(test)] mod tests { use crate::a; fn f() { if true { } } } fn real() {}"),
        ]);
        assert_eq!(found, [[""; 0]; 0]);
        let found = made_up(&[
            ("a", "use crate::b;"),
            ("b", "#[cfg(test)] use crate::c; fn real() { crate::a::go::<u8>() }"),
        ]);
        assert_eq!(found, [["a", "b"]]);
    }

    #[test]
    fn a_front_neither_hides_an_arrow_nor_makes_one() {
        // Siblings that name each other by way of their front are a circle; the front is none of it.
        let found = made_up(&[
            ("", "mod room;"),
            ("room", "mod a; mod b; pub(crate) use a::A; pub use self::b::{Bee as B, C};"),
            ("room/a", "use super::B;"),
            ("room/b", "use crate::room::A;"),
        ]);
        assert_eq!(found, [["room/a", "room/b"]]);
        let found = made_up(&[
            ("room", "mod a; mod b; pub(crate) use a::A; pub use b::B;"),
            ("room/a", "use super::B;"),
            ("room/b", ""),
        ]);
        assert_eq!(found, [[""; 0]; 0]);
        // A front that uses its part, which uses the front's own item.
        let made = crate_of(&[("room", "mod a; use a::A; struct Own;"), ("room/a", "use super::Own;")]);
        assert_eq!(made.circles(true), [["room", "room/a"]]);
        assert_eq!(made.circles(false), [[""; 0]; 0]);
    }
}
