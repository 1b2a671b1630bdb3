//! Tests of `connections`, with times that are short.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::body::Bytes;
use axum::routing::{get, post};
use futures_util::stream;

use super::*;
use crate::serve::limited;

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(600);

/// Pieces of a body under way.
static PIECES: AtomicUsize = AtomicUsize::new(0);

/// A piece of a body that counts while it exists.
struct Piece;

impl Drop for Piece {
    fn drop(&mut self) {
        PIECES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Answers that never end.
async fn endless() -> Body {
    PIECES.fetch_add(1, Ordering::SeqCst);
    Body::from_stream(stream::unfold(Piece, async |piece| Some((Ok::<_, io::Error>(Bytes::from(vec![b'x'; 1 << 16])), piece))))
}

fn start(patience: Timeouts) -> (SocketAddr, watch::Sender<bool>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let router = limited(Router::new().route("/", post(async |body: Bytes| body)).route("/endless", get(endless)), &patience);
    let (stop, stops) = watch::channel(false);
    std::thread::spawn(move || runtime.block_on(serve(listener, router, stops, patience)));
    (address, stop)
}

/// What a client that sends `head` and then nothing gets until the server closes the connection, and after how long.
fn answer(address: SocketAddr, head: &str) -> (String, Duration) {
    let started = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    (String::from_utf8(bytes).unwrap(), started.elapsed())
}

#[test]
fn headers_and_bodies_that_do_not_come_end_the_connection() {
    let (address, _stop) = start(Timeouts { headers: SHORT, body: LONG, reading: LONG, grace: LONG });
    let (said, after) = answer(address, "POST / HTTP/1.1\r\nHost: x\r\n");
    assert!(after >= SHORT && !said.contains(" 200 "), "{after:?}: {said}");
    let (address, _stop) = start(Timeouts { headers: LONG, body: SHORT, reading: LONG, grace: LONG });
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n";
    let (said, after) = answer(address, &format!("{head}ab"));
    assert!(after >= SHORT && said.starts_with("HTTP/1.1 4"), "{after:?}: {said}");
    assert!(answer(address, &format!("{head}abcd")).0.ends_with("abcd"));
}

#[test]
fn a_client_that_reads_nothing_loses_its_connection_and_its_answer_ends() {
    let (address, _stop) = start(Timeouts { headers: LONG, body: LONG, reading: SHORT, grace: LONG });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let started = Instant::now();
    while PIECES.load(Ordering::SeqCst) > 0 {
        assert!(started.elapsed() < Duration::from_secs(20), "the answer goes on");
        std::thread::sleep(Duration::from_millis(10));
    }
}
