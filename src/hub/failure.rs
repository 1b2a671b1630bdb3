//! Why a download from the hub failed, derived from hf-hub's errors. The caller explains what the failure means for a model or
//! a data set.

use hf_hub::api::sync::ApiError;

use crate::Error;

/// What was requested from the hub. A denied listing means that the repository is private or does not exist; a denied file
/// means that its licence was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Listing,
    File,
}

/// Why a download from the hub failed.
#[derive(Debug)]
pub(crate) enum DownloadFailure {
    Unknown,
    Denied,
    Lacks(String),
    Unreachable(String),
    Failed(String),
    Other(Error),
}

impl DownloadFailure {
    pub fn of(error: ApiError, step: Step) -> Self {
        let error = match error {
            ApiError::TooManyRetries(inner) => return Self::of(*inner, step),
            ApiError::RequestError(error) => *error,
            ApiError::LockAcquisition(path) => {
                return Self::Failed(format!("another process is downloading it ({})", path.display()));
            }
            ApiError::IoError(error) => return Self::Failed(format!("writing to the cache: {error}")),
            ApiError::InvalidResume => {
                return Self::Failed("a partial download is broken: delete the .part file in the cache".to_owned());
            }
            other => return Self::Failed(one_line(&other)),
        };
        match (&error, step) {
            (ureq::Error::StatusCode(404), _) | (ureq::Error::StatusCode(401), Step::Listing) => Self::Unknown,
            (ureq::Error::StatusCode(401 | 403), _) => Self::Denied,
            (ureq::Error::StatusCode(429), _) => {
                Self::Failed("too many requests (429): try again later, or give HF_TOKEN".to_owned())
            }
            (ureq::Error::StatusCode(status), _) => Self::Failed(format!("the hub answered with status {status}")),
            (
                ureq::Error::Io(_)
                | ureq::Error::HostNotFound
                | ureq::Error::ConnectionFailed
                | ureq::Error::Timeout(_)
                | ureq::Error::Tls(_)
                | ureq::Error::Rustls(_)
                | ureq::Error::ConnectProxyFailed(_),
                _,
            ) => Self::Unreachable(one_line(&error)),
            _ => Self::Failed(one_line(&error)),
        }
    }
}

fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
