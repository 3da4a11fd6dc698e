/**
 * Tells the others whether somebody sits in front of this page: `online`, or `idle` after a minute without a key or a touch,
 * or when the page is not seen.
 */
import { show } from "/api/v1/sse/client/presence.js";
import { token } from "/api.js";

const IDLE_MS = 60_000;

/** Shows the status in `room`, for as long as the stream is open. */
export function tellActivity(stream, room) {
  let lastAt = Date.now();
  let told = null;
  // Other tabs of the same user: one that is used is enough.
  const tabs = new BroadcastChannel("activity");
  tabs.onmessage = () => note(false);

  let isTelling = false;
  const tell = async () => {
    const status = Date.now() - lastAt < IDLE_MS ? "online" : "idle";
    // One after the other: of two at once, the server might take the older one last.
    if (status == told || isTelling || stream.status.state != "open") return;
    isTelling = true;
    try {
      await show("/api/v1/sse", room, { status }, { token: await token() });
      told = status;
    } catch {
      // The next look tries again.
    }
    isTelling = false;
    if (told == status) tell();
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
