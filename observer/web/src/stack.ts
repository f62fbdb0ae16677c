// Series that are stacked: the largest of them, one for all others, and a line that is the truth for their sum.

export interface Stack {
  times: number[];
  /** Seconds: between moments that are further apart nothing is known. */
  apart: number;
  /** From the bottom to the top; `null` where nothing is known. */
  layers: { name: string; values: (number | null)[] }[];
  /** Drawn over them. */
  line: { name: string; values: (number | null)[] };
}

export interface Series {
  name: string;
  values: (number | null)[];
}

/** The largest by their sums, and the others together as one. */
export function largest(series: Series[], count: number): Series[] {
  const sum = (one: Series) => one.values.reduce<number>((sum, value) => sum + (value ?? 0), 0);
  const sorted = [...series].sort((a, b) => sum(b) - sum(a));
  const shown = sorted.slice(0, count).filter((one) => sum(one) > 0);
  const rest = sorted.slice(shown.length);
  if (rest.some((one) => sum(one) > 0)) {
    const length = rest[0]?.values.length ?? 0;
    const values = Array.from({ length }, (_, at) => {
      const known = rest.map((one) => one.values[at]).filter((value) => value !== null && value !== undefined);
      return known.length > 0 ? known.reduce((sum, value) => sum + value, 0) : null;
    });
    shown.push({ name: "all others", values });
  }
  return shown;
}

/** How far apart moments are whose steps have so many seconds: seconds are whole, and one of them may be skipped where none is missing. */
export const apartBy = (step: number): number => Math.max(3, 1.5 * step);

/** The same with a moment of which nothing is known wherever nothing is: a line from one side to the other would be made up. */
export function gapped(stack: Stack): Stack {
  const { times, apart, layers, line } = stack;
  const middle = times.map((time, at) => {
    const next = times[at + 1];
    return next !== undefined && next - time > apart ? (time + next) / 2 : undefined;
  });
  if (middle.every((time) => time === undefined)) {
    return stack;
  }
  const torn = (one: Series) => ({ ...one, values: one.values.flatMap((value, at) => (middle[at] === undefined ? [value] : [value, null])) });
  return {
    times: times.flatMap((time, at) => [time, middle[at] ?? []].flat()),
    apart,
    layers: layers.map(torn),
    line: torn(line),
  };
}

/** Each layer's upper edge; none where no layer is known. */
export function edges(layers: Series[]): (number | null)[][] {
  const below: number[] = [];
  return layers.map(({ values }) =>
    values.map((value, at) => {
      if (layers.every(({ values }) => values[at] === null)) {
        return null;
      }
      const edge = (below[at] ?? 0) + Math.max(0, value ?? 0);
      below[at] = edge;
      return edge;
    }),
  );
}
