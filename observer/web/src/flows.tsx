// The heaviest flows, with names at both ends.
import { type Flow, type Flows, addressOf, farEnd, keyOf } from "./api";
import { bytes, count, rate, seconds } from "./format";
import { EntityName, Name } from "./name";
import { type Column, Table } from "./table";
import { useAnswer } from "./use";

const COLUMNS: Column<Flow>[] = [
  { name: "who", text: true, cell: ({ entity }) => <EntityName who={entity} /> },
  {
    name: "far end",
    text: true,
    cell: (flow) => (
      <>
        <span class="way">{flow.direction === "outbound" ? "to " : "from "}</span>
        {farEnd(flow) && (
          <strong>
            <Name of={farEnd(flow)} />{" "}
          </strong>
        )}
        <span class="address">
          <Name of={addressOf(flow)} />
        </span>
        {flow.local_port !== undefined && <span class="address"> asked at port {flow.local_port}</span>}
        {flow.behind?.map((behind) => (
          <span key={behind.address} class="behind">
            {" "}
            behind it{" "}
            <Name of={behind.remote ? `${behind.remote.kind} ${behind.remote.namespace ?? ""}/${behind.remote.name}` : behind.address} />
          </span>
        ))}
        {flow.names && flow.names.length > 0 && (
          <span class="behind">
            {" "}
            asked for{" "}
            {flow.names.map(({ name }, at) => (
              <span key={name}>
                {at > 0 && ", "}
                <Name of={name} />
              </span>
            ))}
          </span>
        )}
      </>
    ),
  },
  { name: "scope", text: true, wide: true, cell: (flow) => flow.scope },
  {
    name: "sends",
    cell: (flow) => rate(flow.transmit_bytes_per_second ?? 0),
    by: (flow) => flow.transmit_bytes_per_second ?? 0,
  },
  {
    name: "receives",
    cell: (flow) => rate(flow.receive_bytes_per_second ?? 0),
    by: (flow) => flow.receive_bytes_per_second ?? 0,
  },
  {
    name: "sent",
    wide: true,
    title: "Since the agent started",
    cell: (flow) => bytes(flow.transmit_bytes),
    by: (flow) => flow.transmit_bytes,
  },
  {
    name: "again",
    wide: true,
    title: "TCP segments sent again",
    cell: (flow) => (flow.retransmits === undefined ? "–" : count(flow.retransmits)),
    by: (flow) => flow.retransmits,
  },
  {
    name: "round trip",
    wide: true,
    cell: (flow) => (flow.round_trip_seconds === undefined ? "–" : seconds(flow.round_trip_seconds)),
    by: (flow) => flow.round_trip_seconds,
  },
];

const key = (flow: Flow) =>
  [keyOf(flow.entity), addressOf(flow), flow.local_port, flow.protocol, flow.direction, farEnd(flow)].join(" ");

/** Of everybody, or of one entity. */
export function FlowTable({ of, paused }: { of?: string; paused: boolean }) {
  const parameters: Record<string, string> = of === undefined ? { top: "100" } : { entity: of, top: "200" };
  const { answer, error } = useAnswer<Flows>("/api/v1/flows", parameters, 2000, !paused);
  return (
    <section aria-labelledby="flows">
      <h2 id="flows">{of === undefined ? "The heaviest flows" : "Its flows"}</h2>
      <p class="note">Rates over the last seconds; far ends have the names that they had when it was carried.</p>
      {error !== undefined && <p class="trouble">{error}</p>}
      {answer?.missing?.map(({ program, reason }) => (
        <p key={program} class="trouble">
          Not whole: {program} does not run ({reason})
        </p>
      ))}
      {answer?.in_no_flow !== undefined && (
        <p class="trouble">
          In no flow until they close: open sockets, {bytes(answer.in_no_flow.transmit_bytes)} sent,{" "}
          {bytes(answer.in_no_flow.receive_bytes)} received
        </p>
      )}
      {answer?.behind_missing !== undefined && <p class="trouble">Behind services: {answer.behind_missing}</p>}
      <Table
        caption="Flows"
        columns={COLUMNS}
        rows={answer?.flows ?? []}
        most={15}
        keyOf={key}
        empty={answer ? "nothing was carried" : "asking …"}
      />
    </section>
  );
}
