//! Promise: a grant allows what its texts say and nothing else. An oracle, written from the documentation by naive
//! matching over the texts, answers the same hundred thousand random questions; the seed is printed.

use tidegate::rights::grant::{Action, Grant, PERMISSIONS_MAX, Permission, PermissionError};
use tidegate::rights::pattern::{PATTERN_BYTES_MAX, Pattern, PatternError};

const QUESTIONS: usize = 100_000;

/// A question to a grant.
#[derive(Clone, Copy, Debug)]
enum Question<'a> {
    /// Whether an action is allowed.
    May(Action<'a>),
    /// Whether an event that requires this may be seen: in a room, or, with `None`, in an inbox or a broadcast.
    Holds(&'a str, Option<&'a str>),
}

/// Returns whether `user` with these permissions may do it.
fn answer(permissions: &[String], user: Option<&str>, question: Question<'_>) -> bool {
    let has = |name: &str, about: Option<&str>| {
        permissions.iter().any(|text| match text.strip_prefix(name) {
            Some("") => true,
            Some(rest) => rest.starts_with(':') && about.is_some_and(|about| covers(&rest[1..], user, about)),
            None => false,
        })
    };
    match question {
        Question::May(Action::Read(room)) => has("sse:read", Some(room)),
        Question::May(Action::ListenAs(other)) => has("sse:user", Some(other)),
        Question::May(Action::Publish(room)) => has("sse:publish", Some(room)),
        Question::May(Action::PublishAnywhere) => has("sse:publish", None),
        Question::May(Action::Members(room)) => has("sse:members", Some(room)) || has("admin", Some(room)),
        Question::May(Action::Online) => has("sse:members", None) || has("admin", None),
        Question::May(Action::Disconnect(room)) => has("admin", Some(room)),
        Question::May(Action::Administer) => has("admin", None),
        Question::Holds(name, about) => has(name, about),
    }
}

/// Compares pattern and name side by side.
fn covers(pattern: &str, user: Option<&str>, name: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if let (Some(rest), Some(user)) = (pattern.strip_prefix("{user}"), user) {
        return name.strip_prefix(user).is_some_and(|name| covers(rest, Some(user), name));
    }
    let (wanted, rest) = match pattern.as_bytes() {
        [] => return name.is_empty(),
        [b'{', ..] => return false,
        [b'%', ..] => (u8::from_str_radix(&pattern[1..3], 16).expect("digits"), &pattern[3..]),
        [byte, ..] => (*byte, &pattern[1..]),
    };
    name.as_bytes().first() == Some(&wanted) && covers(rest, user, &name[1..])
}

/// Pieces of the names of rooms and users. ASCII, so that the oracle can compare byte by byte.
const PIECES: [&str; 14] = ["a", "b", "ab", "A", "*", ":", "{user}", "{", "}", "%", "%2A", "-", "/", " "];

fn name(rng: &mut fastrand::Rng) -> String {
    (0..rng.usize(1..5)).map(|_| *rng.choice(&PIECES).expect("pieces")).collect()
}

/// Escapes `text` so that every character stands for itself.
fn literal(rng: &mut fastrand::Rng, text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if b"*{}%".contains(&byte) || rng.u8(..8) == 0 {
            let digits = if rng.bool() { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
            encoded.push_str(&digits);
        } else {
            encoded.push(byte.into());
        }
    }
    encoded
}

/// Returns a pattern that has a chance to cover `about`.
fn pattern(rng: &mut fastrand::Rng, about: &str, user: Option<&str>) -> String {
    let base = if rng.u8(..4) == 0 { name(rng) } else { about.to_owned() };
    let end = rng.usize(..=base.len());
    let (kept, open) = if rng.bool() { (&base[..end], "*") } else { (&base[..], "") };
    let text = match user.filter(|_| rng.bool()) {
        Some(user) => {
            let parts: Vec<String> = kept.split(user).map(|part| literal(rng, part)).collect();
            parts.join("{user}")
        }
        None => literal(rng, kept),
    };
    let text = text + if rng.u8(..8) == 0 { "{user}" } else { "" } + open;
    if text.is_empty() { "*".to_owned() } else { text }
}

fn permission(rng: &mut fastrand::Rng, about: &str, user: Option<&str>) -> String {
    let names = ["sse:read", "sse:publish", "sse:members", "sse:user", "admin", "vip", "sse.read", "read"];
    let name = *rng.choice(names.iter()).expect("names");
    if rng.u8(..6) == 0 { name.to_owned() } else { format!("{name}:{}", pattern(rng, about, user)) }
}

fn question<'a>(rng: &mut fastrand::Rng, about: &'a str) -> Question<'a> {
    Question::May(match rng.u8(..9) {
        0 => Action::Read(about),
        1 => Action::ListenAs(about),
        2 => Action::Publish(about),
        3 => Action::PublishAnywhere,
        4 => Action::Members(about),
        5 => Action::Disconnect(about),
        6 => Action::Administer,
        7 => Action::Online,
        _ => return Question::Holds("vip", rng.bool().then_some(about)),
    })
}

#[test]
fn a_grant_allows_what_its_texts_say() {
    let seed =
        std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut allowed = 0;
    for number in 0..QUESTIONS {
        let about = name(&mut rng);
        let user = (rng.u8(..4) > 0).then(|| name(&mut rng));
        let user = user.as_deref();
        let texts: Vec<String> = (0..rng.usize(..5)).map(|_| permission(&mut rng, &about, user)).collect();
        let (grant, errors) = Grant::parse(texts.iter().map(String::as_str));
        assert_eq!(errors, [], "SEED={seed}, question {number}: {texts:?}");
        let question = question(&mut rng, &about);
        let found = match question {
            Question::May(action) => grant.allows(user, action),
            Question::Holds(name, about) => grant.holds(name, about, user),
        };
        let wanted = answer(&texts, user, question);
        assert_eq!(found, wanted, "SEED={seed}, question {number}: {texts:?} as {user:?}: {question:?}");
        allowed += usize::from(found);
    }
    // If all questions had the same answer, the test would show nothing.
    assert!((QUESTIONS / 10..QUESTIONS * 9 / 10).contains(&allowed), "SEED={seed}: {allowed} allowed");
}

/// Checks the oracle itself with cases that a reader can verify.
#[test]
fn the_oracle_is_right() {
    let rows: [(&str, Option<&str>, &str, bool); 14] = [
        ("lobby", None, "lobby", true),
        ("lobby", None, "lobby2", false),
        ("chat-*", None, "chat-", true),
        ("chat-*", None, "chat", false),
        ("*", None, "x", true),
        ("in-{user}", Some("ann"), "in-ann", true),
        ("in-{user}", Some("ann"), "in-bob", false),
        ("in-{user}", Some("*"), "in-bob", false),
        ("in-{user}", Some("*"), "in-*", true),
        ("in-{user}", None, "in-", false),
        ("in-{user}", None, "in-{user}", false),
        ("a%2A", None, "a*", true),
        ("a%2A", None, "ab", false),
        ("{user}{user}*", Some("ab"), "ababc", true),
    ];
    for (pattern, user, name, wanted) in rows {
        assert_eq!(covers(pattern, user, name), wanted, "{pattern} {user:?} {name}");
        assert_eq!(
            Pattern::parse(pattern).expect("a pattern").covers(name, user),
            wanted,
            "{pattern} {user:?} {name}"
        );
    }
}

#[test]
fn odd_texts_are_no_permissions() {
    let long = "x".repeat(65);
    let pattern = |length: usize| format!("sse:read:{}", "a".repeat(length));
    let (longest, too_long) = (pattern(PATTERN_BYTES_MAX), pattern(PATTERN_BYTES_MAX + 1));
    let rows: [(&str, Option<PermissionError>); 36] = [
        ("vip", None),
        ("v.i_p-1", None),
        ("vip:a:b", None),
        ("sse", None),
        ("sse.read", None),
        ("SSE:read", None),
        ("admin", None),
        ("admin:*", None),
        ("sse:read::", None),
        ("sse:read:sse:publish", None),
        (&longest, None),
        (&long[..64], None),
        (&long, Some(PermissionError::Name)),
        ("", Some(PermissionError::Name)),
        (":", Some(PermissionError::Name)),
        (":vip", Some(PermissionError::Name)),
        ("*", Some(PermissionError::Name)),
        (" vip", Some(PermissionError::Name)),
        ("vip ", Some(PermissionError::Name)),
        ("v\u{e9}p", Some(PermissionError::Name)),
        ("vip\0", Some(PermissionError::Name)),
        ("{user}", Some(PermissionError::Name)),
        ("sse:", Some(PermissionError::Unknown)),
        ("sse::", Some(PermissionError::Unknown)),
        ("sse:*", Some(PermissionError::Unknown)),
        ("sse:Read", Some(PermissionError::Unknown)),
        ("sse:read ", Some(PermissionError::Unknown)),
        ("sse:readers:a", Some(PermissionError::Unknown)),
        ("sse:admin", Some(PermissionError::Unknown)),
        ("sse:read\n:a", Some(PermissionError::Unknown)),
        ("vip:", Some(PermissionError::Pattern(PatternError::Length))),
        (&too_long, Some(PermissionError::Pattern(PatternError::Length))),
        ("sse:read:*a", Some(PermissionError::Pattern(PatternError::Star))),
        ("sse:read:a**", Some(PermissionError::Pattern(PatternError::Star))),
        ("sse:read:{users}", Some(PermissionError::Pattern(PatternError::Brace))),
        ("sse:read:%C3%28", Some(PermissionError::Pattern(PatternError::Encoding))),
    ];
    for (text, wanted) in rows {
        assert_eq!(Permission::parse(text).err(), wanted, "{text:?}");
    }
    // A wrong text allows nothing, and takes nothing away from the right ones.
    let texts = rows.map(|(text, _)| text).into_iter().filter(|text| !text.starts_with("admin"));
    let (grant, errors) = Grant::parse(texts);
    assert_eq!(errors.len(), rows.iter().filter(|(_, wanted)| wanted.is_some()).count());
    assert!(!grant.allows(Some("ann"), Action::Administer) && !grant.allows(None, Action::Publish("a")));
    assert!(grant.allows(None, Action::Read("sse:publish")) && !grant.allows(None, Action::Read("a")));
}

#[test]
fn more_permissions_than_a_grant_has_room_for_allow_nothing() {
    let texts: Vec<String> = (0..=PERMISSIONS_MAX).map(|n| format!("sse:read:r{n}")).collect();
    let (grant, errors) = Grant::parse(texts.iter().map(String::as_str));
    assert_eq!(errors, [(PERMISSIONS_MAX, PermissionError::TooMany)]);
    assert!(grant.allows(None, Action::Read("r255")) && !grant.allows(None, Action::Read("r256")));
}
