// Bundles the page into the directory that is named: index.html, page.js, page.css and the licences of what is in it.
import { build } from "esbuild";
import { copyFileSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// All that a browser loads, together.
const MOST_BYTES = 300_000;

const to = process.argv[2];
if (!to) {
  console.error("usage: node build.mjs DIRECTORY");
  process.exit(2);
}
mkdirSync(to, { recursive: true });
await build({
  entryPoints: { page: "src/main.tsx" },
  outdir: to,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["es2022"],
  jsx: "automatic",
  jsxImportSource: "preact",
  legalComments: "none",
  logLevel: "warning",
});
copyFileSync("index.html", join(to, "index.html"));

const { dependencies } = JSON.parse(readFileSync("package.json", "utf8"));
const licences = Object.keys(dependencies).map((name) => {
  const home = join("node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
  const file = readdirSync(home).find((file) => /^licen[cs]e/i.test(file));
  if (!file) {
    throw new Error(`${name} ${version} comes without the text of its licence`);
  }
  return `${name} ${version} (${license})\n\n${readFileSync(join(home, file), "utf8").trim()}\n`;
});
writeFileSync(join(to, "licences.txt"), licences.join(`\n${"-".repeat(80)}\n\n`));

const files = ["index.html", "page.js", "page.css"];
const bytes = files.reduce((sum, file) => sum + statSync(join(to, file)).size, 0);
if (bytes > MOST_BYTES) {
  throw new Error(`the page has ${bytes} bytes, more than ${MOST_BYTES}`);
}
console.log(`the page has ${bytes} bytes`);
