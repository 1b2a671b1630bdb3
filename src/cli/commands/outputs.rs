//! Files that a command is to write: found to be writable, and to be neither another one's nor one that is read, before anything costly.

use std::path::{Path, PathBuf};

use bipo::machine::files::check_writable;
use bipo::{Error, Result};

use crate::args::{SteeringArgs, vector_and_scale};

/// Refuses files that cannot be written, that are one file twice, or that the command reads: the vectors, and `others`, each with its
/// flag.
pub fn check_outputs<'a>(
    written: &[(&'static str, &'a Option<PathBuf>)],
    steering: &SteeringArgs,
    others: impl IntoIterator<Item = (&'static str, &'a Path)>,
) -> Result<()> {
    let vector = |text: &String| Ok(("--vector", vector_and_scale(text)?.0));
    let mut taken: Vec<(&str, PathBuf)> = steering.source.vector.iter().map(vector).collect::<Result<_>>()?;
    taken.extend(others.into_iter().map(|(flag, path)| (flag, path.to_owned())));
    for (flag, path) in written.iter().filter_map(|(flag, path)| Some((*flag, path.as_ref()?))) {
        check_writable(path)?;
        if let Some((other, _)) = taken.iter().find(|(_, other)| is_same(path, other)) {
            let problem = format!("{flag} and {other} are one file, {}, which would be replaced: name another", path.display());
            return Err(Error::Argument(problem));
        }
        taken.push((flag, path.clone()));
    }
    Ok(())
}

/// Whether two paths name one file.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a == b || a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}
