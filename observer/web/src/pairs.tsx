// Who waits for a CPU that whom has.
import { type Pair, type Pairs, keyOf } from "./api";
import { seconds } from "./format";
import { EntityName } from "./name";
import { type Column, Table } from "./table";
import { useAnswer } from "./use";

function culprit(pair: Pair) {
  if (pair.culprit) {
    return <EntityName who={pair.culprit} />;
  }
  return pair.cause === "throttled" ? "its own limit" : "nobody: the CPU was idle";
}

const COLUMNS: Column<Pair>[] = [
  { name: "who waits", text: true, cell: ({ victim }) => <EntityName who={victim} /> },
  { name: "for whom", text: true, cell: culprit },
  {
    name: "waited",
    title: "Task-seconds since the agent started",
    cell: (pair) => seconds(pair.wait_seconds),
    by: (pair) => pair.wait_seconds,
  },
];

/** Of everybody, or those of which an entity is one. */
export function PairTable({ of, paused }: { of?: string; paused: boolean }) {
  const top = of === undefined ? "100" : "10000";
  const { answer, error } = useAnswer<Pairs>("/api/v1/pairs", { top }, 3000, !paused);
  const isOne = (pair: Pair) =>
    of === undefined || keyOf(pair.victim) === of || (pair.culprit !== undefined && keyOf(pair.culprit) === of);
  const others = (pair: Pair) => pair.culprit === undefined || keyOf(pair.culprit) !== keyOf(pair.victim);
  return (
    <section aria-labelledby="pairs">
      <h2 id="pairs">Who waits for whom</h2>
      <p class="note">Waits for a CPU above the threshold, by who had it meanwhile.</p>
      {error !== undefined && <p class="trouble">{error}</p>}
      <Table
        caption="Who waits for whom"
        columns={COLUMNS}
        rows={answer?.pairs.filter((pair) => isOne(pair) && (of !== undefined || others(pair))) ?? []}
        most={10}
        keyOf={(pair) => [keyOf(pair.victim), pair.cause, pair.culprit ? keyOf(pair.culprit) : ""].join(" ")}
        empty={answer ? "nobody waits long for somebody else" : "asking …"}
      />
    </section>
  );
}
