//! Tests of `guard`.

use serde_json::Value;

use super::*;

#[test]
fn a_handler_that_panics_is_answered_in_openais_form() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let panics = async {
        tokio::task::yield_now().await;
        panic!("a test of what a panic is answered with");
    };
    let (status, body) = runtime.block_on(async {
        let response = caught(panics).await;
        (response.status(), axum::body::to_bytes(response.into_body(), 1024).await.unwrap())
    });
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status.as_u16(), &body["error"]["type"]), (500, &Value::from("server_error")));
    let sound = runtime.block_on(caught(async { "sound".into_response() }));
    assert_eq!(sound.status(), 200);
}
