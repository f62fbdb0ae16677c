//! The terminal: taken and given back whole, whatever ends the program.

use super::{Act, Feed, News, View, draw};
use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// How long keys are waited for before what came is drawn.
const TURN: Duration = Duration::from_millis(100);

/// Shows a view until somebody ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(mut view: View, feed: &Feed) -> anyhow::Result<()> {
    let ended = end_by_signal()?;
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let outcome = (|| -> anyhow::Result<()> {
        loop {
            terminal.draw(|frame| draw(frame, &view)).context("the terminal cannot be drawn on")?;
            if ended.load(Relaxed) {
                return Ok(());
            }
            if event::poll(TURN).context("the terminal's keys cannot be read")? {
                if let Event::Key(key) = event::read().context("the terminal's keys cannot be read")?
                    && key.kind == KeyEventKind::Press
                    && view.key(key) == Act::Quit
                {
                    return Ok(());
                }
                feed.want(view.one());
            }
            for news in feed.news() {
                match news {
                    News::All(answer) => view.take(answer),
                    News::One(of, flows, pairs) => view.take_detail(&of, flows, pairs),
                }
            }
        }
    })();
    // A terminal that is gone needs nothing.
    let _ = ratatui::try_restore();
    outcome
}

/// Becomes true when somebody wants this program to end. Ctrl-C is a key here.
fn end_by_signal() -> anyhow::Result<Arc<AtomicBool>> {
    let mut signals = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT].into_iter().for_each(|signal| signals.add(signal));
    // Threads inherit what is blocked, so that only the one below hears of it; the asking thread is of no matter.
    signals.thread_block().context("block signals")?;
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            told.store(true, Relaxed);
        }
    });
    Ok(ended)
}
