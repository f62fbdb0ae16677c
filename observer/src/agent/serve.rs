//! The running agent: a reading each second, cgroup events as they come, scrapes when asked.

use super::{
    clock::unix_seconds,
    far_ends::FarEnds,
    scopes::Scopes,
    start::Started,
    station::Station,
    summary::{Printer, Summary},
    ticks::Ticks,
};
use crate::{
    history::{ApiError, HistoryAnswer, HistoryQuery, WorkloadsAnswer},
    kernel::{Readiness, monotonic_ns, release_code_of_start, release_free_memory},
    kube::{NoAnswer, Owners, PeerAnswer, PodEvent, PodWatch, Question, RangeReader, RangesTold},
    ledger::FlowView,
    metrics::Encoder,
    server::{self, ApiSource, FlowsAnswer, FlowsQuery, PairsAnswer, PairsQuery, Source, WhoisAnswer, WhoisQuery},
};
use bytes::Bytes;
use std::{
    cell::Cell,
    io,
    ops::RangeInclusive,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

/// A pause after cgroup events: a storm of them wakes the agent ten times a second, not once for each.
const EVENT_PAUSE: Duration = Duration::from_millis(100);
/// A list of pods, and all that it led to, is over when there was nothing of it for so long.
const CALM: Duration = Duration::from_secs(2);
/// How long opening the history's database takes, as a rule, with the first commit.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// How often the node's own addresses are read again.
const ADDRESSES_EVERY: Duration = Duration::from_secs(10);

/// How long after the signal the end may wait for the history to be written, beside clients that take their time.
const LAST_WRITE: Duration = Duration::from_millis(850);

/// How old the last view of the flows may be for rates since then.
const RATES_OVER: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);
/// How long flows wait for the names of far ends.
const NAMING: Duration = Duration::from_millis(2500);
/// How often a heavy flow without a name is looked for.
const HEAVY_EVERY: Duration = Duration::from_secs(5);
/// Over how long rates are where there is none.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the tasks share. They take turns on one thread; the lock is never held over an `await`.
struct Books {
    station: Mutex<(Station, Encoder)>,
    /// Who reads the history from the disk: one at a time, on a thread of its own.
    reading: Semaphore,
    /// The last view of the flows, for the rates of the next; taken by whoever makes that.
    flows: tokio::sync::Mutex<Option<FlowView>>,
    /// Who names the far ends of flows, where there is an API server.
    far_ends: Option<FarEnds>,
}

impl Books {
    fn lock(&self) -> MutexGuard<'_, (Station, Encoder)> {
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(view: &FlowView) -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(view.at_ns))
}

impl Books {
    /// A view is of no use any more when nobody has asked for a while.
    async fn forget_flows(&self) {
        let mut ticks = interval(*RATES_OVER.end());
        loop {
            ticks.tick().await;
            let mut last = self.flows.lock().await;
            if last
                .take_if(|view| monotonic_ns().saturating_sub(view.at_ns) > RATES_OVER.end().as_nanos() as u64)
                .is_some()
            {
                settle();
            }
        }
    }
}

impl Books {
    /// Asks who has these addresses. Says whether anything became known.
    async fn name(&self, questions: Vec<Question>) -> bool {
        let Some(far_ends) = self.far_ends.as_ref().filter(|_| !questions.is_empty()) else { return false };
        let nodes = self.lock().0.cluster_nodes();
        let is_news = AtomicBool::new(false);
        let told = |address, answer: Result<PeerAnswer, NoAnswer>| {
            is_news.fetch_or(answer.is_ok(), Relaxed);
            self.lock().0.answered(address, answer);
        };
        // What has been told by then is told, and the next request asks for the rest.
        let _ = timeout(NAMING, far_ends.ask(questions, nodes, told)).await;
        is_news.load(Relaxed)
    }

    /// Asks for the heaviest far end that has no name: who is gone can be asked for no more.
    async fn name_heavy_flows(&self) {
        if self.far_ends.is_none() {
            std::future::pending::<()>().await;
        }
        let mut ticks = interval(HEAVY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let question = self.lock().0.heaviest_unnamed();
            if question.is_some() {
                self.lock().0.before_hands_change();
            }
            self.name(question.into_iter().collect()).await;
        }
    }
}

impl ApiSource for Books {
    async fn history(&self, query: HistoryQuery) -> Result<HistoryAnswer, ApiError> {
        let unavailable = |why: String| ApiError::new("unavailable", why);
        let _turn = self.reading.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let gathered = {
            let mut guard = self.lock();
            let (history, node) = guard.0.history();
            history.gather(&query, node, unix_seconds())?
        };
        spawn_blocking(move || gathered.answer()).await.map_err(|error| unavailable(error.to_string()))?
    }

    async fn history_workloads(&self) -> Result<WorkloadsAnswer, ApiError> {
        let mut guard = self.lock();
        let (history, node) = guard.0.history();
        Ok(history.known_workloads(node))
    }

    async fn flows(&self, query: FlowsQuery) -> Result<FlowsAnswer, ApiError> {
        let unavailable = |error: io::Error| ApiError::new("unavailable", format!("cannot read the flows: {error}"));
        let mut last = self.flows.lock().await;
        let before = if let Some(view) = last.take().filter(|view| age(view) <= *RATES_OVER.end()) {
            sleep(RATES_OVER.start().saturating_sub(age(&view))).await;
            view
        } else {
            let view = self.lock().0.flow_view().map_err(unavailable)?;
            sleep(INTERVAL).await;
            view
        };
        let (now, mut answer) = {
            let mut guard = self.lock();
            let now = guard.0.flow_view().map_err(unavailable)?;
            let answer = guard.0.flows([&before, &now], &query);
            (now, answer)
        };
        let questions = self.lock().0.questions(&answer);
        if self.name(questions).await {
            answer = self.lock().0.flows([&before, &now], &query);
        }
        *last = Some(now);
        Ok(answer)
    }

    async fn whois(&self, query: WhoisQuery) -> WhoisAnswer {
        let question = self.lock().0.whois_question(query);
        let mut missing = question.as_ref().err().cloned();
        if let (Ok(Some(question)), Some(far_ends)) = (question, &self.far_ends) {
            self.lock().0.before_hands_change();
            match far_ends.ask_now(&question).await {
                None => missing = Some("it was asked too often; ask again in a second".into()),
                Some(answer) => {
                    missing = answer.as_ref().err().map(|no_answer| no_answer.reason.clone());
                    self.lock().0.answered(question.address, answer);
                }
            }
        }
        let guard = self.lock();
        guard.0.whois(query, missing)
    }

    fn pairs(&self, query: PairsQuery) -> PairsAnswer {
        self.lock().0.pairs(query)
    }
}

impl Source for Books {
    async fn metrics(&self) -> Result<Bytes, String> {
        let mut guard = self.lock();
        let (station, encoder) = &mut *guard;
        let began = Instant::now();
        station.read_for_scrape().map_err(|error| format!("cannot read the kernel's books: {error}"))?;
        let mut page = encoder.render(&station.snapshot());
        if station.exceeds_budget(encoder.series()) {
            page = encoder.render(&station.snapshot());
        }
        station.scraped(began.elapsed().as_secs_f64());
        Ok(page)
    }

    fn ready(&self) -> Result<(), String> {
        if self.lock().0.has_sampled() { Ok(()) } else { Err("no sample has been booked yet".into()) }
    }
}

/// Serves until SIGTERM or SIGINT. Dropping the station on the way out detaches every program.
pub(super) async fn serve(
    started: Started,
    sample_interval: Duration,
    summary_interval: Duration,
) -> anyhow::Result<()> {
    let Started { station, listener, debug_listener, events, lock, scopes, kube, ranges, far_ends } = started;
    let books = Arc::new(Books {
        station: Mutex::new((station, Encoder::new())),
        reading: Semaphore::new(1),
        flows: tokio::sync::Mutex::default(),
        far_ends,
    });
    let listener = TcpListener::from_std(listener)?;
    let debug_listener = debug_listener.map(TcpListener::from_std).transpose()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    books.lock().0.begin()?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    if let Some(listener) = &debug_listener {
        tracing::info!("the API on http://{}/api/v1", listener.local_addr()?);
    }
    settle();
    let (end, mut ending) = watch::channel(false);
    let stopped = Cell::new(None);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // First of all: open connections may take their time.
        books.lock().0.kernel().detach();
        books.lock().0.history().0.end();
        end.send_replace(true);
        stopped.set(Some(std::time::Instant::now()));
    };
    let api = async {
        let Some(listener) = debug_listener else { return };
        let ended = async {
            // A sender that is gone is an agent that ends.
            let _ = ending.wait_for(|end| *end).await;
        };
        server::serve_api(listener, Arc::clone(&books), ended).await;
    };
    // Told when somebody's may have changed.
    let addresses = Notify::new();
    let listeners = async { tokio::join!(server::serve(listener, Arc::clone(&books), stop), api) };
    tokio::select! {
        ((), ()) = listeners => {}
        result = sample(&books, sample_interval) => result?,
        result = follow_events(&books, events) => result?,
        result = follow_addresses(&books, scopes, &addresses) => result?,
        () = follow_pods(&books, kube, &addresses) => {}
        () = follow_ranges(&books, ranges, &addresses) => {}
        () = settle_later() => {}
        () = books.forget_flows() => {}
        () = books.name_heavy_flows() => {}
        result = summarise(&books, summary_interval) => result?,
    }
    if let Some(stopped) = stopped.get() {
        books.lock().0.history().0.wait_for_the_end(stopped + LAST_WRITE);
    }
    drop(books);
    drop(lock);
    tracing::info!("stopped; nothing is attached any more");
    Ok(())
}

async fn sample(books: &Books, every: Duration) -> anyhow::Result<()> {
    let mut ticks = Ticks::every(every)?;
    loop {
        ticks.next().await?;
        if let Err(error) = books.lock().0.tick() {
            tracing::error!(%error, "cannot read the kernel's books; trying again at the next sample");
        }
    }
}

async fn follow_events(books: &Books, events: OwnedFd) -> anyhow::Result<()> {
    let events = Readiness::new(events)?;
    loop {
        events.wait().await?;
        books.lock().0.drain_events();
        sleep(EVENT_PAUSE).await;
    }
}

async fn follow_addresses(books: &Books, mut scopes: Scopes, changed: &Notify) -> anyhow::Result<()> {
    let mut ticks = Ticks::every(ADDRESSES_EVERY)?;
    loop {
        books.lock().0.update(&mut scopes);
        // Pods come in crowds, and each change makes every socket decide anew.
        sleep(EVENT_PAUSE).await;
        tokio::select! {
            result = ticks.next() => result?,
            () = changed.notified() => {}
        }
    }
}

/// Asks what the cluster's addresses are; does nothing where there is no API server.
async fn follow_ranges(books: &Books, ranges: Option<RangeReader>, changed: &Notify) {
    let Some(mut ranges) = ranges else { return std::future::pending().await };
    loop {
        let RangesTold { ranges, missing, again_in } = ranges.read().await;
        books.lock().0.ranges_told(ranges, missing);
        changed.notify_one();
        settle();
        sleep(again_in).await;
    }
}

/// Gives back the memory of what has just ended and will not be done again soon: the start, a list of all pods.
fn settle() {
    release_free_memory();
    release_code_of_start();
}

/// Once more, when the history's database was opened and checked, beside everything else, and written to for the first time.
async fn settle_later() {
    sleep(OPENED_WITHIN).await;
    settle();
    std::future::pending::<()>().await;
}

/// Follows the pods of this node and their owners; does nothing where there is no API server.
async fn follow_pods(books: &Books, kube: Option<(PodWatch, Owners)>, addresses: &Notify) {
    let Some((mut watch, mut owners)) = kube else { return std::future::pending().await };
    let mut settle_at = None;
    loop {
        tokio::select! {
            event = watch.next() => {
                if matches!(event, PodEvent::Done) {
                    settle_at = Some(Instant::now() + CALM);
                }
                let unknown = books.lock().0.pod_event(event);
                addresses.notify_one();
                owners.ask(unknown);
            }
            answer = owners.next() => books.lock().0.owner_known(answer),
            () = sleep_until(settle_at.unwrap_or_else(Instant::now)), if settle_at.is_some() => {
                settle_at = owners.are_asked_for().then(|| Instant::now() + CALM);
                if settle_at.is_none() {
                    settle();
                }
            }
        }
    }
}

/// Prints a summary now and then; never, if `every` is zero.
async fn summarise(books: &Books, every: Duration) -> anyhow::Result<()> {
    if every.is_zero() {
        std::future::pending::<()>().await;
    }
    let (mut summary, printer) = (Summary::default(), Printer::start()?);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let text = {
            let mut guard = books.lock();
            summary.render(&guard.0.snapshot(), monotonic_ns())
        };
        if let Some(text) = text {
            printer.print(text);
        }
    }
}
