//! The terminal: taken and given back whole, whatever ends the program.

use super::{Act, Feed, News, View, draw};
use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use ratatui::crossterm::{
    event::{self, Event, KeyEventKind},
    execute,
    terminal::{Clear, ClearType},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// How long keys are waited for before what came is drawn.
const TURN: Duration = Duration::from_millis(100);

/// How long the end may take that a signal asks for.
const GRACE: Duration = Duration::from_secs(2);

/// Shows a view, and what a feed that is started for it brings, until somebody ends it.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(mut view: View, ended: &Ended, feed: impl FnOnce() -> Feed) -> anyhow::Result<()> {
    let feed = feed();
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let outcome = (|| -> anyhow::Result<()> {
        // Where it has no screen of its own, or a killed program has left it on that, there is something on it already.
        clear().context("the terminal cannot be drawn on")?;
        let (mut is_new, mut asked) = (true, None);
        while !ended.0.load(Relaxed) {
            if is_new {
                terminal.draw(|frame| draw(frame, &view)).context("the terminal cannot be drawn on")?;
            }
            is_new = event::poll(TURN).context("the terminal's keys cannot be read")?;
            if is_new {
                if let Event::Key(key) = event::read().context("the terminal's keys cannot be read")?
                    && key.kind == KeyEventKind::Press
                    && view.key(key) == Act::Quit
                {
                    return Ok(());
                }
                feed.want(view.one());
            }
            for news in feed.news() {
                is_new = true;
                asked = None;
                match news {
                    News::Asked => asked = Some(Instant::now()),
                    News::All(answer) => view.take(answer),
                    News::One(of, flows, pairs) => view.take_detail(&of, flows, pairs),
                }
            }
            is_new |= view.wait(asked.map_or(Duration::ZERO, |asked| asked.elapsed()));
        }
        Ok(())
    })();
    // A terminal that is gone needs nothing; one without a screen for this alone would keep what was drawn.
    let _ = clear();
    let _ = ratatui::try_restore();
    outcome
}

/// Without asking the terminal where its cursor is, as ratatui does: not every one answers.
fn clear() -> io::Result<()> {
    execute!(io::stdout(), Clear(ClearType::All))
}

/// Becomes true when somebody wants this program to end.
#[derive(Clone, Debug)]
pub struct Ended(Arc<AtomicBool>);

/// From here on the terminal is given back before a signal ends this program. Ctrl-C is a key where the view is shown. To be called before any
/// other thread is there: a signal is blocked by all of them, or ends the program at once.
///
/// # Errors
/// When signals cannot be blocked.
pub fn end_by_signal() -> anyhow::Result<Ended> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        signals.add(signal);
    }
    // Threads inherit what is blocked, so that only the one below hears of it.
    signals.thread_block().context("block signals")?;
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            told.store(true, Relaxed);
            thread::sleep(GRACE);
            // From a terminal that is gone crossterm reads for ever.
            let _ = ratatui::try_restore();
            std::process::exit(0);
        }
    });
    Ok(Ended(ended))
}
