// What the page asks the agent for. The types come from the API's own description.
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Snapshot = Schemas["Snapshot"];
export type EntityDoings = Snapshot["entities"][number];
export type Who = EntityDoings["entity"];
export type Flows = Schemas["Flows"];
export type Flow = Flows["flows"][number];
export type Pairs = Schemas["Pairs"];
export type Pair = Pairs["pairs"][number];
export type Growth = Schemas["Growth"];
export type History = Schemas["History"];
export type Programs = Schemas["Programs"];

export const SCOPES = ["loopback", "node", "cluster", "service", "intranet", "internet"] as const;
export type Scope = (typeof SCOPES)[number];

/** Milliseconds that an answer is waited for: to name far ends an agent takes three seconds. */
const PATIENCE = 20_000;

/** Asks for JSON; an error is the agent's own words. */
export async function ask<T>(path: string, parameters: Record<string, string> = {}, signal?: AbortSignal): Promise<T> {
  const query = new URLSearchParams(parameters).toString();
  const late = AbortSignal.timeout(PATIENCE);
  const response = await fetch(query ? `${path}?${query}` : path, { signal: signal ? AbortSignal.any([signal, late]) : late });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) {
    const said = (body as Schemas["Error"] | undefined)?.error?.message;
    throw new Error(said ?? `the agent answered ${response.status}`);
  }
  return body as T;
}

/** What tells an entity from all others: also what the API takes as `entity`. */
export function keyOf(who: Who): string {
  if (who.namespace !== undefined && who.pod !== undefined) {
    return who.container === undefined ? `${who.namespace}/${who.pod}` : `${who.namespace}/${who.pod}/${who.container}`;
  }
  const parts = [who.namespace, who.pod, who.container, who.cgroup].filter((part) => part !== undefined);
  return parts.join("/") || "?";
}

/** The workload that an entity belongs to; a cgroup without a pod is its own. */
export function workloadOf(who: Who): string {
  return who.namespace !== undefined && who.workload !== undefined ? `${who.namespace}/${who.workload}` : keyOf(who);
}

/** Who is at the far end of a flow. */
export function farEnd(flow: Flow): string {
  const remote = flow.remote;
  if (!remote) {
    return "";
  }
  const name = remote.namespace ? `${remote.namespace}/${remote.name}` : remote.name;
  return `${remote.kind} ${name}`;
}

/** Where a flow goes: the address and, of who asked first, the port there. */
export function addressOf(flow: Flow): string {
  const address = flow.remote_address ?? "forgotten";
  const port = flow.remote_port;
  if (port === undefined) {
    return address;
  }
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
