//! Compiles a chat template in Jinja, and renders a conversation with it.
#![no_main]

use bipo::text::chat::{ChatTemplate, Message};

libfuzzer_sys::fuzz_target!(|source: &str| {
    let Ok(template) = ChatTemplate::from_source("input", source, Some("<s>"), None) else { return };
    let turns = [("system", "Be brief."), ("user", " What is NATO?\n"), ("assistant", "An alliance."), ("user", "Why é?")];
    let messages = turns.map(|(role, content)| Message::new(role, content));
    let _ = template.render(&messages);
    let _ = template.render_with_contents(&messages[1..], "user");
});
