// A chart of stacked layers under a line, drawn by uPlot, and the same as a table for those who do not see it.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Stack, edges } from "./stack";

const HEIGHT = 220;
const COLORS = 8;

/** Who has which colour, on all charts and for as long as the page is open. */
const given = new Map<string, number>();

function colorOf(name: string): string {
  if (!name.includes("/")) {
    // Nobody's and all others'.
    return color("--series-8");
  }
  const number = given.get(name) ?? given.size % COLORS;
  given.set(name, number);
  return color(`--series-${number}`);
}

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

function options(stack: Stack, width: number, format: (value: number) => string): uPlot.Options {
  const text = color("--text");
  const axis = { stroke: text, grid: { stroke: color("--grid"), width: 1 }, ticks: { show: false } };
  const layers: uPlot.Series[] = stack.layers.map(({ name }, at) => ({
    label: name,
    stroke: colorOf(name),
    fill: colorOf(name),
    width: 0,
    points: { show: false },
    // The edge is drawn; the layer itself is told.
    value: (_plot, _value, _series, index) => told(stack.layers[at]?.values ?? [], index, format),
  }));
  const value: uPlot.Series.Value = (_plot, _value, _series, index) => told(stack.line.values, index, format);
  const line: uPlot.Series = { label: stack.line.name, stroke: text, width: 2, points: { show: false }, value };
  return {
    width,
    height: HEIGHT,
    // The uppermost edge first, so that each layer covers what is above the one below.
    series: [{ label: "at", value: when }, ...layers.reverse(), line],
    axes: [{ ...axis, incrs: STEPS, values: instants, space: 70 }, { ...axis, size: 76, values: (_plot, splits) => splits.map(format) }],
    scales: {
      // A single moment is no range.
      x: { range: (_plot, first, last) => (first === last ? [first - 30, last + 1] : [first, last]) },
      y: { range: (_plot, _least, most) => [0, Math.max(most * 1.05, 1e-9)] },
    },
    legend: { live: true },
    cursor: { drag: { x: true, y: false } },
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

export function Chart({ stack, format, label }: { stack: Stack; format: (value: number) => string; label: string }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>();
  const shape = useRef("");
  const [, again] = useState(0);

  useEffect(() => {
    const home = place.current;
    if (!home) {
      return;
    }
    const now = stack.layers.map(({ name }) => name).join("\n");
    if (!plot.current || shape.current !== now) {
      plot.current?.destroy();
      plot.current = new uPlot(options(stack, home.clientWidth, format), data(stack), home);
      shape.current = now;
    } else {
      // Values are told by the layers that the plot was made with.
      const made = plot.current;
      const fresh = options(stack, home.clientWidth, format).series;
      made.series.forEach((series, at) => {
        const value = fresh[at]?.value;
        if (at > 0 && typeof value === "function") {
          series.value = value;
        }
      });
      made.setData(data(stack));
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
    </figure>
  );
}
