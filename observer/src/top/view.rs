//! What is shown, and how keys change it. No terminal, no clock, no request.

use super::columns::Sort;
use crate::server::{EntityRow, FlowsAnswer, PairsAnswer, SnapshotAnswer};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::{cell::Cell, time::Duration};

/// From here on whoever looks is told that there is no answer yet.
const LONG: Duration = Duration::from_secs(2);

/// What a key asks of whoever runs the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing but to draw again.
    Draw,
    /// To end.
    Quit,
}

/// What keys mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    /// What the line at the bottom says.
    #[default]
    Usual,
    /// They are letters of the filter.
    Typing,
    /// Any of them ends the help.
    Help,
}

/// All that is on the screen.
#[derive(Debug, Default)]
pub struct View {
    pub(super) snapshot: Option<SnapshotAnswer>,
    pub(super) sort: Sort,
    pub(super) filter: String,
    /// What keys mean.
    pub(super) mode: Mode,
    /// Which of the rows that are shown.
    pub(super) selected: usize,
    /// All of one entity, by its name in requests, instead of everybody.
    pub(super) one: Option<String>,
    pub(super) flows: Option<FlowsAnswer>,
    pub(super) pairs: Option<PairsAnswer>,
    /// How far an entity's page is scrolled.
    pub(super) scrolled: usize,
    /// How far it can be, which the drawing finds out.
    pub(super) last_scroll: Cell<usize>,
    pub(super) paused: bool,
    /// Why there is nothing new.
    pub(super) trouble: Option<String>,
    /// The same of the entity that is shown alone.
    pub(super) trouble_of_one: Option<String>,
    /// For how many seconds an answer has been waited for, if that is long.
    pub(super) waited: Option<u64>,
    /// No colours, where they are not wanted.
    pub(super) plain: bool,
}

impl View {
    /// One that is sorted by something, with colours or without.
    pub fn new(sort: Sort, plain: bool) -> Self {
        Self { sort, plain, ..Self::default() }
    }

    /// Whose flows and pairs are to be asked for.
    pub fn one(&self) -> Option<&str> {
        self.one.as_deref()
    }

    /// Whether what comes is not to be shown.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The rows that are shown, in their order.
    pub fn rows(&self) -> Vec<&EntityRow> {
        let words: Vec<String> = self.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
        let is_wanted = |row: &&EntityRow| {
            let workload = row.entity.workload.as_deref().unwrap_or_default();
            let name = format!("{} {workload}", row.entity).to_lowercase();
            words.iter().all(|word| name.contains(word.as_str()))
        };
        let mut rows: Vec<_> = self.snapshot.iter().flat_map(|all| &all.entities).filter(is_wanted).collect();
        rows.sort_by(|a, b| self.sort.key(b).total_cmp(&self.sort.key(a)));
        rows
    }

    /// The row of the entity that is shown alone.
    pub(super) fn row_of_one(&self) -> Option<&EntityRow> {
        let one = self.one.as_ref()?;
        self.snapshot.as_ref()?.entities.iter().find(|row| row.entity.to_string() == *one)
    }

    /// A new answer, and what is missing from it; while it is paused, what is shown stays.
    pub fn take(&mut self, answer: Result<(SnapshotAnswer, Option<String>), String>) {
        match answer {
            Ok((snapshot, missing)) if !self.paused => {
                // Whoever is selected stays so, wherever they go.
                let selected = self.rows().get(self.selected).map(|row| row.entity.to_string());
                self.snapshot = Some(snapshot);
                let rows = self.rows();
                let at = rows.iter().position(|row| Some(row.entity.to_string()) == selected);
                self.selected =
                    if self.selected == 0 { 0 } else { at.unwrap_or(self.selected).min(rows.len().max(1) - 1) };
                self.trouble = missing;
            }
            Ok(_) => {}
            Err(trouble) => self.trouble = Some(trouble),
        }
    }

    /// What was asked for of one entity; an answer that comes too late is another's.
    pub fn take_detail(&mut self, of: &str, flows: Result<FlowsAnswer, String>, pairs: Result<PairsAnswer, String>) {
        if self.one.as_deref() != Some(of) || self.paused {
            return;
        }
        self.trouble_of_one = None;
        match (flows, pairs) {
            (Ok(flows), Ok(pairs)) => {
                self.flows = Some(flows);
                self.pairs = Some(pairs);
            }
            (Err(trouble), _) | (_, Err(trouble)) => self.trouble_of_one = Some(trouble),
        }
    }

    /// Nothing came for so long since something was asked for. True when that is to be shown, or no longer.
    pub fn wait(&mut self, waited: Duration) -> bool {
        let long = Some(waited).filter(|waited| *waited >= LONG).map(|waited| waited.as_secs());
        let is_new = long != self.waited;
        self.waited = long;
        is_new
    }

    /// A key was pressed.
    pub fn key(&mut self, mut key: KeyEvent) -> Act {
        // What was typed before this program read it has the line feed that the terminal makes of Enter until then.
        if key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('j') {
            key = KeyCode::Enter.into();
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c')) {
            return Act::Quit;
        }
        // A terminal's word for something else.
        if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) {
            return Act::Draw;
        }
        if self.mode == Mode::Typing {
            self.type_key(key.code);
            return Act::Draw;
        }
        if self.mode == Mode::Help {
            self.mode = Mode::Usual;
            return if key.code == KeyCode::Char('q') { Act::Quit } else { Act::Draw };
        }
        match key.code {
            KeyCode::Char('q') => return Act::Quit,
            KeyCode::Char('l') => self.sort_by(Sort::Load),
            KeyCode::Char('b') => self.sort_by(Sort::Bytes),
            KeyCode::Char('w') => self.sort_by(Sort::Wait),
            KeyCode::Char('m') => self.sort_by(Sort::Memory),
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('/') if self.one.is_none() => self.mode = Mode::Typing,
            KeyCode::Esc if self.one.is_some() => self.close(),
            KeyCode::Esc => self.filter.clear(),
            KeyCode::Left | KeyCode::Backspace => self.close(),
            KeyCode::Enter | KeyCode::Right => self.open(),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Home => self.go(isize::MIN),
            KeyCode::End => self.go(isize::MAX),
            _ => {}
        }
        Act::Draw
    }

    fn type_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(letter) => self.filter.push(letter),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Enter => self.mode = Mode::Usual,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Usual;
            }
            _ => return,
        }
        self.selected = 0;
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.selected = 0;
    }

    fn open(&mut self) {
        let chosen = self.rows().get(self.selected).map(|row| row.entity.to_string());
        if self.one.is_none() && chosen.is_some() {
            (self.one, self.flows, self.pairs, self.scrolled) = (chosen, None, None, 0);
            self.trouble_of_one = None;
        }
    }

    fn close(&mut self) {
        self.one = None;
    }

    fn go(&mut self, by: isize) {
        if self.one.is_some() {
            self.scrolled = self.scrolled.saturating_add_signed(by).min(self.last_scroll.get());
        } else {
            let last = self.rows().len().max(1) - 1;
            self.selected = self.selected.saturating_add_signed(by).min(last);
        }
    }
}
