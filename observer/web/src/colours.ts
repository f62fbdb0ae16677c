// Which colour of the page each layer of a chart has: none has another's, and a name has the one that it had before, if it can.

/** The page has --series-0 to --series-7: as many as a chart has names at most. */
export const COLOURS = 8;

/** What is nobody's name has a grey of its own. */
const GREYS = new Map([
  ["all others", "--others"],
  ["nobody's", "--nobody"],
]);

/** On all charts and for as long as the page is open. */
const given = new Map<string, number>();

/** The least given of those that are free. */
function another(taken: Set<number>): number {
  const uses = Array.from({ length: COLOURS }, () => 0);
  for (const number of given.values()) {
    uses[number] = (uses[number] ?? 0) + 1;
  }
  const free = uses.map((_, number) => number).filter((number) => !taken.has(number));
  return free.sort((a, b) => (uses[a] ?? 0) - (uses[b] ?? 0))[0] ?? 0;
}

/** The names of the colours of a chart's layers, in the order of the layers. */
export function coloursOf(names: string[]): string[] {
  const taken = new Set<number>();
  const own = new Map<number, number>();
  // Those that have one come before those that need one, so that none loses its own to a newcomer.
  names.forEach((name, at) => {
    const number = given.get(name);
    if (number !== undefined && !taken.has(number)) {
      taken.add(number);
      own.set(at, number);
    }
  });
  return names.map((name, at) => {
    const grey = GREYS.get(name);
    if (grey !== undefined) {
      return grey;
    }
    const number = own.get(at) ?? another(taken);
    taken.add(number);
    // Two kinds of workload may have one name: the first is remembered.
    if (names.indexOf(name) === at) {
      given.set(name, number);
    }
    return `--series-${number}`;
  });
}
