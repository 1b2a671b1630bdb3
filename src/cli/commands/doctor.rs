//! `bipo doctor`: what a bug report needs of this machine, as aligned lines or as JSON. It fails where something keeps bipo from
//! working, with what to do about it; a hub that cannot be reached is no failure.

use std::path::Path;

use bipo::hub::cache_dir::cache_dir;
use bipo::hub::presets::PRESETS;
use bipo::hub::{resolve, status};
use bipo::machine::{bytes, cpu, device, files};
use bipo::model::checkpoint::Checkpoint;
use serde::Serialize;

use super::next;
use crate::args::DoctorArgs;
use crate::terminal::{self, Log};

pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let report = DoctorReport::new(args.offline);
    match args.json {
        true => terminal::json(&report)?,
        false => terminal::result(&report.to_text())?,
    }
    match report.problems.len() {
        0 => {
            next::tell(args.json, "learn a vector", "bipo train", Log::new(false, false));
            Ok(())
        }
        count => Err(anyhow::anyhow!("problems that keep bipo from working: {count}")),
    }
}

/// Text and JSON are views of this.
#[derive(Debug, Serialize)]
struct DoctorReport {
    schema_version: u32,
    bipo_version: &'static str,
    /// Architecture and operating system, such as `x86_64-linux`.
    target: String,
    features: Vec<&'static str>,
    cpu: Cpu,
    memory: Memory,
    gpus: Vec<Gpu>,
    nvidia_driver: Option<String>,
    /// Folder of bipo's own downloads.
    cache: Option<Folder>,
    hub: Option<HubReport>,
    models: Vec<CachedModel>,
    /// What keeps bipo from working, and what to do.
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Cpu {
    name: Option<String>,
    instructions: Vec<&'static str>,
    /// What multiplies matrices.
    product_kernel: &'static str,
    bf16_product_kernel: &'static str,
    integer_kernel: Option<&'static str>,
    cores: usize,
    threads: usize,
    /// Threads that a command takes without `--threads`.
    default_threads: usize,
}

#[derive(Debug, Serialize)]
struct Memory {
    total_bytes: Option<u64>,
    /// What this process can still take.
    free_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Gpu {
    /// Name of the device, as `--device` takes it.
    device: String,
    description: String,
    #[serde(flatten)]
    memory: Memory,
}

#[derive(Debug, Serialize)]
struct Folder {
    path: String,
    writable: bool,
}

#[derive(Debug, Serialize)]
struct HubReport {
    endpoint: String,
    /// `None` if the hub was not asked.
    reachable: Option<bool>,
    /// Why the hub cannot be reached.
    reason: Option<String>,
    token: bool,
    cache: Folder,
}

/// A known model that is on this machine.
#[derive(Debug, Serialize)]
struct CachedModel {
    alias: &'static str,
    path: String,
}

impl DoctorReport {
    fn new(offline: bool) -> Self {
        let mut problems = Vec::new();
        let gpus = gpus(&mut problems);
        let cache = cache_dir().map_err(|error| problems.push(error.to_string())).ok();
        let (cache, problem) = cache.map(|dir| folder(&dir, "BIPO_CACHE")).unzip();
        problems.extend(problem.flatten());
        let hub = hub(offline, &mut problems);
        let [product_kernel, bf16_product_kernel] = bipo::ops::product_kernels();
        Self {
            schema_version: 1,
            bipo_version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            features: features(),
            cpu: Cpu {
                name: cpu::name(),
                instructions: cpu::instructions(),
                product_kernel,
                bf16_product_kernel,
                integer_kernel: bipo::ops::integer_kernel(),
                cores: cpu::cores(),
                threads: cpu::threads(),
                default_threads: cpu::default_threads(1),
            },
            memory: Memory {
                total_bytes: bytes::total_memory().map(|bytes| bytes.0),
                free_bytes: bytes::available_memory().map(|bytes| bytes.0),
            },
            gpus,
            nvidia_driver: device::nvidia_driver(),
            cache,
            hub,
            models: models(),
            problems,
        }
    }

    fn to_text(&self) -> String {
        let Self { cpu, memory, hub, .. } = self;
        let mut lines = vec![
            ("version", format!("bipo {}, {}", self.bipo_version, self.target)),
            ("features", listed(&self.features)),
            ("processor", cpu.name.clone().unwrap_or_else(|| "name not known".to_owned())),
            ("", format!("{} cores, {} threads; bipo uses {}", cpu.cores, cpu.threads, cpu.default_threads)),
            ("instructions", listed(&cpu.instructions)),
            ("kernel", format!("{} multiplies matrices of f32, {} those of bf16", cpu.product_kernel, cpu.bf16_product_kernel)),
            (
                "",
                match cpu.integer_kernel {
                    Some(kernel) => format!("{kernel} multiplies quantized weights while generating"),
                    None => "quantized weights are decoded while generating".to_owned(),
                },
            ),
            ("memory", memory.to_text()),
        ];
        lines.extend(
            self.gpus.iter().map(|gpu| ("gpu", format!("{}: {}, {}", gpu.device, gpu.description, gpu.memory.to_text()))),
        );
        if self.gpus.is_empty() {
            let is_for_gpus = cfg!(any(feature = "cuda", feature = "metal"));
            lines.push(("gpu", if is_for_gpus { "none" } else { "not looked for: this bipo is built for the CPU" }.to_owned()));
        }
        lines.extend(self.nvidia_driver.iter().map(|version| ("gpu driver", format!("NVIDIA {version}"))));
        lines.extend(self.cache.iter().map(|cache| ("cache", cache.to_text())));
        if let Some(hub) = hub {
            lines.push(("hub", hub.to_text()));
            lines.push(("hub token", if hub.token { "there" } else { "none" }.to_owned()));
            lines.push(("hub cache", hub.cache.to_text()));
        }
        let models = self.models.iter().map(|model| format!("{}: {}", model.alias, model.path)).collect();
        lines.extend(under("models", models));
        lines.extend(under("problems", self.problems.clone()));
        lines.iter().map(|(name, value)| format!("{name:12}  {value}\n")).collect()
    }
}

/// A line for each value, the first behind the name.
fn under(name: &'static str, values: Vec<String>) -> Vec<(&'static str, String)> {
    if values.is_empty() {
        return vec![(name, "none".to_owned())];
    }
    values.into_iter().enumerate().map(|(i, value)| (if i == 0 { name } else { "" }, value)).collect()
}

fn listed(words: &[&str]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}

fn features() -> Vec<&'static str> {
    let all = [
        ("parquet", cfg!(feature = "parquet")),
        ("pictures", cfg!(feature = "pictures")),
        ("serve", cfg!(feature = "serve")),
        ("cuda", cfg!(feature = "cuda")),
        ("metal", cfg!(feature = "metal")),
        ("mpi", cfg!(feature = "mpi")),
    ];
    all.into_iter().filter_map(|(name, is_built)| is_built.then_some(name)).collect()
}

/// The GPUs that can be used. Where the build is for a GPU and `--device auto` finds none, that is a problem.
fn gpus(problems: &mut Vec<String>) -> Vec<Gpu> {
    if let Err(error) = device::open("auto") {
        problems.push(format!("{error}; --device cpu needs no GPU"));
    }
    let names = device::gpus().into_iter();
    let opened = names.filter_map(|name| device::open(&name).ok().map(|device| (name, device)));
    let described = opened.map(|(name, opened)| {
        let memory = device::memory(&opened);
        let memory =
            Memory { total_bytes: memory.map(|memory| memory.total.0), free_bytes: memory.map(|memory| memory.free.0) };
        Gpu { device: name, description: device::describe(&opened), memory }
    });
    described.collect()
}

/// Whether a cache can be written to, and the problem where not; `variable` puts it elsewhere.
fn folder(path: &Path, variable: &str) -> (Folder, Option<String>) {
    let problem = files::check_future_folder(path).err().map(|error| {
        format!("cannot write to {}: {error}; set {variable} to a directory that can be written to", path.display())
    });
    (Folder { path: path.display().to_string(), writable: problem.is_none() }, problem)
}

fn hub(offline: bool, problems: &mut Vec<String>) -> Option<HubReport> {
    let hub = status::status(offline).map_err(|error| problems.push(error.to_string())).ok()?;
    let (cache, problem) = folder(&hub.cache, "HF_HOME");
    // Without the network nothing is written to the hub's cache, which can be one that many read.
    problems.extend(problem.filter(|_| hub.answer.is_some()));
    let reachable = hub.answer.as_ref().map(Result::is_ok);
    Some(HubReport { endpoint: hub.endpoint, reachable, reason: hub.answer.and_then(Result::err), token: hub.has_token, cache })
}

fn location(checkpoint: &Checkpoint) -> &Path {
    match checkpoint {
        Checkpoint::Gguf { path, .. } => path,
        Checkpoint::Safetensors { config, .. } => config.parent().unwrap_or(Path::new(".")),
    }
}

fn models() -> Vec<CachedModel> {
    let found = PRESETS.iter().filter_map(|preset| Some((preset.alias, resolve::cached(preset)?)));
    found.map(|(alias, files)| CachedModel { alias, path: location(&files.checkpoint).display().to_string() }).collect()
}

impl Memory {
    fn to_text(&self) -> String {
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "not known".to_owned(), |bytes| bytes::Bytes(bytes).to_string());
        format!("{} in all, {} free", size(self.total_bytes), size(self.free_bytes))
    }
}

impl Folder {
    fn to_text(&self) -> String {
        format!("{}, {}", self.path, if self.writable { "can be written to" } else { "cannot be written to" })
    }
}

impl HubReport {
    fn to_text(&self) -> String {
        let answer = match (self.reachable, &self.reason) {
            (None, _) => "not asked: the network is off".to_owned(),
            (_, Some(reason)) => format!("cannot be reached ({reason}); models in the caches work without"),
            (_, None) => "can be reached".to_owned(),
        };
        format!("{}, {answer}", self.endpoint)
    }
}
