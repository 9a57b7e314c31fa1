//! Checks of the documents: their links lead somewhere, their commands exist, and no option is left out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use clap::CommandFactory as _;

use super::{Check, Found};
use crate::{cmd, workspace};

pub(super) fn checks() -> Vec<Check> {
    vec![
        Check::new("docs: links", |_| links(&documents()?)),
        Check::new("docs: commands", |_| commands(&documents()?)),
    ]
}

/// A document: its path below the workspace, and its text.
type Document = (PathBuf, String);

fn documents() -> Result<Vec<Document>> {
    let root = workspace::root();
    let mut paths = ["README.md", "CONTRIBUTING.md"].map(PathBuf::from).to_vec();
    for entry in fs::read_dir(root.join("docs")).context("cannot read docs")? {
        let name = entry.context("cannot read docs")?.file_name();
        if Path::new(&name).extension().is_some_and(|end| end == "md") {
            paths.push(Path::new("docs").join(name));
        }
    }
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root.join(&path));
        Ok((path.clone(), text.with_context(|| format!("cannot read {}", path.display()))?))
    };
    paths.into_iter().map(read).collect()
}

/// Checks that every link within the workspace has its file, and its heading.
fn links(documents: &[Document]) -> Result<Found> {
    let (mut wrong, mut found) = (Vec::new(), 0);
    for (path, text) in documents {
        for link in link_targets(text) {
            found += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { beside(path, file) };
            let there = workspace::root().join(&target).exists();
            let headings =
                documents.iter().find(|(other, _)| *other == target).map(|(_, text)| anchors(text));
            let leads = there && (anchor.is_empty() || headings.is_some_and(|all| all.contains(anchor)));
            if !leads {
                wrong.push(format!("{}: {link}", path.display()));
            }
        }
    }
    ensure!(wrong.is_empty(), "links that lead nowhere: {}", wrong.join("; "));
    ensure!(found > 20, "only {found} links were found");
    Ok(Found::one(format!("{found} links in {} documents", documents.len())))
}

/// Returns the targets of all `](…)`, without those outside of the workspace.
fn link_targets(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|part| part.split("](").skip(1))
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .filter(|link| !link.contains("://") && !link.starts_with("mailto:"))
        .collect()
}

/// Returns a path as seen from the folder of another, without `..`.
fn beside(path: &Path, link: &str) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.parent().unwrap_or_else(|| Path::new("")).join(link).components() {
        match part {
            Component::ParentDir => _ = out.pop(),
            Component::CurDir => {},
            other => out.push(other),
        }
    }
    out
}

/// Returns the names of headings in links, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let prose = text.split("```").step_by(2).flat_map(str::lines);
    let titles = prose.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut all = BTreeSet::new();
    for title in titles {
        let kept = title.to_lowercase().replace(' ', "-");
        let name: String = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
        let count = seen.entry(name.clone()).or_default();
        all.insert(if *count == 0 { name } else { format!("{name}-{count}") });
        *count += 1;
    }
    all
}

/// Options of a program by verb; those without a verb under "".
type Options = BTreeMap<String, BTreeSet<String>>;

/// Checks that every command in the documents exists, and that every verb and option is in the documents.
fn commands(documents: &[Document]) -> Result<Found> {
    let ours = vfio_trace()?;
    let mut xtask = Options::new();
    options_of(&crate::Cli::command(), "", &mut xtask);
    let (mut wrong, mut shown) = (Vec::new(), 0);
    for (path, text) in documents {
        for code in code(text) {
            for (words, options) in [(&["vfio-trace"][..], &ours), (&["cargo", "xtask"], &xtask)] {
                for call in calls(code, words) {
                    shown += 1;
                    let said = unknown(&call, options).into_iter();
                    wrong.extend(
                        said.map(|what| format!("{}: {what} in `{}`", path.display(), call.join(" "))),
                    );
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "commands that do not exist: {}", wrong.join("; "));
    ensure!(shown > 50, "only {shown} commands were found");
    let all: String = documents.iter().map(|(_, text)| text.as_str()).collect();
    let mut missing = Vec::new();
    for (verb, options) in &ours {
        missing.extend(Some(verb).filter(|verb| !all.contains(verb.as_str())).cloned());
        let untold = options.iter().filter(|option| !has_word(&all, option));
        missing.extend(untold.map(|option| format!("{verb} {option}")));
    }
    ensure!(missing.is_empty(), "no document has: {}", missing.join(", "));
    let count: usize = ours.values().map(BTreeSet::len).sum();
    Ok(Found::one(format!("{shown} commands exist; {} verbs with {count} options are told", ours.len() - 1)))
}

/// Returns true if the text has the option itself, and not only a longer one that begins like it.
fn has_word(text: &str, option: &str) -> bool {
    text.match_indices(option).any(|(at, _)| {
        let next = text.get(at + option.len()..).and_then(|rest| rest.chars().next());
        !next.is_some_and(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// Returns code spans, and the lines of code blocks.
fn code(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    for (nr, part) in text.split("```").enumerate() {
        if nr % 2 == 1 {
            all.extend(part.lines().skip(1));
        } else {
            all.extend(part.split('`').skip(1).step_by(2));
        }
    }
    all
}

/// Returns the words after each call of a program: up to the end of the command, of its options, or to a comment.
fn calls(code: &str, program: &[&str]) -> Vec<Vec<String>> {
    let words: Vec<&str> = code.split_whitespace().collect();
    let mut found = Vec::new();
    for at in 0..words.len() {
        let Some(head) = words.get(at..at + program.len()) else { break };
        let is_program = |(word, name): (&&str, &&str)| word.rsplit('/').next() == Some(*name);
        let before = at.checked_sub(1).and_then(|before| words.get(before));
        let begins = before.is_none_or(|word| {
            matches!(*word, "sudo" | "|" | "&&" | ";" | "$" | "&") || word.contains(['@', '='])
        });
        if !begins || !head.iter().zip(program).all(is_program) {
            continue;
        }
        let ends =
            |word: &&&str| matches!(**word, "|" | "||" | "&&" | ";" | "--" | "&") || word.starts_with('#');
        let rest = words.get(at + program.len()..).unwrap_or_default().iter();
        found.push(rest.take_while(|word| !ends(word)).map(|word| (*word).to_owned()).collect());
    }
    found
}

/// Returns the verbs and options of a call that do not exist.
fn unknown(call: &[String], options: &Options) -> Vec<String> {
    let is_verb = |word: &&String| {
        !word.is_empty()
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            && !word.starts_with('-')
    };
    // `lab run`, `bench report`: verbs of verbs.
    let mut verb = String::new();
    let mut rest = call;
    while let Some((word, more)) = rest.split_first().filter(|(word, _)| is_verb(word)) {
        let longer = if verb.is_empty() { word.clone() } else { format!("{verb} {word}") };
        if !options.contains_key(&longer) {
            break;
        }
        (verb, rest) = (longer, more);
    }
    if verb.is_empty() && rest.first().is_some_and(|word| is_verb(&word)) {
        return vec![format!("no verb {}", rest.join(" "))];
    }
    let known = options.get(&verb).cloned().unwrap_or_default();
    let given = rest.iter().filter_map(|word| {
        let word = word.trim_start_matches(['[', '(']);
        let name = word.strip_prefix("--")?;
        let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
        Some(format!("--{}", name.get(..end)?)).filter(|name| name.len() > 2)
    });
    let global = ["--help", "--version"];
    given.filter(|name| !known.contains(name) && !global.contains(&name.as_str())).collect()
}

/// Returns the verbs and options in `vfio-trace --help` and in its verbs' help.
fn vfio_trace() -> Result<Options> {
    let binary = workspace::bin_dir()?.join("vfio-trace");
    let help = |arguments: &[&str]| cmd::stdout(Command::new(&binary).args(arguments).arg("--help"));
    let mut all = Options::from([(String::new(), told(&help(&[])?))]);
    for verb in verbs(&help(&[])?) {
        let options = told(&help(&[&verb])?);
        all.insert(verb, options);
    }
    // The help does not show the verb that `mount` starts by itself.
    all.insert("mount-guard".to_owned(), BTreeSet::new());
    ensure!(all.len() > 5, "vfio-trace --help shows {} verbs", all.len() - 1);
    Ok(all)
}

/// Returns the verbs of a help text.
fn verbs(help: &str) -> Vec<String> {
    let lines =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let first = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    first
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect()
}

/// Returns the options that a help text explains.
fn told(help: &str) -> BTreeSet<String> {
    let explained = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let names = explained.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    let end = |name: &str| name.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(name.len());
    let plain = names.filter_map(|name| Some(name.get(..end(name))?.to_owned()));
    plain.filter(|name| !matches!(name.as_str(), "--help" | "--version" | "--")).collect()
}

/// Adds the verbs and options of our own command line.
fn options_of(command: &clap::Command, name: &str, all: &mut Options) {
    let options = command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
    all.insert(name.to_owned(), options.collect());
    for verb in command.get_subcommands() {
        let verb_name =
            if name.is_empty() { verb.get_name().to_owned() } else { format!("{name} {}", verb.get_name()) };
        options_of(verb, &verb_name, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_headings() {
        let text = "# The `a` file, and b\n[x](docs/y.md#z), [w](https://e/) [q](#the-a-file-and-b)\n```\n# no\n[n](n)\n```\n## Same\n## Same\n";
        assert_eq!(link_targets(text), ["docs/y.md#z", "#the-a-file-and-b"]);
        let names = anchors(text);
        assert_eq!(
            names.iter().map(String::as_str).collect::<Vec<_>>(),
            ["same", "same-1", "the-a-file-and-b"]
        );
        assert_eq!(beside(Path::new("docs/a.md"), "../README.md"), Path::new("README.md"));
        assert_eq!(beside(Path::new("docs/a.md"), "schema/b.json"), Path::new("docs/schema/b.json"));
        let bad = [(PathBuf::from("README.md"), "[a](nowhere.md)".to_owned())];
        assert!(links(&bad).is_err_and(|why| why.to_string().contains("README.md: nowhere.md")));
    }

    #[test]
    fn calls_in_code() {
        let text = "`vfio-trace list --json` and\n```\nsudo target/release/vfio-trace tail --kind arc -- x --y   # --z\na | vfio-trace replay -\nin words vfio-trace knows\n```\n";
        let all: Vec<Vec<String>> =
            code(text).into_iter().flat_map(|code| calls(code, &["vfio-trace"])).collect();
        let all: Vec<String> = all.iter().map(|call| call.join(" ")).collect();
        assert_eq!(all, ["list --json", "tail --kind arc", "replay -"]);
    }

    #[test]
    fn what_does_not_exist_is_told() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let options = Options::from([
            (String::new(), set(&[])),
            ("lab".to_owned(), set(&[])),
            ("lab run".to_owned(), set(&["--kernel"])),
        ]);
        let unknown = |call: &str| {
            let words: Vec<String> = call.split_whitespace().map(str::to_owned).collect();
            unknown(&words, &options)
        };
        assert_eq!(unknown("lab run [--kernel=6.1|6.12] --help x"), Vec::<String>::new());
        assert_eq!(unknown("lab run --kernels 6.1"), ["--kernels"]);
        assert_eq!(unknown("lap run"), ["no verb lap run"]);
        assert_eq!(unknown("--kernel"), ["--kernel"]);
    }

    #[test]
    fn help_texts() {
        let help = "Does it.\n\nUsage: x\n\nCommands:\n  tail    Show\n          more\n  help    Print\n\nOptions:\n  -q, --quiet\n          No --json\n      --at <TIME>  When\n  -h, --help  Print\n";
        assert_eq!(verbs(help), ["tail"]);
        assert_eq!(told(help).iter().map(String::as_str).collect::<Vec<_>>(), ["--at", "--quiet"]);
        assert!(has_word("`--at`", "--at") && !has_word("--attach", "--at"));
    }
}
