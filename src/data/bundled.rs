//! The data sets that are compiled into the program: three behaviours that show well in a small model. Their data card is
//! `data/README.md`.

/// A data set that needs no file and no network.
#[derive(Debug, PartialEq, Eq)]
pub struct Bundled {
    /// Name that the user writes in place of a path.
    pub name: &'static str,
    /// Description on one line, for help texts.
    pub description: &'static str,
    pub(super) csv: &'static str,
}

/// Returns every bundled data set: for each behaviour the training set, then the held-out set.
pub fn bundled() -> &'static [Bundled] {
    BUNDLED
}

const BUNDLED: &[Bundled] = &[
    Bundled {
        name: "cheerful",
        description: "cheerful answers against gloomy ones",
        csv: include_str!("../../data/cheerful-train.csv"),
    },
    Bundled {
        name: "cheerful-heldout",
        description: "cheerful against gloomy, held out",
        csv: include_str!("../../data/cheerful-heldout.csv"),
    },
    Bundled {
        name: "formal",
        description: "formal answers against casual ones",
        csv: include_str!("../../data/formal-train.csv"),
    },
    Bundled {
        name: "formal-heldout",
        description: "formal against casual, held out",
        csv: include_str!("../../data/formal-heldout.csv"),
    },
    Bundled {
        name: "concise",
        description: "concise answers against wordy ones",
        csv: include_str!("../../data/concise-train.csv"),
    },
    Bundled {
        name: "concise-heldout",
        description: "concise against wordy, held out",
        csv: include_str!("../../data/concise-heldout.csv"),
    },
];
