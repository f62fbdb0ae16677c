// A chart of stacked layers under a line, drawn by uPlot, and the same as a table for those who do not see it.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { coloursOf } from "./colours";
import { partsOf } from "./name";
import { type Stack, edges, gapped } from "./stack";

const HEIGHT = 220;

type Ways = ReadonlyMap<string, string>;
const NOWHERE: Ways = new Map();

/** Told when the colours of the page have changed. */
export const DRESSED = "dressed";

/** What a colour of the page is now: a canvas knows no variables. */
function color(name: string): string {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 6 * HOUR, DAY, 2 * DAY, 7 * DAY];

/** As the day's clock tells it, with the date where a day begins, or below the first. */
function instants(_plot: uPlot, splits: number[], _axis: number, _space: number, step: number): string[] {
  let before = "";
  return splits.map((time) => {
    const at = new Date(time * 1000);
    const two = (value: number) => String(value).padStart(2, "0");
    const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const clock = `${two(at.getHours())}:${two(at.getMinutes())}${step < MINUTE ? `:${two(at.getSeconds())}` : ""}`;
    const isNew = day !== before;
    before = day;
    return step >= DAY ? day : isNew ? `${clock}\n${day}` : clock;
  });
}

/** The least that is told apart from nothing: an axis that ends below has the same number at each of its lines. */
function smallest(format: (value: number) => string): number {
  const nothing = format(0);
  return [1e-3, 1e-2, 1e-1, 1].find((value) => format(value) !== nothing) ?? 1;
}

/** A name in the legend: a way to whose it is, if there is one. */
function labelled(name: string, way: string | undefined): HTMLElement {
  const label = document.createElement(way === undefined ? "span" : "a");
  if (way !== undefined) {
    label.setAttribute("href", way);
  }
  partsOf(name).forEach((part, at) => label.append(...(at > 0 ? [document.createElement("wbr")] : []), part));
  return label;
}

interface Looks {
  stack: Stack;
  format: (value: number) => string;
  ways: Ways;
}

/** `now` is what is drawn when a value is told: a plot lives longer than the stack that it was made for. */
function options({ stack, format, ways }: Looks, now: () => Stack, home: HTMLElement, legend: HTMLElement): uPlot.Options {
  const text = color("--text");
  const axis = { stroke: text, grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
  const colours = coloursOf(stack.layers.map(({ name }) => name)).map(color);
  const layers: uPlot.Series[] = stack.layers.map(({ name }, at) => ({
    label: labelled(name, ways.get(name)),
    stroke: colours[at] ?? text,
    fill: colours[at] ?? text,
    width: 0,
    points: { show: false },
    // The edge is drawn; the layer itself is told.
    value: (_plot, _value, _series, index) => told(now().layers[at]?.values ?? [], index, format),
  }));
  const value: uPlot.Series.Value = (_plot, _value, _series, index) => told(now().line.values, index, format);
  const line: uPlot.Series = { label: stack.line.name, stroke: text, width: 2, points: { show: false }, value };
  return {
    width: home.clientWidth,
    height: HEIGHT,
    // Half of the last instant's label is beside the plot.
    padding: [null, 30, null, null],
    // The uppermost edge first, so that each layer covers what is above the one below.
    series: [{ label: "at", value: when }, ...layers.reverse(), line],
    axes: [{ ...axis, incrs: STEPS, values: instants, space: 70 }, { ...axis, size: 76, values: (_plot, splits) => splits.map(format) }],
    scales: {
      // A single moment is no range.
      x: { range: (_plot, first, last) => (first === last ? [first - 30, last + 1] : [first, last]) },
      y: { range: (_plot, _least, most) => [0, Math.max(most * 1.05, smallest(format) * 5)] },
    },
    // Beside the picture, which has nothing inside for those who do not see it.
    legend: { live: true, mount: (_plot, table) => legend.append(table) },
    // uPlot's own click on a name hides one edge of the stack, and the layer above it would be drawn down to the next.
    cursor: { drag: { x: true, y: false }, bind: { click: () => null } },
  };
}

/** What the cursor is on, or else the newest. */
function told(values: (number | null)[], index: number | null | undefined, format: (value: number) => string): string {
  const value = index === null || index === undefined ? values.findLast((value) => value !== null) : values[index];
  return value === null || value === undefined ? "–" : format(value);
}

function when(_plot: uPlot, time: number | null): string {
  return time === null ? "now" : new Date(time * 1000).toLocaleString("sv");
}

function data(stack: Stack): uPlot.AlignedData {
  return [stack.times, ...edges(stack.layers).reverse(), stack.line.values];
}

/** Makes a plot anew, and leaves who is on a name of its legend there. */
function made(looks: Looks, now: () => Stack, home: HTMLElement, legend: HTMLElement, before: uPlot | undefined): uPlot {
  const held = legend.contains(document.activeElement) ? document.activeElement?.textContent : undefined;
  before?.destroy();
  const plot = new uPlot(options(looks, now, home, legend), data(looks.stack), home);
  if (held !== undefined) {
    [...legend.querySelectorAll("a")].find(({ textContent }) => textContent === held)?.focus({ preventScroll: true });
  }
  return plot;
}

/** `ways` says where the layers' names lead; one that is not in it leads nowhere. */
export function Chart({ stack: whole, format, label, ways = NOWHERE }: Omit<Looks, "ways"> & { label: string; ways?: Ways }) {
  const stack = gapped(whole);
  const place = useRef<HTMLDivElement>(null);
  const names = useRef<HTMLDivElement>(null);
  const drawn = useRef(stack);
  const plot = useRef<uPlot>();
  const shape = useRef("");
  const [, again] = useState(0);

  useEffect(() => {
    const home = place.current;
    const legend = names.current;
    if (!home || !legend) {
      return;
    }
    drawn.current = stack;
    const now = stack.layers.map(({ name }) => `${name} ${ways.get(name)}`).join("\n");
    if (!plot.current || shape.current !== now) {
      plot.current = made({ stack, format, ways }, () => drawn.current, home, legend, plot.current);
      shape.current = now;
    } else {
      plot.current.setData(data(stack));
    }
  });

  useEffect(() => {
    const home = place.current;
    const observer = new ResizeObserver(() => {
      if (home && plot.current && home.clientWidth > 0) {
        plot.current.setSize({ width: home.clientWidth, height: HEIGHT });
      }
    });
    if (home) {
      observer.observe(home);
    }
    const redraw = () => {
      shape.current = "";
      again((turn) => turn + 1);
    };
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", redraw);
    addEventListener(DRESSED, redraw);
    return () => {
      observer.disconnect();
      dark.removeEventListener("change", redraw);
      removeEventListener(DRESSED, redraw);
      plot.current?.destroy();
      plot.current = undefined;
    };
  }, []);

  const newest = [...stack.layers, stack.line].map(({ name, values }) => `${name} ${told(values, null, format)}`);
  return (
    <figure class="chart">
      <div ref={place} role="img" aria-label={`${label}. Newest values: ${newest.join(", ")}`} />
      <div ref={names} />
    </figure>
  );
}
