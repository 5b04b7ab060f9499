//! The templates, and the one way by which values get into them: everything that would be
//! interpreted is spelled out, then escaped for HTML.

use std::borrow::Cow;

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, escape_formatter};

/// How much of one text is shown. What scenarios and programs say of themselves is shorter.
const BYTES_MAX: usize = 16 << 10;

const TEMPLATES: &[(&str, &str)] = &[
    ("page.html", include_str!("page.html")),
    ("trial.html", include_str!("trial.html")),
    ("lab.svg", include_str!("lab.svg")),
    ("timeline.svg", include_str!("timeline.svg")),
];

/// The page's templates. No value reaches their output but through [`visible`] and the escapes of
/// HTML, whatever the template; a name that is not there is an error.
pub(super) fn templates() -> Result<Environment<'static>> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).build();
    templates.set_syntax(syntax.context("set the syntax of templates")?);
    templates.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() => {
            escape_formatter(out, state, &Value::from(visible(&capped(text))))
        }
        _ => escape_formatter(out, state, value),
    });
    for (name, text) in TEMPLATES {
        templates.add_template(name, text).with_context(|| format!("read the template {name}"))?;
    }
    Ok(templates)
}

/// The beginning of a text that is too long to be read, and how much of it is left out.
fn capped(text: &str) -> Cow<'_, str> {
    if text.len() <= BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = text.floor_char_boundary(BYTES_MAX);
    Cow::Owned(format!("{} [{} more bytes are not shown]", &text[..end], text.len() - end))
}

/// Text with whatever has no shape of its own spelled out: control characters, what turns the
/// direction of text (UAX 9), what is invisible. Ends of lines and tabs stay.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if hidden(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

fn hidden(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        // A browser shows nothing for them, and HTML does not allow them.
        '\u{fdd0}'..='\u{fdef}' => true,
        c => c.is_control() || (c as u32) & 0xfffe == 0xfffe,
    }
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[test]
    fn what_has_no_shape_is_spelled_out() {
        assert_eq!(visible("a\u{1b}[2J\r\n\tb"), "a\\u{1b}[2J\\u{d}\n\tb");
        assert_eq!(
            visible("\u{202e}x\u{2066}\u{200b}\u{feff}"),
            "\\u{202e}x\\u{2066}\\u{200b}\\u{feff}"
        );
        assert_eq!(visible("\0\u{85}\u{ffff}\u{e0041}"), "\\u{0}\\u{85}\\u{ffff}\\u{e0041}");
        assert_eq!(visible("plain – ä א"), "plain – ä א");
    }

    #[test]
    fn no_value_is_taken_for_markup() {
        let mut templates = templates().unwrap();
        templates.add_template("x.txt", "<a title=\"{{ x }}\" id='{{ x }}'>{{ x }}").unwrap();
        let text = "</a><script>\"'&\u{202e}";
        let page = templates.get_template("x.txt").unwrap().render(context! { x => text }).unwrap();
        let shown = "&lt;&#x2f;a&gt;&lt;script&gt;&quot;&#x27;&amp;\\u{202e}";
        assert_eq!(page, format!("<a title=\"{shown}\" id='{shown}'>{shown}"));
    }
}
