//! Tests of `cors`.

use super::*;

#[test]
fn an_origin_is_read_as_browsers_write_it_and_all_else_is_refused() {
    let read = |text: &str| match text.parse::<AllowedOrigin>() {
        Ok(AllowedOrigin::Any) => "*".to_owned(),
        Ok(AllowedOrigin::One(origin)) => origin.to_str().unwrap().to_owned(),
        Err(error) => error.to_string(),
    };
    for (text, origin) in [
        ("*", "*"),
        ("https://example.org", "https://example.org"),
        ("https://example.org/", "https://example.org"),
        ("HTTPS://Example.org:443", "https://example.org"),
        ("https://example.org:0443", "https://example.org"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
    ] {
        assert_eq!(read(text), origin, "{text}");
    }
    for text in [
        "",
        "example.org",
        "null",
        "https://",
        "https://:80",
        "https://x/app",
        "https://x?a",
        "https://x#a",
        "https://a@b",
        "https://*.example.org",
        "https://exämple.org",
        "https://a b",
        "https://a\n",
        "https://a:port",
        "//x",
    ] {
        assert!(read(text).starts_with("expected \"*\""), "{text:?}: {}", read(text));
    }
}
