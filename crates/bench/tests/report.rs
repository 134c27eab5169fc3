//! The page says what documents say, of whatever names; nothing in them can be more than text.

use agentkernel_bench::report::{html, markdown};
use agentkernel_bench::result::{BackendFacts, Document, Failure, Section};

mod documents;

const PARTS: [&str; 13] = [
    "At a glance",
    "Where the time goes",
    "VM against container",
    "Cold against pool",
    "Container engines: cold against pool",
    "Beside the engines' own tools",
    "Lifecycle and exec",
    "Stress and scale",
    "Orchestration",
    "Memory",
    "Choosing a backend",
    "Running your own",
    "Test hardware",
];

const CHARTS: [&str; 4] = [
    "Latency of one command",
    "Where the time of a run goes",
    "Throughput against concurrency",
    "Memory of a sandbox that waits",
];

fn named(documents: impl IntoIterator<Item = Document>) -> Vec<(String, Document)> {
    let name = |(index, document)| (format!("{index}.json"), document);
    documents.into_iter().enumerate().map(name).collect()
}

/// The text of a part of a page in Markdown.
fn part<'a>(page: &'a str, title: &str) -> &'a str {
    let (_, from) = page.split_once(&format!("\n## {title}\n")).expect(title);
    from.split_once("\n## ").map_or(from, |(part, _)| part)
}

/// The cells of the rows that begin with a cell.
fn rows<'a>(part: &'a str, first: &str) -> Vec<Vec<&'a str>> {
    part.lines()
        .filter(|line| line.starts_with(&format!("| {first} |")))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn both_pages_have_all_parts_in_order() {
    for documents in [Vec::new(), named([documents::full()]), documents::all()] {
        let page = markdown(&documents);
        let heads: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(heads, PARTS);
        let page = html(&documents);
        let heads = page.split("<h2 ").skip(1).filter_map(|head| {
            head.split_once('>')
                .and_then(|(_, head)| head.split_once("</h2>"))
                .map(|(head, _)| head)
        });
        let unescaped: Vec<_> = heads.map(|head| head.replace("&#39;", "'")).collect();
        assert_eq!(unescaped, PARTS);
    }
}

#[test]
fn without_results_the_page_says_so() {
    let page = markdown(&[]);
    assert!(page.contains("**No results were given.**"));
    assert!(page.contains("any of class vm | not measured here"), "{page}");
    assert!(!page.contains("this build has no such backend"), "nobody knows that");
    assert!(html(&[]).contains("<strong>No results were given.</strong>"));
    assert!(!html(&[]).contains("<svg"));
}

#[test]
fn the_headline_has_each_backend_by_each_route() {
    let page = markdown(&named([documents::full()]));
    let headline = part(&page, "At a glance");
    let bare = rows(headline, "bare process");
    assert_eq!(bare.len(), 1, "one, of those beside each backend");
    assert_eq!(bare[0][2..6], ["500 µs", "727 µs", "–", "none"]);
    let proc = rows(headline, "proc");
    assert_eq!(proc.iter().map(|row| row[1]).collect::<Vec<_>>(), ["cold", "pool"]);
    // 100 requests in 3 ms × 100 / 2.
    assert_eq!(proc[0][4], "667/s (10 at once)");
    assert_eq!(proc[0][5], "namespaces and a filter; one kernel");
    assert!(proc[0][6].starts_with("5.8") && proc[0][6].contains('–'), "{}", proc[0][6]);
    assert_eq!(proc[0][7], "100");
    let machine = rows(headline, "machine");
    assert_eq!(machine.len(), 2);
    assert!(machine.iter().all(|row| row[8] == "it is a virtual one itself"), "{machine:?}");
    let columns = headline.lines().find(|line| line.starts_with("| :--")).unwrap();
    assert_eq!(columns, "| :-- | :-- | --: | --: | --: | --- | --: | --: | --- |");
}

#[test]
fn what_was_not_measured_has_a_row_that_says_why() {
    let page = markdown(&named([documents::full()]));
    let absent = |title: &str, backend: &str| {
        let found = rows(part(&page, title), backend);
        assert_eq!(found.len(), 1, "{title} {backend}");
        assert_eq!(found[0][1], "not measured here", "{title} {backend}");
        (*found[0].last().unwrap()).to_owned()
    };
    let engine = "its socket is not there: no engine runs";
    for title in ["At a glance", "Where the time goes", "VM against container"] {
        assert_eq!(absent(title, "crates"), engine);
        assert_eq!(absent(title, "elsewhere"), "there is no elsewhere");
    }
    for title in ["Stress and scale", "Memory"] {
        assert_eq!(absent(title, "crates"), engine);
    }
    for (title, class) in [
        ("At a glance", "wasm"),
        ("At a glance", "orchestrator"),
        ("Orchestration", "orchestrator"),
    ] {
        let why = absent(title, &format!("any of class {class}"));
        assert_eq!(why, "this build has no such backend");
    }
    let tool = absent("Beside the engines' own tools", "hypervise (machine)");
    assert_eq!(tool, "there is no hypervise on the PATH");
    let whole = html(&named([documents::full()]));
    assert!(whole.contains(&format!("<span>not measured here: {engine}</span></td></tr>")));
}

#[test]
fn a_backend_of_an_unknown_class_is_shown_as_well() {
    let mut document = documents::full();
    document.backends[3].class = "of tomorrow".into();
    let page = markdown(&named([document]));
    for title in ["At a glance", "Where the time goes", "Cold against pool", "Memory"] {
        assert!(!rows(part(&page, title), "proc").is_empty(), "{title}");
    }
    assert!(page.contains("| any of class process | not measured here |"));
}

#[test]
fn phases_add_up_and_are_told_if_they_do_not() {
    let mut document = documents::full();
    let page = markdown(&named([document.clone()]));
    let row = rows(part(&page, "Where the time goes"), "machine").remove(0);
    assert_eq!(row[8], "40 of 40 runs");
    let nanoseconds = |said: &str| -> f64 {
        let (number, unit) = said.split_once(' ').unwrap();
        number.parse::<f64>().unwrap() * if unit == "ms" { 1e6 } else { 1e3 }
    };
    let sum: f64 = row[2..7].iter().map(|said| nanoseconds(said)).sum();
    assert!((sum / nanoseconds(row[7]) - 1.0).abs() < 0.01, "{row:?}");
    let case = document.cases.iter_mut().find(|case| case.section == Section::Phases).unwrap();
    case.series.get_mut("exec").unwrap()[3] = Some(1);
    let backend = case.backend.clone();
    let page = markdown(&named([document]));
    assert_eq!(rows(part(&page, "Where the time goes"), &backend)[0][8], "39 of 40 runs");
}

#[test]
fn vms_and_containers_stand_beside_each_other() {
    let page = markdown(&named([documents::full()]));
    let part = part(&page, "VM against container");
    let machine = &rows(part, "machine")[0];
    assert_eq!((machine[1], machine[7], machine[8]), ("vm", "64.0 MiB", "a kernel of its own"));
    assert_eq!(rows(part, "boxes")[0][1], "container");
    assert!(rows(part, "proc").is_empty(), "it is neither");
}

#[test]
fn container_engines_stand_together_beside_their_own_tools() {
    let mut document = documents::full();
    let mut others: Vec<_> =
        document.cases.iter().filter(|case| case.backend == "boxes").cloned().collect();
    let mut remote: Vec<_> = others.iter().filter(|case| case.tool == "boxer").cloned().collect();
    remote.iter_mut().for_each(|case| case.tool = "boxer-remote".into());
    others.extend(remote);
    for case in &mut others {
        case.backend = "barrels".into();
        if !case.group.is_empty() {
            case.group = case.group.replace("boxes", "barrels");
        }
        case.tool = case.tool.replace("boxer", "barreler");
    }
    document.cases.extend(others);
    let mut hand_out = documents::case(Section::HandOut, "all", "agentkernel", "pool");
    documents::fill(&mut hand_out, "acquire", 50, 100);
    document.cases.push(hand_out);
    let facts = document.backends.iter().find(|facts| facts.name == "boxes").unwrap();
    let facts = BackendFacts { name: "barrels".into(), image: None, ..facts.clone() };
    document.backends.push(facts);
    let page = markdown(&named([document]));

    let engines = part(&page, PARTS[4]);
    for backend in ["boxes", "barrels"] {
        let routes: Vec<_> = rows(engines, backend).iter().map(|row| row[1]).collect();
        assert_eq!(routes[..2], ["cold", "pool"], "{backend}");
        assert_eq!(rows(part(&page, "VM against container"), backend).len(), 1);
    }
    // One pool serves them all.
    assert_eq!(rows(engines, "all").len(), 1);
    assert_eq!(rows(part(&page, PARTS[3]), "all").len(), 1);
    let of_class = |line: &&str| line.starts_with("| boxes |") || line.starts_with("| barrels |");
    let headline: Vec<_> = part(&page, "At a glance").lines().collect();
    let places: Vec<_> = (0..headline.len()).filter(|&at| of_class(&headline[at])).collect();
    assert_eq!(places.len(), 4);
    assert_eq!(places[3] - places[0], 3, "one class after the other");

    let beside = part(&page, "Beside the engines' own tools");
    for (tool, backend) in
        [("boxer", "boxes"), ("barreler", "barrels"), ("barreler-remote", "barrels")]
    {
        let all = rows(beside, tool);
        assert!(all.iter().all(|row| row[3].starts_with(backend)), "{all:?}");
        let works: Vec<_> = all.iter().map(|row| row[1]).collect();
        assert_eq!(works, ["one command", "one command", "lifecycle", "exec"], "{tool}");
    }
    assert!(part(&page, "Test hardware").contains("| images | boxes: localhost/echo:1 |"));
}

#[test]
fn a_hand_out_is_named_as_what_it_is() {
    let page = markdown(&named([documents::full()]));
    let part = part(&page, "Cold against pool");
    assert!(part.contains("**no latency of a command**"));
    let proc = rows(part, "proc");
    let (latencies, costs) = (&proc[1], &proc[2]);
    assert_eq!((latencies[1], latencies[4]), ("pool", "1.99 ms"));
    // Hand-out, the clock in it, refill, sustained, out of the pool.
    let costs = [costs[1], costs[3], costs[4], costs[5], costs[6]];
    assert_eq!(costs, ["60.0 ns", "20.0 ns", "3.00 ms", "667/s", "71 of 100 (71.0 %)"]);
    assert!(rows(part, "boxes").is_empty(), "containers have a part of their own");
    assert_eq!(rows(crate::part(&page, PARTS[4]), "boxes").len(), 3);
}

#[test]
fn tools_are_compared_by_rounds_with_an_interval() {
    let mut document = documents::full();
    let pool = document.cases.iter_mut().find(|case| case.route == "pool").unwrap();
    // Twice as long as the tool in each round, but for those that failed.
    let (group, backend) = (pool.group.clone(), pool.backend.clone());
    let theirs = document.cases.iter().find(|case| case.tool == "wrapper").unwrap();
    let mut totals: Vec<_> =
        theirs.series["total"].iter().map(|time| Some(time.unwrap() * 2)).collect();
    totals[7] = None;
    let ours = |case: &&mut agentkernel_bench::result::Case| {
        case.group == group && case.backend == backend && case.route == "pool"
    };
    let pool = document.cases.iter_mut().find(ours).unwrap();
    pool.series.insert("total".into(), totals);
    pool.failures.push(Failure { error: "lost".into(), count: 1 });
    let page = markdown(&named([document]));
    let part = part(&page, "Beside the engines' own tools");
    let row = rows(part, "wrapper").into_iter().find(|row| row[3] == "proc, pool").unwrap();
    assert_eq!((row[1], row[5], row[6]), ("one command", "2.00 (2.00–2.00)", "99"));
    assert_eq!(row[7], "agentkernel: 1 of 100 failed");
    assert!(rows(part, "wrapper").iter().all(|row| !row[1].contains("scale")), "not in turn");

    let mut short = documents::full();
    let theirs = short.cases.iter_mut().find(|case| case.tool == "wrapper").unwrap();
    theirs.series.get_mut("total").unwrap().truncate(5);
    assert!(markdown(&named([short])).contains("(too few rounds)"), "of five nothing is sure");
}

#[test]
fn scale_has_a_row_for_each_number_at_once() {
    let page = markdown(&named([documents::full()]));
    let all = rows(part(&page, "Stress and scale"), "boxes");
    let scale: Vec<_> = all.iter().filter(|row| row[3] == "scale").collect();
    assert_eq!(scale.iter().map(|row| row[4]).collect::<Vec<_>>(), ["5", "10", "20", "50"]);
    assert_eq!(scale.iter().map(|row| row[6]).collect::<Vec<_>>()[2..], ["100 %", "98.0 %"]);
    // 20 of 400 ms in 400 ms × 20 / 2 + 400 ms.
    assert_eq!(scale[2][10], "4.55/s");
    assert_eq!(scale[3][11], "1 of 50 failed");
}

#[test]
fn failures_are_shown_even_of_what_a_newer_run_replaced() {
    let page = markdown(&documents::all());
    let part = part(&page, "Stress and scale");
    assert!(part.contains("| 99.7 % |"), "{part}");
    assert!(part.contains("3 of 1000 failed"));
    assert!(part.contains("| it took more than 120 seconds | 1 | 1000 |"));
    assert!(part.contains("| replaced, but not forgotten | 2 | 7 |"));
    assert!(part.contains("| the engine is busy | 1 | 50 |"));
    let none = markdown(&named([documents::document("bench", "2026-01-01T00:00:00Z")]));
    assert!(crate::part(&none, "Stress and scale").contains("Nothing did."));
}

#[test]
fn the_newest_measurement_counts_in_whatever_order_files_come() {
    let mut documents = documents::all();
    let page = markdown(&documents);
    documents.reverse();
    assert_eq!(markdown(&documents), page);
    let headline = part(&page, "At a glance");
    assert_eq!(rows(headline, "proc")[0][2], "2.98 ms", "and not the 77 ms of the older run");
    // What the newer found not ready, the older has measured.
    let older = rows(headline, "elsewhere");
    let remark = older[0].last().unwrap();
    assert_eq!((older[0][2], remark.starts_with("run 3; ")), ("8.96 ms", true));
    assert!(remark.ends_with("; run interrupted"), "{remark}");
    // Its backend had not noted that; the other one had.
    assert!(remark.contains("this machine is a virtual one"), "{remark}");
    let choosing = rows(part(&page, "Choosing a backend"), "elsewhere");
    assert_eq!(choosing[0][2], "measured", "by the older run");
    assert!(page.contains("**Interrupted, so that something may be missing:** bench-old.json."));
    let hardware = part(&page, "Test hardware");
    assert!(hardware.contains("### Run 3: bench-old.json"));
    assert!(hardware.contains("| kind of run | bench, interrupted |"));
    assert!(hardware.contains("| load before, over 1, 5 and 15 minutes | 0.55 1.59 2.26 |"));
}

#[test]
fn charts_have_names_and_the_page_has_nothing_from_elsewhere() {
    let page = html(&documents::all());
    assert_eq!(page.matches("<svg ").count(), CHARTS.len());
    for title in CHARTS {
        assert!(page.contains(&format!("<strong>{title}.</strong>")), "{title}");
        assert!(page.contains(&format!("-title\">{title}</title>")), "{title}");
    }
    assert_eq!(page.matches("role=\"img\" aria-labelledby=").count(), CHARTS.len());
    for never in ["<script", "<link", "<img", "@import", "url(", "src=", "http:", "https:"] {
        assert!(!page.contains(never), "{never}");
    }
    assert_eq!(page.matches("<table>").count(), page.matches("<div class=\"wide\"").count());
}

/// Every string of a document, replaced by one that would break out of where it stands.
#[test]
fn nothing_of_a_document_is_more_than_text() {
    const EVIL: &str = "<script>alert(1)</script>|`x` *y* [z](javascript:0) &amp; \"q\"\n\n# h";
    let mut document = documents::full();
    let machine = &mut document.machine;
    for text in [
        &mut machine.cpu,
        &mut machine.hypervisor,
        &mut machine.architecture,
        &mut machine.system,
        &mut machine.kernel,
        &mut machine.cgroup,
        &mut machine.version,
        &mut document.kind,
        &mut document.date,
        &mut document.settings.output,
    ] {
        *text = EVIL.to_owned();
    }
    document.machine.commit = Some(EVIL.to_owned());
    document.settings.command = vec![EVIL.to_owned()];
    document.interrupted = true;
    for facts in &mut document.backends {
        for text in [&mut facts.name, &mut facts.isolation, &mut facts.choose] {
            text.push_str(EVIL);
        }
        facts.unmeasured = facts.unmeasured.as_ref().map(|_| EVIL.to_owned());
    }
    for tool in &mut document.tools {
        for text in [&mut tool.name, &mut tool.backend, &mut tool.version] {
            text.push_str(EVIL);
        }
        tool.unmeasured = tool.unmeasured.as_ref().map(|_| EVIL.to_owned());
    }
    for case in &mut document.cases {
        case.failures.push(Failure { error: EVIL.to_owned(), count: 1 });
        if case.backend != "process" {
            case.backend.push_str(EVIL);
            case.route.push_str(EVIL);
            if case.tool != "agentkernel" {
                case.tool.push_str(EVIL);
            }
        }
    }
    let documents = [(EVIL.to_owned(), document)];
    let text = markdown(&documents);
    let page = html(&documents);
    for page in [&text, &page] {
        for never in ["<script", "<h1>h", "<em>y", "javascript:0\""] {
            assert!(!page.contains(never), "{never}");
        }
    }
    assert!(!text.contains("\n# h"));
    let links = text.matches("](javascript:0)").count();
    assert_eq!(text.matches("\\[z\\](javascript:0)").count(), links);
    assert!(links > 0);
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;|`x` *y* [z](javascript:0)"));
    // A name with a bar in it makes no column more.
    let (mut columns, mut tables) = (0, 0);
    for line in text.lines() {
        let bars = line.replace("\\|", "").matches('|').count();
        match bars {
            0 => columns = 0,
            bars if columns == 0 => (columns, tables) = (bars, tables + 1),
            bars => assert_eq!(bars, columns, "{line}"),
        }
    }
    assert!(tables > 12, "{tables}");
}

/// Every name in a result is explained where results are documented.
#[test]
fn the_method_explains_every_field() {
    fn names(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields {
                    found.push(name.clone());
                    names(value, found);
                }
            }
            serde_json::Value::Array(values) => values.iter().for_each(|value| names(value, found)),
            _ => {}
        }
    }
    let method = include_str!("../../../docs/benchmarks-method.md");
    let mut found = Vec::new();
    let mut sections = Vec::new();
    for (_, document) in documents::all() {
        names(&serde_json::to_value(&document).unwrap(), &mut found);
        let section = |case: &agentkernel_bench::result::Case| {
            let name = serde_json::to_value(case.section).unwrap();
            name.as_str().unwrap().to_owned()
        };
        sections.extend(document.cases.iter().map(section));
    }
    for section in ["once", "refill", "stress", "hand-out", "sustained", "memory", "phases"] {
        assert!(sections.iter().any(|found| found == section), "{section} is in no document here");
    }
    assert!(found.len() > 60);
    for name in found.iter().chain(&sections) {
        assert!(method.contains(&format!("`{name}`")), "{name}");
    }
}
