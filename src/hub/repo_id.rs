//! The name of a repository on the hub. It becomes part of a path in the cache, so it is checked to be a safe name.

use hf_hub::{Repo, RepoType};

/// A repository on the hub, `owner/name[@revision]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RepoId {
    /// Repository id, `owner/name`.
    pub repo: String,
    /// Branch, tag or commit; `None` means `main`.
    pub revision: Option<String>,
}

impl RepoId {
    pub fn parse(text: &str) -> Option<Self> {
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        let word = |text: &str| {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            !text.is_empty() && !text.starts_with(['.', '-']) && !text.contains("..") && text.chars().all(plain)
        };
        let (owner, name) = repo.split_once('/')?;
        let valid = word(owner) && word(name) && revision.is_none_or(|revision| revision.split('/').all(word));
        valid.then(|| Self { repo: repo.to_owned(), revision: revision.map(str::to_owned) })
    }

    pub(super) fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    pub(super) fn as_repo(&self) -> Repo {
        Repo::with_revision(self.repo.clone(), RepoType::Model, self.revision().to_owned())
    }
}

impl std::fmt::Display for RepoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.revision {
            Some(revision) => write!(f, "{}@{revision}", self.repo),
            None => f.write_str(&self.repo),
        }
    }
}
