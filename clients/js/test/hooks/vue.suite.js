import assert from "node:assert/strict";
import { test } from "node:test";

import { createApp, createSSRApp, effectScope, h, nextTick, ref, version } from "vue";

import { useStream } from "../../client/vue.js";
import { event } from "../unit/world.js";
import { network, settled } from "./network.js";

export default (name) => {
  test(`${name} (${version}): a component has one stream, and closes it`, async (t) => {
    const { fetch, requests, open } = network();
    const room = ref("a");
    const seen = [];
    const shown = [];
    const app = createApp({
      setup() {
        const { status, on } = useStream(() => ({ rooms: room.value, fetch }));
        on("n", ({ data }) => seen.push(data));
        return () => {
          shown.push(status.value?.state);
          return h("p", status.value?.state);
        };
      },
    });
    const root = document.createElement("div");
    app.mount(root);
    await settled();
    assert.equal(requests.length, 1);
    await requests[0].connects("k3v9q2-1", { text: event("k3v9q2-2", "1", { type: "n" }) });
    await nextTick();
    assert.equal(root.textContent, "open");
    room.value = "b";
    await settled();
    assert.equal(requests.length, 2);
    assert.equal(open().length, 1);
    assert.deepEqual(requests[1].query.getAll("room"), ["b"]);
    await requests[1].connects("k3v9q2-5", { text: event("k3v9q2-6", "2", { type: "n", room: "b" }) });
    assert.deepEqual(seen, [1, 2]);
    app.unmount();
    assert.equal(open().length, 0);
    assert.deepEqual([shown[0], shown.at(-1)], [undefined, "open"]);
  });

  test(`${name} (${version}): in an effect scope, and a listener that leaves`, async () => {
    const { fetch, requests, open } = network();
    const scope = effectScope();
    const seen = [];
    let off;
    scope.run(() => {
      const { on } = useStream({ rooms: "a", fetch });
      off = on("n", ({ data }) => seen.push(data));
    });
    await settled();
    await requests[0].connects("k3v9q2-1", { text: event("k3v9q2-2", "1", { type: "n" }) });
    off();
    await requests[0].sends(event("k3v9q2-3", "2", { type: "n" }));
    assert.deepEqual(seen, [1]);
    scope.stop();
    assert.equal(open().length, 0);
  });

  test(`${name} (${version}): a server opens nothing`, async () => {
    const { fetch, requests } = network();
    const { renderToString } = await import("vue/server-renderer");
    const app = createSSRApp({
      setup() {
        const { status } = useStream({ rooms: "a", fetch });
        return () => h("p", status.value?.state ?? "none");
      },
    });
    assert.equal(await renderToString(app), "<p>none</p>");
    await settled();
    assert.equal(requests.length, 0);
  });
};
