// Drives a real browser over the web page as a user would, and fails with a sentence when something is not as expected.
//
//   node page.mjs '{"url": "http://127.0.0.1:9811/", "busy": "/a/b", "busy_layer": "/a/b", "sender": "/c", "far_end": "203.0.113.1:5001"}'
//
// With "among" only those whose names have that are looked at. What it saw is printed as JSON, for whoever knows the truth. With "screenshots" it leaves pictures in that directory.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const wanted = JSON.parse(process.argv[2]);
const PATIENCE = { timeout: wanted.patience_ms ?? 60_000 };
const LAPTOP = { width: 1280, height: 900 };
const PHONE = { width: 390, height: 844, isMobile: true, hasTouch: true };
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const troubles = [];

/** What axe finds that keeps somebody from reading the page. */
async function check(page, where) {
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })");
  assert(passes.length > 10, `axe looked at ${passes.length} rules only`);
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 200)).join(" | ")}`);
  assert.deepEqual(told, [], `axe, ${where}`);
}

async function screenshot(page, name) {
  if (wanted.screenshots) {
    await page.screenshot({ path: join(wanted.screenshots, `${name}.png`) });
  }
}

/** The texts of the cells of a table, by the table's caption. */
const rows = (page, caption) =>
  page.evaluate((caption) => {
    const table = [...document.querySelectorAll("table")].find((one) => one.caption?.textContent === caption);
    return [...(table?.tBodies[0]?.rows ?? [])].map((row) => [...row.cells].map((cell) => cell.textContent));
  }, caption);

/** Waits until a table's rows are as they have to be, and returns them. */
async function until(page, caption, what, isRight) {
  const end = Date.now() + PATIENCE.timeout;
  let seen = [];
  while (Date.now() < end) {
    seen = await rows(page, caption);
    if (isRight(seen)) {
      return seen;
    }
    await new Promise((again) => setTimeout(again, 250));
  }
  assert.fail(`${caption}: ${what}; there is ${JSON.stringify(seen.slice(0, 6))}`);
}

/** The name in the legend of the chart of the load. */
const inLegend = (page, name) =>
  page.evaluateHandle((name) => {
    const legend = document.querySelector("#over-load").closest("section").querySelector(".u-legend");
    return [...legend.querySelectorAll(".u-label > *")].find((one) => one.textContent === name);
  }, name);

/** What is drawn of the load. */
const picture = (page) => page.evaluate(() => document.querySelector("#over-load").closest("section").querySelector("canvas").toDataURL());

/** Whether the lowest layer of the load is drawn in so many stretches, with three points between them at least. */
const hasStretches = (count) => {
  const section = document.querySelector("#over-load").closest("section");
  const canvas = section.querySelector("canvas");
  const [own, over] = [canvas, section.querySelector(".u-over")].map((one) => one.getBoundingClientRect());
  const scale = canvas.width / own.width;
  const row = Math.round((over.bottom - own.top - 3) * scale);
  const { data } = canvas.getContext("2d").getImageData(0, row, canvas.width, 1);
  const colour = getComputedStyle([...section.querySelectorAll(".u-marker")].at(-2)).backgroundColor.match(/\d+/g).map(Number);
  const points = Array.from({ length: canvas.width }, (_, at) => (colour.every((value, part) => data[at * 4 + part] === value) ? "x" : "."));
  return points.join("").split(/\.{3,}/).filter(Boolean).length >= count;
};

/** Whether the node's load is there to be looked at. */
const drawn = () => document.querySelector("#over-load")?.closest("section").querySelector("canvas");

const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

const browser = await puppeteer.launch({
  executablePath: wanted.browser ?? "/usr/bin/chromium",
  // Tests run as root, where the browser's own sandbox does not start; it opens this page only.
  // Nothing but the page's own address is to be had: a browser asks its maker for this and that.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});
try {
  const page = await browser.newPage();
  await page.setViewport(LAPTOP);
  page.on("console", (message) => message.type() === "error" && troubles.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => troubles.push(`error: ${error}`));
  page.on("requestfailed", (request) => {
    // Leaving a view ends what it still asks for.
    if (request.failure()?.errorText !== "net::ERR_ABORTED") {
      troubles.push(`failed: ${request.url()} ${request.failure()?.errorText}`);
    }
  });
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (protocol !== "data:" && origin !== new URL(wanted.url).origin) {
      troubles.push(`asked elsewhere: ${request.url()}`);
    }
  });
  page.on("response", (response) => response.status() >= 400 && troubles.push(`${response.status()}: ${response.url()}`));

  await page.goto(wanted.url, { waitUntil: "domcontentloaded" });
  await page.waitForSelector(".state.live", PATIENCE);

  if (wanted.among) {
    // What else runs on the machine may be heavier.
    await page.keyboard.press("/");
    await page.keyboard.type(wanted.among);
    await page.evaluate(() => document.activeElement.blur());
  }

  // Who makes the load is first, and the newest of the chart's values are told.
  const all = "Everybody on this node";
  await until(page, all, `${wanted.busy} is to be the first by load`, ([first]) => first?.[0] === wanted.busy);
  await page.waitForFunction(
    (busy) => document.querySelector("#over-load").closest("section").querySelector("[role=img]")?.getAttribute("aria-label")?.includes(busy),
    PATIENCE,
    wanted.busy_layer ?? wanted.busy,
  );
  const canvases = await page.$$eval(".chart canvas", (all) => all.length);
  assert.equal(canvases, 2, "a chart for the load and one for egress");

  // Who sends is first once one sorts by it, and where to is told.
  const clickHead = (name) =>
    page.evaluate((name) => {
      const head = [...document.querySelectorAll("thead button")].find((one) => one.textContent === name);
      head.click();
    }, name);
  await clickHead("sends");
  const [sender] = await until(page, all, `${wanted.sender} is to be the first by bytes`, ([first]) => first?.[0] === wanted.sender);
  await until(page, "Flows", `a flow to ${wanted.far_end}`, (rows) => rows.some((row) => row[0] === wanted.sender && row[1].includes(wanted.far_end)));
  const label = await page.$eval("#over-load", (head) => head.closest("section").querySelector("[role=img]").getAttribute("aria-label"));
  await check(page, "the node, light");
  await screenshot(page, "node");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
  await check(page, "the node, dark");
  await screenshot(page, "node-dark");

  // What the agent remembers.
  await page.evaluate(() => [...document.querySelectorAll(".choice button")].find((one) => one.textContent === "10 min").click());
  await page.waitForFunction(
    () => document.querySelector("#over-load").closest("section").querySelector("[role=img]")?.getAttribute("aria-label")?.includes("tasks of the node"),
    PATIENCE,
  );
  const past = await page.$eval("#over-load", (head) => head.closest("section").querySelector("[role=img]").getAttribute("aria-label"));

  if (wanted.among) {
    await page.keyboard.press("/");
    await page.keyboard.press("Escape");
  }
  // By keyboard alone: filter, choose, go back, pause.
  await page.keyboard.press("/");
  await page.keyboard.type(wanted.sender.slice(-12));
  await until(page, all, "only those of the name", (rows) => rows.length > 0 && rows.every(([who]) => who.includes(wanted.sender.slice(-12))));
  await page.keyboard.press("Escape");
  await until(page, all, "everybody again", (rows) => rows.some(([who]) => !who.includes(wanted.sender.slice(-12))));
  await page.evaluate((who) => [...document.querySelectorAll("tbody a")].find((one) => one.textContent === who).focus(), wanted.sender);
  await page.keyboard.press("Enter");
  await page.waitForFunction((who) => document.querySelector("h1.of")?.textContent === who, PATIENCE, wanted.sender);
  const flows = await until(page, "Flows", `its flow to ${wanted.far_end}`, (rows) => rows.some((row) => row[1]?.includes(wanted.far_end)));
  assert(flows.every(([who]) => who === wanted.sender), `only its own flows: ${JSON.stringify(flows)}`);
  await check(page, "an entity, dark");
  await screenshot(page, "entity-dark");
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }]);
  await page.setViewport(PHONE);
  await page.waitForFunction(() => innerWidth <= 390, PATIENCE);
  assert(await fits(page) <= 0, "on a phone an entity is wider than the screen");
  await screenshot(page, "entity-phone");
  await page.keyboard.press("Escape");
  await until(page, all, "the node again", (rows) => rows.length > 0);
  assert(await fits(page) <= 0, "on a phone the node is wider than the screen");
  await check(page, "the node, on a phone");
  await screenshot(page, "node-phone");
  // A single window is no area.
  await page.waitForFunction(hasStretches, PATIENCE, 1);
  await page.keyboard.press("p");
  await page.waitForSelector(".state.paused", PATIENCE);

  // A name in a legend changes nothing of the chart; it leads to whose it is, by mouse and by keyboard.
  const layer = wanted.busy_layer ?? wanted.busy;
  const before = await picture(page);
  await (await inLegend(page, "nobody's")).click();
  await new Promise((again) => setTimeout(again, 5000));
  assert(before === (await picture(page)), "a click on what is nobody's has changed the chart");
  const isThere = (layer, busy) =>
    document.querySelector("h1.of")?.textContent === busy || document.querySelector("input[type=search]")?.value === `=${layer}`;
  await (await inLegend(page, layer)).click();
  await page.waitForFunction(isThere, PATIENCE, layer, wanted.busy);
  await page.keyboard.press("Escape");
  await page.waitForFunction(drawn, PATIENCE);
  assert(before === (await picture(page)), "a click on a layer's name has changed the chart");
  await (await inLegend(page, layer)).focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(isThere, PATIENCE, layer, wanted.busy);
  await page.keyboard.press("Escape");
  await page.waitForFunction(drawn, PATIENCE);

  // What came while the page was paused is not drawn.
  await page.keyboard.press("p");
  await page.waitForSelector(".state.live", PATIENCE);
  await page.waitForFunction(hasStretches, PATIENCE, 2);

  // An agent that hangs is not live, which no browser tells by itself.
  if (wanted.agent) {
    process.kill(wanted.agent, "SIGSTOP");
    try {
      await page.waitForSelector(".state.lost", PATIENCE);
      assert.match(await page.$eval(".trouble[role=alert]", (said) => said.textContent), /nothing has come from the agent for \d+ seconds/);
    } finally {
      process.kill(wanted.agent, "SIGCONT");
    }
    await page.waitForSelector(".state.live", PATIENCE);
    assert.equal(await page.$(".trouble[role=alert]"), null, "what was wrong is said no longer");
  }
  assert.deepEqual(troubles, [], "what the browser complained of");
  console.log(JSON.stringify({ label, past, sender, flows }));
} finally {
  await browser.close();
}
