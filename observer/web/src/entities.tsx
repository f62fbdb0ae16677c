// Everybody on the node: one table, sorted and filtered as one likes.
import { useEffect, useRef } from "preact/hooks";
import { type EntityDoings, SCOPES, type Scope, keyOf } from "./api";
import { bytes, rate, tasks } from "./format";
import type { Live } from "./live";
import { EntityName } from "./name";
import { type Column, Table } from "./table";
import { isWhole, lets } from "./ways";

const SHOWN = 25;

/** Shares of what is sent, as a bar; told as words to those who do not see it. */
export function Scopes({ of }: { of: Partial<Record<Scope, number>> | undefined }) {
  const sum = SCOPES.reduce((sum, scope) => sum + (of?.[scope] ?? 0), 0);
  if (!of || sum <= 0) {
    return <span>–</span>;
  }
  const shares = SCOPES.map((scope) => ({ scope, share: (of[scope] ?? 0) / sum })).filter(({ share }) => share > 0.005);
  const told = shares.map(({ scope, share }) => `${scope} ${(share * 100).toFixed(0)} %`).join(", ");
  return (
    <span class="scopes" role="img" aria-label={told} title={told}>
      {shares.map(({ scope, share }) => (
        <span key={scope} class={`scope-${scope}`} style={{ width: `${share * 100}%` }} />
      ))}
    </span>
  );
}

export function Entities({ live, filter, filterBy }: { live: Live; filter: string; filterBy: (filter: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    // Who came by a workload's name is to see whom it led to.
    if (isWhole(filter) && document.activeElement !== input.current) {
      head.current?.scrollIntoView();
      head.current?.focus({ preventScroll: true });
    }
  }, [filter]);
  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement)) {
        event.preventDefault();
        input.current?.focus();
      } else if (event.key === "Escape" && event.target === input.current) {
        filterBy("");
        input.current?.blur();
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  const columns: Column<EntityDoings>[] = [
    { name: "who", text: true, cell: ({ entity }) => <EntityName who={entity} /> },
    { name: "load1", title: "Its share of the node's load1", cell: (row) => tasks(row.load1), by: (row) => row.load1 },
    {
      name: "waits",
      title: "Task-seconds of waits for a CPU that ended in a second",
      cell: (row) => tasks(row.wait_seconds_per_second),
      by: (row) => row.wait_seconds_per_second,
    },
    {
      name: "sends",
      title: "Bytes a second of the newest window",
      cell: (row) => rate(row.transmit_bytes_per_second),
      by: (row) => row.transmit_bytes_per_second,
    },
    {
      name: "peak",
      title: "The largest second of the last minute",
      cell: (row) => rate(row.transmit_peak_bytes_per_second),
      by: (row) => row.transmit_peak_bytes_per_second,
    },
    {
      name: "receives",
      wide: true,
      cell: (row) => rate(row.receive_bytes_per_second),
      by: (row) => row.receive_bytes_per_second,
    },
    {
      name: "memory",
      wide: true,
      title: "Working set",
      cell: ({ memory_working_set_bytes: memory }) => (memory === undefined ? "–" : bytes(memory)),
      by: (row) => row.memory_working_set_bytes,
    },
    {
      name: "to where",
      wide: true,
      text: true,
      title: "What it sends, by where the far end is",
      cell: ({ entity }) => <Scopes of={live.scopes.get(keyOf(entity))} />,
    },
  ];
  const rows = (live.snapshot?.entities ?? []).filter((row) => lets(filter, row));
  return (
    <section aria-labelledby="everybody">
      <div class="head">
        <h2 id="everybody" ref={head} tabIndex={-1}>Everybody</h2>
        <label>
          <span class="unseen">Filter by name</span>
          <input
            ref={input}
            type="search"
            placeholder="filter ( / )"
            value={filter}
            onInput={(event) => filterBy(event.currentTarget.value)}
          />
        </label>
      </div>
      <Table
        caption="Everybody on this node"
        columns={columns}
        rows={rows}
        sort="load1"
        most={SHOWN}
        keyOf={(row) => keyOf(row.entity)}
        empty={filter ? "nobody of that name" : "nobody yet"}
      />
      <p class="legend" aria-hidden="true">
        {SCOPES.map((scope) => (
          <span key={scope}>
            <span class={`dot scope-${scope}`} /> {scope}
          </span>
        ))}
      </p>
    </section>
  );
}
