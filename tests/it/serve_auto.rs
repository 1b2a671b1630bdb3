//! The magnitude `auto` in requests to `bipo serve`: what `bipo calibrate --save` kept in a vector's file.

use serde_json::{Value, json};

use super::cli::{fixture, json};
use super::eval::trained;
use super::serve::Server;

#[test]
fn auto_steers_at_the_magnitudes_that_calibrate_kept_and_refuses_a_vector_without_them() {
    let place = trained();
    let model = fixture("llama");
    let file = place.path("out/steering_vector.safetensors");
    let vector = file.to_str().unwrap();
    let args = ["calibrate", "--quiet", "--model", &model, "--vector", vector, "--budget", "kl=0.01", "--save", "--json"];
    let found = json(&place.bipo(&args));
    let [minus, plus] = ["minus", "plus"].map(|side| found[side]["magnitude"].as_f64().unwrap() as f32);
    let server = Server::start(&["--vector", &format!("calibrated={vector}")], None);
    let sweep = |magnitudes: Value| {
        let request =
            json!({"prompt": "hello", "vector": "calibrated", "magnitudes": magnitudes, "max_tokens": 6, "temperature": 0});
        let (status, answer) = server.post("/v1/sweep", &request);
        assert_eq!(status, 200, "{answer}");
        answer["results"].clone()
    };
    assert_eq!(sweep(json!("auto")), sweep(json!([minus, 0.0, plus])));
    let chat = |steering: Value| {
        let messages = json!([{"role": "user", "content": "hello"}]);
        server.post(
            "/v1/chat/completions",
            &json!({"messages": messages, "max_tokens": 6, "temperature": 0, "steering": steering}),
        )
    };
    for (auto, magnitude) in [("calibrated:auto", plus), ("-calibrated:auto", minus)] {
        let ((status, by_name), (_, by_number)) = (chat(json!(auto)), chat(json!(format!("calibrated:{magnitude}"))));
        assert_eq!(status, 200, "{by_name}");
        assert_eq!(by_name["steering"]["applied"][0]["magnitude"], json!(magnitude));
        assert_eq!((&by_name["choices"], &by_name["steering"]), (&by_number["choices"], &by_number["steering"]));
    }
    let (_, meant) = server.post("/v1/steering/validate", &json!({"steering": "0.5 calibrated:auto"}));
    assert_eq!(meant["applied"][0]["magnitude"], json!(plus * 0.5));
    let request = json!({"text": "hello world", "steering": "-calibrated:auto"});
    assert_eq!(server.post("/v1/score", &request).1["magnitude"], json!(minus));
    // `v` was not calibrated.
    let sweep_of_v = json!({"prompt": "hello", "magnitudes": "auto", "max_tokens": 2});
    for (status, refused) in [server.post("/v1/sweep", &sweep_of_v), chat(json!("auto")), chat(json!("v:auto"))] {
        let said = refused["error"]["message"].as_str().unwrap();
        assert!(status == 400 && said.starts_with("v: ") && said.contains("calibrate its file first"), "{refused}");
        assert_eq!(said.lines().count(), 1);
    }
    let (status, refused) = server.post("/v1/sweep", &json!({"prompt": "hello", "magnitudes": "all"}));
    assert!(status == 400 && refused["error"]["message"].as_str().unwrap().contains("or \"auto\""), "{refused}");
}
