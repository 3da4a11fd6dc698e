//! What is secret in a setting is in no summary, error or debug output.

use super::{Start, flag_of, from_file, from_flags, summary};

/// The value appears neither in the summary, nor in an error, nor in the debug output of all settings.
#[test]
fn what_a_header_has_to_say_is_not_repeated() {
    const SECRET: &str = "s3cret";
    let right = format!("x-forwarded-proto,X-Key={SECRET}");
    for wrong in
        [format!("x key={SECRET}"), format!("x-key={SECRET},x-key={SECRET}"), format!("x-key={SECRET},=")]
    {
        for start in [
            Start { env: &[("TIDEGATE_REQUIRED_HEADERS", &wrong)], ..Start::default() },
            from_file(&format!("required_headers = {wrong:?}")),
            from_flags(&["--required-headers", &wrong]),
        ] {
            let error = start.error();
            assert!(!error.contains(SECRET) && error.contains("=\"***\": wanted "), "{error}");
        }
    }
    let flags = ["--required-headers", &right];
    let config = from_flags(&flags).config();
    assert!(config.required_headers[1].value.as_ref().is_some_and(|value| value.is(SECRET.as_bytes())));
    assert!(!format!("{config:?}{config:#?}").contains(SECRET));
    let flags = [&flags[..], &["--check-config"]].concat();
    let summary = summary(from_flags(&flags));
    let line = "required_headers = [\"x-forwarded-proto\", \"x-key=***\"]  # --required-headers";
    assert!(!summary.contains(SECRET) && summary.lines().any(|found| found == line), "{summary}");
}

/// All such errors once had the same text, masked and without a place.
#[test]
fn which_key_is_wrong_is_told_without_the_key() {
    const GOOD: &str = "HS256:base64:c2VjcmV0";
    for (keys, wanted) in [
        (
            "RS256:file:issuer.pem".to_owned(),
            "0 to 16 different values, each an absolute path after RS256:file:",
        ),
        (format!("{GOOD},RS256:file:issuer.pem"), "in entry 2 an absolute path after RS256:file:"),
        (format!("{GOOD},HS512:base64:s3cret!"), "in entry 2 base64 after HS512:base64:"),
        (format!("{GOOD},{GOOD}"), "different values, and entry 2 is entry 1 again"),
    ] {
        let error = from_flags(&["--token-keys", &keys]).error();
        assert_eq!(error, format!("--token-keys=\"***\": wanted {wanted}"));
    }
}

/// A query may contain a key, and a URL that is refused for its password contains one.
#[test]
fn what_is_secret_in_a_url_is_not_repeated() {
    const SECRET: &str = "hunter2";
    for key in ["auth_callback", "disconnect_callback", "publish_callback", "presence_callback", "token_jwks"]
    {
        let flag = format!("{}=https://app.example/x?key={SECRET}", flag_of(key));
        let summary = summary(from_flags(&[&flag, "--check-config"]));
        assert!(!summary.contains(SECRET) && summary.contains("https://app.example/x?***"), "{summary}");
        for wrong in
            ["http://user:hunter2@app.example/", "ftp://app.example/?hunter2", "user:hunter2@app.example"]
        {
            let error = from_flags(&[&format!("{}={wrong}", flag_of(key))]).error();
            assert!(
                !error.contains(SECRET) && error.contains("***") && error.contains("app.example"),
                "{error}"
            );
        }
    }
    let config = from_flags(&["--auth-callback=https://app.example/x?key=hunter2"]).config();
    assert!(!format!("{config:?}{config:#?}").contains(SECRET));
}
