// Prints an event stream as fetch decodes it.
const response = await fetch(process.argv[2], { headers: { accept: "text/event-stream" } });
console.log(`content-encoding: ${response.headers.get("content-encoding")}`);
for await (const bytes of response.body) process.stdout.write(bytes);
