//! Text of files, programs and people as part of a page: nothing of it can become markup.

pub(super) use crate::figure::markup::escape;

/// JSON as the content of a `script` element, which ends at no text within it.
pub(super) fn json_block(id: &str, json: &str) -> String {
    let json = json.replace('<', "\\u003c");
    format!("<script type=\"application/json\" id=\"{id}\">{json}</script>\n")
}

/// A heading's place in the page, by the text that it is for.
pub(super) fn anchor(text: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    text.chars().map(kept).collect()
}

/// Markdown as HTML. HTML in it is text, links lead to pages or places in this one, and pictures are named: the page
/// loads nothing.
pub(super) fn markdown(text: &str) -> String {
    use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
    let is_safe = |link: &str| {
        let link = link.trim_start().to_ascii_lowercase();
        ["https://", "http://", "mailto:", "#"]
            .iter()
            .any(|start| link.starts_with(start))
    };
    // Headings of the page stand above those of its texts.
    let lowered = |level: HeadingLevel| HeadingLevel::try_from(level as usize + 2).unwrap_or(HeadingLevel::H6);
    // Whether the link that is open was left out; links do not nest.
    let mut is_left_out = false;
    let events = Parser::new_ext(text, options).filter_map(|event| match event {
        Event::Html(html) | Event::InlineHtml(html) => Some(Event::Text(html)),
        Event::Start(Tag::Link { dest_url, .. }) if !is_safe(&dest_url) => {
            is_left_out = true;
            None
        }
        Event::End(TagEnd::Link) if is_left_out => {
            is_left_out = false;
            None
        }
        Event::Start(Tag::Heading { level, .. }) => Some(Event::Start(Tag::Heading {
            level: lowered(level),
            id: None,
            classes: Vec::new(),
            attrs: Vec::new(),
        })),
        Event::End(TagEnd::Heading(level)) => Some(Event::End(TagEnd::Heading(lowered(level)))),
        Event::Start(Tag::Image { .. }) => Some(Event::Text("[picture: ".into())),
        Event::End(TagEnd::Image) => Some(Event::Text("]".into())),
        event => Some(event),
    });
    let mut html = String::new();
    pulldown_cmark::html::push_html(&mut html, events);
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_is_markup() {
        assert_eq!(escape("<b a='1'>&\"\u{1b}[31m"), "&lt;b a=&#39;1&#39;&gt;&amp;&quot;");
        assert_eq!(
            json_block("a", "[\"</script>\"]"),
            "<script type=\"application/json\" id=\"a\">[\"\\u003c/script>\"]</script>\n"
        );
    }

    #[test]
    fn markdown_brings_no_html_scripts_or_pictures() {
        let html = markdown(
            "# A *b*\n\n<script>alert(1)</script>\n\nx <img src=x onerror=y> [a](javascript:b) ![c](http://d/e)",
        );
        assert!(html.contains("<h3>A <em>b</em></h3>"), "{html}");
        for wrong in ["<script", "<img", "javascript:", "http://d"] {
            assert!(!html.contains(wrong), "{wrong}: {html}");
        }
        assert!(html.contains("[picture: c]") && html.contains("&lt;script"), "{html}");
        let link = markdown("[a](https://example.org/?a=1&b=2) and [b](#noise)");
        assert!(link.contains("href=\"https://example.org/?a=1&amp;b=2\""), "{link}");
        assert!(link.contains("href=\"#noise\""), "{link}");
    }
}
