//! The operator `~` as Jinja in Python has it: its operands become Python's text, `True` and not `true`. The engine has no hook
//! there, so each operand in a template's source gets the filter `string` before the template is parsed.

use std::borrow::Cow;

/// Words behind which another operand begins. They bind less tightly than `~`.
const BETWEEN_OPERANDS: [&str; 7] = ["and", "or", "not", "in", "if", "else", "recursive"];

/// Returns the source with `(operand)|string` for each operand of `~` that is not a text in quotes. Line numbers stay. What is not
/// Jinja stays as it is, for the engine to refuse.
pub fn with_python_text(source: &str) -> Cow<'_, str> {
    if !source.contains('~') {
        return source.into();
    }
    let mut insertions = Vec::new();
    let mut at = 0;
    while let Some(open) = source[at..].find('{').map(|found| at + found) {
        let rest = &source[open..];
        at = open + 1;
        if rest.starts_with("{#") {
            at = rest.find("#}").map_or(source.len(), |end| open + end + 2);
        } else if rest.starts_with("{{") || rest.starts_with("{%") {
            let mut tag = Tag::new(source, open);
            tag.read();
            at = tag.at;
            insertions.append(&mut tag.insertions);
            if tag.is_raw {
                at = end_of_raw(source, at);
            }
        }
    }
    insertions.sort_by_key(|(at, _)| *at);
    let mut result = String::with_capacity(source.len() + 8 * insertions.len());
    let mut copied = 0;
    for (at, text) in insertions {
        result.push_str(&source[copied..at]);
        result.push_str(text);
        copied = at;
    }
    result.push_str(&source[copied..]);
    result.into()
}

/// Offset at which `{% endraw %}` begins, from `at` on.
fn end_of_raw(source: &str, mut at: usize) -> usize {
    while let Some(open) = source[at..].find("{%").map(|found| at + found) {
        let word = source[open + 2..].trim_start_matches(['-', '+']).trim_start();
        if word.starts_with("endraw") {
            return open;
        }
        at = open + 2;
    }
    source.len()
}

/// An operand that is being read, and the brackets round it.
struct Operand {
    /// Range of the operand's tokens, once there is one.
    span: Option<(usize, usize)>,
    /// Number of its tokens, one if it is a text in quotes alone.
    tokens: usize,
    is_text: bool,
    /// Whether `~` stands before it.
    is_joined: bool,
}

impl Operand {
    fn new(is_joined: bool) -> Self {
        Self { span: None, tokens: 0, is_text: false, is_joined }
    }
}

/// Reads one `{{ … }}` or `{% … %}`.
struct Tag<'a> {
    source: &'a str,
    at: usize,
    close: &'static str,
    /// Operands from the outermost brackets to the innermost.
    operands: Vec<Operand>,
    /// Whether a value must come next, so that a sign belongs to it.
    expects_value: bool,
    /// Whether the words that come next name a test.
    in_test: bool,
    /// Whether the word that comes next is an attribute's name, whatever it is.
    follows_dot: bool,
    is_raw: bool,
    insertions: Vec<(usize, &'static str)>,
}

impl<'a> Tag<'a> {
    fn new(source: &'a str, open: usize) -> Self {
        let is_statement = source[open..].starts_with("{%");
        let mut tag = Self {
            source,
            at: open + 2,
            close: if is_statement { "%}" } else { "}}" },
            operands: vec![Operand::new(false)],
            expects_value: true,
            in_test: false,
            follows_dot: false,
            is_raw: false,
            insertions: Vec::new(),
        };
        if tag.rest().starts_with(['-', '+']) {
            tag.at += 1;
        }
        if is_statement {
            tag.at += tag.rest().len() - tag.rest().trim_start().len();
            let word = word_of(tag.rest());
            tag.is_raw = word == "raw";
            tag.at += word.len();
        }
        tag
    }

    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Reads up to the end of the tag, and of the source where it does not end.
    fn read(&mut self) {
        while let Some(first) = self.rest().chars().next() {
            let (start, rest) = (self.at, self.rest());
            if self.operands.len() == 1 && rest.starts_with(self.close) {
                self.end_operand(false);
                self.at += 2;
                return;
            }
            match first {
                '\'' | '"' => {
                    self.at += text_len(rest);
                    self.token(start, true);
                }
                '(' | '[' | '{' => {
                    self.at += 1;
                    self.token(start, false);
                    self.operands.push(Operand::new(false));
                    self.expects_value = true;
                }
                ')' | ']' | '}' => {
                    self.end_operand(false);
                    if self.operands.len() > 1 {
                        self.operands.pop();
                    }
                    self.at += 1;
                    self.token(start, false);
                }
                '~' => {
                    self.end_operand(true);
                    self.at += 1;
                }
                '-' | '+' if self.expects_value => {
                    self.at += 1;
                    self.token(start, false);
                    self.expects_value = true;
                }
                '-' | '+' | ',' | ':' | '=' | '<' | '>' | '!' => {
                    self.end_operand(false);
                    self.at += 1;
                }
                '*' | '/' | '%' | '|' | '.' => {
                    self.at += 1;
                    self.token(start, false);
                    self.expects_value = matches!(first, '*' | '/' | '%');
                    self.follows_dot = first == '.';
                }
                _ if is_in_word(first) => self.word(),
                _ => self.at += first.len_utf8(),
            }
        }
        // The engine refuses a tag without an end, and brackets that do not match.
        self.insertions.clear();
    }

    fn word(&mut self) {
        let (start, word) = (self.at, word_of(self.rest()));
        self.at += word.len();
        let is_attribute = std::mem::take(&mut self.follows_dot);
        // The sign of an exponent, as in 1e-5.
        if word.starts_with(|letter: char| letter.is_ascii_digit())
            && word.ends_with(['e', 'E'])
            && self.rest().starts_with(['-', '+'])
        {
            self.at += 1;
            self.at += word_of(self.rest()).len();
        }
        let names_test = self.in_test;
        self.in_test = word == "is" || (names_test && word == "not");
        if BETWEEN_OPERANDS.contains(&word) && !names_test && !is_attribute {
            self.end_operand(false);
        } else {
            self.token(start, false);
        }
    }

    /// Notes a token of the innermost operand, which ends here.
    fn token(&mut self, start: usize, is_text: bool) {
        self.expects_value = false;
        if let Some(operand) = self.operands.last_mut() {
            operand.is_text = is_text && operand.tokens == 0;
            operand.tokens += 1;
            operand.span = Some((operand.span.map_or(start, |(first, _)| first), self.at));
        }
    }

    /// Ends the innermost operand, before `~` or something else, and begins the next.
    fn end_operand(&mut self, before_tilde: bool) {
        self.expects_value = true;
        self.in_test = false;
        let Some(operand) = self.operands.last_mut() else { return };
        let operand = std::mem::replace(operand, Operand::new(before_tilde));
        if let Some((start, end)) = operand.span.filter(|_| (operand.is_joined || before_tilde) && !operand.is_text) {
            self.insertions.extend([(start, "("), (end, ")|string")]);
        }
    }
}

/// Length of the text in quotes that `source` begins with.
fn text_len(source: &str) -> usize {
    let mut letters = source.char_indices();
    let quote = letters.next().map(|(_, quote)| quote);
    let mut is_escaped = false;
    for (at, letter) in letters {
        if !is_escaped && Some(letter) == quote {
            return at + 1;
        }
        is_escaped = !is_escaped && letter == '\\';
    }
    source.len()
}

fn is_in_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word_of(source: &str) -> &str {
    &source[..source.find(|letter| !is_in_word(letter)).unwrap_or(source.len())]
}

#[cfg(test)]
#[path = "concat_tests.rs"]
mod tests;
