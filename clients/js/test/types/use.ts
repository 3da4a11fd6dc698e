// Promise: the types say what the client takes and gives. This is compiled, and not run.

import { connect, publish, type Gap, type Message, type Status, type TidegateError } from "../../client.js";
import { chatTransport, readStream } from "../../client/ai.js";
import { presence, show } from "../../client/presence.js";
import { useEvent, usePresence, useStatus, useStream } from "../../client/react.js";
import { useStream as useVueStream } from "../../client/vue.js";

type Events = { price: { bid: number }; notice: string };

const stream = connect<Events>({
  rooms: ["a", "b"],
  token: async (why) => (why == "refused" ? null : "token"),
  keep: { storage: localStorage },
  onGap: async (gap: Gap) => console.log(gap.rooms),
});
stream.on("price", ({ data, id, room }) => console.log(data.bid.toFixed(), id?.length, room?.length), { room: "a" });
// @ts-expect-error there is no such event
stream.on("prize", () => {});
// @ts-expect-error a notice is a text
stream.on("notice", ({ data }) => data.bid);
stream.watch((status: Status) => status.state == "open");

async function iterate() {
  for await (const { type, data } of stream) console.log(type, data);
  for await (const { data } of stream.events("notice", { max: 10 })) console.log(data.length);
  await using other = connect({ rooms: "a" });
  other.onAny((message: Message) => message.type);
}

publish("/api/v1/sse", [{ room: "a", data: 1 }], { key: "k" }).catch((error: TidegateError) => error.code);
// @ts-expect-error an event needs data
publish("/api/v1/sse", { room: "a" });

const members = presence<{ status: string }>(stream, "a");
members.current.members.get("u")?.status.length;
show("/api/v1/sse", "a", { status: "away" });

async function answer() {
  for await (const piece of readStream("/api/v1/sse", { room: "a" })) piece.length;
  const chat: ReadableStream = await chatTransport("/api/v1/sse", { send: async () => {} }).sendMessages({ chatId: "a" });
  return chat;
}

function Component() {
  const mine = useStream<Events>({ rooms: "a" });
  useEvent(mine, "price", ({ data }) => data.bid.toFixed());
  const status: Status | undefined = useStatus(mine);
  return [status, usePresence(mine, "a").total];
}

const { status, on } = useVueStream<Events>(() => ({ rooms: "a" }));
on("notice", ({ data }) => data.length);
status.value?.state;

export { Component, answer, iterate };
