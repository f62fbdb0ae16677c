// Where names lead: what stands after the # of the address.
import { useEffect, useState } from "preact/hooks";
import { type EntityDoings, keyOf, workloadOf } from "./api";

/** A word of the filter that begins with this is the whole name of a workload: others may begin with its name. */
const WHOLE = "=";

export interface Place {
  /** The entity of which all is shown. */
  entity: string | undefined;
  /** By what everybody is filtered. */
  filter: string;
}

export const linkTo = (key: string): string => `#entity=${encodeURIComponent(key)}`;

const linkToAll = (filter: string): string => `#filter=${encodeURIComponent(filter)}`;

/** By workload: to its only entity, or to the table of all that it has here. */
export function waysTo(entities: EntityDoings[]): Map<string, string> {
  const ways = new Map<string, string>();
  for (const { entity } of entities) {
    const workload = workloadOf(entity);
    ways.set(workload, ways.has(workload) ? linkToAll(WHOLE + workload) : linkTo(keyOf(entity)));
  }
  return ways;
}

/** Whether a filter lets an entity through: all of its words do. */
export function lets(filter: string, { entity }: EntityDoings): boolean {
  const named = `${keyOf(entity)} ${entity.workload ?? ""}`.toLowerCase();
  const workload = WHOLE + workloadOf(entity).toLowerCase();
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) => named.includes(word) || word === workload);
}

export const isWhole = (filter: string): boolean => filter.startsWith(WHOLE);

/** As it stands where it is no encoding: whoever wrote it by hand. */
function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}

function read(): Place {
  const [, what, value] = location.hash.match(/^#(entity|filter)=(.+)$/) ?? [];
  const told = value === undefined ? "" : decoded(value);
  return what === "entity" ? { entity: told, filter: "" } : { entity: undefined, filter: told };
}

/** What the address names, and how to filter by something else. */
export function usePlace(): [Place, (filter: string) => void] {
  const [place, set] = useState(read);
  useEffect(() => {
    const changed = () => set(read());
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  const filterBy = (filter: string) => {
    // What is typed is no step to go back by.
    history.replaceState(null, "", filter ? linkToAll(filter) : "#");
    set(read());
  };
  return [place, filterBy];
}
