/**
 * Tells the others whether somebody sits in front of this page: `online`, or `idle` after a minute without a key or a touch,
 * or when the page is not seen.
 */
import { token } from "/api.js";

const IDLE_MS = 60_000;

/** Shows the status in `room`, for as long as the stream is open. */
export function tellActivity(stream, room) {
  let lastAt = Date.now();
  let told = null;
  // Other tabs of the same user: one that is used is enough.
  const tabs = new BroadcastChannel("activity");
  tabs.onmessage = () => note(false);

  const tell = async () => {
    const status = Date.now() - lastAt < IDLE_MS ? "online" : "idle";
    if (status == told || stream.status.state != "open") return;
    told = status;
    const headers = { "content-type": "application/json", authorization: `Bearer ${await token()}` };
    const body = JSON.stringify({ data: { status } });
    const answer = await fetch(`/api/v1/sse/presence/${room}`, { method: "PUT", headers, body }).catch(() => null);
    // The next look tries again.
    if (!answer?.ok) told = null;
  };
  const note = (isHere = true) => {
    if (isHere && Date.now() - lastAt > 5000) tabs.postMessage("active");
    lastAt = Date.now();
    tell();
  };
  for (const type of ["pointerdown", "keydown", "focus"]) addEventListener(type, () => note());
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState == "visible") return note();
    lastAt = 0;
    tell();
  });
  setInterval(tell, 5000);
  // What a member shows ends with the membership, and a new one begins without.
  stream.watch(({ state }) => {
    if (state == "open") tell();
    else told = null;
  });
}
