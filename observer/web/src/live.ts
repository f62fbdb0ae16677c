// What the agent told since the page was opened: the last snapshot whole, and of each before it what the charts draw.
import { SCOPES, type Scope, type Snapshot, keyOf, workloadOf } from "./api";
import { apartBy } from "./stack";
import { waysTo } from "./ways";

/** Seconds that are kept. */
const KEPT = 900;
/** Seconds without a word after which an agent is not live any more: it has one for each window. */
const SILENT = 5;
/** The same in windows, where those are long; and in seconds, while nobody knows how long they are: a minute at most. */
const SILENT_WINDOWS = 3;
const FIRST_WORD = 65;
/** And how often it is called anew then: what leads to it may be another connection by now. */
const AGAIN = 10;

/** What an entity, or a workload, did in a window. */
export interface Doing {
  load1: number;
  transmit: number;
  receive: number;
  wait: number;
}

export interface Window {
  time: number;
  load1: number | undefined;
  unattributed: number;
  transmit: number;
  peak: number;
  /** Those that did something. */
  entities: Map<string, Doing>;
  workloads: Map<string, Doing>;
}

export type State = "connecting" | "live" | "lost" | "paused";

export class Live {
  state: State = "connecting";
  trouble: string | undefined;
  snapshot: Snapshot | undefined;
  windows: Window[] = [];
  /** Where the names of the workloads that are here now lead. */
  ways = new Map<string, string>();
  /** Bytes a second by scope, of each entity: what the last two snapshots differ by. */
  scopes = new Map<string, Partial<Record<Scope, number>>>();
  private source: EventSource | undefined;
  /** When it last said something, or was called. */
  private heard = 0;
  private called = 0;
  private watch: ReturnType<typeof setInterval> | undefined;
  private readonly listeners = new Set<() => void>();

  listen(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Between windows that are further apart the page was paused, or the agent did not answer. */
  get apart(): number {
    return apartBy(this.snapshot?.window_seconds ?? 1);
  }

  private changed(): void {
    for (const listener of this.listeners) {
      listener();
    }
  }

  start(): void {
    this.state = "connecting";
    this.heard = performance.now();
    this.call();
    this.watch ??= setInterval(() => this.look(), 1000);
    this.changed();
  }

  /** For how many seconds nothing may come. */
  private get patience(): number {
    return this.snapshot === undefined ? FIRST_WORD : Math.max(SILENT, SILENT_WINDOWS * this.snapshot.window_seconds);
  }

  /** A connection that hangs is no error to a browser. */
  private look(): void {
    const now = performance.now();
    const silent = Math.floor((now - this.heard) / 1000);
    if (this.source === undefined || silent < this.patience) {
      return;
    }
    const never = this.snapshot === undefined ? "; other tabs of this page may have all the connections that a browser makes to one address" : "";
    this.state = "lost";
    this.trouble = `nothing has come from the agent for ${silent} seconds: it hangs, or what leads to it does${never}; the page goes on when something comes`;
    if (now - this.called >= Math.max(AGAIN, this.patience) * 1000) {
      this.call();
    }
    this.changed();
  }

  private call(): void {
    this.source?.close();
    this.called = performance.now();
    const source = new EventSource("/api/v1/events?sort=load&top=2000");
    this.source = source;
    source.addEventListener("snapshot", (event) => {
      this.heard = performance.now();
      this.state = "live";
      this.trouble = undefined;
      this.take(JSON.parse((event as MessageEvent<string>).data) as Snapshot);
      this.changed();
    });
    // The agent's own event of that name has data; the browser's, when the connection is lost, has none.
    source.addEventListener("error", (event) => {
      const data = (event as MessageEvent<string | undefined>).data;
      this.heard = performance.now();
      if (data === undefined) {
        this.state = "lost";
        this.trouble = "the agent does not answer; the page goes on when it does";
      } else {
        this.trouble = (JSON.parse(data) as { error: { message: string } }).error.message;
      }
      // After some errors a browser gives up by itself.
      if (source.readyState === EventSource.CLOSED && this.source === source) {
        setTimeout(() => this.source === source && this.call(), 3000);
      }
      this.changed();
    });
  }

  /** Holds the page as it is, or goes on. */
  pause(): void {
    if (this.state === "paused") {
      this.start();
      return;
    }
    this.source?.close();
    this.source = undefined;
    this.state = "paused";
    this.changed();
  }

  private take(snapshot: Snapshot): void {
    const before = this.snapshot;
    const entities = new Map<string, Doing>();
    const workloads = new Map<string, Doing>();
    const passed = before ? snapshot.time_unix_seconds - before.time_unix_seconds : 0;
    const totals = new Map(before?.entities.map((one) => [keyOf(one.entity), one.transmit_bytes]) ?? []);
    // Two snapshots of one second tell no rate.
    if (passed > 0) {
      this.scopes = new Map();
    }
    for (const one of snapshot.entities) {
      const key = keyOf(one.entity);
      const doing = {
        load1: one.load1,
        transmit: one.transmit_bytes_per_second,
        receive: one.receive_bytes_per_second,
        wait: one.wait_seconds_per_second,
      };
      // Most of a node's entities rest, most of the time.
      if (doing.load1 + doing.transmit + doing.receive + doing.wait > 0) {
        entities.set(key, doing);
        add(workloads, workloadOf(one.entity), doing);
      }
      const former = totals.get(key);
      if (passed > 0 && former) {
        const rates: Partial<Record<Scope, number>> = {};
        for (const scope of SCOPES) {
          rates[scope] = Math.max(0, (one.transmit_bytes[scope] ?? 0) - (former[scope] ?? 0)) / passed;
        }
        this.scopes.set(key, rates);
      }
    }
    this.snapshot = snapshot;
    this.ways = waysTo(snapshot.entities);
    this.windows.push({
      time: snapshot.time_unix_seconds,
      load1: snapshot.load?.load1,
      unattributed: snapshot.load1_unattributed ?? 0,
      transmit: snapshot.all.transmit_bytes_per_second,
      peak: snapshot.all.transmit_peak_bytes_per_second,
      entities,
      workloads,
    });
    if (this.windows.length > KEPT) {
      this.windows.splice(0, this.windows.length - KEPT);
    }
  }
}

function add(to: Map<string, Doing>, key: string, doing: Doing): void {
  const sum = to.get(key);
  if (sum) {
    sum.load1 += doing.load1;
    sum.transmit += doing.transmit;
    sum.receive += doing.receive;
    sum.wait += doing.wait;
  } else {
    to.set(key, { ...doing });
  }
}
