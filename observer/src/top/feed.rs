//! What is asked of the agent, beside the screen: a slow answer keeps no key waiting.

use crate::server::{FlowsAnswer, PairsAnswer, SnapshotAnswer};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Who answers.
pub trait Source: Send + 'static {
    /// Everybody, and what is missing from that, if something is.
    ///
    /// # Errors
    /// In a sentence.
    fn snapshot(&mut self) -> Result<(SnapshotAnswer, Option<String>), String>;

    /// The flows of an entity.
    ///
    /// # Errors
    /// In a sentence.
    fn flows(&mut self, entity: &str) -> Result<FlowsAnswer, String>;

    /// Who waits for whom.
    ///
    /// # Errors
    /// In a sentence.
    fn pairs(&mut self) -> Result<PairsAnswer, String>;
}

/// What came.
#[derive(Debug)]
pub enum News {
    /// Something is asked for: what comes next is the answer.
    Asked,
    /// Everybody.
    All(Result<(SnapshotAnswer, Option<String>), String>),
    /// One entity's flows and pairs.
    One(String, Result<FlowsAnswer, String>, Result<PairsAnswer, String>),
}

/// The thread that asks.
#[derive(Debug)]
pub struct Feed {
    news: Receiver<News>,
    /// Of whom more is to be asked.
    one: Arc<Mutex<Option<String>>>,
}

impl Feed {
    /// Asks at once, and then again and again.
    pub fn start(mut source: impl Source, every: Duration) -> Self {
        let (sender, news) = channel();
        let one = Arc::new(Mutex::new(None));
        let wanted = Arc::clone(&one);
        // It ends when nobody listens.
        thread::spawn(move || while turn(&mut source, &wanted, &sender, every) {});
        Self { news, one }
    }

    /// Says of whom more is wanted.
    pub fn want(&self, one: Option<&str>) {
        *self.one.lock().unwrap_or_else(PoisonError::into_inner) = one.map(str::to_owned);
    }

    /// What came since the last call.
    pub fn news(&self) -> Vec<News> {
        self.news.try_iter().collect()
    }
}

/// Pieces of a pause: who is opened is asked about soon.
const PIECE: Duration = Duration::from_millis(100);

fn turn(source: &mut impl Source, one: &Mutex<Option<String>>, sender: &Sender<News>, every: Duration) -> bool {
    let wanted = || one.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if sender.send(News::Asked).is_err() || sender.send(News::All(source.snapshot())).is_err() {
        return false;
    }
    let asked = wanted();
    if let Some(of) = &asked {
        let _ = sender.send(News::Asked);
        let (flows, pairs) = (source.flows(of), source.pairs());
        if sender.send(News::One(of.clone(), flows, pairs)).is_err() {
            return false;
        }
    }
    let mut left = every;
    while !left.is_zero() && wanted() == asked {
        let piece = left.min(PIECE);
        thread::sleep(piece);
        left -= piece;
    }
    true
}
