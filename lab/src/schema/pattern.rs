//! The regular expressions of our schemas: anchored, of literals, classes, groups of alternatives, `+`, `*` and `{n}`.

/// What stands at one place, and how often.
#[derive(Debug)]
struct Piece {
    atom: Atom,
    least: usize,
    most: usize,
}

#[derive(Debug)]
enum Atom {
    Byte(u8),
    Class(Vec<(u8, u8)>),
    Group(Vec<Vec<Piece>>),
}

/// Whether the whole text is as the pattern says.
pub(super) fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let inner = pattern.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
    let mut rest = inner.ok_or_else(|| format!("{pattern} is not anchored"))?.as_bytes();
    let alternatives = alternatives(&mut rest)?;
    if !rest.is_empty() {
        return Err(format!("{pattern} closes more groups than it opens"));
    }
    Ok(any_of(&alternatives, text.as_bytes(), &|rest| rest.is_empty()))
}

fn alternatives(rest: &mut &[u8]) -> Result<Vec<Vec<Piece>>, String> {
    let mut all = vec![Vec::new()];
    while let Some((&first, after)) = rest.split_first() {
        if first == b')' {
            break;
        }
        *rest = after;
        if first == b'|' {
            all.push(Vec::new());
            continue;
        }
        let atom = match first {
            b'(' => {
                let group = alternatives(rest)?;
                *rest = rest.strip_prefix(b")").ok_or("a group without an end")?;
                Atom::Group(group)
            },
            b'[' => class(rest)?,
            b'\\' => {
                let (&escaped, after) = rest.split_first().ok_or("a \\ at the end")?;
                *rest = after;
                Atom::Byte(escaped)
            },
            b'.' | b'?' | b'+' | b'*' | b'{' => {
                return Err(format!("the checker does not know {} there", char::from(first)));
            },
            other => Atom::Byte(other),
        };
        let (least, most) = repeated(rest)?;
        if let Some(last) = all.last_mut() {
            last.push(Piece { atom, least, most });
        }
    }
    Ok(all)
}

fn class(rest: &mut &[u8]) -> Result<Atom, String> {
    let mut ranges = Vec::new();
    loop {
        let bytes = *rest;
        match bytes {
            [b']', after @ ..] => {
                *rest = after;
                return Ok(Atom::Class(ranges));
            },
            [first, b'-', last, after @ ..] if *last != b']' => {
                ranges.push((*first, *last));
                *rest = after;
            },
            [one, after @ ..] => {
                ranges.push((*one, *one));
                *rest = after;
            },
            [] => return Err("a class without an end".to_owned()),
        }
    }
}

fn repeated(rest: &mut &[u8]) -> Result<(usize, usize), String> {
    let bytes = *rest;
    let (range, after) = match bytes {
        [b'+', after @ ..] => ((1, usize::MAX), after),
        [b'*', after @ ..] => ((0, usize::MAX), after),
        [b'{', digit @ b'0'..=b'9', b'}', after @ ..] => {
            let count = usize::from(digit - b'0');
            ((count, count), after)
        },
        [b'{', ..] => return Err("the checker knows {n} with one digit only".to_owned()),
        _ => return Ok((1, 1)),
    };
    *rest = after;
    Ok(range)
}

fn any_of(alternatives: &[Vec<Piece>], text: &[u8], then: &dyn Fn(&[u8]) -> bool) -> bool {
    alternatives.iter().any(|pieces| in_order(pieces, 0, text, then))
}

/// `done`: how often the first piece was there already.
fn in_order(pieces: &[Piece], done: usize, text: &[u8], then: &dyn Fn(&[u8]) -> bool) -> bool {
    let Some((piece, others)) = pieces.split_first() else { return then(text) };
    let once_more = |rest: &[u8]| rest.len() < text.len() && in_order(pieces, done + 1, rest, then);
    let more = done < piece.most
        && match &piece.atom {
            Atom::Byte(byte) => text.split_first().is_some_and(|(c, rest)| c == byte && once_more(rest)),
            Atom::Class(ranges) => text.split_first().is_some_and(|(c, rest)| {
                ranges.iter().any(|(first, last)| (first..=last).contains(&c)) && once_more(rest)
            }),
            Atom::Group(group) => any_of(group, text, &once_more),
        };
    more || done >= piece.least && in_order(others, 0, text, then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_our_schemas() {
        for (pattern, text, right) in [
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "ENOMSG", true),
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "errno 4000", true),
            ("^(E[A-Z0-9_]+|errno [0-9]+)$", "einval", false),
            (r"^(STOP|Invalid\([0-9]+\))$", "Invalid(9)", true),
            (r"^(STOP|Invalid\([0-9]+\))$", "Invalid", false),
            (r"^[0-9]{4}\.[0-9]{2}Z$", "2026.11Z", true),
            (r"^[0-9]{4}\.[0-9]{2}Z$", "2026.1Z", false),
            (r"^[0-9]{4}\.[0-9]{2}Z$", "2026.111Z", false),
            ("^[a-z0-9]+(-[a-z0-9]+)*$", "cap-sys-admin", true),
            ("^[a-z0-9]+(-[a-z0-9]+)*$", "bpf", true),
            ("^[a-z0-9]+(-[a-z0-9]+)*$", "cap-", false),
            ("^[a-z0-9]+(-[a-z0-9]+)*$", "cap--bpf", false),
            ("^(a*)*$", "aaaa", true),
            ("^(a*)*$", "aab", false),
        ] {
            assert_eq!(matches(pattern, text), Ok(right), "{text}");
        }
    }

    #[test]
    fn others_are_refused() {
        for pattern in ["a", "^a?$", "^(a$", "^a)$", "^[a$", "^a{12}$", "^.$", "^\\$"] {
            assert!(matches(pattern, "a").is_err(), "{pattern}");
        }
    }
}
