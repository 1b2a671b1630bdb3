//! How the program of the server starts and ends.

use super::*;

#[cfg(unix)]
#[test]
fn sigterm_ends_the_server_with_success_and_a_taken_port_is_one_line() {
    let mut server = Server::start(&[], None);
    let taken = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["serve", "--model", FIXTURE, "--port", server.address.rsplit_once(':').unwrap().1])
        .current_dir(server.dir.path())
        .output()
        .unwrap();
    let line = String::from_utf8_lossy(&taken.stderr);
    assert!(taken.status.code() == Some(2) && line.contains("choose another port"), "{line}");
    let open = Command::new(env!("CARGO_BIN_EXE_bipo")).args(["serve", "--host", "0.0.0.0"]).output().unwrap();
    let line = String::from_utf8_lossy(&open.stderr);
    assert!(open.status.code() == Some(2) && line.contains("--insecure") && line.lines().count() == 1, "{line}");
    assert!(Command::new("kill").arg(server.child.id().to_string()).status().unwrap().success());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_model_in_a_folder_has_the_folders_whole_name_and_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("Tiny-1.7B-Instruct");
    std::fs::create_dir(&model).unwrap();
    for file in std::fs::read_dir(FIXTURE).unwrap().map(|entry| entry.unwrap().path()) {
        std::fs::copy(&file, model.join(file.file_name().unwrap())).unwrap();
    }
    let server = Server::start_with(model.to_str().unwrap(), &[], None);
    let models: Value = serde_json::from_str(&server.get("/v1/models").1).unwrap();
    let names: Vec<&str> = models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["Tiny-1.7B-Instruct", "Tiny-1.7B-Instruct::v"]);
}

#[test]
fn one_vector_may_go_without_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = vector(dir.path()).display().to_string();
    let server = Server::start(&["--vector", &format!("{path}:0.5")], None);
    let listed: Value = serde_json::from_str(&server.get("/v1/steering/vectors").1).unwrap();
    let vectors = listed["data"].as_array().unwrap();
    let names: Vec<&str> = vectors.iter().map(|vector| vector["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["v", "default"], "{listed}");
    let norms: Vec<f64> = vectors.iter().map(|vector| vector["norm"].as_f64().unwrap()).collect();
    assert!((norms[0] - 2.0 * norms[1]).abs() < 1e-4 * norms[0], "{norms:?}");

    let twice = Command::new(env!("CARGO_BIN_EXE_bipo"))
        .args(["serve", "--model", FIXTURE, "--vector", &path, "--vector", &path])
        .output()
        .unwrap();
    let line = String::from_utf8_lossy(&twice.stderr);
    assert!(twice.status.code() == Some(2) && line.contains("another vector is called default too"), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_key_from_the_environment_opens_the_server_to_other_machines() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bipo"));
    command.args(["serve", "--model", FIXTURE, "--host", "0.0.0.0", "--port", "0", "--json", "--quiet"]);
    let dir = tempfile::tempdir().unwrap();
    let mut child = command.env("BIPO_API_KEY", "k").current_dir(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut told).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let port = told["url"].as_str().unwrap().strip_prefix("http://0.0.0.0:").unwrap().to_owned();
    let mut server = Server { child, address: format!("127.0.0.1:{port}"), key: None, dir };
    let statuses = [None, Some("another, and longer"), Some("k")].map(|key| {
        server.key = key;
        server.get("/v1/models").0
    });
    assert_eq!(statuses, [401, 401, 200]);
}

#[cfg(unix)]
#[test]
fn sigterm_lets_the_streams_under_way_end() {
    let mut server = Server::start(&[], None);
    let mut stream =
        server.open(&chat(json!({"stream": true, "max_tokens": 300, "logit_bias": {"0": -100, "1": -100, "2": -100}})));
    assert!(Command::new("kill").arg(server.child.id().to_string()).status().unwrap().success());
    assert_eq!(stream.by_ref().last().as_deref(), Some("[DONE]"));
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(&server.address).is_err());
}
