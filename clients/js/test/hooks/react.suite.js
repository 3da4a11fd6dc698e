import assert from "node:assert/strict";
import { test } from "node:test";

import { StrictMode, act, createElement, version } from "react";
import * as dom from "react-dom";
import { createRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import * as testing from "react-dom/test-utils";

import { useEvent, usePresence, useStatus, useStream } from "../../client/react.js";
import { event, own } from "../unit/world.js";
import { network, settled } from "./network.js";

const doing = act ?? testing.act ?? dom.act;

export default (name) => {
  /** Renders `Component` with `props`, again with each call, until the test ends. */
  const mount = (t, Component, isStrict = false) => {
    const root = createRoot(document.createElement("div"));
    const render = (props) =>
      doing(async () => {
        const element = createElement(Component, props);
        root.render(isStrict ? createElement(StrictMode, null, element) : element);
        await settled();
      });
    const unmount = () => doing(async () => root.unmount());
    t.after(unmount);
    return { render, unmount };
  };
  const then = (what) =>
    doing(async () => {
      await what();
      await settled();
    });

  for (const isStrict of [false, true]) {
    test(`${name} ${version}: a component has one stream${isStrict ? " in StrictMode" : ""}, and closes it`, async (t) => {
      const { fetch, requests, open } = network();
      const seen = [];
      const Component = ({ room }) => {
        const stream = useStream({ rooms: room, fetch, onError: () => {} });
        const status = useStatus(stream);
        useEvent(stream, "n", ({ data }) => seen.push([room, data]));
        seen.state = status?.state;
        return null;
      };
      const { render, unmount } = mount(t, Component, isStrict);
      await render({ room: "a" });
      assert.equal(requests.length, 1, "one request in all");
      assert.equal(seen.state, "connecting");
      await then(() => requests[0].connects("k3v9q2-1", { text: event("k3v9q2-2", "1", { type: "n" }) }));
      assert.equal(seen.state, "open");
      await render({ room: "a" });
      assert.equal(requests.length, 1, "functions are no reason for a new stream");
      assert.deepEqual(seen.slice(), [["a", 1]]);
      await render({ room: "b" });
      assert.equal(requests.length, 2);
      assert.equal(open().length, 1);
      assert.deepEqual(requests[1].query.getAll("room"), ["b"]);
      await then(() => requests[1].connects("k3v9q2-5", { text: event("k3v9q2-6", "2", { type: "n", room: "b" }) }));
      assert.deepEqual(seen.slice(), [["a", 1], ["b", 2]], "once each");
      await unmount();
      assert.equal(open().length, 0);
    });
  }

  test(`${name} ${version}: functions are always the newest`, async (t) => {
    const { fetch, requests } = network();
    const seen = [];
    const Component = ({ mark }) => {
      const stream = useStream({ rooms: "a", fetch, token: () => mark, onGap: () => void seen.push(`gap ${mark}`) });
      useEvent(stream, "n", () => seen.push(`n ${mark}`));
      return null;
    };
    const { render } = mount(t, Component);
    await render({ mark: "one" });
    assert.equal(requests[0].headers.authorization, "Bearer one");
    await render({ mark: "two" });
    assert.equal(requests.length, 1);
    await then(() => requests[0].connects("k3v9q2-1", { text: event("k3v9q2-2", "1", { type: "n" }) + own("gap", { rooms: ["a"] }, "k3v9q2-9") }));
    assert.deepEqual(seen, ["n two", "gap two"]);
  });

  test(`${name} ${version}: what a storage holds is no reason for a new stream`, async (t) => {
    const { fetch, requests } = network();
    const storage = { getItem: () => null, setItem: (key, value) => (storage[key] = value) };
    const Component = () => {
      useStream({ rooms: "a", fetch, keep: { storage } });
      return null;
    };
    const { render } = mount(t, Component);
    await render({});
    await then(() => requests[0].connects("k3v9q2-1"));
    storage.changed = true;
    await render({});
    assert.equal(requests.length, 1);
  });

  test(`${name} ${version}: usePresence shows who is in a room`, async (t) => {
    const { fetch, requests } = network();
    let now;
    const Component = ({ room }) => {
      now = usePresence(useStream({ rooms: ["a", "b"], presence: true, fetch }), room);
      return null;
    };
    const { render } = mount(t, Component);
    await render({ room: "a" });
    assert.deepEqual([now.total, now.isNamed], [0, false]);
    const told = (room, data) => `event: presence\nroom: ${room}\ndata: ${JSON.stringify(data)}\n\n`;
    const state = { type: "state", rev: 1, total: 1, connections: 1, members: [{ user: "u", data: { status: "away" } }] };
    await then(() => requests[0].connects("k3v9q2-1", { text: told("a", state) + told("b", { ...state, total: 9 }) }));
    assert.deepEqual([now.total, now.isNamed, [...now.members]], [1, true, [["u", { status: "away" }]]]);
    await render({ room: "b" });
    assert.equal(now.total, 0, "what is known of another room does not count");
  });

  test(`${name} ${version}: a server opens nothing`, async () => {
    const { fetch, requests } = network();
    const Component = () => {
      const stream = useStream({ rooms: "a", fetch });
      return createElement("p", null, useStatus(stream)?.state ?? "none", usePresence(stream, "a").total);
    };
    assert.match(renderToString(createElement(Component)), /none/);
    await settled();
    assert.equal(requests.length, 0);
  });
};
