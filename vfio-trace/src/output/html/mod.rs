//! Formats the report as one self-contained HTML page, with style, scripts and the document in it.

#[cfg(test)]
pub(super) mod fixture;
mod part;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use crate::report::document::MigrationDocument;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// Scripts of the page. Their order matters: each uses definitions of those before it.
const SCRIPTS: [&str; 7] = [
    include_str!("format.js"),
    include_str!("summary.js"),
    include_str!("details.js"),
    include_str!("lanes.js"),
    include_str!("draw.js"),
    include_str!("picture.js"),
    include_str!("page.js"),
];

/// Returns the page for a document. It runs its own script only and loads nothing from the network: its content
/// security policy forbids the browser anything else. Names in the document cannot leave the block that they are in.
/// Parts that would make it too large for a browser are left out, and the page says so.
///
/// # Errors
///
/// If the document cannot be written as JSON; with the document's own types that does not happen.
pub fn html(document: &MigrationDocument) -> serde_json::Result<String> {
    Ok(page(&embedded(&part::json(document, part::BYTES)?)))
}

/// Fills in the parts of the page. The document comes last, so that nothing in it is taken for a placeholder.
fn page(document: &str) -> String {
    let script = SCRIPTS.concat();
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + script.len() + document.len() + 200);
    let mut rest = PAGE;
    let places: [(&str, &str); 5] = [
        ("%STYLE-HASH%", &source_hash(STYLE)),
        ("%SCRIPT-HASH%", &source_hash(&script)),
        ("%STYLE%", STYLE),
        ("%DOCUMENT%", document),
        ("%SCRIPT%", &script),
    ];
    for (place, value) in places {
        if let Some((before, after)) = rest.split_once(place) {
            page.push_str(before);
            page.push_str(value);
            rest = after;
        }
    }
    page.push_str(rest);
    page
}

/// Returns the hash by which a content security policy allows an inline script or style.
fn source_hash(text: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(text)))
}

/// Returns JSON that can stand in a script element: `<` could end it, and U+2028 and U+2029 were line ends in
/// JavaScript. JSON has none of these outside of strings.
fn embedded(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            '\u{2028}' => safe.push_str("\\u2028"),
            '\u{2029}' => safe.push_str("\\u2029"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_filled_once_and_in_order() {
        let page = page("%SCRIPT% is data");
        for place in ["%STYLE-HASH%", "%SCRIPT-HASH%", "%STYLE%", "%DOCUMENT%"] {
            assert!(!page.contains(place), "{place} is left");
        }
        assert_eq!(page.matches("%SCRIPT%").count(), 1);
        assert!(page.ends_with("</html>\n"));
    }

    #[test]
    fn embedded_json_cannot_end_its_element() {
        let json = serde_json::to_string("</script><!--&amp;\u{2028}\u{2029}ü").unwrap();
        let safe = embedded(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}', '\u{2029}']), "{safe}");
        let back: String = serde_json::from_str(&safe).unwrap();
        assert_eq!(back, "</script><!--&amp;\u{2028}\u{2029}ü");
    }

    #[test]
    fn nothing_in_the_page_can_end_its_own_element() {
        assert!(!STYLE.contains("</"));
        assert!(!SCRIPTS.concat().contains("</script"));
        assert!(!SCRIPTS.concat().contains("innerHTML"));
    }

    /// Writes the pages of all made-up documents, with the documents as JSON, to the folder that `cargo xtask test`
    /// names; it looks at them with a browser.
    #[test]
    fn pages_of_all_kinds_of_documents() {
        let documents = [
            ("merged", fixture::merged()),
            ("hostile", fixture::hostile()),
            ("many", fixture::many()),
            ("bare", fixture::bare()),
        ];
        for (name, document) in documents {
            let page = html(&document).unwrap();
            assert!(!page.contains("<img"), "{name}: a name got out of its block");
            assert_eq!(page.matches("</script>").count(), 2, "{name}");
            for word in ["http:", "https:", "src=\"", "@import"] {
                let ours = page.replace("http://www.w3.org/2000/svg", "");
                assert!(!ours.contains(word), "{name}: {word}");
            }
            if let Some(folder) = std::env::var_os("VFIO_TRACE_PAGES") {
                let folder = std::path::PathBuf::from(folder);
                std::fs::write(folder.join(format!("{name}.html")), page).unwrap();
                let json = serde_json::to_vec(&document).unwrap();
                std::fs::write(folder.join(format!("{name}.json")), json).unwrap();
            }
        }
    }

    #[test]
    fn a_known_hash() {
        assert_eq!(source_hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
