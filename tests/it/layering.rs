//! The architecture, checked against the text of the source: a module uses only those that `lib.rs` lists above it,
//! each foreign crate stays behind its fence, and what is pure stays pure.

use std::fs;
use std::path::Path;

/// Which modules may use a crate.
const FENCES: [(&str, &[&str]); 4] = [
    ("sqlx", &["store"]),
    ("actix_web", &["api", "control", "server"]),
    ("clap", &["cli"]),
    ("config", &["settings"]),
];
/// What decides, permits and records waits for nothing and reads no clock.
const PURE: [&str; 3] = ["domain", "access", "audit"];
const IMPURE_WORDS: [&str; 3] = ["async", "await", "SystemTime"];

/// The modules of `lib.rs`, in its order.
fn modules(lib: &str) -> Vec<&str> {
    lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect()
}

/// The words of a source text, without its comments; `::` is a word of its own.
fn words(source: &str) -> Vec<&str> {
    let code = source.lines().map(|line| line.split("//").next().unwrap_or_default());
    let is_break = |character: char| !(character.is_alphanumeric() || "_:$".contains(character));
    let words = code.flat_map(|line| line.split(is_break)).filter(|word| !word.is_empty());
    words.flat_map(|word| word.split_inclusive("::")).collect()
}

/// Everything that a file of `module` may not do, and does.
fn violations(order: &[&str], module: &str, source: &str) -> Vec<String> {
    let layer = |module: &str| order.iter().position(|name| *name == module);
    let Some(own) = layer(module) else { return vec![format!("{module} is not in lib.rs")] };
    let words = words(source);
    let mut found = Vec::new();
    if source.contains("crate::{") {
        found.push(format!(
            "{module} imports from crate::{{…}}: write each import out, so that it can be checked"
        ));
    }
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map_or("", |next| next.trim_end_matches(':'));
        let is_path_start = at == 0 || !words[at - 1].ends_with("::");
        match word.strip_suffix("::") {
            Some("crate") if layer(next).is_none() => found.push(format!("crate::{next} names no module")),
            Some("crate") if layer(next) > Some(own) => {
                found.push(format!("{module} uses {next}, which lib.rs lists below it"));
            }
            Some(name) if is_path_start => {
                for (_, allowed) in FENCES.iter().filter(|(fenced, _)| *fenced == name) {
                    if !allowed.contains(&module) {
                        found.push(format!("{module} uses {name}, which is for {allowed:?}"));
                    }
                }
            }
            _ if PURE.contains(&module) && IMPURE_WORDS.contains(word) => {
                found.push(format!("{module} is pure, and has {word}"));
            }
            _ => {}
        }
    }
    found
}

/// Every Rust file under `folder`, with its path from `src`.
fn sources(folder: &Path, prefix: &str) -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            sources.extend(self::sources(&path, &format!("{name}/")));
        } else {
            sources.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    sources
}

#[test]
fn a_module_uses_only_the_modules_above_it_and_the_crates_it_may() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let order = modules(&lib);
    let mut found = Vec::new();
    for (path, source) in sources(&src, "") {
        if path != "main.rs" && path != "lib.rs" {
            let module = path.split(['/', '.']).next().unwrap();
            found.extend(
                violations(&order, module, &source).into_iter().map(|what| format!("src/{path}: {what}")),
            );
        }
    }
    found.dedup();
    assert!(found.is_empty(), "lib.rs lists {order:?}\n{}", found.join("\n"));
}

#[test]
fn the_check_sees_what_it_is_there_for() {
    let order =
        modules("/// One.\npub mod domain;\n\n/// Two.\npub mod store;\npub mod api;\npub mod settings;\n");
    assert_eq!(order, ["domain", "store", "api", "settings"]);
    let bad = [
        ("domain", "use crate::store::Store;"),
        ("domain", "fn f() { crate::api::json() }"),
        ("store", "use crate::api;"),
        ("store", "use crate::{domain, api};"),
        ("store", "use crate::nowhere::X;"),
        ("elsewhere", ""),
        ("api", "use sqlx::Row;"),
        ("api", "fn f(conn: &mut sqlx::SqliteConnection) {}"),
        ("store", "use actix_web::web;"),
        ("store", "use clap::Parser;"),
        ("store", "use config::Config;"),
        ("domain", "async fn f() {}"),
        ("domain", "f().await"),
        ("domain", "use std::time::SystemTime;"),
    ];
    for (module, source) in bad {
        assert_eq!(violations(&order, module, source).len(), 1, "{module}: {source}");
    }
    let good = [
        ("store", "use crate::domain::id::GroupId; use crate::store::sqlite; use sqlx::Row;"),
        ("store", "async fn f() { g().await }"),
        ("api", "use actix_web::web; // unlike crate::settings, sqlx::Row"),
        ("api", "/// No sqlx::Row, no crate::settings.\nconfig.service(x); my::config::x(); mysqlx::y()"),
        ("domain", "//! No async, no SystemTime, no .await.\nfn is_async() {}"),
        ("settings", "use config::Config; use crate::api::HttpLimits;"),
    ];
    for (module, source) in good {
        assert_eq!(violations(&order, module, source), Vec::<String>::new(), "{module}: {source}");
    }
}
