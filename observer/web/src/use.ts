// Hooks: what the page is made again for.
import { useEffect, useState } from "preact/hooks";
import { ask } from "./api";
import type { Live } from "./live";

/** Renders with each event. */
export function useLive(live: Live): void {
  const [, again] = useState(0);
  useEffect(() => live.listen(() => again((turn) => turn + 1)), [live]);
}

export interface Asked<T> {
  answer: T | undefined;
  error: string | undefined;
}

/** Asks now and again, one question at a time; keeps the last answer when there is an error. */
export function useAnswer<T>(path: string, parameters: Record<string, string>, every: number, on = true): Asked<T> {
  const [asked, set] = useState<Asked<T> & { of: string }>({ answer: undefined, error: undefined, of: "" });
  const query = `${path}?${new URLSearchParams(parameters)}`;
  useEffect(() => {
    if (!on) {
      return;
    }
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const turn = async () => {
      try {
        const answer = await ask<T>(path, parameters, abort.signal);
        set({ answer, error: undefined, of: query });
      } catch (error) {
        if (abort.signal.aborted) {
          return;
        }
        set((before) => ({ ...before, error: error instanceof Error ? error.message : String(error) }));
      }
      timer = setTimeout(turn, every);
    };
    void turn();
    return () => {
      abort.abort();
      clearTimeout(timer);
    };
  }, [query, every, on]);
  return asked.of === query || asked.error !== undefined ? asked : { answer: undefined, error: undefined };
}
