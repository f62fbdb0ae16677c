//! The running agent: a reading each second, cgroup events as they come, scrapes when asked.

use super::{
    scopes::Scopes,
    start::Started,
    station::Station,
    summary::{Printer, Summary},
};
use crate::{
    kernel::{EventSignal, monotonic_ns, release_code_of_start, release_free_memory},
    kube::{Owners, PodEvent, PodWatch},
    metrics::Encoder,
    server::{self, Source},
};
use bytes::Bytes;
use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, interval_at, sleep, sleep_until},
};

/// A pause after cgroup events: a storm of them wakes the agent ten times a second, not once for each.
const EVENT_PAUSE: Duration = Duration::from_millis(100);
/// A list of pods, and all that it led to, is over when there was nothing of it for so long.
const CALM: Duration = Duration::from_secs(2);
/// How often the node's own addresses are read again.
const ADDRESSES_EVERY: Duration = Duration::from_secs(10);

/// What the tasks share. They take turns on one thread; the lock is never held over an `await`.
struct Books(Mutex<(Station, Encoder)>);

impl Books {
    fn lock(&self) -> MutexGuard<'_, (Station, Encoder)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    let Started { station, listener, events, lock, scopes, kube } = started;
    let books = Arc::new(Books(Mutex::new((station, Encoder::new()))));
    let listener = TcpListener::from_std(listener)?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    books.lock().0.begin()?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    settle();
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // First of all: open connections may take their time.
        books.lock().0.kernel().detach();
    };
    tokio::select! {
        () = server::serve(listener, Arc::clone(&books), stop) => {}
        result = sample(&books, sample_interval) => result?,
        result = follow_events(&books, events) => result?,
        () = follow_addresses(&books, scopes) => {}
        () = follow_pods(&books, kube) => {}
        result = summarise(&books, summary_interval) => result?,
    }
    drop(books);
    drop(lock);
    tracing::info!("stopped; nothing is attached any more");
    Ok(())
}

async fn sample(books: &Books, every: Duration) -> anyhow::Result<()> {
    let mut ticks = interval_at(Instant::now() + every, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = books.lock().0.tick() {
            tracing::error!(%error, "cannot read the kernel's books; trying again at the next sample");
        }
    }
}

async fn follow_events(books: &Books, events: OwnedFd) -> anyhow::Result<()> {
    let events = EventSignal::new(events)?;
    loop {
        events.wait().await?;
        books.lock().0.drain_events();
        sleep(EVENT_PAUSE).await;
    }
}

async fn follow_addresses(books: &Books, mut scopes: Scopes) {
    loop {
        sleep(ADDRESSES_EVERY).await;
        scopes.update(books.lock().0.kernel());
    }
}

/// Gives back the memory of what has just ended and will not be done again soon: the start, a list of all pods.
fn settle() {
    release_free_memory();
    release_code_of_start();
}

/// Follows the pods of this node and their owners; does nothing where there is no API server.
async fn follow_pods(books: &Books, kube: Option<(PodWatch, Owners)>) {
    let Some((mut watch, mut owners)) = kube else { return std::future::pending().await };
    let mut settle_at = None;
    loop {
        tokio::select! {
            event = watch.next() => {
                if matches!(event, PodEvent::Done) {
                    settle_at = Some(Instant::now() + CALM);
                }
                let unknown = books.lock().0.pod_event(event);
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
