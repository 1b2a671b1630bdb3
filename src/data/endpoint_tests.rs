//! Tests of `endpoint`.

use super::*;

const NAMES: EndpointNames = EndpointNames { url: "--url", key_variables: ["MY_KEY", "OTHER_KEY"] };

#[test]
fn a_server_its_v1_and_the_endpoint_itself_name_the_same_place() {
    let url = |text: &str| Endpoint::parse(text, NAMES).unwrap().url;
    for text in
        ["http://a:8000", "http://a:8000/", "http://a:8000/v1", "http://a:8000/v1/", "http://a:8000/v1/chat/completions"]
    {
        assert_eq!(url(text), "http://a:8000/v1/chat/completions");
    }
    assert_eq!(url("https://a/openai/x"), "https://a/openai/x/chat/completions");
    let with_query = Endpoint::parse("https://a/v1/chat/completions?api-version=1", NAMES).unwrap();
    assert_eq!(with_query.url, "https://a/v1/chat/completions?api-version=1");
    assert_eq!(with_query.to_string(), "https://a/v1/chat/completions");
}

#[test]
fn a_key_goes_over_tls_or_to_this_machine_alone() {
    for text in [
        "https://a/v1",
        "http://localhost:1/v1",
        "http://LOCALHOST",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://[::1]:80/v1",
    ] {
        assert!(Endpoint::parse(text, NAMES).unwrap().takes_key(), "{text}");
    }
    for text in [
        "http://a",
        "http://10.0.0.1:8000/v1",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        "http://[2001:db8::1]",
    ] {
        assert!(!Endpoint::parse(text, NAMES).unwrap().takes_key(), "{text}");
    }
}

#[test]
fn a_client_of_another_machine_without_tls_has_no_key() {
    let key = ApiKey::new("sk-secret").unwrap();
    for (text, has_key) in [("http://10.0.0.1/v1", false), ("https://10.0.0.1/v1", true), ("http://127.0.0.1/v1", true)] {
        let endpoint = Endpoint::parse(text, NAMES).unwrap();
        assert_eq!(Client::new(&endpoint, Some(&key), Patience::default()).key.is_some(), has_key, "{text}");
    }
}

#[test]
fn what_is_no_endpoint_is_refused_and_not_quoted() {
    for text in ["", "a/v1", "ftp://a", "https://", "https://user:secret@a/v1", "http://secret@localhost", "/v1", "http://a b"]
    {
        let error = Endpoint::parse(text, NAMES).unwrap_err();
        assert!(error.exit_code() == 2 && !error.to_string().contains("secret"), "{text}: {error}");
    }
}

#[test]
fn a_key_is_visible_characters_and_prints_as_stars() {
    assert_eq!(format!("{:?}", ApiKey::new("sk-secret").unwrap()), "ApiKey(***)");
    for text in ["", "a b", "a\nb", "clé"] {
        assert!(!ApiKey::new(text).unwrap_err().to_string().contains(text) || text.is_empty(), "{text:?}");
    }
}

#[test]
fn a_wait_is_seconds_or_a_date() {
    assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
    for text in ["-1", "soon", "", "1.5", "Wed, 21 Oct 2015 07:28:00 GMT"] {
        assert_eq!(retry_after(text), None, "{text}");
    }
    let later = (chrono::Utc::now() + chrono::TimeDelta::seconds(100)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    assert!((98..=100).contains(&retry_after(&later).unwrap().as_secs()));
}
