// The page: what a node's agent knows, live.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import type { Programs } from "./api";
import { DRESSED } from "./chart";
import { Entities } from "./entities";
import { Entity } from "./entity";
import { FlowTable } from "./flows";
import { rate, tasks, zone } from "./format";
import { GrowthTable } from "./growth";
import { Live } from "./live";
import { EGRESS, LOAD, OverTime } from "./overtime";
import { PairTable } from "./pairs";
import "./page.css";
import { useAnswer, useLive } from "./use";
import { isWhole, usePlace } from "./ways";

const live = new Live();
const THEMES = ["auto", "light", "dark"] as const;
type Theme = (typeof THEMES)[number];

function remembered(): Theme {
  const theme = localStorage.getItem("theme");
  return THEMES.find((one) => one === theme) ?? "auto";
}

function dress(theme: Theme): void {
  document.documentElement.dataset["theme"] = theme;
  dispatchEvent(new Event(DRESSED));
}

function ThemeChoice() {
  const [theme, set] = useState(remembered);
  useEffect(() => dress(theme), [theme]);
  const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
  const choose = () => {
    localStorage.setItem("theme", next);
    set(next);
  };
  return (
    <button type="button" onClick={choose} aria-label={`colours: ${theme}; change to ${next}`}>
      {theme}
    </button>
  );
}

const STATES = { connecting: "connecting …", live: "live", lost: "no answer", paused: "paused" };

function Head() {
  const { snapshot } = live;
  const figures: [string, string][] = snapshot
    ? [
        ["load", [snapshot.load?.load1, snapshot.load?.load5, snapshot.load?.load15].map((one) => (one === undefined ? "–" : tasks(one))).join("  ")],
        ["sends", rate(snapshot.all.transmit_bytes_per_second)],
        ["peak", rate(snapshot.all.transmit_peak_bytes_per_second)],
        ["receives", rate(snapshot.all.receive_bytes_per_second)],
      ]
    : [];
  return (
    <header>
      <p class="name">
        <strong>observer</strong> {snapshot?.node}
      </p>
      <dl class="figures">
        {figures.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <p class="controls">
        <span class={`state ${live.state}`} role="status">
          {STATES[live.state]}
        </span>
        <button type="button" onClick={() => live.pause()} aria-keyshortcuts="p">
          {live.state === "paused" ? "go on" : "pause"}
        </button>
        <ThemeChoice />
      </p>
    </header>
  );
}

function Troubles() {
  const { answer } = useAnswer<Programs>("/api/v1/programs", {}, 30_000);
  const down = answer?.programs.filter(({ up }) => !up) ?? [];
  return (
    <>
      {live.trouble !== undefined && (
        <p class="trouble" role="alert">
          {live.trouble}
        </p>
      )}
      {down.length > 0 && (
        <details class="trouble">
          <summary>{down.length} kernel programs do not run here, and their figures are absent</summary>
          <ul>
            {down.map(({ program, reason }) => (
              <li key={program}>
                {program}: {reason}
              </li>
            ))}
          </ul>
        </details>
      )}
    </>
  );
}

function Page() {
  useLive(live);
  const [{ entity: chosen, filter }, filterBy] = usePlace();
  const paused = live.state === "paused";
  useEffect(() => {
    live.start();
    const pressed = (event: KeyboardEvent) => {
      const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (isTyping || event.ctrlKey || event.metaKey || event.altKey) {
        return;
      }
      if (event.key === "p") {
        live.pause();
      } else if (event.key === "Escape" && location.hash) {
        location.hash = "";
      }
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
  useEffect(() => {
    if (!isWhole(filter)) {
      scrollTo(0, 0);
    }
    document.title = chosen === undefined ? `observer ${live.snapshot?.node ?? ""}` : `${chosen} – observer`;
    document.querySelector<HTMLElement>("h1.of")?.focus();
  }, [chosen, live.snapshot?.node]);
  return (
    <>
      <Head />
      <main>
        <Troubles />
        {chosen === undefined ? (
          <>
            <h1 class="unseen">What this node does</h1>
            <div class="grid">
              <OverTime live={live} subject={LOAD} />
              <OverTime live={live} subject={EGRESS} />
            </div>
            <Entities live={live} filter={filter} filterBy={filterBy} />
            <FlowTable paused={paused} />
            <div class="grid">
              <PairTable paused={paused} />
              <GrowthTable ways={live.ways} paused={paused} />
            </div>
          </>
        ) : (
          <Entity live={live} of={chosen} />
        )}
      </main>
      <footer>
        <p>
          Keys: <kbd>/</kbd> filter, <kbd>p</kbd> pause, <kbd>Esc</kbd> back. The same as JSON: <a href="/api/v1">/api/v1</a>. Made
          with <a href="/licences.txt">others' work</a>. Times are this browser's: {zone()}.
        </p>
      </footer>
    </>
  );
}

const place = document.getElementById("page");
if (place) {
  render(<Page />, place);
}
