// Who grows, day by day, over thirty days.
import { useState } from "preact/hooks";
import type { Growth } from "./api";
import { bytes, growth, rate, tasks } from "./format";
import { Name } from "./name";
import { type Column, Table } from "./table";
import { useAnswer } from "./use";

type Row = Growth["workloads"][number] & { name: string };
const DAY = 86_400;
const METRICS = ["egress", "ingress", "load", "wait", "memory"] as const;
const FORMATS = { egress: rate, ingress: rate, load: tasks, wait: tasks, memory: bytes };

/** The days' peaks as a line, and their means as another. */
function Spark({ days }: { days: Row["days"] }) {
  const most = Math.max(...days.map(({ peak }) => peak), 1e-9);
  const first = days[0]?.time_unix_seconds ?? 0;
  const span = Math.max(1, (days.at(-1)?.time_unix_seconds ?? 1) - first);
  // A day without a row is a gap, and one between two of those a dot.
  const line = (value: (day: Row["days"][number]) => number) =>
    days
      .map((day, at) => {
        const before = days[at - 1]?.time_unix_seconds ?? 0;
        const point = `${(((day.time_unix_seconds - first) / span) * 118 + 1).toFixed(1)},${(23 - (value(day) / most) * 21).toFixed(1)}`;
        return day.time_unix_seconds - before > 1.5 * DAY ? `M${point}h0` : `L${point}`;
      })
      .join("");
  return (
    <svg class="spark" viewBox="0 0 120 24" role="img" aria-label={`peak and mean of ${days.length} days`}>
      <path class="peak" d={line(({ peak }) => peak)} />
      <path class="mean" d={line(({ mean }) => mean)} />
    </svg>
  );
}

/** `ways` says where the names of workloads lead; one that is not here any more leads nowhere. */
export function GrowthTable({ workload, ways, paused }: { workload?: string; ways: ReadonlyMap<string, string>; paused: boolean }) {
  const [metric, choose] = useState<(typeof METRICS)[number]>("egress");
  const { answer, error } = useAnswer<Growth>("/api/v1/growth", { metric, since: "30d" }, 60_000, !paused);
  const format = FORMATS[metric];
  const columns: Column<Row>[] = [
    { name: "workload", text: true, cell: ({ name }) => <Name of={name} way={ways.get(name)} /> },
    {
      name: "peak grows",
      title: "What the day's largest second grows by each day",
      cell: (row) => growth(row.peak_growth_per_day),
      by: (row) => row.peak_growth_per_day,
    },
    {
      name: "mean grows",
      title: "What the day's mean grows by each day",
      cell: (row) => growth(row.mean_growth_per_day),
      by: (row) => row.mean_growth_per_day,
    },
    {
      name: "peak",
      title: "The largest second of the last day",
      cell: ({ days }) => format(days.at(-1)?.peak ?? 0),
      by: ({ days }) => days.at(-1)?.peak ?? 0,
    },
    {
      name: "mean",
      wide: true,
      title: "The mean of the last day",
      cell: ({ days }) => format(days.at(-1)?.mean ?? 0),
      by: ({ days }) => days.at(-1)?.mean ?? 0,
    },
    { name: "days", text: true, wide: true, cell: ({ days }) => <Spark days={days} /> },
  ];
  const named: Row[] = (answer?.workloads ?? []).map((one) => ({
    ...one,
    name: one.workload ? `${one.workload.namespace}/${one.workload.workload}` : "all others",
  }));
  const rows =
    workload === undefined
      ? [...(answer ? [{ ...answer.all, name: "the whole node" }] : []), ...named]
      : named.filter(({ name }) => name === workload);
  return (
    <section aria-labelledby="growth">
      <div class="head">
        <h2 id="growth">Who grows</h2>
        <label>
          <span class="unseen">Of what</span>
          <select value={metric} onChange={(event) => choose(event.currentTarget.value as typeof metric)}>
            {METRICS.map((one) => (
              <option key={one} value={one}>
                {one}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p class="note">
        Growth a day over at most thirty days, from three days on: a peak that grows under a mean that does not is what fills a node
        unseen. {answer?.kept_in === "memory" && "This agent keeps its history in memory only, for an hour or so; --state-dir keeps forty days."}
      </p>
      {error !== undefined && <p class="trouble">{error}</p>}
      <Table
        caption="Growth by workload"
        columns={columns}
        rows={rows}
        most={10}
        keyOf={({ name, workload: of }) => `${name} ${of?.workload_type ?? ""}`}
        empty={answer ? "nothing is remembered" : "asking …"}
      />
    </section>
  );
}
