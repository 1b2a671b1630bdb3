//! What this machine has of the hub: its address, where its files are kept, whether an access token is there, and whether the hub
//! answers. Nothing is downloaded, and the token is neither sent nor told.

use std::path::PathBuf;
use std::time::Duration;

use super::options::FetchOptions;
use super::presets::PRESETS;
use super::repo::Hub;
use crate::Result;

/// How this machine reaches the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubStatus {
    /// Address of the hub, without a name and password that may stand in it.
    pub endpoint: String,
    /// Directory of the hub's cache. It may not exist yet.
    pub cache: PathBuf,
    /// Whether there is an access token.
    pub has_token: bool,
    /// `None` if the network is off; else whether the hub answered, and why it did not.
    pub answer: Option<Result<(), String>>,
}

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the hub for a known model, unless `offline` or `HF_HUB_OFFLINE` is set, and waits 5 seconds at most.
///
/// # Errors
/// A variable of the environment is wrong, or there is no home directory.
pub fn status(offline: bool) -> Result<HubStatus> {
    let hub = Hub::from_env(&FetchOptions { offline, progress: None })?;
    let answer = (!hub.offline).then(|| ask(&hub.endpoint));
    Ok(HubStatus { endpoint: without_password(&hub.endpoint), cache: hub.cache, has_token: hub.token.is_some(), answer })
}

fn ask(endpoint: &str) -> Result<(), String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let url = format!("{}/api/models/{}", endpoint.trim_end_matches('/'), PRESETS[0].repo);
    match agent.get(url).call() {
        Ok(_) => Ok(()),
        Err(ureq::Error::StatusCode(status)) => Err(format!("it answers with status {status}")),
        Err(ureq::Error::Timeout(_)) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        Err(error) => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
