//! Tests of escaping.

use super::*;

#[test]
fn markup_is_text_and_control_characters_are_shown() {
    assert_eq!(escape("<script>\"a\" & 'b'</script>"), "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;&lt;/script&gt;");
    assert_eq!(escape("a\u{1b}[31m\0\r\n\té"), "a\u{fffd}[31m\u{fffd}\u{fffd}\n\té");
}
