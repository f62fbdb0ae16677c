//! Single flight: requests for a page that come while one is being made share it, compressed form included.

use super::Source;
use super::connections::{Connections, lock};
use super::limits::Limits;
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Compressed between two looks at other tasks: well below a millisecond.
const CHUNK_BYTES: usize = 64 * 1024;
/// Of 2.9 MB in 10 000 lines, level 1 makes 123 kB in 3.3 ms, level 2 92 kB in 2.8 ms, level 6 82 kB in 8.8 ms.
const LEVEL: Compression = Compression::new(2);

/// The largest window of the format.
const WINDOW_BITS: u8 = 15;
/// What is made room for at a time: less than the allocator maps on its own.
const ROOM_BYTES: usize = 16 * 1024;

/// A compressor between two pages. Its tables take a third of a megabyte: made anew for each scrape they would be found at
/// ever other places of the heap, or be mapped and cleared each time.
type Spare = Arc<Mutex<Option<Compress>>>;

/// A page on its way to the clients that share it.
#[derive(Debug)]
pub(super) struct Page {
    text: Bytes,
    gzip: OnceCell<Bytes>,
    made: Instant,
    spare: Spare,
}

impl Page {
    fn new(text: Bytes, spare: Spare) -> Self {
        Self { text, gzip: OnceCell::new(), made: Instant::now(), spare }
    }

    /// The page as it is; keeps it among the pages in memory until the last clone is dropped.
    pub(super) fn text(self: Arc<Self>) -> Bytes {
        struct Text(Arc<Page>);
        impl AsRef<[u8]> for Text {
            fn as_ref(&self) -> &[u8] {
                &self.0.text
            }
        }
        Bytes::from_owner(Text(self))
    }

    /// The page compressed: once, whoever asks.
    pub(super) async fn gzip(&self) -> Bytes {
        self.gzip.get_or_init(|| compress(&self.text, &self.spare)).await.clone()
    }
}

async fn compress(text: &[u8], spare: &Spare) -> Bytes {
    let mut compressor = lock(spare).take().unwrap_or_else(|| Compress::new_gzip(LEVEL, WINDOW_BITS));
    // Pages shrink to a twentieth.
    let mut compressed = Vec::with_capacity(text.len() / 16 + ROOM_BYTES);
    for mut chunk in text.chunks(CHUNK_BYTES) {
        while !chunk.is_empty() {
            let before = compressor.total_in();
            feed(&mut compressor, chunk, &mut compressed, FlushCompress::None);
            chunk = &chunk[(compressor.total_in() - before) as usize..];
        }
        tokio::task::yield_now().await;
    }
    while feed(&mut compressor, &[], &mut compressed, FlushCompress::Finish) != Status::StreamEnd {}
    compressor.reset();
    *lock(spare) = Some(compressor);
    Bytes::from(compressed)
}

/// Takes as much of `input` as there is room for.
fn feed(compressor: &mut Compress, input: &[u8], output: &mut Vec<u8>, flush: FlushCompress) -> Status {
    output.reserve(ROOM_BYTES);
    compressor.compress_vec(input, output, flush).expect("a compressor that is used as it should be does not fail")
}

#[derive(Debug)]
struct Flight {
    landing: watch::Receiver<Landing>,
    task: JoinHandle<()>,
}

type Landing = Option<Result<Arc<Page>, String>>;

/// Makes pages, one at a time.
#[derive(Debug)]
pub(super) struct Flights<S> {
    source: Arc<S>,
    connections: Arc<Connections>,
    limits: Limits,
    state: Mutex<State>,
    spare: Spare,
}

/// Whether another page may be in memory.
enum Room {
    Free,
    /// Slow readers hold as many as may be; the newest of them, if it is fresh enough to be handed out once more.
    Full(Option<Arc<Page>>),
}

#[derive(Debug, Default)]
struct State {
    /// The flight that has not landed yet.
    current: Option<Flight>,
    /// The pages that may still be in memory, oldest first.
    pages: Vec<Weak<Page>>,
}

impl<S: Source> Flights<S> {
    pub(super) fn new(source: Arc<S>, connections: Arc<Connections>, limits: Limits) -> Self {
        Self { source, connections, limits, state: Mutex::default(), spare: Spare::default() }
    }

    pub(super) fn source(&self) -> &S {
        &self.source
    }

    /// The page of the flight that is under way, or of a new one. Who stops waiting does not stop the flight.
    ///
    /// # Errors
    /// What the source says, or that it took too long.
    pub(super) async fn page(self: &Arc<Self>) -> Result<Arc<Page>, String> {
        for _ in 0..self.limits.connections {
            match self.room() {
                Room::Free => break,
                Room::Full(Some(page)) => return Ok(page),
                // The slowest reader has to go; its page goes with it if it was the last, else the next slowest does.
                Room::Full(None) => {
                    self.connections.evict_slowest_reader(Duration::ZERO);
                    tokio::task::yield_now().await;
                }
            }
        }
        let mut flight = lock(&self.state).current.get_or_insert_with(|| self.take_off()).landing.clone();
        let landed = flight.wait_for(Option::is_some).await.map(|landing| landing.clone());
        landed.ok().flatten().unwrap_or_else(|| Err("the page could not be rendered; see the agent's log".to_owned()))
    }

    /// Whether another page may be in memory. If not, the newest, unless it is stale.
    fn room(&self) -> Room {
        let mut state = lock(&self.state);
        state.pages.retain(|page| page.strong_count() > 0);
        if state.current.is_some() || state.pages.len() < self.limits.pages {
            return Room::Free;
        }
        let newest = state.pages.last().and_then(Weak::upgrade);
        Room::Full(newest.filter(|page| page.made.elapsed() < self.limits.fresh))
    }

    fn take_off(self: &Arc<Self>) -> Flight {
        let (land, landing) = watch::channel(None);
        let flights = Arc::clone(self);
        let task = tokio::spawn(async move {
            // Ends the flight whatever happens to it: a source that panics must not be the last.
            let ended = Ended(&flights);
            let page = tokio::time::timeout(flights.limits.page, flights.source.metrics()).await;
            let page = page.unwrap_or_else(|_| Err("the page took too long; see the agent's log".to_owned()));
            let page = page.map(|text| Arc::new(Page::new(text, Arc::clone(&flights.spare))));
            if let Ok(page) = &page {
                lock(&flights.state).pages.push(Arc::downgrade(page));
            }
            drop(ended);
            // Nobody waits any more: fine.
            let _ = land.send(Some(page));
        });
        Flight { landing, task }
    }

    /// Ends the flight that is under way; when this returns, it no longer holds the source.
    pub(super) async fn stop(&self) {
        let flight = lock(&self.state).current.take();
        if let Some(Flight { task, .. }) = flight {
            task.abort();
            // It was told to end: no other outcome matters.
            let _ = task.await;
        }
    }
}

struct Ended<'a, S>(&'a Flights<S>);

impl<S> Drop for Ended<'_, S> {
    fn drop(&mut self) {
        lock(&self.0.state).current = None;
    }
}
