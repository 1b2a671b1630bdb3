//! Tests of `status`.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

#[test]
fn a_password_in_the_address_is_not_told() {
    assert_eq!(without_password("https://huggingface.co"), "https://huggingface.co");
    assert_eq!(without_password("https://me:secret@mirror.example:8443/hub"), "https://mirror.example:8443/hub");
    assert_eq!(without_password("http://host/a@b"), "http://host/a@b");
}

/// Answers one request on this machine with this status; returns the address.
fn server(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /api/models/HuggingFaceTB/"));
        write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}").unwrap();
    });
    address
}

#[test]
fn a_hub_answers_or_the_reason_is_told() {
    assert_eq!(ask(&server("200 OK")), Ok(()));
    assert_eq!(ask(&server("403 Forbidden")), Err("it answers with status 403".to_owned()));
    let closed = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    assert!(ask(&closed).is_err());
}
