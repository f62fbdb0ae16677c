// All of one entity.
import { SCOPES, keyOf, workloadOf } from "./api";
import { Chart } from "./chart";
import { FlowTable } from "./flows";
import { bytes, count, rate, seconds, tasks } from "./format";
import { GrowthTable } from "./growth";
import type { Doing, Live } from "./live";
import { Name } from "./name";
import { PairTable } from "./pairs";

interface View {
  title: string;
  of: (doing: Doing) => number;
  format: (value: number) => string;
}
const CHARTS: View[] = [
  { title: "load1", of: (doing) => doing.load1, format: tasks },
  { title: "sends", of: (doing) => doing.transmit, format: rate },
  { title: "receives", of: (doing) => doing.receive, format: rate },
  { title: "waits for a CPU", of: (doing) => doing.wait, format: tasks },
];

export function Entity({ live, of }: { live: Live; of: string }) {
  const paused = live.state === "paused";
  const now = live.snapshot?.entities.find(({ entity }) => keyOf(entity) === of);
  const workload = now && workloadOf(now.entity);
  const times = live.windows.map(({ time }) => time);
  const facts: [string, string | undefined][] = now
    ? [
        ["workload", now.entity.workload && `${now.entity.workload_type ?? ""} ${now.entity.workload}`.trim()],
        ["load1, 5, 15", [now.load1, now.load5, now.load15].map(tasks).join("  ")],
        ["tasks now", tasks(now.active_tasks)],
        ["most tasks of the last minute", tasks(now.load_peak)],
        ["CPU time, since its cgroup began", now.cpu_seconds === undefined ? undefined : seconds(now.cpu_seconds)],
        ["waited for a CPU", seconds(now.wait_seconds)],
        ["stopped by its own limit", now.throttled_seconds === undefined ? undefined : seconds(now.throttled_seconds)],
        ["uninterruptible sleep", seconds(now.uninterruptible_seconds)],
        ["memory", now.memory_working_set_bytes === undefined ? undefined : bytes(now.memory_working_set_bytes)],
        ["memory limit", now.memory_limit_bytes === undefined ? undefined : bytes(now.memory_limit_bytes)],
        ["killed for want of memory", now.oom_kills === undefined ? undefined : count(now.oom_kills)],
        ["open connections", now.open_connections === undefined ? undefined : count(now.open_connections)],
        ["segments sent again", count(now.retransmits)],
        ["failed connections", count(now.failed_connections)],
      ]
    : [];
  const causes = Object.entries(now?.caused_wait_seconds ?? {}).filter(([, value]) => value > 0);
  return (
    <>
      <p>
        <a href="#">← the whole node</a>
      </p>
      <h1 class="of" tabIndex={-1}>
        <Name of={of} />
      </h1>
      {!now && <p class="trouble">It is not, or no longer, on this node; what it had is in the history of its workload.</p>}
      <div class="grid">
        {CHARTS.map((view) => (
          <section key={view.title} aria-label={view.title}>
            <h2>{view.title}</h2>
            {times.length > 0 && (
              <Chart
                label={`${view.title} of ${of}`}
                format={view.format}
                stack={{
                  times,
                  apart: live.apart,
                  layers: [],
                  line: {
                    name: view.title,
                    values: live.windows.map(({ entities }) => {
                      const doing = entities.get(of);
                      return doing ? view.of(doing) : 0;
                    }),
                  },
                }}
              />
            )}
          </section>
        ))}
      </div>
      {now && (
        <div class="grid">
          <section aria-labelledby="facts">
            <h2 id="facts">Since the agent started, and now</h2>
            <dl>
              {facts.map(([name, value]) =>
                value === undefined ? null : (
                  <div key={name}>
                    <dt>{name}</dt>
                    <dd>{value}</dd>
                  </div>
                ),
              )}
              {causes.map(([by, value]) => (
                <div key={by}>
                  <dt>waited for {by.replaceAll("_", " ")}</dt>
                  <dd>{seconds(value)}</dd>
                </div>
              ))}
            </dl>
          </section>
          <section aria-labelledby="scopes">
            <h2 id="scopes">Where its bytes go</h2>
            <div class="table" tabIndex={0} role="region" aria-label="Bytes by scope">
              <table>
                <thead>
                  <tr>
                    <th scope="col" class="text">
                      scope
                    </th>
                    <th scope="col">sends</th>
                    <th scope="col">sent</th>
                    <th scope="col">received</th>
                  </tr>
                </thead>
                <tbody>
                  {SCOPES.map((scope) => (
                    <tr key={scope}>
                      <th scope="row" class="text">
                        <span class={`dot scope-${scope}`} /> {scope}
                      </th>
                      <td>{rate(live.scopes.get(of)?.[scope] ?? 0)}</td>
                      <td>{bytes(now.transmit_bytes[scope] ?? 0)}</td>
                      <td>{bytes(now.receive_bytes[scope] ?? 0)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </section>
        </div>
      )}
      <FlowTable key={of} of={of} paused={paused} />
      <PairTable of={of} paused={paused} />
      {workload !== undefined && <GrowthTable ways={live.ways} workload={workload} paused={paused} />}
    </>
  );
}
