// A Server-Sent Events hub as tutorials for Node teach it: a set of responses for each room, a `write` for each listener.
//
// One process, as in the tutorials. The cluster module would use more cores, but its workers share no rooms: each publish
// would have to reach them all through something else.
import { createServer } from "node:http";

const [host, port] = process.argv[2].split(":");
const rooms = new Map();

function listen(room, response) {
  response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write("event: connected\ndata: {}\n\n");
  if (!rooms.has(room)) rooms.set(room, new Set());
  const listeners = rooms.get(room);
  listeners.add(response);
  response.on("close", () => listeners.delete(response));
}

function publish({ room, data }) {
  const event = `data: ${data}\n\n`;
  for (const listener of rooms.get(room) ?? []) listener.write(event);
}

async function receive(request, response) {
  let body = "";
  request.setEncoding("utf8");
  for await (const part of request) body += part;
  const events = JSON.parse(body);
  for (const event of Array.isArray(events) ? events : [events]) publish(event);
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": 2 }).end("{}");
}

const server = createServer((request, response) => {
  const [, , , , kind, room] = request.url.split("/");
  if (request.method === "GET" && kind === "stream") return listen(room, response);
  if (request.method === "POST" && kind === "publish") {
    return receive(request, response).catch((error) => response.writeHead(400).end(String(error)));
  }
  response.writeHead(404).end();
});

// The default backlog of 511 overflows when thousands arrive at once: each of those would wait a second for its second SYN.
server.listen({ host, port: Number(port), backlog: 4096 });
