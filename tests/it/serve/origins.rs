//! Which pages of other origins a browser may let ask.

use super::*;

impl Server {
    /// The status and the headers, in small letters, of the answer to a request with these headers.
    fn headers(&self, method: &str, path: &str, headers: &[&str]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let host = &self.address;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), format!("{}\r\n", head.to_lowercase()))
    }
}

#[test]
fn the_page_may_ask_nobody_but_its_server() {
    let server = Server::start(&[], None);
    let (status, answer) = server.headers("GET", "/", &[]);
    let policy =
        answer.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap_or_else(|| panic!("{answer}"));
    assert!(status == 200 && policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
}

#[test]
fn pages_of_an_allowed_origin_alone_get_answers() {
    let asks = |server: &Server, origin: &str| {
        let origin = format!("Origin: {origin}");
        // What a browser asks before it sends a key and JSON; it has no key yet.
        let wants = "Access-Control-Request-Headers: authorization,content-type,x-stainless-lang";
        let before = ["Access-Control-Request-Method: POST", wants, &origin];
        let (status, preflight) = server.headers("OPTIONS", "/v1/chat/completions", &before);
        assert_eq!(status, 200, "{preflight}");
        let key = format!("Authorization: Bearer {}", server.key.unwrap_or_default());
        let (status, answer) = server.headers("GET", "/v1/models", &[&origin, &key]);
        assert_eq!(status, 200, "{answer}");
        [preflight, answer]
    };
    let allows = |head: &str, origin: &str| head.contains(&format!("\r\naccess-control-allow-origin: {origin}\r\n"));
    let server = Server::start(&["--cors", "https://Example.org/"], Some("secret"));
    let [preflight, answer] = asks(&server, "https://example.org");
    assert!(allows(&preflight, "https://example.org") && allows(&answer, "https://example.org"), "{preflight} {answer}");
    let listed = |name: &str| preflight.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{preflight}"));
    for header in ["authorization", "content-type", "x-stainless-lang"] {
        assert!(listed("access-control-allow-headers").contains(header), "{preflight}");
    }
    for method in ["get", "post", "delete"] {
        assert!(listed("access-control-allow-methods").contains(method), "{preflight}");
    }
    // A browser keeps the answer from a page whose origin is another.
    let others = asks(&server, "https://evil.example");
    assert!(others.iter().all(|head| !allows(head, "https://evil.example") && !allows(head, "*")), "{others:?}");
    let any = asks(&Server::start(&["--cors", "*"], None), "https://evil.example");
    assert!(any.iter().all(|head| allows(head, "*")), "{any:?}");
    let none = Server::start(&[], None);
    let (status, answer) = none.headers("GET", "/v1/models", &["Origin: https://example.org"]);
    assert!(status == 200 && !answer.contains("access-control"), "{answer}");
}

#[test]
fn an_origin_that_is_none_ends_the_program_before_it_listens() {
    for origin in ["example.org", "https://example.org/app", "https://example.org\u{e9}", "null"] {
        let refused =
            Command::new(env!("CARGO_BIN_EXE_bipo")).args(["serve", "--model", FIXTURE, "--cors", origin]).output().unwrap();
        let line = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(2) && line.contains("--cors") && line.contains("https://example.org"), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
    }
}
