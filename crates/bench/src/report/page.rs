//! The HTML page: the parts' Markdown, with charts, in a document that needs no other file.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html::push_html};

use super::draw::{html_text, svg};
use super::table::UNMEASURED;
use super::{Block, Part};

const STYLE: &str = include_str!("page.css");

/// Keeps the page from loading anything, whatever may have come into it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

pub fn html(title: &str, lead: &str, parts: Vec<Part>) -> String {
    let mut body = format!("<h1>{}</h1>\n", html_text(title));
    push(&mut body, lead, "");
    body.push_str("<nav aria-label=\"Parts\"><ul>\n");
    for part in &parts {
        let (id, title) = (slug(part.title), html_text(part.title));
        body.push_str(&format!("<li><a href=\"#{id}\">{title}</a></li>\n"));
    }
    body.push_str("</ul></nav>\n<main>\n");
    for part in parts {
        let id = slug(part.title);
        let title = html_text(part.title);
        body.push_str(&format!(
            "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n"
        ));
        for block in part.blocks {
            match block {
                Block::Markdown(text) => push(&mut body, &text, part.title),
                Block::Chart(chart) => {
                    let drawn = svg(&chart, &slug(chart.title)).unwrap_or_else(|error| {
                        format!("<p>It can't be drawn: {}</p>", html_text(&error.to_string()))
                    });
                    body.push_str(&format!(
                        "<figure>\n<figcaption><strong>{}.</strong> {}</figcaption>\n{drawn}</figure>\n",
                        html_text(chart.title),
                        html_text(chart.caption),
                    ));
                }
            }
        }
        body.push_str("</section>\n");
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>agentkernel: {title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         {body}</main>\n</body>\n</html>\n",
        title = html_text(title),
    )
}

/// Markdown as HTML, each table in a box of its own that scrolls. HTML in it is shown, not obeyed.
fn push(body: &mut String, markdown: &str, part: &str) {
    let open = format!(
        "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-label=\"Table: {}\">",
        html_text(part)
    );
    let mut row = Vec::new();
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).flat_map(|event| match event {
        Event::Start(Tag::Table(columns)) => {
            vec![Event::Html(CowStr::from(open.clone())), Event::Start(Tag::Table(columns))]
        }
        Event::End(TagEnd::Table) => {
            vec![Event::End(TagEnd::Table), Event::Html("</div>\n".into())]
        }
        Event::Html(text) | Event::InlineHtml(text) => vec![Event::Text(text)],
        Event::Start(Tag::TableRow) => {
            row = vec![event];
            Vec::new()
        }
        Event::End(TagEnd::TableRow) => {
            row.push(event);
            joined(std::mem::take(&mut row))
        }
        event if !row.is_empty() => {
            row.push(event);
            Vec::new()
        }
        event => vec![event],
    });
    push_html(body, events);
}

/// A row of a table; where it has no figures, why that is so stands in their place, so that
/// nobody has to scroll for it.
fn joined(row: Vec<Event<'_>>) -> Vec<Event<'_>> {
    let is_cell = |event: &Event<'_>| *event == Event::Start(Tag::TableCell);
    let is_unmeasured = |event: &Event<'_>| *event == Event::Text(UNMEASURED.into());
    let (Some(at), Some(last)) =
        (row.iter().position(is_unmeasured), row.iter().rposition(is_cell))
    else {
        return row;
    };
    let span = row[at..].iter().filter(|event| is_cell(event)).count() + 1;
    let mut events = row;
    let why = events.split_off(last + 1);
    // The cell that says so, whose beginning is before its text.
    events.truncate(at - 1);
    events.push(Event::Html(format!("<td class=\"absent\" colspan=\"{span}\"><span>").into()));
    events.push(Event::Text(format!("{UNMEASURED}: ").into()));
    events.extend(why.into_iter().filter(|event| !matches!(event, Event::End(_))));
    events.push(Event::Html("</span></td>".into()));
    events.push(Event::End(TagEnd::TableRow));
    events
}

fn slug(title: &str) -> String {
    let words = title.split(|character: char| !character.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_in_markdown_is_shown_and_not_obeyed() {
        let mut body = String::new();
        push(&mut body, "a <b onclick=x>b</b>\n\n<script>\nc\n</script>\n", "");
        assert!(!body.contains("<b") && !body.contains("<script"), "{body}");
        assert!(body.contains("&lt;b onclick=x&gt;") && body.contains("&lt;script&gt;"), "{body}");
    }

    #[test]
    fn a_row_without_figures_says_why_where_they_would_be() {
        let table = "| a | b | c | remarks |\n| :-- | --: | --: | --- |\n\
                     | x | not measured here | – | it is \\*gone\\* |\n| y | 1 | 2 | |\n";
        let mut body = String::new();
        push(&mut body, table, "");
        let joined = "<tr><td style=\"text-align: left\">x</td><td class=\"absent\" colspan=\"3\">\
                      <span>not measured here: it is *gone*</span></td></tr>";
        assert!(body.contains(joined), "{body}");
        assert!(body.contains("<td style=\"text-align: right\">2</td>"), "{body}");
    }
}
