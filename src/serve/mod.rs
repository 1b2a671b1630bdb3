//! `bipo serve`: generation over HTTP, as OpenAI's clients expect it, with steering as a field of each request, and a page to try
//! vectors on. The only room that knows HTTP; nothing is computed here but by the engine, on the worker's thread.
//!
//! Begin with [`serve`], then `openai` and `steered`, the endpoints; `worker` owns the engine, `state` is what handlers share,
//! `steering` the vectors and what the field means.

mod connections;
mod cors;
mod date;
mod error;
mod events;
mod guard;
mod openai;
mod openapi;
mod page;
mod requests;
mod state;
mod steered;
mod steering;
mod text;
mod worker;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, mpsc};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract;
use axum::middleware;
use axum::routing::{delete, get, post};
use serde_json::{Value, json};
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use crate::generate::EngineLimits;
use crate::model::Model;
use crate::steering::vector::{CombineOptions, SteeringVector, Summand, VectorFile, combine};
use crate::text::tokens::TextEncoder;
use crate::{Error, Result};
use connections::Timeouts;
pub use cors::AllowedOrigin;
use state::ServerState;
pub use steering::NamedCondition;
use steering::Registry;
use worker::Load;

/// The largest body of a request: a conversation, or a vector's file.
const LARGEST_BODY: usize = 32 << 20;

/// How often measured times are summed up, which are kept one by one until then.
const UPKEEP: Duration = Duration::from_secs(5);

/// How a server listens and what it allows.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// Address that the server listens on.
    pub address: SocketAddr,
    /// Name of the model, as requests give it.
    pub model_name: String,
    /// The key that every request but `/health` must have.
    pub api_key: Option<String>,
    /// The origins whose pages may ask, beside the server's own.
    pub cors: Option<AllowedOrigin>,
    /// Texts under way, and the tokens of all of them.
    pub limits: EngineLimits,
    /// Texts that may wait for a place.
    pub queue: usize,
    /// Most tokens of a prompt with its answer.
    pub context: usize,
    /// Tokens of an answer where a request does not say.
    pub default_tokens: usize,
    /// The conditions of requests, at most one of them without a name.
    pub conditions: Vec<NamedCondition>,
}

/// A vector that requests can name, as it was read.
#[derive(Debug, Clone)]
pub struct NamedVector {
    /// Name of the vector, as requests give it.
    pub name: String,
    /// The vector as its file has it.
    pub vector: SteeringVector,
    /// SHA-256 of the vector's file.
    pub sha256: String,
    /// What `bipo eval --json` wrote for it.
    pub curve: Option<Value>,
}

impl NamedVector {
    /// The vector of a file, at `layer` or that of the file, times `scale`.
    ///
    /// # Errors
    /// The file has no vector that says its layer, or a number is not finite.
    pub fn new(name: String, file: VectorFile, layer: Option<usize>, scale: f32) -> Result<Self> {
        let input = Summand::new(file, scale, |file| file.at(layer))?;
        let sha256 = input.sha256.clone();
        let vector = combine(vec![input], &CombineOptions::default())?;
        Ok(Self { name, vector, sha256, curve: None })
    }
}

/// What the program does for a server.
pub struct Hooks<'a> {
    /// Whether the user has asked for the end; asked a few times a second.
    pub stops: &'a (dyn Fn() -> bool + Sync),
    /// Told the address once the server listens: with port 0 the system chooses one.
    pub listens: &'a (dyn Fn(SocketAddr) + Sync),
    /// Told of errors that are the server's, in a line each.
    pub log: &'a (dyn Fn(&str) + Sync),
}

/// A model with its way from text to token ids and back.
pub struct Served {
    /// The model that answers.
    pub model: Model,
    /// Encodes prompts and decodes answers.
    pub encoder: TextEncoder,
    /// The tokenizer's BOS, in front of a raw prompt.
    pub bos: Option<u32>,
}

/// Serves until the user asks for the end, then until the texts under way are complete. Computes on the thread that calls.
///
/// # Errors
/// The address is taken or not this machine's, two vectors have one name or do not fit the model, or there is no memory.
pub fn serve(served: Served, vectors: Vec<NamedVector>, options: &ServeOptions, hooks: &Hooks) -> Result<()> {
    let Served { model, encoder, bos } = served;
    let mut registry = Registry::new(options.conditions.clone());
    let mut curves = Vec::new();
    for NamedVector { name, vector, sha256, curve } in vectors {
        vector.check_model(model.config.hidden_size, model.num_blocks())?;
        registry.add(&name, vector, sha256, model.device())?;
        curves.extend(curve.map(|curve| (name, curve)));
    }
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    // A second server of one process goes on with the first one's recorder, as in tests.
    let _ = ::metrics::set_global_recorder(recorder);
    let (work, receiver) = mpsc::channel();
    let stops = Arc::new(AtomicBool::new(false));
    let state = Arc::new(ServerState {
        model: options.model_name.clone(),
        vocab_size: model.config.vocab_size,
        eos: encoder.eos_ids().to_vec(),
        context: options.context,
        hidden_size: model.config.hidden_size,
        blocks: model.num_blocks(),
        device: model.device().clone(),
        slots: options.limits.streams,
        queue: options.queue,
        default_tokens: options.default_tokens,
        key: options.api_key.clone(),
        hosts: guard::hosts(options),
        registry: RwLock::new(registry),
        curves,
        tokenizer: encoder.tokenizer().clone(),
        encoder: Mutex::new(encoder),
        bos,
        work,
        load: Load::default(),
        stops: Arc::clone(&stops),
        started: date::now().as_secs(),
        metrics,
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|source| Error::Argument(format!("the server's threads cannot start: {source}")))?;
    let listener = runtime.block_on(tokio::net::TcpListener::bind(options.address));
    let cannot = |source| Error::Argument(format!("cannot listen on {}: {source}; choose another port", options.address));
    let listener = listener.map_err(cannot)?;
    (hooks.listens)(listener.local_addr().map_err(cannot)?);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let patience = Timeouts::default();
    let router = router(Arc::clone(&state), options, &patience);
    let has_ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (has_ended, metrics) = (&has_ended, &state.metrics);
        scope.spawn(move || {
            runtime.block_on(async {
                let served = tokio::spawn(connections::serve(listener, router, stopped, patience));
                let mut upkeep = Instant::now();
                while !(hooks.stops)() && !has_ended.load(Ordering::SeqCst) {
                    if upkeep.elapsed() >= UPKEEP {
                        metrics.run_upkeep();
                        upkeep = Instant::now();
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                stops.store(true, Ordering::SeqCst);
                let _ = stop.send(true);
                let _ = served.await;
            });
            // What is left after the time for it ends here, and the worker finds its texts abandoned.
            runtime.shutdown_background();
        });
        let worker = worker::Worker {
            model: &model,
            tokenizer: &state.tokenizer,
            eos: &state.eos,
            limits: options.limits,
            load: &state.load,
            has_ended,
            log: hooks.log,
        };
        worker.run(receiver, &state.stops)
    })
}

fn router(state: Arc<ServerState>, options: &ServeOptions, patience: &Timeouts) -> Router {
    let router = Router::new()
        .route("/", get(page::index))
        .route("/playground/{name}", get(page::asset))
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(openai::chat))
        .route("/v1/completions", post(openai::completions))
        .route("/v1/sweep", post(steered::sweep))
        .route("/v1/score", post(steered::score))
        .route("/v1/steering/vectors", get(steered::list).post(steered::register))
        .route("/v1/steering/vectors/{name}", delete(steered::remove))
        .route("/v1/steering/validate", post(steered::validate))
        .route("/v1/steering/curve", get(steered::curve))
        .fallback(async || error::ApiError::not_found("no such address; GET /openapi.json lists them"))
        .method_not_allowed_fallback(async || {
            error::ApiError::new(axum::http::StatusCode::METHOD_NOT_ALLOWED, "this address takes another method")
        });
    let router = limited(router, patience).layer(middleware::from_fn_with_state(Arc::clone(&state), guard::guard));
    let router = match &options.cors {
        Some(origin) => router.layer(cors::layer(origin)),
        None => router,
    };
    router.with_state(state)
}

/// Bounds the bodies of requests, and the time that they take.
fn limited<S: Clone + Send + Sync + 'static>(router: Router<S>, patience: &Timeouts) -> Router<S> {
    router
        // The limit below, which answers in the form of the other errors, stands for axum's own.
        .layer(extract::DefaultBodyLimit::disable())
        .layer(RequestBodyLimitLayer::new(LARGEST_BODY))
        .layer(RequestBodyTimeoutLayer::new(patience.body))
}

/// `GET /health`
async fn health(extract::State(state): extract::State<Arc<ServerState>>) -> axum::Json<Value> {
    let (texts, running) = (state.load.texts.load(Ordering::SeqCst), state.load.running.load(Ordering::SeqCst));
    axum::Json(json!({
        "status": "ok",
        "model": state.model,
        "version": env!("CARGO_PKG_VERSION"),
        "streams": {"running": running, "waiting": texts.saturating_sub(running), "slots": state.slots},
    }))
}

/// `GET /metrics`
async fn metrics(extract::State(state): extract::State<Arc<ServerState>>) -> String {
    let (texts, running) = (state.load.texts.load(Ordering::SeqCst), state.load.running.load(Ordering::SeqCst));
    ::metrics::gauge!("bipo_running_texts").set(running as f64);
    ::metrics::gauge!("bipo_waiting_texts").set(texts.saturating_sub(running) as f64);
    state.metrics.render()
}

/// `GET /v1/models`: the model, and one more for each vector at magnitude 1.
async fn models(extract::State(state): extract::State<Arc<ServerState>>) -> axum::Json<Value> {
    axum::Json(json!({"object": "list", "data": known_models(&state)}))
}

/// `GET /v1/models/ID`
async fn model(
    extract::State(state): extract::State<Arc<ServerState>>,
    extract::Path(id): extract::Path<String>,
) -> Result<axum::Json<Value>, error::ApiError> {
    let found = known_models(&state).into_iter().find(|model| model["id"] == id.as_str());
    found.map(axum::Json).ok_or_else(|| error::ApiError::not_found(format!("no model {id:?}; GET /v1/models lists them")))
}

fn known_models(state: &ServerState) -> Vec<Value> {
    let model = |id: String| json!({"id": id, "object": "model", "created": state.started, "owned_by": "bipo"});
    let mut models = vec![model(state.model.clone())];
    for vector in state.registry().iter() {
        let mut steered = model(format!("{}::{}", state.model, vector.name));
        steered["parent"] = state.model.clone().into();
        models.push(steered);
    }
    models
}
