//! The screen: a head, a table or an entity, and the keys.

use super::{
    Sort, View,
    columns::fitting,
    detail::{self, Kind},
    figures::{rate, tasks},
    view::Mode,
    wrap::wrapped,
};
use crate::server::{EntityRow, SnapshotAnswer};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// With less there is nothing to be read.
const LEAST: (u16, u16) = (40, 7);

/// Where the second column of the help begins.
const HELP_HANG: usize = 15;

const HELP: [&str; 10] = [
    "l  b  w  m     sort by load, bytes, waits, memory, from the top on",
    "up  down       choose, also k and j, page up and down, home, end",
    "enter          all of the chosen: scopes, flows, who it waits for",
    "esc            back; without anything to go back from: no filter",
    "/              filter by name, as you type; enter keeps it",
    "p  space       pause, and go on",
    "q  ctrl-c      end",
    "",
    "LOAD1 is the share of the node's load1, TASKS are those that run, wait or hang now, WAIT/S task-seconds of waits for a \
     CPU a second, PEAK the largest second of the last minute, TO the scope that most was sent to. docs/top.md says more.",
    "any key goes back",
];

/// What the last line tells of; where there is no room for all, the first are left to the help.
const KEYS: [&str; 9] =
    ["l load", "b bytes", "w waits", "m memory", "/ filter", "enter open", "p pause", "? help", "q end"];
const KEYS_OF_ONE: [&str; 5] = ["up/down scroll", "p pause", "? help", "esc back", "q end"];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} by {} is too small; {} by {} is needed", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let figures = figures(view, area.width);
    let mut said = said(view, area.width);
    // The body has three lines at least, and most of a window that is not large; what is wrong goes before figures.
    let room = usize::from(area.height - 4);
    said.truncate(room);
    let most = usize::from(area.height / 4).max(2).min(room - said.len());
    let said: Vec<_> = figures.into_iter().take(most).chain(said).collect();
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(said.len() as u16), Constraint::Min(1), Constraint::Length(1)])
            .areas(area);
    frame.render_widget(Paragraph::new(said), head);
    if view.one.is_some() {
        draw_one(frame, body, view);
    } else {
        draw_table(frame, body, view);
    }
    let keys = if view.mode == Mode::Typing {
        format!("filter: {}_", view.filter)
    } else {
        keys_in(if view.one.is_some() { &KEYS_OF_ONE } else { &KEYS }, area.width)
    };
    frame.render_widget(Paragraph::new(keys).style(quiet(view)), foot);
    if view.mode == Mode::Help {
        frame.render_widget(Clear, body);
        let lines = HELP.iter().flat_map(|line| {
            let hang = if line.starts_with("LOAD1") { 0 } else { HELP_HANG };
            wrapped(line, body.width, hang)
        });
        frame.render_widget(Paragraph::new(lines.map(Line::from).collect::<Vec<_>>()), body);
    }
}

/// As many of the last ones as there is room for.
fn keys_in(keys: &[&str], width: u16) -> String {
    let fit = |from: &usize| keys[*from..].join("  ").len() <= usize::from(width);
    let from = (0..keys.len()).find(fit).unwrap_or(keys.len());
    keys[from..].join("  ")
}

fn style(view: &View, color: Color) -> Style {
    if view.plain { Style::new() } else { Style::new().fg(color) }
}

fn quiet(view: &View) -> Style {
    if view.plain { Style::new() } else { Style::new().add_modifier(Modifier::DIM) }
}

/// The node, and what it does.
fn figures(view: &View, width: u16) -> Vec<Line<'static>> {
    let Some(snapshot) = &view.snapshot else {
        return if view.trouble.is_none() { vec![Line::from("asking ...")] } else { Vec::new() };
    };
    let name = snapshot.node.clone();
    let first = wrapped(&format!("{name}  {}", load_of(snapshot)), width, 2);
    let mut lines: Vec<_> = first.into_iter().map(Line::from).collect();
    if let Some(rest) = lines[0].to_string().strip_prefix(name.as_str()) {
        let look = style(view, Color::Cyan).add_modifier(Modifier::BOLD);
        lines[0] = Line::from(vec![Span::styled(name, look), Span::raw(rest.to_owned())]);
    }
    let all = &snapshot.all;
    // Their largest seconds need not be the same one.
    let of = if snapshot.nodes.is_some() { "of a node in the last" } else { "of a" };
    let bytes = format!(
        "sends {}, {} in the largest second {of} minute, receives {}; waits {} s/s",
        rate(all.transmit_bytes_per_second),
        rate(all.transmit_peak_bytes_per_second),
        rate(all.receive_bytes_per_second),
        tasks(all.wait_seconds_per_second)
    );
    lines.extend(wrapped(&bytes, width, 2).into_iter().map(Line::from));
    lines
}

/// Whether it is paused or filtered, and what is wrong.
fn said(view: &View, width: u16) -> Vec<Line<'static>> {
    let mut said = Vec::new();
    if view.paused {
        said.push(Span::styled("paused ", style(view, Color::Yellow).add_modifier(Modifier::BOLD)));
    }
    if !view.filter.is_empty() && view.mode != Mode::Typing {
        said.push(Span::raw(format!("filter: {} ", view.filter)));
    }
    let waits = view.waited.map(|seconds| format!("no answer for {seconds} s: these are the figures of before"));
    let trouble = waits.iter().chain(&view.trouble).flat_map(|trouble| wrapped(trouble, width, 2));
    let trouble = trouble.map(|line| Line::styled(line, style(view, Color::Red)));
    std::iter::once(Line::from(said)).chain(trouble).collect()
}

fn load_of(snapshot: &SnapshotAnswer) -> String {
    let load = snapshot.load.map_or_else(
        || "not known".into(),
        |load| format!("{} {} {}", tasks(load.load1), tasks(load.load5), tasks(load.load15)),
    );
    let nobodys = snapshot.load1_unattributed.map(|rest| format!(" ({} nobody's)", tasks(rest))).unwrap_or_default();
    format!("load {load}{nobodys}, {} tasks now", tasks(snapshot.all.active_tasks))
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let columns = fitting(area.width, view.sort);
    let name = area.width - columns.iter().map(|column| column.width + 1).sum::<u16>();
    let heads = columns.iter().map(|column| {
        // The one that it is sorted by is told without colours, too.
        let mark = if column.sort == Some(view.sort) { "v" } else { "" };
        format!(" {:>width$}", format!("{}{mark}", column.name), width = usize::from(column.width))
    });
    let head: String = std::iter::once(fitted("WHO", name)).chain(heads).collect();
    let mut lines = vec![Line::styled(head, Style::new().add_modifier(Modifier::BOLD))];
    let rows = view.rows();
    let room = usize::from(area.height.saturating_sub(1));
    let first = (view.selected + 1).saturating_sub(room);
    for (at, row) in rows.iter().enumerate().skip(first).take(room) {
        let cells =
            columns.iter().map(|column| format!(" {:>width$}", (column.cell)(row), width = usize::from(column.width)));
        let text: String = std::iter::once(fitted(&row.entity.to_string(), name)).chain(cells).collect();
        let chosen = if at == view.selected { Style::new().add_modifier(Modifier::REVERSED) } else { hue(view, row) };
        lines.push(Line::styled(text, chosen));
    }
    if rows.is_empty() && view.snapshot.is_some() {
        lines.push(Line::from(if view.filter.is_empty() { "nobody yet" } else { "nobody of that name" }));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Those that do much stand out.
fn hue(view: &View, row: &EntityRow) -> Style {
    let is_much = match view.sort {
        Sort::Load => row.now.load.load1 >= 1.0,
        Sort::Wait => row.now.wait_seconds_per_second >= 1.0,
        Sort::Bytes => row.now.transmit_bytes_per_second >= 1e6,
        Sort::Memory => false,
    };
    if is_much { style(view, Color::Yellow) } else { Style::new() }
}

/// A name in so many columns; of one that is longer the end is what tells it from others, and the node before it.
pub(super) fn fitted(name: &str, width: u16) -> String {
    let width = usize::from(width);
    let missing = |text: &str| " ".repeat(width.saturating_sub(text.width()));
    if name.width() <= width {
        return format!("{name}{}", missing(name));
    }
    let node = name.find(": ").map(|at| &name[..at + 2]).filter(|node| node.width() * 2 < width).unwrap_or_default();
    let room = width.saturating_sub(node.width() + 1);
    let mut taken = 0;
    let letters = name.char_indices().rev().take_while(|(_, letter)| {
        taken += letter.width().unwrap_or_default();
        taken <= room
    });
    let end = letters.last().map_or("", |(at, _)| &name[at..]);
    let text = format!("{node}~{end}");
    // A letter of two columns may not fit into the last one.
    let missing = missing(&text);
    text + &missing
}

fn draw_one(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let name = wrapped(view.one().unwrap_or_default(), area.width, 2);
    let mut lines: Vec<_> = name.into_iter().map(|line| Line::styled(line, bold)).collect();
    let told: Vec<_> = detail::lines(view)
        .into_iter()
        .flat_map(|detail::Told { kind, hang, text }| {
            let look = match kind {
                Kind::Head => bold,
                Kind::Plain => Style::new(),
                Kind::Trouble => style(view, Color::Red),
            };
            wrapped(&text, area.width, hang).into_iter().map(move |line| Line::styled(line, look))
        })
        .collect();
    let last = told.len().saturating_sub(usize::from(area.height).saturating_sub(lines.len()));
    view.last_scroll.set(last);
    lines.extend(told.into_iter().skip(view.scrolled.min(last)));
    frame.render_widget(Paragraph::new(lines), area);
}
