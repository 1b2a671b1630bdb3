//! The ends of a prompt: its first and last tokens, after what every prompt of its template begins with. Which tokens those are
//! is the business of `tokens`, which knows the template.

/// Some of a prompt's first tokens, some of its last, and maybe all of the response. A token may be of both ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Number of the prompt's first tokens.
    pub first: u16,
    /// Number of the prompt's last tokens.
    pub last: u16,
    /// Whether the response's tokens, and generated ones, belong to them.
    pub response: bool,
}

impl Ends {
    /// Whether token `index` belongs to them, of a sequence whose prompt has its own tokens at `own.start..own.end` and whose
    /// response begins there.
    pub fn include(&self, index: usize, own: &std::ops::Range<usize>) -> bool {
        let is_first = index < own.start + usize::from(self.first);
        let is_last = index + usize::from(self.last) >= own.end;
        (own.contains(&index) && (is_first || is_last)) || (self.response && index >= own.end)
    }
}

#[cfg(test)]
#[path = "ends_tests.rs"]
mod tests;
