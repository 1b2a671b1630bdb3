//! Connections: accepted up to a limit, with a time limit for headers, and closed in order when the server stops.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt;

/// Connections at once.
const MOST: usize = 512;

/// Time that a client has for a request's headers.
const HEADERS: Duration = Duration::from_secs(15);

/// Time that streams have to end after the server was asked to stop.
const GRACE: Duration = Duration::from_secs(60);

/// Serves `router` until `stops` becomes true, then until the requests under way are answered.
pub(super) async fn serve(listener: TcpListener, router: Router, mut stops: watch::Receiver<bool>) {
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
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_headers(64);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
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
    let _ = tokio::time::timeout(GRACE, places.acquire_many(MOST as u32)).await;
}

/// Waits until the server should stop.
async fn stopped(stops: &mut watch::Receiver<bool>) {
    // A sender that has gone means the same.
    let _ = stops.wait_for(|stops| *stops).await;
}
