//! The books as the tasks share them, and as the two listeners ask for them.

use super::{
    clock::unix_seconds,
    far_ends::FarEnds,
    serve::settle,
    station::Station,
    translations::{Told, Translations},
};
use crate::{
    history::{
        ApiError, Gather, GrowthAnswer, GrowthGather, GrowthQuery, History, HistoryAnswer, HistoryQuery,
        WorkloadsAnswer,
    },
    kernel::monotonic_ns,
    kube::{NoAnswer, PeerAnswer, Question},
    ledger::FlowView,
    metrics::Encoder,
    server::{
        ApiSource, FlowsAnswer, FlowsQuery, PairsAnswer, PairsQuery, ProgramsAnswer, SnapshotAnswer, SnapshotQuery,
        Source, WhoisAnswer, WhoisQuery,
    },
};
use bytes::Bytes;
use std::{
    io,
    ops::RangeInclusive,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

/// How old the last view of the flows may be for rates since then.
const RATES_OVER: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(10);
/// How long flows wait for the names of far ends.
const NAMING: Duration = Duration::from_millis(2500);
/// How often a heavy flow without a name is looked for.
const HEAVY_EVERY: Duration = Duration::from_secs(2);
/// Over how long rates are where there is none.
const INTERVAL: Duration = Duration::from_secs(1);

/// What the tasks share. They take turns on one thread; the lock is never held over an `await`.
pub(super) struct Books {
    station: Mutex<(Station, Encoder)>,
    /// Who reads the history from the disk: one at a time, on a thread of its own.
    reading: Semaphore,
    /// The last views of the flows, for the rates of the next; taken by whoever makes that.
    flows: tokio::sync::Mutex<Option<FlowViews>>,
    /// A second one for each that waits for flows.
    wants_flows: Arc<()>,
    /// Who names the far ends of flows, where there is an API server.
    far_ends: Option<FarEnds>,
    /// Where connections to services go.
    translations: Translations,
    /// Told when a window has ended.
    windows: watch::Sender<()>,
}

impl Books {
    pub(super) fn new(station: Station, far_ends: Option<FarEnds>, translations: Translations) -> Self {
        Self {
            station: Mutex::new((station, Encoder::new())),
            reading: Semaphore::new(1),
            flows: tokio::sync::Mutex::default(),
            wants_flows: Arc::default(),
            far_ends,
            translations,
            windows: watch::Sender::new(()),
        }
    }

    /// Takes a sample, and tells who waits for the end of a window.
    pub(super) fn tick(&self) -> io::Result<()> {
        let window_ended = self.lock().0.tick()?;
        if window_ended {
            self.windows.send_replace(());
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, (Station, Encoder)> {
        self.station.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn age(view: &FlowView) -> Duration {
    Duration::from_nanos(monotonic_ns().saturating_sub(view.at_ns))
}

/// What flows are told from.
struct FlowViews {
    /// While somebody waits who may be told from the same.
    before: Option<FlowView>,
    now: FlowView,
    /// What the second one is of, happened before this.
    begun_ns: u64,
}

impl Books {
    /// A view is of no use any more when nobody has asked for a while.
    pub(super) async fn forget_flows(&self) {
        let mut ticks = interval(*RATES_OVER.end());
        loop {
            ticks.tick().await;
            let mut last = self.flows.lock().await;
            if last.take_if(|views| age(&views.now) > *RATES_OVER.end()).is_some() {
                settle();
            }
        }
    }
}

impl Books {
    /// Views of the flows, the second as they are now: since the last one if that is of use, or else since one that is made first.
    async fn look_at_flows(&self, last: Option<FlowView>) -> Result<(FlowView, FlowView, u64), ApiError> {
        let unavailable = |error: io::Error| ApiError::new("unavailable", format!("cannot read the flows: {error}"));
        let before = if let Some(view) = last.filter(|view| age(view) <= *RATES_OVER.end()) {
            sleep(RATES_OVER.start().saturating_sub(age(&view))).await;
            view
        } else {
            let view = self.lock().0.flow_view().map_err(unavailable)?;
            sleep(INTERVAL).await;
            view
        };
        let mut station = self.lock();
        let begun_ns = monotonic_ns();
        let now = station.0.flow_view().map_err(unavailable)?;
        Ok((before, now, begun_ns))
    }

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

    /// Asks for the heaviest far end that has no name: who is gone can be asked for no more. Of open sockets that takes a look.
    pub(super) async fn name_heavy_flows(&self) {
        if self.far_ends.is_none() {
            std::future::pending::<()>().await;
        }
        let mut ticks = interval(HEAVY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let question = {
                let mut station = self.lock();
                station.0.look_now_and_then();
                station.0.heaviest_unnamed()
            };
            if question.is_some() {
                self.lock().0.before_hands_change();
            }
            self.name(question.into_iter().collect()).await;
        }
    }

    /// Gathers from the history, and reads the disk beside everything else, one question at a time.
    async fn remembered<G: Send + 'static, A: Send + 'static>(
        &self,
        gather: impl FnOnce(&History, &str, u64) -> Result<G, ApiError> + Send,
        answer: impl FnOnce(G) -> Result<A, ApiError> + Send + 'static,
    ) -> Result<A, ApiError> {
        let unavailable = |why: String| ApiError::new("unavailable", why);
        let _turn = self.reading.acquire().await.map_err(|error| unavailable(error.to_string()))?;
        let gathered = {
            let mut guard = self.lock();
            let (history, node) = guard.0.history();
            gather(history, node, unix_seconds())?
        };
        spawn_blocking(move || answer(gathered)).await.map_err(|error| unavailable(error.to_string()))?
    }
}

impl ApiSource for Books {
    fn snapshot(&self, query: SnapshotQuery) -> Result<SnapshotAnswer, ApiError> {
        let read = self.lock().0.snapshot_answer(&query);
        read.map_err(|error| ApiError::new("unavailable", format!("cannot read the kernel's books: {error}")))
    }

    async fn history(&self, query: HistoryQuery) -> Result<HistoryAnswer, ApiError> {
        self.remembered(|history, node, now| history.gather(&query, node, now), Gather::answer).await
    }

    async fn growth(&self, query: GrowthQuery) -> Result<GrowthAnswer, ApiError> {
        self.remembered(|history, node, now| Ok(history.gather_growth(query, node, now)), GrowthGather::answer).await
    }

    async fn history_workloads(&self) -> Result<WorkloadsAnswer, ApiError> {
        let mut guard = self.lock();
        let (history, node) = guard.0.history();
        Ok(history.known_workloads(node))
    }

    async fn flows(&self, query: FlowsQuery) -> Result<FlowsAnswer, ApiError> {
        let asked_ns = monotonic_ns();
        let waits = Arc::clone(&self.wants_flows);
        let mut last = self.flows.lock().await;
        drop(waits);
        let (before, now, begun_ns) = match last.take() {
            // Whoever looked meanwhile looked for all who were waiting.
            Some(FlowViews { before: Some(before), now, begun_ns })
                if begun_ns >= asked_ns && age(&now) <= *RATES_OVER.end() =>
            {
                (before, now, begun_ns)
            }
            other => self.look_at_flows(other.map(|views| views.now)).await?,
        };
        let mut answer = self.lock().0.flows([&before, &now], &Told::default(), &query);
        let translated = self.translations.of(answer.services()).await;
        if !translated.is_empty() {
            answer = self.lock().0.flows([&before, &now], &translated, &query);
        }
        let questions = self.lock().0.questions(&answer);
        if self.name(questions).await {
            answer = self.lock().0.flows([&before, &now], &translated, &query);
        }
        let is_waited_for = Arc::strong_count(&self.wants_flows) > 1;
        *last = Some(if is_waited_for {
            FlowViews { before: Some(before), now, begun_ns }
        } else {
            FlowViews { before: None, now: now.passed(), begun_ns }
        });
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
        let behind = self.lock().0.behind(query);
        let translated = self.translations.of(behind.into_iter().collect()).await;
        let answer = self.lock().0.whois(query, &translated, missing.clone());
        let questions = self.lock().0.questions_behind(&answer.behind);
        if self.name(questions).await { self.lock().0.whois(query, &translated, missing) } else { answer }
    }

    fn pairs(&self, query: PairsQuery) -> PairsAnswer {
        self.lock().0.pairs(query)
    }

    fn windows(&self) -> watch::Receiver<()> {
        self.windows.subscribe()
    }

    fn programs(&self) -> Result<ProgramsAnswer, ApiError> {
        let told = self.lock().0.programs();
        told.map_err(|error| ApiError::new("unavailable", format!("cannot read /proc/self: {error}")))
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
