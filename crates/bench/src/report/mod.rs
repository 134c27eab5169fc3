//! The report: documents in, the page of figures out, in Markdown and in HTML.
//!
//! Everything in it comes from documents; a backend or a tool is a name in one of them and nothing
//! more. What was not measured has a row that says why.

mod about;
mod chart;
mod draw;
mod evidence;
pub(crate) mod figures;
mod latency;
mod load;
mod page;
mod phases;
mod table;

use crate::result::Document;
use chart::Chart;
use evidence::Evidence;

pub(crate) use load::section_name;
use table::{Table, escape};

const TITLE: &str = "Benchmarks";

/// A part of the page.
struct Part {
    title: &'static str,
    blocks: Vec<Block>,
}

enum Block {
    Markdown(String),
    /// Only the HTML page has it; the figures in it are in a table, too.
    Chart(Chart),
}

impl Block {
    fn text(text: impl Into<String>) -> Self {
        Self::Markdown(text.into())
    }

    fn table(table: &Table) -> Self {
        Self::Markdown(table.markdown())
    }
}

/// The page as Markdown, of named documents in any order. Where several measured the same, the
/// newest counts; failures of all of them are shown.
pub fn markdown(documents: &[(String, Document)]) -> String {
    let mut page = format!("# {TITLE}\n\n{}\n", lead(documents));
    for part in parts(&Evidence::of(documents)) {
        page.push_str(&format!("\n## {}\n", part.title));
        for block in part.blocks {
            if let Block::Markdown(text) = block {
                page.push_str(&format!("\n{}\n", text.trim_end()));
            }
        }
    }
    page
}

/// The same as one HTML page with charts, which needs nothing from elsewhere and asks for nothing.
pub fn html(documents: &[(String, Document)]) -> String {
    page::html(TITLE, &lead(documents), parts(&Evidence::of(documents)))
}

fn lead(documents: &[(String, Document)]) -> String {
    let mut lead = "What a user waits for, next to what the user would otherwise use, measured in \
                    the same run. A latency is that of a real command, never of a hand-out alone. \
                    This page is made by `agentkernel bench report` from the files that are named \
                    at its end; none of it is typed."
        .to_owned();
    if documents.is_empty() {
        lead.push_str("\n\n**No results were given.**");
    }
    let interrupted: Vec<_> = documents
        .iter()
        .filter(|(_, document)| document.interrupted)
        .map(|(name, _)| escape(name))
        .collect();
    if !interrupted.is_empty() {
        lead.push_str(&format!(
            "\n\n**Interrupted, so that something may be missing:** {}.",
            interrupted.join(", ")
        ));
    }
    lead
}

fn parts(evidence: &Evidence<'_>) -> Vec<Part> {
    vec![
        latency::headline(evidence),
        latency::phases(evidence),
        latency::vm_against_container(evidence),
        latency::cold_against_pool(evidence),
        latency::container_engines(evidence),
        load::beside_tools(evidence),
        load::lifecycle(evidence),
        load::stress(evidence),
        load::orchestration(evidence),
        load::memory(evidence),
        about::choosing(evidence),
        about::running(),
        about::hardware(evidence),
    ]
}
