//! The screen: a head, a table or an entity, and the keys.

use super::{
    Sort, View,
    columns::fitting,
    detail::{self, Kind},
    figures::{rate, tasks},
    view::Mode,
};
use crate::server::EntityRow;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Clear, Paragraph},
};

/// With less there is nothing to be read.
const LEAST: (u16, u16) = (40, 7);

const HELP: [&str; 12] = [
    "l  b  w  m     sort by load, bytes, waits, memory",
    "up  down       choose, also k and j, page up and down, home, end",
    "enter          all of the chosen: scopes, flows, who it waits for",
    "esc            back; without anything to go back from: no filter",
    "/              filter by name, as you type; enter keeps it",
    "p  space       pause, and go on",
    "q  ctrl-c      end",
    "",
    "LOAD1 is the share of the node's load1, TASKS are those that run, wait or hang",
    "now, WAIT/S task-seconds of waits for a CPU a second, PEAK the largest second of",
    "the last minute, TO the scope that most was sent to. docs/top.md says more.",
    "any key goes back",
];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let text = format!("{} by {} is too small; {} by {} is needed", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(text).wrap(ratatui::widgets::Wrap { trim: true }), area);
        return;
    }
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(1)]).areas(area);
    draw_head(frame, head, view);
    if view.one.is_some() {
        draw_one(frame, body, view);
    } else {
        draw_table(frame, body, view);
    }
    let keys = if view.mode == Mode::Typing {
        format!("filter: {}_", view.filter)
    } else if view.one.is_some() {
        "esc back  up/down scroll  p pause  ? help  q end".into()
    } else {
        "l load  b bytes  w waits  m memory  / filter  enter open  p pause  ? help  q end".into()
    };
    frame.render_widget(Paragraph::new(keys).style(quiet(view)), foot);
    if view.mode == Mode::Help {
        frame.render_widget(Clear, body);
        frame.render_widget(Paragraph::new(HELP.map(Line::from).to_vec()), body);
    }
}

fn style(view: &View, color: Color) -> Style {
    if view.plain { Style::new() } else { Style::new().fg(color) }
}

fn quiet(view: &View) -> Style {
    if view.plain { Style::new() } else { Style::new().add_modifier(Modifier::DIM) }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let mut lines = vec![Line::default(), Line::default(), Line::default()];
    if let Some(snapshot) = &view.snapshot {
        let load = snapshot.load.map_or_else(
            || "not known".into(),
            |load| format!("{} {} {}", tasks(load.load1), tasks(load.load5), tasks(load.load15)),
        );
        let nobodys =
            snapshot.load1_unattributed.map(|rest| format!(" ({} nobody's)", tasks(rest))).unwrap_or_default();
        let all = &snapshot.all;
        lines[0] = Line::from(vec![
            Span::styled(snapshot.node.clone(), style(view, Color::Cyan).add_modifier(Modifier::BOLD)),
            Span::raw(format!("  load {load}{nobodys}, {} tasks now", tasks(all.active_tasks))),
        ]);
        lines[1] = Line::from(format!(
            "sends {}, {} at most in the last minute, receives {}; waits {} a second",
            rate(all.transmit_bytes_per_second),
            rate(all.transmit_peak_bytes_per_second),
            rate(all.receive_bytes_per_second),
            tasks(all.wait_seconds_per_second)
        ));
    } else if view.trouble.is_none() {
        lines[0] = Line::from("asking ...");
    }
    let mut said = Vec::new();
    if view.paused {
        said.push(Span::styled("paused ", style(view, Color::Yellow).add_modifier(Modifier::BOLD)));
    }
    if !view.filter.is_empty() && view.mode != Mode::Typing {
        said.push(Span::raw(format!("filter: {} ", view.filter)));
    }
    if let Some(trouble) = &view.trouble {
        said.push(Span::styled(trouble.clone(), style(view, Color::Red)));
    }
    lines[2] = Line::from(said);
    frame.render_widget(Paragraph::new(lines), area);
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

/// A name in so many columns; of one that is longer the end is what tells it from others.
pub(super) fn fitted(name: &str, width: u16) -> String {
    let width = usize::from(width);
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= width {
        return format!("{name:<width$}");
    }
    let end: String = letters[letters.len() + 1 - width.max(1)..].iter().collect();
    format!("~{end}")
}

fn draw_one(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let mut lines =
        vec![Line::styled(view.one().unwrap_or_default().to_owned(), Style::new().add_modifier(Modifier::BOLD))];
    let told = detail::lines(view);
    let last = told.len().saturating_sub(usize::from(area.height.saturating_sub(1)));
    for (kind, text) in told.into_iter().skip(usize::from(view.scrolled).min(last)) {
        let look = match kind {
            Kind::Head => Style::new().add_modifier(Modifier::BOLD),
            Kind::Plain => Style::new(),
            Kind::Trouble => style(view, Color::Red),
        };
        lines.push(Line::styled(text, look));
    }
    frame.render_widget(Paragraph::new(lines), area);
}
