//! Reads the mirror from the system's own apt sources, in both formats that apt knows.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};

use crate::setup::apt::View;

/// One repository line of the system's sources.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    uri: String,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// Reads deb822 paragraphs (`*.sources`).
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for paragraph in text.split("\n\n") {
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in paragraph.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = fields.get_mut(&last) {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((key, value)) = line.split_once(':') {
                last = key.trim().to_ascii_lowercase();
                fields.insert(last.clone(), value.trim().to_owned());
            }
        }
        let words = |key: &str| -> Vec<String> {
            fields
                .get(key)
                .map(|value| value.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default()
        };
        if fields.get("enabled").is_some_and(|value| value == "no")
            || !words("types").iter().any(|t| t == "deb")
        {
            continue;
        }
        for uri in words("uris") {
            found.push(Source {
                uri,
                suites: words("suites"),
                components: words("components"),
                // An inline key block is left to apt's trusted keys.
                signed_by: fields.get("signed-by").filter(|value| value.starts_with('/')).cloned(),
            });
        }
    }
    found
}

/// Reads one-line sources (`sources.list`, `*.list`).
fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default().trim();
            let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
            let (options, rest) = match rest.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?,
                None => ("", rest),
            };
            let mut words = rest.split_whitespace().map(str::to_owned);
            Some(Source {
                uri: words.next()?,
                suites: vec![words.next()?],
                components: words.collect(),
                signed_by: options
                    .split_whitespace()
                    .find_map(|option| option.strip_prefix("signed-by="))
                    .map(str::to_owned),
            })
        })
        .collect()
}

/// Returns the system's sources, from all the places that apt reads.
pub(super) fn system(etc: &Path) -> Vec<Source> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => found.extend(parse_deb822(&text)),
            Some("list") => found.extend(parse_one_line(&text)),
            _ => {},
        }
    }
    found
}

/// Returns the sources list of a view, derived from the system's: its mirror, other suites.
pub(super) fn derive(sources: &[Source], codename: &str, view: &View) -> Result<String> {
    let archive = sources
        .iter()
        .find(|source| {
            source.suites.iter().any(|suite| suite == codename)
                && source.components.iter().any(|c| c == "main")
        })
        .with_context(|| {
            format!(
                "no Debian mirror found: none of apt's sources has suite {codename} with component main; \
                 add one to /etc/apt/sources.list.d and run this again"
            )
        })?;
    let security_uri = sources
        .iter()
        .find(|source| source.suites.iter().any(|suite| suite == &format!("{codename}-security")))
        .map_or_else(
            || format!("{}-security", archive.uri.trim_end_matches('/')),
            |source| source.uri.clone(),
        );
    let options = archive.signed_by.as_ref().map_or_else(String::new, |key| format!(" [signed-by={key}]"));
    let main = view.suites.iter().map(|suite| format!("deb{options} {} {suite} main\n", archive.uri));
    let security = view.security.iter().map(|suite| format!("deb{options} {security_uri} {suite} main\n"));
    Ok(main.chain(security).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::apt;

    const DEB822: &str = "Types: deb\n# a comment\nURIs: http://mirror.test/debian\nSuites: bookworm bookworm-updates\n\
                          Components: main\nSigned-By: /usr/share/keyrings/k.gpg\n\nTypes: deb\n\
                          URIs: http://mirror.test/sec\nSuites: bookworm-security\nComponents: main\n\n\
                          Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn both_formats_name_the_mirror() {
        let list = derive(&parse_deb822(DEB822), "bookworm", &apt::HOST).unwrap();
        assert!(list.contains(
            "deb [signed-by=/usr/share/keyrings/k.gpg] http://mirror.test/debian trixie-backports main\n"
        ));
        assert!(list.contains("http://mirror.test/sec bookworm-security main\n"));
        assert!(!list.contains("off.test"));

        let old = "# x\ndeb [arch=amd64 signed-by=/k] http://m.test/debian/ bookworm main contrib # y\ndeb-src http://s bookworm main\n";
        let sources = parse_one_line(old);
        assert_eq!(sources.len(), 1);
        let list = derive(&sources, "bookworm", &apt::HOST).unwrap();
        assert!(
            list.contains("deb [signed-by=/k] http://m.test/debian-security bookworm-security main\n"),
            "{list}"
        );
    }

    #[test]
    fn the_compilers_suite_stays_out_of_the_hosts_view() {
        let sources = parse_deb822(DEB822);
        let host = derive(&sources, "bookworm", &apt::HOST).unwrap();
        assert!(!host.contains(" trixie main"), "{host}");
        let trixie = derive(&sources, "bookworm", &apt::TRIXIE).unwrap();
        assert!(trixie.contains("http://mirror.test/debian trixie main\n"), "{trixie}");
        assert!(!trixie.contains("bookworm"), "{trixie}");
    }

    #[test]
    fn no_mirror_is_one_clear_line() {
        let error = derive(&parse_deb822(DEB822), "sid", &apt::HOST).unwrap_err().to_string();
        assert!(error.contains("no Debian mirror found"), "{error}");
    }
}
