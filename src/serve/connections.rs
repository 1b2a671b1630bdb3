//! Connections: accepted up to a limit, with a time limit for headers, for a client that reads nothing, and for the end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::Sleep;
use tower::ServiceExt;

/// Connections at once.
const MOST: usize = 512;

/// Most headers of a request that are read. `guard` refuses a request with more than it allows, and says why; beyond this number the
/// answer is a status alone.
const MOST_READ_HEADERS: usize = 256;

/// How long the server waits for its clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Time that a client has for a request's headers.
    pub headers: Duration,
    /// Time that a client may be silent while it sends a body.
    pub body: Duration,
    /// Time that a client may read nothing while there is something to read.
    pub reading: Duration,
    /// Time that streams have to end after the server was asked to stop.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let [headers, body, reading, grace] = [15, 30, 60, 60].map(Duration::from_secs);
        Self { headers, body, reading, grace }
    }
}

/// Serves `router` until `stops` becomes true, then until the requests under way are answered.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stops: watch::Receiver<bool>, patience: Timeouts) {
    let places = Arc::new(Semaphore::new(MOST));
    loop {
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = stopped(&mut stops) => break,
        };
        let Ok(place) = place else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stops) => break,
        };
        let Ok((stream, _)) = accepted else {
            // No descriptor is free, or the client has gone: others may fare better in a moment.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Pieces of a stream go out at once.
        let _ = stream.set_nodelay(true);
        let (router, mut stops) = (router.clone(), stops.clone());
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                router.clone().oneshot(request.map(Body::new))
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(patience.headers).max_headers(MOST_READ_HEADERS);
            let stream = TimedWrites { stream: TokioIo::new(stream), patience: patience.reading, waits: None };
            let connection = builder.serve_connection(stream, service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stopped(&mut stops) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(patience.grace, places.acquire_many(MOST as u32)).await;
}

/// Waits until the server should stop.
async fn stopped(stops: &mut watch::Receiver<bool>) {
    // A sender that has gone means the same.
    let _ = stops.wait_for(|stops| *stops).await;
}

/// A connection that fails where its client takes nothing for too long.
struct TimedWrites<S> {
    stream: S,
    patience: Duration,
    /// The end of the time for what could not be written yet.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S: Unpin> TimedWrites<S> {
    fn timed<T>(
        self: Pin<&mut Self>,
        context: &mut Context,
        write: impl FnOnce(Pin<&mut S>, &mut Context) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let this = self.get_mut();
        let written = write(Pin::new(&mut this.stream), context);
        if written.is_ready() {
            this.waits = None;
            return written;
        }
        let waits = this.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep(this.patience)));
        ready!(waits.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: Read + Unpin> Read for TimedWrites<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: ReadBufCursor) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for TimedWrites<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.timed(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context, pieces: &[io::IoSlice]) -> Poll<io::Result<usize>> {
        self.timed(context, |stream, context| stream.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.timed(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context) -> Poll<io::Result<()>> {
        self.timed(context, |stream, context| stream.poll_shutdown(context))
    }
}

#[cfg(test)]
#[path = "connections_tests.rs"]
mod tests;
