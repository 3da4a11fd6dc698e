// Promise: the hooks work with every version that the package says, in the way that each framework renders.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { build } from "esbuild";
import { Window } from "happy-dom";

const here = fileURLToPath(new URL(".", import.meta.url));

// What frameworks ask a browser for. Node's own fetch and streams stay.
const window = new Window({ url: "http://localhost/" });
for (const name of ["window", "document", "navigator", "Node", "Element", "HTMLElement", "SVGElement", "HTMLIFrameElement", "MathMLElement", "ShadowRoot"]) {
  Object.defineProperty(globalThis, name, { value: name == "window" ? window : window[name], configurable: true, writable: true });
}
globalThis.IS_REACT_ACT_ENVIRONMENT = true;
// React's act() opens a channel each time and closes none, which would keep Node running.
globalThis.MessageChannel = class {
  port1 = { onmessage: () => {} };
  port2 = { postMessage: () => setImmediate(() => this.port1.onmessage({})) };
};

// Inside this folder, so that packages are found from there.
const folder = mkdtempSync(join(here, "built-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));

/** Builds a suite with other versions of its framework, and runs it. */
async function run(suite, name, alias) {
  const outfile = join(folder, `${name}.mjs`);
  await build({
    entryPoints: [join(here, suite)],
    bundle: true,
    platform: "node",
    format: "esm",
    alias,
    outfile,
    // React asks for Node's own modules, and for the mode it runs in.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
    define: { "process.env.NODE_ENV": '"development"' },
    logLevel: "error",
  });
  const { default: tests } = await import(pathToFileURL(outfile));
  await tests(name);
}

await run("react.suite.js", "React 19", {});
await run("react.suite.js", "React 18", { react: "react18", "react-dom": "react-dom18" });
await run("vue.suite.js", "Vue 3", { vue: "vue" });
await run("vue.suite.js", "Vue 3.3", { vue: "vue33" });
