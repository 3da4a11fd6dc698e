// Prints an event stream as the http and zlib modules decode it.
import http from "node:http";
import zlib from "node:zlib";

const headers = { accept: "text/event-stream", "accept-encoding": "gzip" };
http.get(process.argv[2], { headers }, response => {
  console.log(`content-encoding: ${response.headers["content-encoding"]}`);
  // The stream has no trailer. Without this, its end would be an error.
  const gunzip = zlib.createGunzip({ finishFlush: zlib.constants.Z_SYNC_FLUSH });
  response.pipe(gunzip).pipe(process.stdout);
});
