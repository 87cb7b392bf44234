//! No module of any crate imports, directly or through others, a module beside it that imports it.
//!
//! In each folder of modules the imports between its members, with all that is inside each, must form no
//! circle. A module and its parent may know each other: what the parent defines is its children's.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may panic: that is how it fails"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A path in a crate, without `crate`.
type Segments = Vec<String>;

#[test]
fn no_module_is_in_a_circle_of_imports() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let sources = sources(root);
    assert!(sources.len() > 10, "{sources:?}");
    let circles: Vec<_> = sources
        .iter()
        .flat_map(|folder| {
            let name = folder.strip_prefix(root).unwrap().display().to_string();
            let circles = Tree::read(folder).circles();
            circles.into_iter().map(move |it| format!("{name}: {it}"))
        })
        .collect();
    assert!(circles.is_empty(), "\n{}", circles.join("\n"));
}

/// The folders `src` of all crates below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if !path.is_dir() || name.starts_with('.') || name == "target" {
            continue;
        }
        if name == "src" && folder.join("Cargo.toml").exists() {
            found.push(path);
        } else {
            found.extend(sources(&path));
        }
    }
    found.sort();
    found
}

/// A crate's modules.
#[derive(Default)]
struct Tree(BTreeMap<Segments, Module>);

#[derive(Default)]
struct Module {
    /// The paths it names, absolute.
    uses: Vec<Segments>,
    /// The names it imports, and what they are.
    names: BTreeMap<String, Segments>,
}

impl Tree {
    fn read(folder: &Path) -> Self {
        let mut texts = BTreeMap::new();
        texts_in(folder, &[], &mut texts);
        Self::of(&texts)
    }

    /// The tree of modules with these texts.
    fn of(texts: &BTreeMap<Segments, String>) -> Self {
        let mut tree = Self::default();
        for (path, text) in texts {
            let is_child = |name: &str| texts.contains_key(&joined(path, [name]));
            let mut module = Module::default();
            for (is_import, leaf) in leaves(&tokens(text)) {
                let Some(target) = absolute(path, &leaf.path, is_child) else {
                    continue;
                };
                if is_import && let Some(name) = leaf.alias.or_else(|| target.last().cloned()) {
                    module.names.insert(name, target.clone());
                }
                module.uses.push(target);
            }
            tree.0.insert(path.clone(), module);
        }
        tree
    }

    /// The module that defines what `path` names, past re-exports.
    fn home(&self, path: &[String], patience: usize) -> Segments {
        for length in 0..path.len() {
            let (module, rest) = path.split_at(length);
            if self.0.contains_key(&path[..=length]) {
                continue;
            }
            let imported = self.0.get(module).and_then(|it| it.names.get(&rest[0]));
            return match imported {
                Some(target) if patience > 0 && !target.starts_with(&path[..=length]) => {
                    self.home(&[target, &rest[1..]].concat(), patience - 1)
                }
                _ => module.to_vec(),
            };
        }
        path.to_vec()
    }

    /// One line for each circle.
    fn circles(&self) -> Vec<String> {
        type Graph<'t> = BTreeMap<&'t str, BTreeMap<String, String>>;
        let mut folders: BTreeMap<Segments, Graph<'_>> = BTreeMap::new();
        for (from, module) in &self.0 {
            for path in &module.uses {
                let to = self.home(path, 8);
                let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                if let (Some(one), Some(other)) = (from.get(common), to.get(common)) {
                    let graph = folders.entry(from[..common].to_vec()).or_default();
                    let why = format!("{} imports {}", from.join("::"), to.join("::"));
                    graph.entry(one).or_default().insert(other.clone(), why);
                }
            }
        }
        folders
            .values()
            .filter_map(|graph| {
                let reaches = |from: &str, to: &str| {
                    let mut seen = BTreeSet::new();
                    let mut open = vec![from.to_owned()];
                    while let Some(at) = open.pop() {
                        let next = graph.get(at.as_str()).into_iter().flat_map(BTreeMap::keys);
                        open.extend(next.filter(|it| seen.insert(it.to_string())).cloned());
                    }
                    seen.contains(to)
                };
                let inside: Vec<_> = graph
                    .iter()
                    .flat_map(|(from, to)| to.iter().map(move |(to, why)| (*from, to, why)))
                    .filter(|(from, to, _)| reaches(to, from))
                    .map(|(_, _, why)| why.as_str())
                    .collect();
                (!inside.is_empty()).then(|| inside.join("; "))
            })
            .collect()
    }
}

fn joined<'a>(path: &[String], more: impl IntoIterator<Item = &'a str>) -> Segments {
    let more = more.into_iter().map(str::to_owned);
    path.iter().cloned().chain(more).collect()
}

/// Adds the text of each module in `folder`, without tests.
fn texts_in(folder: &Path, path: &[String], texts: &mut BTreeMap<Segments, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_stem().unwrap().to_str().unwrap();
        if matches!(name, "tests" | "testing") {
            continue;
        }
        if file.is_dir() {
            texts_in(&file, &joined(path, [name]), texts);
        } else if file.extension().is_some_and(|it| it == "rs") {
            let module = match name {
                "mod" | "lib" | "main" => path.to_vec(),
                name => joined(path, [name]),
            };
            let text = fs::read_to_string(&file).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            texts.entry(module).or_default().push_str(code);
        }
    }
}

/// The words and the marks of a text, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '"' => quoted(rest),
            'r' if rest.starts_with("r\"") || rest.starts_with("r#\"") => {
                let hashes = rest[1..].find('"').unwrap();
                let end = format!("\"{}", "#".repeat(hashes));
                let begin = hashes + 2;
                begin + rest[begin..].find(&end).unwrap() + end.len()
            }
            '\'' => character(rest),
            ':' if rest.starts_with("::") => {
                tokens.push("::".to_owned());
                2
            }
            letter if letter.is_alphanumeric() || letter == '_' => {
                let is_end = |c: char| !c.is_alphanumeric() && c != '_';
                let end = rest.find(is_end).unwrap_or(rest.len());
                tokens.push(rest[..end].to_owned());
                end
            }
            space if space.is_whitespace() => space.len_utf8(),
            mark => {
                tokens.push(mark.to_string());
                mark.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the string literal that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of the character literal that `text` begins with, or of a lifetime's mark.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match (characters.next(), characters.next()) {
        (Some((_, '\\')), Some(_)) => characters
            .find(|(_, c)| *c == '\'')
            .map_or(1, |(at, _)| at + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// A path that is named, and how it is called afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leaf {
    path: Segments,
    alias: Option<String>,
}

/// All paths in `tokens` that may lead to a module of this crate, and whether each is an import.
fn leaves(tokens: &[String]) -> Vec<(bool, Leaf)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let is_import = token == "use";
        let is_path = matches!(token.as_str(), "crate" | "super" | "self")
            && tokens.get(at + 1).is_some_and(|next| next == "::");
        let mut inside = Vec::new();
        at = match () {
            () if is_import => tree(tokens, at + 1, &[], &mut inside),
            () if is_path => tree(tokens, at, &[], &mut inside),
            () => at + 1,
        };
        found.extend(inside.into_iter().map(|leaf| (is_import, leaf)));
    }
    found
}

/// Adds the paths of the tree of imports at `at`; where it ends.
fn tree(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Leaf>) -> usize {
    let is = |at: usize, what: &str| tokens.get(at).is_some_and(|token| token == what);
    let mut path = prefix.to_vec();
    loop {
        if is(at, "{") {
            at += 1;
            while at < tokens.len() && !is(at, "}") {
                at = tree(tokens, at, &path, found);
                at += usize::from(is(at, ","));
            }
            return at + 1;
        }
        match tokens.get(at).map(String::as_str) {
            Some("*") => at += 1,
            Some(word) if word.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                path.push(word.to_owned());
                at += 1;
                if is(at, "::") && !is(at + 1, "<") {
                    at += 1;
                    continue;
                }
            }
            _ => at += 1,
        }
        let mut alias = None;
        if is(at, "as") {
            alias = tokens.get(at + 1).cloned();
            at += 2;
        }
        found.push(Leaf { path, alias });
        return at;
    }
}

/// The path that `path` is in the module `module`, if it leads into this crate.
fn absolute(
    module: &[String],
    path: &[String],
    is_child: impl Fn(&str) -> bool,
) -> Option<Segments> {
    let (first, rest) = path.split_first()?;
    let rest = rest.iter().filter(|segment| *segment != "self");
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module.split_last()?.1.to_vec(),
        child if is_child(child) => joined(module, [child]),
        _ => return None,
    };
    for segment in rest {
        match segment.as_str() {
            "super" => drop(base.pop()),
            segment => base.push(segment.to_owned()),
        }
    }
    Some(base)
}

fn tree_of(texts: &[(&str, &str)]) -> Tree {
    let module = |path: &str| {
        let segments = path.split("::").filter(|it| !it.is_empty());
        segments.map(str::to_owned).collect()
    };
    let texts = texts.iter();
    Tree::of(
        &texts
            .map(|(path, text)| (module(path), (*text).to_owned()))
            .collect(),
    )
}

#[test]
fn circles_are_found_however_they_are_written() {
    for (one, other) in [
        ("use crate::b::B;", "use crate::a::A;"),
        ("use super::b::{self, B};", "fn f() { super::a::f() }"),
        ("use super::{c, B};", "use crate::c::C;"),
        (
            "use crate::{x::Y, b::*};",
            "use super::super::b::super::a::A as C;",
        ),
    ] {
        let texts = [
            ("", "mod a; mod b; mod c; pub use b::B;"),
            ("a", one),
            ("b", other),
            ("c", "use crate::a::inner::Z;"),
            ("a::inner", ""),
        ];
        assert_eq!(tree_of(&texts).circles().len(), 1, "{one} {other}");
    }
}

#[test]
fn what_is_no_circle_is_none() {
    let texts = [
        ("", "mod a; mod b; use a::A; struct R;"),
        (
            "a",
            "use super::R; mod inner; // use crate::b::B;\nconst S: &str = \"crate::b::B\";",
        ),
        ("a::inner", "use super::A; use super::super::R;"),
        (
            "b",
            "use crate::{a, R}; use std::b::C; const Q: char = '\"'; use super::a::A;",
        ),
    ];
    assert_eq!(tree_of(&texts).circles(), Vec::<String>::new());
}
