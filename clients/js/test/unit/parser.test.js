// The parser: what the standard says of each field and line end, at every place where a network may cut.

import assert from "node:assert/strict";
import { test } from "node:test";

import { parser } from "../../client/parser.js";

const encode = (text) => new TextEncoder().encode(text);

/** Frames of `bytes`, given in pieces that end at `cuts`. */
function parse(bytes, cuts = []) {
  const feed = parser();
  const frames = [];
  let begin = 0;
  for (const end of [...cuts, bytes.length]) {
    frames.push(...feed(bytes.subarray(begin, end)));
    begin = end;
  }
  // Comments and unknown fields are of no interest.
  return frames.map(({ event, id, data, room, retry }) => JSON.parse(JSON.stringify({ event, id, data, room, retry })));
}

/** What the server sends, and what it means. */
const FRAMES = [
  ["retry: 3127\nevent: connected\nid: k3v9q2-1\ndata: {\"rooms\":[\"a\"]}\n\n", [{ retry: "3127", event: "connected", id: "k3v9q2-1", data: '{"rooms":["a"]}' }]],
  ["id: k3v9q2-2\nroom: lobby\ndata: hi\n\n", [{ id: "k3v9q2-2", room: "lobby", data: "hi" }]],
  ["event: price\nid: k3v9q2-3\ndata: one\ndata:\ndata:  three\n\n", [{ event: "price", id: "k3v9q2-3", data: "one\n\n three" }]],
  [":\nid: k3v9q2-4\n\n", [{ id: "k3v9q2-4" }]],
  [":\n", []],
  ["event: presence\nroom: dräi \u{1f30a}\ndata: {\"type\":\"count\"}\n\n", [{ event: "presence", room: "dräi \u{1f30a}", data: '{"type":"count"}' }]],
  ["data\n\n", [{ data: "" }]],
  ["data: a: b\n\n", [{ data: "a: b" }]],
  ["data:x\n\n", [{ data: "x" }]],
  ["data: x\nunknown: y\n: a comment\n\n", [{ data: "x" }]],
  ["retry: 5s\ndata: x\n\n", [{ retry: "5s", data: "x" }]],
  ["id: k3v9q2-5\ndata: never ended\n", []],
];

for (const [text, wanted] of FRAMES) {
  for (const [name, end] of [["LF", "\n"], ["CR", "\r"], ["CRLF", "\r\n"]]) {
    test(`${JSON.stringify(text)} with ${name} may be cut anywhere`, () => {
      const bytes = encode(text.replaceAll("\n", end));
      assert.deepEqual(parse(bytes), wanted);
      for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(parse(bytes, [cut]), wanted, `cut at ${cut}`);
      assert.deepEqual(parse(bytes, [...bytes.keys()]), wanted, "byte by byte");
    });
  }
}

test("frames follow each other, with all line ends in one stream", () => {
  const bytes = encode("data: 1\r\rdata: 2\n\ndata: 3\r\n\r\ndata: 4\r\n\ndata: 5\n\r\ndata: 6\r\n\r");
  const wanted = ["1", "2", "3", "4", "5", "6"].map((data) => ({ data }));
  assert.deepEqual(parse(bytes), wanted);
  for (let one = 0; one <= bytes.length; one++) {
    for (let two = one; two <= bytes.length; two++) assert.deepEqual(parse(bytes, [one, two]), wanted, `${one}, ${two}`);
  }
});

test("a frame is given as soon as its last line ends, also with CR", () => {
  const feed = parser();
  assert.equal([...feed(encode("data: x\r\r"))].length, 1);
  assert.equal([...feed(encode("\ndata: y\r\n\r"))].length, 1);
  assert.equal([...feed(encode("\n"))].length, 0);
});

test("a byte order mark at the beginning is none of the first field", () => {
  const bytes = encode("\ufeffdata: x\n\n");
  for (let cut = 0; cut <= bytes.length; cut++) assert.deepEqual(parse(bytes, [cut]), [{ data: "x" }]);
  assert.deepEqual(parse(encode("data: x\n\n\ufeffdata: y\n\n")), [{ data: "x" }, {}], "only there");
});

test("an id with NUL is no id", () => {
  assert.deepEqual(parse(encode("id: a\0b\ndata: x\n\n")), [{ data: "x" }]);
  assert.deepEqual(parse(encode("id: good\nid: a\0\ndata: x\n\n")), [{ id: "good", data: "x" }]);
});

test("256 KiB of data come through, in one line or many, in one piece or byte by byte", () => {
  const size = 256 << 10;
  const long = "x".repeat(size);
  const many = Array.from({ length: size / 8 }, (_, line) => String(line).padStart(7, "0")).join("\n");
  for (const data of [long, many]) {
    const bytes = encode(`id: k3v9q2-9\ndata: ${data.replaceAll("\n", "\ndata: ")}\n\n`);
    const wanted = [{ id: "k3v9q2-9", data }];
    assert.deepEqual(parse(bytes), wanted);
    assert.deepEqual(parse(bytes, [...bytes.keys()]), wanted);
  }
});

test("fields with the names of an object's own properties do no harm", () => {
  const [frame] = parser()(encode("__proto__: x\nconstructor: y\ndata: z\n\n"));
  assert.equal(frame.data, "z");
  assert.equal({}.x, undefined);
});

test("a frame without an end is no event stream", () => {
  const feed = parser();
  const piece = encode(`data: ${"x".repeat(1 << 20)}\n`);
  const all = () => {
    for (let count = 0; count < 40; count++) [...feed(piece)];
  };
  assert.throws(all, RangeError);
});

test("frames that end are no burden for those that follow", () => {
  const feed = parser();
  const piece = encode(`data: ${"x".repeat(1 << 20)}\n\n`);
  for (let count = 0; count < 40; count++) assert.equal([...feed(piece)].length, 1);
});
