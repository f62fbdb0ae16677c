// Load and egress over time: as it comes, or what the agent remembers.
import { useEffect, useState } from "preact/hooks";
import { type Growth, type History, ask } from "./api";
import { Chart } from "./chart";
import { COLOURS } from "./colours";
import { rate, tasks } from "./format";
import type { Doing, Live } from "./live";
import { type Series, type Stack, apartBy, largest } from "./stack";

/** As many have colours of their own. */
const LAYERS = COLOURS;

/** What can be stacked: of whom it is, and what the node's own truth for the sum is. */
export interface Subject {
  title: string;
  /** What is drawn live. */
  note: string;
  /** What is drawn of the past, in rows of a "minute", say. */
  noteOf: (row: string) => string;
  of: (doing: Doing) => number;
  metric: "load" | "egress";
  format: (value: number) => string;
}

export const LOAD: Subject = {
  title: "Who makes this node's load",
  note: "Shares of load1 by workload. The line is the kernel's own load1: it counts every five seconds, the shares all the time, and what is between them is nobody's.",
  noteOf: () => "Tasks that ran, waited or slept uninterruptibly by workload, in the mean. The line is all of them.",
  of: (doing) => doing.load1,
  metric: "load",
  format: tasks,
};

export const EGRESS: Subject = {
  title: "Who sends",
  note: "Bytes a second by workload. The line is the largest second of the minute before: bursts that a mean hides.",
  noteOf: (row) =>
    row === "second"
      ? "Bytes of each second by workload. The line is the node's."
      : `Bytes a second by workload, in the mean of each ${row}. The line is the largest second of each ${row}: bursts that a mean hides.`,
  of: (doing) => doing.transmit,
  metric: "egress",
  format: rate,
};

/** Growth is told from rows of an hour, of which one that began before is none: the least of which there is always one. */
const HOURS = "2h";

const ROWS = new Map([
  [1, "second"],
  [60, "minute"],
  [3600, "hour"],
]);

const RANGES = [
  { name: "now", since: undefined },
  { name: "10 min", since: "10m" },
  { name: "24 h", since: "24h" },
  { name: "30 days", since: "30d" },
] as const;
type Range = (typeof RANGES)[number];

function ofLive(live: Live, subject: Subject): Stack {
  const names = new Set(live.windows.flatMap(({ workloads }) => [...workloads.keys()]));
  const series: Series[] = [...names].map((name) => ({
    name,
    values: live.windows.map(({ workloads }) => {
      const doing = workloads.get(name);
      return doing ? subject.of(doing) : 0;
    }),
  }));
  const layers = largest(series, LAYERS);
  const isLoad = subject.metric === "load";
  if (isLoad) {
    layers.push({ name: "nobody's", values: live.windows.map(({ unattributed }) => unattributed) });
  }
  const line = isLoad
    ? { name: "load1 of the node", values: live.windows.map(({ load1 }) => load1 ?? null) }
    : { name: "peak", values: live.windows.map(({ peak }) => peak) };
  return { times: live.windows.map(({ time }) => time), apart: live.apart, layers, line };
}

interface Past {
  stack: Stack;
  /** What it is. */
  note: string;
}

/** The workloads that had the most, with the node's line, from the agent's memory. */
async function ofHistory(subject: Subject, since: string, signal: AbortSignal): Promise<Past> {
  const { metric } = subject;
  // Who is worth asking for: the largest peaks of the range, since a burst may be who has a small mean.
  const known = await ask<Growth>("/api/v1/growth", { metric, since: since === "10m" ? HOURS : since, top: "10000" }, signal);
  const peakOf = (one: Growth["workloads"][number]) => Math.max(...one.days.map(({ peak }) => peak));
  const most = known.workloads.filter((one) => one.workload).sort((a, b) => peakOf(b) - peakOf(a)).slice(0, LAYERS);
  const rowsOf = (workload: string, statistic: string, kind?: string) =>
    ask<History>(
      "/api/v1/history",
      { workload, metric: `${metric}_${statistic}`, since, ...(kind ? { workload_type: kind } : {}) },
      signal,
    );
  const [mean, peak, ...each] = await Promise.all([
    rowsOf("node", "mean"),
    rowsOf("node", "peak"),
    ...most.map(({ workload: of }) =>
      rowsOf(`${of?.namespace}/${of?.workload}`, "mean", of?.workload_type),
    ),
  ]);
  const times = mean.rows.map((row) => row.time_unix_seconds);
  const aligned = (history: History) => {
    const values = new Map(history.rows.map((row) => [row.time_unix_seconds, row.value]));
    return times.map((time) => values.get(time) ?? null);
  };
  const layers = each.map((history) => ({
    name: `${history.workload?.namespace}/${history.workload?.workload}`,
    values: aligned(history),
  }));
  const total = aligned(mean);
  const rest = total.map((value, at) =>
    value === null ? null : Math.max(0, value - layers.reduce((sum, { values }) => sum + (values[at] ?? 0), 0)),
  );
  layers.push({ name: "all others", values: rest });
  const line =
    metric === "load"
      ? { name: "tasks of the node", values: total }
      : { name: "largest second", values: aligned(peak) };
  // Rows are longer than their step where the agent's windows are.
  const apart = apartBy(Math.max(mean.step_seconds, ...mean.rows.map((row) => row.covered_seconds)));
  const row = ROWS.get(mean.step_seconds) ?? `${mean.step_seconds} s`;
  return { stack: { times, apart, layers, line }, note: subject.noteOf(row) };
}

export function OverTime({ live, subject }: { live: Live; subject: Subject }) {
  const [range, choose] = useState<Range>(RANGES[0]);
  const [past, setPast] = useState<Partial<Past> & { error?: string }>({});
  useEffect(() => {
    setPast({});
    const { since } = range;
    if (since === undefined) {
      return;
    }
    const abort = new AbortController();
    ofHistory(subject, since, abort.signal).then(
      setPast,
      (error: unknown) => !abort.signal.aborted && setPast({ error: String(error) }),
    );
    return () => abort.abort();
  }, [range, subject]);
  const stack = range.since === undefined ? ofLive(live, subject) : past.stack;
  return (
    <section aria-labelledby={`over-${subject.metric}`}>
      <div class="head">
        <h2 id={`over-${subject.metric}`}>{subject.title}</h2>
        <div class="choice" role="group" aria-label={`${subject.title}: since when`}>
          {RANGES.map((one) => (
            <button key={one.name} type="button" aria-pressed={one === range} onClick={() => choose(one)}>
              {one.name}
            </button>
          ))}
        </div>
      </div>
      <p class="note">{range.since === undefined ? subject.note : past.note}</p>
      {past.error !== undefined && <p class="trouble">{past.error}</p>}
      {stack && stack.times.length > 0 ? (
        <Chart key={range.name} stack={stack} format={subject.format} label={subject.title} ways={live.ways} />
      ) : (
        <p class="chart empty">{stack ? "nothing is known of that time" : "asking …"}</p>
      )}
    </section>
  );
}
