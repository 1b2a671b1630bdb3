//! `/openapi.json`: the requests by their types, the answers in words.

use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{requests, steered};

/// The requests that take a body.
#[derive(OpenApi)]
#[openapi(
    info(title = "bipo serve", description = "Generation with steering vectors as a field of each request."),
    components(schemas(
        requests::ChatRequest,
        requests::CompletionRequest,
        steered::SweepRequest,
        steered::ScoreRequest,
        steered::ValidateRequest
    ))
)]
struct Api;

/// What a refusal of a status means.
fn refusal(status: u16) -> &'static str {
    match status {
        400 => "something in the request is wrong",
        401 => "the key is missing or wrong",
        403 => "the host is another name than this machine's own",
        404 => "there is nothing of that name",
        409 => "the name is taken, or there are too many vectors",
        413 => "the body is too large",
        415 => "the body is of another kind",
        429 => "too many texts wait already: Retry-After says when to try again",
        503 => "the server is stopping",
        _ => "the server could not do this",
    }
}

/// An operation: what it does, the answer where it succeeds, and the statuses of its own refusals.
fn operation(summary: &str, (status, answer): (u16, &str), refusals: &[u16]) -> Value {
    let mut answers = Map::new();
    answers.insert(status.to_string(), json!({"description": answer}));
    for status in [401, 403].iter().chain(refusals) {
        let schema = json!({"$ref": "#/components/schemas/Error"});
        let answer = json!({"description": refusal(*status), "content": {"application/json": {"schema": schema}}});
        answers.insert(status.to_string(), answer);
    }
    json!({"summary": summary, "responses": answers})
}

/// An operation on a JSON body; those that compute can find the server full.
fn takes(schema: &str, summary: &str, computes: bool) -> Value {
    let refusals: &[u16] = if computes { &[400, 413, 415, 429, 500, 503] } else { &[400, 413, 415] };
    let mut post = operation(summary, (200, "the answer"), refusals);
    let schema = json!({"$ref": format!("#/components/schemas/{schema}")});
    post["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": schema}}});
    json!({"post": post})
}

fn gives(summary: &str) -> Value {
    json!({"get": operation(summary, (200, summary), &[])})
}

/// A parameter of an address.
fn parameter(name: &str, place: &str, is_required: bool) -> Value {
    json!({"name": name, "in": place, "required": is_required, "schema": {"type": "string"}})
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> axum::Json<Value> {
    let mut api = serde_json::to_value(Api::openapi()).unwrap_or_default();
    let text = || json!({"type": ["string", "null"]});
    api["components"]["schemas"]["Error"] = json!({
        "type": "object",
        "properties": {"error": {"type": "object", "properties": {
            "message": {"type": "string"}, "type": {"type": "string"}, "param": text(), "code": text(),
        }}},
    });
    // Where the server was started with a key.
    api["components"]["securitySchemes"] = json!({"key": {"type": "http", "scheme": "bearer"}});
    api["security"] = json!([{}, {"key": []}]);
    let mut model = operation("One of the models", (200, "the model"), &[404]);
    model["parameters"] = json!([parameter("id", "path", true)]);
    let mut register = operation("Register the vector whose file is the body", (201, "the vector"), &[400, 409, 413, 415]);
    register["parameters"] = json!([parameter("name", "query", true)]);
    register["requestBody"] = json!({"required": true, "content": {"application/octet-stream": {}}});
    let mut remove = operation("Remove a vector", (200, "it is removed"), &[404]);
    remove["parameters"] = json!([parameter("name", "path", true)]);
    let mut curve = operation("What an evaluation of a vector found", (200, "the output of bipo eval --json"), &[400]);
    curve["parameters"] = json!([parameter("vector", "query", false)]);
    curve["responses"]["204"] = json!({"description": "the server has none of this vector"});
    let mut health = operation("Whether the server is ready", (200, "it is"), &[]);
    health["security"] = json!([]);
    if let Some(answers) = health["responses"].as_object_mut() {
        answers.retain(|status, _| status == "200");
    }
    api["paths"] = json!({
        "/v1/chat/completions": takes("ChatRequest", "Answer a conversation", true),
        "/v1/completions": takes("CompletionRequest", "Continue a text", true),
        "/v1/sweep": takes("SweepRequest", "Answer one prompt at several magnitudes", true),
        "/v1/score": takes("ScoreRequest", "Score each token of a text under a vector", true),
        "/v1/steering/validate": takes("ValidateRequest", "Say what a steering value means", false),
        "/v1/models": gives("The model, and one more for each vector"),
        "/v1/models/{id}": {"get": model},
        "/v1/steering/vectors": {"get": operation("The vectors that requests can name", (200, "a list"), &[]), "post": register},
        "/v1/steering/vectors/{name}": {"delete": remove},
        "/v1/steering/curve": {"get": curve},
        "/health": {"get": health},
        "/metrics": gives("Numbers for Prometheus"),
    });
    axum::Json(api)
}
