// Subscribes with a client library and prints the data of every message that the library delivers, a line each.
//
//     node listen.mjs LIBRARY URL
import { createRequire } from "node:module";

const [library, url] = process.argv.slice(2);
const require = createRequire(new URL("../../npm/package.json", import.meta.url));
const [base, path] = [url.slice(0, url.indexOf("/stream")), url.slice(url.indexOf("/stream"))];
const settings = { baseURL: base, apiKey: "none", maxRetries: 0 };

const print = data => process.stdout.write(`${data}\n`);

const libraries = {
  "@microsoft/fetch-event-source"() {
    // The library is written for browsers; it needs only `window`.
    globalThis.window = globalThis;
    const { fetchEventSource } = require("@microsoft/fetch-event-source");
    return fetchEventSource(url, { openWhenHidden: true, onmessage: ({ data }) => print(data) });
  },
  eventsource() {
    const { EventSource } = require("eventsource");
    listen(new EventSource(url));
  },
  "event-source-polyfill"() {
    const { EventSourcePolyfill } = require("event-source-polyfill");
    listen(new EventSourcePolyfill(url));
  },
  // An application calls a path of its own server for which its library has no method.
  async openai() {
    const { OpenAI } = require("openai");
    const stream = await new OpenAI(settings).get(path, { stream: true });
    for await (const data of stream) print(JSON.stringify(data));
  },
  async "@anthropic-ai/sdk"() {
    const { Anthropic } = require("@anthropic-ai/sdk");
    const { Stream } = require("@anthropic-ai/sdk/core/streaming");
    const client = new Anthropic(settings);
    // The messages as the library passes them to its own loop, which skips those without a name.
    const response = await client.get(path, { stream: true }).asResponse();
    for await (const { data } of Stream.rawEvents(response)) print(data);
  },
};

function listen(source) {
  for (const kind of ["message", "connected", "tide"]) source.addEventListener(kind, ({ data }) => print(data));
}

await libraries[library]();
