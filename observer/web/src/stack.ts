// Series that are stacked: the largest of them, one for all others, and a line that is the truth for their sum.

export interface Stack {
  times: number[];
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

/** Each layer's upper edge. */
export function edges(layers: Series[]): (number | null)[][] {
  const below: number[] = [];
  return layers.map(({ values }) =>
    values.map((value, at) => {
      const edge = (below[at] ?? 0) + Math.max(0, value ?? 0);
      below[at] = edge;
      return edge;
    }),
  );
}
