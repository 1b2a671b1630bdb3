//! `bipo export`: each file against what the engine's own loader reads, key by key, and what is said and refused. The sources are
//! vllm-lens 1.3.0 (`_helpers/types.py`), EasySteer's vLLM 0.26 (`steer_vectors/api.py`, `payloads.py`), lm-evaluation-harness 0.4.13
//! (`models/hf_steered.py`) and vLLM 0.32 (`models/llama.py`). scripts/test-interop.sh runs the engines that install anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bipo::report::export::ExportTarget;
use bipo::steering::Operation;
use bipo::steering::vector::{Calibration, Metadata, Positions, SteeringVector};
use bipo::text::spans::Spans;
use candle_core::pickle::{Object, Stack};
use serde_json::{Value, json};
use strum::VariantNames;

use crate::cli::{Place, assert_ok, assert_refused, fixture, text};

const V: [[f32; 4]; 3] = [[0.5, -1.0, 2.0, 0.25], [1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 1.0, 0.0]];

fn vector(layers: &[usize], change: impl FnOnce(&mut Metadata)) -> SteeringVector {
    let mut metadata = Metadata {
        base_model: Some("mistral".into()),
        model_type: Some("mistral".into()),
        num_hidden_layers: Some(32),
        ..Metadata::default()
    };
    change(&mut metadata);
    SteeringVector { layers: layers.iter().copied().zip(V.map(Vec::from)).collect(), metadata }
}

/// A folder with the files of an export, and what was said.
struct Exported {
    place: Place,
    said: String,
}

impl Exported {
    fn of(vector: &SteeringVector, to: &str, flags: &[&str]) -> Self {
        let place = Place::new();
        vector.write(&place.path("v.safetensors")).unwrap();
        let output = place.bipo(&[&["export", "v.safetensors", "--to", to, "--out", "e"], flags].concat());
        assert_ok(&output);
        let said = text(&output.stderr);
        Self { place, said }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.place.path("e").join(name)).unwrap()
    }

    fn text(&self, name: &str) -> String {
        text(&self.read(name))
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path("e")).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn warnings(&self) -> Vec<&str> {
        self.said.lines().filter(|line| line.starts_with("warning: ")).collect()
    }
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// What a reader of base64 and little-endian f32 gets.
fn decoded(data: &Value) -> Vec<f32> {
    let bytes = STANDARD.decode(data.as_str().unwrap()).unwrap();
    bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}

fn check_chat(request: &Value, model: &str) {
    assert_eq!((&request["model"], &request["temperature"]), (&json!(model), &json!(0)));
    assert_eq!(request["messages"], json!([{"role": "user", "content": "How was your day?"}]));
    assert!(request["max_tokens"].as_u64().unwrap() > 0);
}

#[test]
fn vllm_lens_gets_the_fields_of_its_steering_vector_as_a_json_text() {
    let exported = Exported::of(&vector(&[3, 13], |_| ()), "vllm-lens", &["--magnitude", "-1.5"]);
    assert_eq!(exported.names(), ["README.md", "request.json"]);
    let request = exported.json("request.json");
    check_chat(&request, "mistralai/Mistral-7B-Instruct-v0.2");
    assert_eq!(keys(&request["vllm_xargs"]), ["apply_steering_vectors"]);
    // vllm_xargs may hold texts and numbers, and no objects.
    let vectors: Value = serde_json::from_str(request["vllm_xargs"]["apply_steering_vectors"].as_str().unwrap()).unwrap();
    let [sent] = vectors.as_array().unwrap().as_slice() else { panic!("{vectors}") };
    assert_eq!(keys(sent), ["activations", "layer_indices", "norm_match", "scale"]);
    assert_eq!((&sent["layer_indices"], &sent["scale"], &sent["norm_match"]), (&json!([3, 13]), &json!(-1.5), &json!(false)));
    let activations = &sent["activations"];
    assert_eq!(keys(activations), ["data", "dtype", "original_dtype", "shape"]);
    assert_eq!((&activations["dtype"], &activations["original_dtype"]), (&json!("float32"), &json!("torch.float32")));
    assert_eq!(activations["shape"], json!([2, 4]));
    assert_eq!(decoded(&activations["data"]), V[..2].concat());
    let readme = exported.text("README.md");
    assert!(readme.contains("vllm serve mistralai/Mistral-7B-Instruct-v0.2 --no-enable-prefix-caching"), "{readme}");
}

#[test]
fn easysteer_gets_its_steering_object_and_a_control_vector() {
    let original = vector(&[3, 13], |_| ());
    let exported = Exported::of(&original, "easysteer", &["--magnitude", "2"]);
    assert_eq!(exported.names(), ["README.md", "request.json", "vector.gguf"]);
    let request = exported.json("request.json");
    check_chat(&request, "mistralai/Mistral-7B-Instruct-v0.2");
    let expected = json!({
        "vectors": [{
            "algorithm": "direct", "scale": 2.0, "layers": [3, 13], "normalize": false,
            "apply": {"prompt": "all", "generation": "all"}, "source": "vector.gguf",
        }],
        "conflict": "priority",
    });
    assert_eq!(request["steering"], expected);
    assert_eq!(SteeringVector::read(&exported.place.path("e/vector.gguf"), None).unwrap(), original);
    assert!(exported.text("README.md").contains("--enable-steer-vector --steer-algorithms direct\n"));
}

#[test]
fn easysteer_gets_a_vector_of_layer_0_in_the_request() {
    let exported = Exported::of(&vector(&[0, 2, 10], |_| ()), "easysteer", &[]);
    assert_eq!(exported.names(), ["README.md", "request.json"]);
    let sent = &exported.json("request.json")["steering"]["vectors"][0];
    assert_eq!(keys(sent), ["algorithm", "apply", "data", "layers", "normalize", "scale"]);
    let data = &sent["data"];
    assert_eq!(keys(data), ["extra", "kind", "sha256", "tensors", "version"]);
    assert_eq!((&data["kind"], &data["version"], &data["extra"]), (&json!("direction"), &json!(1), &json!({})));
    for (layer, v) in [(0, V[0]), (2, V[1]), (10, V[2])] {
        let tensor = &data["tensors"][format!("layer.{layer}")];
        assert_eq!(tensor["shape"], json!([4]));
        assert_eq!(decoded(&tensor["data"]), v);
    }
    // From `DirectionVector({0: …, 2: …, 10: …}).to_wire()` of EasySteer's payloads.py.
    assert_eq!(data["sha256"], "5550205ac35f98eabe61fd949add0d2cc52ff1bcfa98337e29f72eef17bdcbb4");
}

#[test]
fn easysteer_is_told_which_tokens_as_far_as_it_can_be() {
    let rules = [
        ("prompt", json!({"prompt": "all"})),
        ("last", json!({"prompt_positions": [-1]})),
        ("response", json!({"generation": "all"})),
        ("last+response", json!({"prompt_positions": [-1], "generation": "all"})),
        ("last:4+response", json!({"prompt_window": [-4, null], "generation": "all"})),
        ("last:4", json!({"prompt_window": [-4, null]})),
    ];
    for (rule, apply) in rules {
        let exported = Exported::of(&vector(&[3], |known| known.positions = rule.parse().unwrap()), "easysteer", &[]);
        assert_eq!(exported.json("request.json")["steering"]["vectors"][0]["apply"], apply, "{rule}");
        assert!(exported.warnings().is_empty(), "{rule}: {}", exported.said);
    }
    let unknown: [&dyn Fn(&mut Metadata); 2] =
        [&|known| known.positions = "first:2+response".parse().unwrap(), &|known| known.spans = Some(Spans::User)];
    for change in unknown {
        let exported = Exported::of(&vector(&[3], change), "easysteer", &[]);
        let apply = &exported.json("request.json")["steering"]["vectors"][0]["apply"];
        assert_eq!(*apply, json!({"prompt": "all", "generation": "all"}));
        let [warning] = exported.warnings()[..] else { panic!("{}", exported.said) };
        assert!(warning.contains("easysteer steers every token, but the vector is for "), "{warning}");
        assert!(exported.text("README.md").contains("- Easysteer steers every token, but the vector is for "));
    }
}

/// What is left of a pickle for the eyes of a test.
#[derive(Debug, PartialEq)]
enum Unpickled {
    Dict(BTreeMap<String, Unpickled>),
    Text(String),
    Number(f64),
    None,
    /// Name of the storage, and number of elements.
    Tensor(String, i32),
}

fn read(object: Object) -> Unpickled {
    match object {
        Object::Dict(items) => {
            Unpickled::Dict(items.into_iter().map(|(key, value)| (key.unicode().unwrap(), read(value))).collect())
        }
        Object::Unicode(text) => Unpickled::Text(text),
        Object::Float(number) => Unpickled::Number(number),
        Object::None => Unpickled::None,
        Object::Reduce { callable, args } => {
            assert_eq!(callable.class().unwrap(), ("torch._utils".to_owned(), "_rebuild_tensor_v2".to_owned()));
            let mut args = args.tuple().unwrap();
            let storage = args.remove(0).persistent_load().unwrap().tuple().unwrap();
            let [_, Object::Class { class_name, .. }, Object::Unicode(key), _, Object::Int(numel)] = &storage[..] else {
                panic!("{storage:?}")
            };
            assert_eq!(class_name, "FloatStorage");
            Unpickled::Tensor(key.clone(), *numel)
        }
        other => panic!("{other:?}"),
    }
}

/// The value of an archive of PyTorch, and its storages.
fn unpickled(bytes: &[u8]) -> (Unpickled, BTreeMap<String, Vec<f32>>) {
    let mut zip = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
    let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut content = |name: &str| {
        let mut bytes = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    };
    let mut stack = Stack::empty();
    stack.read_loop(&mut content("archive/data.pkl").as_slice()).unwrap();
    let value = read(stack.finalize().unwrap());
    let storages = names.iter().filter_map(|name| name.strip_prefix("archive/data/")).map(|key| {
        let bytes = content(&format!("archive/data/{key}"));
        (key.to_owned(), bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect())
    });
    let storages = storages.collect();
    (value, storages)
}

fn hook(key: &str, coefficient: f64, action: &str) -> Unpickled {
    let items = [
        ("steering_vector", Unpickled::Tensor(key.to_owned(), 4)),
        ("steering_coefficient", Unpickled::Number(coefficient)),
        ("action", Unpickled::Text(action.to_owned())),
        ("bias", Unpickled::None),
        ("head_index", Unpickled::None),
    ];
    Unpickled::Dict(items.map(|(key, value)| (key.to_owned(), value)).into())
}

#[test]
fn lm_eval_gets_a_dict_of_hooks() {
    let exported = Exported::of(&vector(&[3, 13], |_| ()), "lm-eval", &["--magnitude", "1.5"]);
    assert_eq!(exported.names(), ["README.md", "steer.pt"]);
    let (value, storages) = unpickled(&exported.read("steer.pt"));
    let hooks = [("layers.3".to_owned(), hook("0", 1.5, "add")), ("layers.13".to_owned(), hook("1", 1.5, "add"))];
    assert_eq!(value, Unpickled::Dict(hooks.into()));
    assert_eq!(storages, [("0".to_owned(), V[0].to_vec()), ("1".to_owned(), V[1].to_vec())].into());
    let readme = exported.text("README.md");
    assert!(readme.contains("pretrained=mistralai/Mistral-7B-Instruct-v0.2,steer_path=steer.pt"), "{readme}");
}

#[test]
fn an_ablation_is_told_to_engines_that_have_one_and_warned_of_for_others() {
    let ablated = vector(&[3], |known| known.operation = Operation::Ablate);
    let easysteer = Exported::of(&ablated, "easysteer", &[]);
    assert_eq!(easysteer.json("request.json")["steering"]["vectors"][0]["algorithm"], "erase");
    assert!(easysteer.text("README.md").contains("--steer-algorithms erase\n"));
    let lm_eval = Exported::of(&ablated, "lm-eval", &[]);
    assert_eq!(
        unpickled(&lm_eval.read("steer.pt")).0,
        Unpickled::Dict([("layers.3".to_owned(), hook("0", 0.0, "clamp"))].into())
    );
    let pyvene = Exported::of(&ablated, "pyvene", &["--magnitude", "0.5"]);
    assert!(pyvene.text("steer.py").contains("return (h - m * (h @ v / (v @ v))[..., None] * v).to(dtype)"));
    for exported in [&easysteer, &lm_eval, &pyvene] {
        assert!(exported.warnings().is_empty(), "{}", exported.said);
        assert!(exported.text("README.md").contains("What lies along the vector is taken out of the output of block 3"));
    }
    for target in ["vllm-lens", "llama.cpp"] {
        let exported = Exported::of(&ablated, target, &[]);
        let expected = format!("warning: {target} adds the vector all the same, although its operation is ablate: ");
        let [warning] = exported.warnings()[..] else { panic!("{}", exported.said) };
        assert!(warning.starts_with(&expected), "{warning}");
    }
    let place = Place::new();
    ablated.write(&place.path("v.safetensors")).unwrap();
    for target in ["easysteer", "lm-eval"] {
        let args = ["export", "v.safetensors", "--to", target, "-o", "e", "--magnitude", "0.5"];
        assert_refused(
            &place.bipo(&args),
            &args,
            "takes out all that lies along it: name no magnitude, or export to pyvene (--magnitude, --to)",
        );
    }
}

#[test]
fn pyvene_gets_a_script_and_the_vector() {
    let rules = [
        ("all", "intervene_on_prompt=True, max"),
        ("response", "intervene_on_prompt=False, max"),
        ("prompt", "intervene_on_prompt=True, unit_locations={\"base\": [[list(range(n))]] * len(vectors)}, max"),
        (
            "last:4",
            "intervene_on_prompt=True, unit_locations={\"base\": [[list(range(max(n - 4, 0), n))]] * len(vectors)}, max",
        ),
    ];
    for (rule, expected) in rules {
        let original = vector(&[0, 13], |known| known.positions = rule.parse().unwrap());
        let exported = Exported::of(&original, "pyvene", &["--magnitude", "1.5"]);
        assert_eq!(exported.names(), ["README.md", "steer.py", "vector.safetensors"]);
        assert_eq!(SteeringVector::read(&exported.place.path("e/vector.safetensors"), None).unwrap(), original);
        let script = exported.text("steer.py");
        assert!(script.contains(expected) && script.contains("return (h + m * v).to(dtype)"), "{rule}: {script}");
        assert!(
            script.contains("MODEL = \"mistralai/Mistral-7B-Instruct-v0.2\"\n") && script.contains(" else 1.5\n"),
            "{script}"
        );
        assert!(exported.warnings().is_empty(), "{rule}: {}", exported.said);
    }
    let both = Exported::of(&vector(&[3], |known| known.positions = "last+response".parse().unwrap()), "pyvene", &[]);
    assert!(both.warnings()[0].contains("pyvene steers every token"), "{}", both.said);
}

#[test]
fn llama_cpp_gets_a_control_vector_and_cannot_steer_layer_0() {
    let original = vector(&[3, 13], |_| ());
    let exported = Exported::of(&original, "llama.cpp", &["--magnitude", "-1.5"]);
    assert_eq!(exported.names(), ["README.md", "request.json", "vector.gguf"]);
    assert_eq!(SteeringVector::read(&exported.place.path("e/vector.gguf"), None).unwrap(), original);
    check_chat(&exported.json("request.json"), "mistralai/Mistral-7B-Instruct-v0.2");
    let readme = exported.text("README.md");
    assert!(readme.contains("llama-server -m MODEL.gguf --control-vector-scaled vector.gguf:-1.5\n"), "{readme}");
    let place = Place::new();
    vector(&[0, 13], |_| ()).write(&place.path("v.safetensors")).unwrap();
    let args = ["export", "v.safetensors", "--to", "llama.cpp", "-o", "e"];
    assert_refused(
        &place.bipo(&args),
        &args,
        "llama.cpp cannot steer layer 0, since its directions begin at block 1: export to vllm-lens, easysteer, lm-eval or pyvene, or learn the vector at a higher layer (bipo export --to, bipo train --layer)",
    );
    assert!(!place.path("e").exists());
}

#[test]
fn a_model_for_vllm_has_the_vector_in_a_bias_and_says_how_it_is_served() {
    let place = Place::new();
    fs::write(place.path("v.safetensors"), crate::bytes::vector(32)).unwrap();
    let model = fixture("llama");
    let args =
        ["export", "v.safetensors", "--to", "vllm-merged", "--model", &model, "--magnitude", "2", "--out", "e", "--json"];
    let output = place.bipo(&args);
    assert_ok(&output);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(keys(&report), ["command", "files", "layers", "magnitude", "model", "output_dir", "schema_version", "target"]);
    assert_eq!((&report["target"], &report["layers"], &report["magnitude"]), (&json!("vllm-merged"), &json!([1]), &json!(2.0)));
    assert_eq!(report["command"], "vllm serve . --served-model-name bipo-merged");
    let config: Value = serde_json::from_slice(&fs::read(place.path("e/config.json")).unwrap()).unwrap();
    assert_eq!(config["mlp_bias"], true);
    let weights = fs::read(place.path("e/model.safetensors")).unwrap();
    let weights = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let bias = weights.tensor("model.layers.1.mlp.down_proj.bias").unwrap();
    assert_eq!(bias.data(), 1.0_f32.to_le_bytes().repeat(32));
    check_chat(&serde_json::from_slice(&fs::read(place.path("e/request.json")).unwrap()).unwrap(), "bipo-merged");
    let readme = text(&fs::read(place.path("e/README.md")).unwrap());
    assert!(readme.contains("pull request 25807") && readme.contains("SGLang and TensorRT-LLM drop it"), "{readme}");
    // A model is not replaced, whatever the flags.
    let again = [&args[..], &["--overwrite"]].concat();
    assert_refused(&place.bipo(&again), &again, "e is not empty");
}

#[test]
fn a_readme_has_commands_that_name_everything() {
    for target in ExportTarget::VARIANTS.iter().filter(|target| **target != "vllm-merged") {
        let exported = Exported::of(&vector(&[3], |known| known.base_model = Some("my/own model".into())), target, &[]);
        let readme = exported.text("README.md");
        assert!(readme.contains(&format!("bipo export --to {target}`")) && readme.contains("block 3 (0-based)"), "{readme}");
        for name in exported.names().iter().filter(|name| *name != "README.md") {
            assert!(readme.contains(&format!("| `{name}` |")), "{target}: {readme}");
        }
        assert!(!readme.contains(['{', '}']), "{target}: {readme}");
        let commands: Vec<&str> = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
        assert!(commands.len() >= 3, "{target}: {commands:?}");
        assert!(
            commands.iter().any(|command| command.contains("'my/own model'") || command.contains("MODEL.gguf")),
            "{commands:?}"
        );
        assert!(exported.said.contains("run it: cd e && "), "{}", exported.said);
    }
}

#[test]
fn a_model_in_a_folder_is_named_by_its_whole_path() {
    let exported = Exported::of(&vector(&[3], |_| ()), "vllm-lens", &["--model", "."]);
    let place = exported.place.path("").canonicalize().unwrap();
    let model = exported.json("request.json")["model"].as_str().unwrap().to_owned();
    assert_eq!(std::path::Path::new(&model).canonicalize().unwrap(), place);
    assert!(exported.text("README.md").contains(&format!("vllm serve {model} ")), "{}", exported.text("README.md"));
}

#[test]
fn a_model_of_a_folder_elsewhere_is_named_by_nobody_but_the_user() {
    let of = |base_model: Option<&str>, flags: &[&str]| {
        let exported = Exported::of(&vector(&[3], |known| known.base_model = base_model.map(str::to_owned)), "lm-eval", flags);
        let line = exported.said.lines().find(|line| line.starts_with("run it")).unwrap().to_owned();
        (line, exported.text("README.md"))
    };
    let (line, readme) = of(Some("llama"), &[]);
    let words = "run it, with the path of the model llama in place of MODEL, or export again with --model: cd e && lm_eval ";
    assert!(line.starts_with(words) && line.contains("pretrained=MODEL,"), "{line}");
    assert!(readme.contains("pretrained=MODEL,") && !readme.contains("pretrained=llama"), "{readme}");
    assert!(
        of(None, &[]).0.starts_with("run it, with the path of the model in place of MODEL, or export again with --model: ")
    );
    // What the user names is kept, and so is a name that says where the model is.
    assert!(of(Some("llama"), &["--model", "other/name"]).0.starts_with("run it: cd e && lm_eval "));
    let (line, _) = of(Some("SmolLM2-135M-Instruct.Q4_1.gguf"), &[]);
    assert!(line.contains("pretrained=HuggingFaceTB/SmolLM2-135M-Instruct,"), "{line}");
}

#[test]
fn files_are_replaced_with_overwrite_alone_and_others_stay() {
    let place = Place::new();
    vector(&[3], |_| ()).write(&place.path("v.safetensors")).unwrap();
    fs::create_dir(place.path("e")).unwrap();
    fs::write(place.path("e/notes.txt"), "mine").unwrap();
    let args = ["export", "v.safetensors", "--to", "vllm-lens", "-o", "e"];
    assert_ok(&place.bipo(&args));
    let before = fs::read(place.path("e/request.json")).unwrap();
    let other = [&args[..], &["--magnitude", "3"]].concat();
    assert_refused(&place.bipo(&other), &other, "request.json exists: choose another folder, or replace it with --overwrite");
    assert_eq!(fs::read(place.path("e/request.json")).unwrap(), before);
    assert_ok(&place.bipo(&[&other[..], &["--overwrite"]].concat()));
    assert_ne!(fs::read(place.path("e/request.json")).unwrap(), before);
    assert_eq!(fs::read(place.path("e/notes.txt")).unwrap(), b"mine");
}

#[test]
fn neither_the_vector_nor_another_projects_files_are_replaced() {
    let place = Place::new();
    vector(&[3], |_| ()).write(&place.path("v.safetensors")).unwrap();
    fs::write(place.path("README.md"), "My project").unwrap();
    let args = ["export", "v.safetensors", "--to", "vllm-lens", "-o", ".", "--overwrite"];
    assert_refused(&place.bipo(&args), &args, "is no folder of an export");
    assert_eq!(fs::read(place.path("README.md")).unwrap(), b"My project");
    assert_ok(&place.bipo(&["export", "v.safetensors", "--to", "pyvene", "-o", "e"]));
    let name = fs::read_dir(place.path("e")).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let input = format!("e/{}:2", name.into_iter().find(|name| name.ends_with(".safetensors")).unwrap());
    let args = ["export", &input, "--to", "pyvene", "-o", "e", "--overwrite"];
    assert_refused(&place.bipo(&args), &args, "would be replaced by its export");
}

#[test]
fn a_readme_tells_what_the_engine_does_and_not_what_the_vector_is_for() {
    let exported = Exported::of(&vector(&[3], |known| known.positions = Positions::Response), "llama.cpp", &[]);
    let readme = exported.text("README.md");
    assert!(readme.contains("at all tokens of prompt and response.") && readme.contains(" --positions all "), "{readme}");
    let exported = Exported::of(&vector(&[3], |known| known.operation = Operation::Ablate), "vllm-lens", &[]);
    let readme = exported.text("README.md");
    assert!(readme.contains("is added to the output of block 3") && readme.contains(" --operation add "), "{readme}");
    // bipo cannot be told to do the same.
    let exported = Exported::of(&vector(&[3], |known| known.spans = Some(Spans::User)), "llama.cpp", &[]);
    assert!(!exported.text("README.md").contains("bipo steer"), "{}", exported.text("README.md"));
}

#[test]
fn the_magnitude_can_be_the_calibrated_one_and_is_warned_of_beyond_it() {
    let calibration = Calibration { budget: "kl=1".into(), minus: Some(-2.5), plus: Some(3.1), model: "mistral".into() };
    let calibrated = vector(&[3], |known| known.calibration = Some(calibration));
    let exported = Exported::of(&calibrated, "lm-eval", &["--magnitude", "auto"]);
    let Unpickled::Dict(hooks) = unpickled(&exported.read("steer.pt")).0 else { panic!() };
    assert_eq!(hooks["layers.3"], hook("0", 3.1, "add"));
    assert!(exported.warnings().is_empty(), "{}", exported.said);
    let beyond = Exported::of(&calibrated, "lm-eval", &["--magnitude", "-3"]);
    assert_eq!(
        beyond.warnings(),
        [
            "warning: magnitude -3 is beyond -2.5, the largest within kl=1 (bipo calibrate): texts may break; stay within it, or \
          calibrate with a larger --budget"
        ]
    );
    let place = Place::new();
    vector(&[3], |_| ()).write(&place.path("v.safetensors")).unwrap();
    let args = ["export", "v.safetensors", "--to", "lm-eval", "-o", "e", "--magnitude", "auto"];
    assert_refused(&place.bipo(&args), &args, "run `bipo calibrate --save` with it first, or give a number such as 1.5");
}

#[test]
fn an_export_that_is_not_possible_is_refused_in_one_line() {
    let place = Place::new();
    vector(&[3], |known| known.positions = Positions::Response).write(&place.path("v.safetensors")).unwrap();
    fs::write(place.path("bare.safetensors"), crate::bytes::vector(32)).unwrap();
    let (mistral, llama) = (fixture("mistral"), fixture("llama"));
    let cases: [(&[&str], &str); 6] = [
        (&["v.safetensors", "--to", "sglang"], "vllm-lens, easysteer, vllm-merged, llama.cpp, lm-eval, pyvene"),
        (&["v.safetensors", "--to", "lm-eval", "--magnitude", "nan"], "expected a finite number, or auto"),
        (&["nowhere.safetensors", "--to", "lm-eval"], "nowhere.safetensors"),
        (&["--to", "lm-eval"], "run `bipo train` first"),
        (&["bare.safetensors", "--to", "vllm-merged"], "does not name the model to build it into: give --model"),
        (&["bare.safetensors", "--to", "vllm-merged", "--model", &mistral], "tokenizer.json"),
    ];
    for (flags, expected) in cases {
        let args = [&["export", "-o", "e"], flags].concat();
        assert_refused(&place.bipo(&args), &args, expected);
    }
    vector(&[1], |known| known.positions = Positions::Response).write(&place.path("v.safetensors")).unwrap();
    let args = ["export", "v.safetensors", "--to", "vllm-merged", "--model", &llama, "-o", "e"];
    assert_eq!(place.bipo(&args).status.code(), Some(2));
    assert!(!place.path("e").exists());
}
