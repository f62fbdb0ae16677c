// Numbers as people read them. Units are the API's: bytes are counted by thousands, as network devices are sold.

const STEPS = ["", "k", "M", "G", "T", "P"];

function scaled(value: number): string {
  let step = 0;
  let rest = value;
  while (Math.abs(rest) >= 999.5 && step < STEPS.length - 1) {
    rest /= 1000;
    step += 1;
  }
  const digits = step === 0 || Math.abs(rest) >= 99.5 ? 0 : Math.abs(rest) >= 9.95 ? 1 : 2;
  return `${rest.toFixed(digits)} ${STEPS[step]}`;
}

export const bytes = (value: number): string => `${scaled(value)}B`;
export const rate = (value: number): string => `${scaled(value)}B/s`;
export const count = (value: number): string => scaled(value).trim();

/** Tasks, and seconds a second. */
export const tasks = (value: number): string => value.toFixed(2);

export function seconds(value: number): string {
  if (value >= 3600) {
    return `${(value / 3600).toFixed(1)} h`;
  }
  if (value >= 1) {
    return `${value.toFixed(value >= 100 ? 0 : 1)} s`;
  }
  return value >= 1e-3 ? `${(value * 1e3).toFixed(1)} ms` : `${(value * 1e6).toFixed(0)} µs`;
}

/** In what zone the page tells times: the browser's own. */
export function zone(): string {
  const parts = new Intl.DateTimeFormat("en", { timeZoneName: "longOffset" }).formatToParts();
  const offset = parts.find(({ type }) => type === "timeZoneName")?.value ?? "";
  return `${Intl.DateTimeFormat().resolvedOptions().timeZone} (${offset})`;
}

/** A share as per cent, with its sign. */
export const growth = (value: number | undefined): string =>
  value === undefined ? "–" : `${value >= 0 ? "+" : "−"}${(Math.abs(value) * 100).toFixed(1)} %`;
