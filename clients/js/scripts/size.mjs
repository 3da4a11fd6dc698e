// Fails if a part of the client is larger than it may be: bundled and minified by esbuild, then gzip -9. Parts that share
// a file do not pay for it twice.
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** Bytes of each part at most, and of all together. */
const PARTS = {
  core: ["client.js", 3200],
  tabs: ["client/tabs.js", 1440],
  poll: ["client/poll.js", 555],
  presence: ["client/presence.js", 526],
  ai: ["client/ai.js", 900],
  react: ["client/react.js", 400],
  vue: ["client/vue.js", 311],
};
const ALL_MAX = 7320;

/** Files that the core has already, and what is loaded only when it is asked for. */
const CORE = ["parser", "frames", "request", "cursor", "listeners", "timing", "stream", "publish"];
const LATER = ["./tabs.js", "./poll.js"];
/** What comes with another part that it is used with. */
const WITH = { react: ["./presence.js"] };

let all = 0;
let failed = false;
for (const [name, [entry, max]] of Object.entries(PARTS)) {
  const external = name == "core" ? LATER : [...CORE.map((file) => `./${file}.js`), ...(WITH[name] ?? []), "../client.js", "react", "vue"];
  const { outputFiles } = await build({
    entryPoints: [entry],
    absWorkingDir: new URL("..", import.meta.url).pathname,
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2022",
    external,
    write: false,
  });
  const bytes = gzipSync(outputFiles[0].contents, { level: 9 }).length;
  all += bytes;
  if (bytes > max) failed = true;
  console.log(`${name.padEnd(9)} ${String(bytes).padStart(5)} bytes, at most ${max}${bytes > max ? ": too large" : ""}`);
}
if (all >= ALL_MAX) failed = true;
console.log(`${"all".padEnd(9)} ${String(all).padStart(5)} bytes, below ${ALL_MAX}${all >= ALL_MAX ? ": too large" : ""}`);
process.exitCode = failed ? 1 : 0;
