//! Command lines that paste into a POSIX shell.

/// An argument as the shell must read it to get `text`.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ',' | '+' | '@' | '%');
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// A program and its arguments as one line, or several where an argument has line feeds.
pub fn command_line<T: AsRef<str>>(program: &str, arguments: impl IntoIterator<Item = T>) -> String {
    let arguments = arguments.into_iter().map(|argument| quote(argument.as_ref()));
    std::iter::once(quote(program)).chain(arguments).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
