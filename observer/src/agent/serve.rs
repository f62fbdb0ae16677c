//! The running agent: a reading each second, cgroup events as they come, scrapes when asked.

use super::{
    Until,
    books::Books,
    scopes::Scopes,
    start::Started,
    summary::{Printer, Summary},
    ticks::Ticks,
};
use crate::{
    kernel::{Readiness, monotonic_ns, release_code_of_start, release_free_memory},
    kube::{Owners, PodEvent, PodWatch, RangeReader, RangesTold},
    server,
};
use std::{
    cell::Cell,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
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

/// Serves until SIGTERM or SIGINT. Dropping the station on the way out detaches every program.
pub(super) async fn serve(
    started: Started,
    until: Until,
    sample_interval: Duration,
    summary_interval: Duration,
) -> anyhow::Result<()> {
    let Started { station, listener, debug_listener, events, lock, scopes, kube, ranges, far_ends, translations } =
        started;
    let books = Arc::new(Books::new(station, far_ends, translations));
    let listener = TcpListener::from_std(listener)?;
    let debug_listener = debug_listener.map(TcpListener::from_std).transpose()?;
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    books.lock().0.begin()?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    if let Some(listener) = &debug_listener {
        tracing::info!("the web page on http://{0}/, the API on http://{0}/api/v1", listener.local_addr()?);
    }
    settle();
    let (end, mut ending) = watch::channel(false);
    let stopped = Cell::new(None);
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = left_alone(until) => {}
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

/// Ends when whoever started the agent for as long as they are there is gone.
async fn left_alone(until: Until) {
    let closes = async || -> std::io::Result<()> {
        Readiness::new(std::io::stdin().as_fd().try_clone_to_owned()?)?.wait().await
    };
    match until {
        Until::Signal => std::future::pending().await,
        Until::StdinCloses => {
            if let Err(error) = closes().await {
                tracing::error!(%error, "cannot watch standard input, which has to be a pipe");
            }
        }
    }
}

async fn sample(books: &Books, every: Duration) -> anyhow::Result<()> {
    let mut ticks = Ticks::every(every)?;
    loop {
        ticks.next().await?;
        if let Err(error) = books.tick() {
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
pub(super) fn settle() {
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
