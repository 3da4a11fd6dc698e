/**
 * Tells the others whether somebody sits in front of this page: `online`, or `idle` after a minute without a key or a touch,
 * or when the page is not seen.
 */
import { presence, show } from "/api/v1/sse/client/presence.js";
import { token } from "/api.js";

const IDLE_MS = 60_000;

/** Shows the status of `user` in `room`, for as long as the stream is open. */
export function tellActivity(stream, room, user) {
  let usedAt = Date.now();
  // Other tabs of the same user: one that is used is enough.
  let usedElsewhereAt = 0;
  const tabs = new BroadcastChannel("activity");
  tabs.onmessage = () => {
    usedElsewhereAt = Date.now();
    tell();
  };

  let told = null;
  let isTelling = false;
  let isDoubted = false;
  const now = () => (Date.now() - Math.max(usedAt, usedElsewhereAt) < IDLE_MS ? "online" : "idle");
  const tell = async () => {
    const status = now();
    // One after the other: of two at once, the server might take the older one last.
    if (status == told || isTelling || stream.status.state != "open") return;
    isTelling = true;
    isDoubted = false;
    try {
      await show("/api/v1/sse", room, { status }, { token: await token() });
      told = status;
    } catch {
      // The next look tries again.
    }
    isTelling = false;
    if (told != status) return;
    if (isDoubted) told = null;
    tell();
  };
  const note = () => {
    if (Date.now() - usedAt > 5000) tabs.postMessage("used");
    usedAt = Date.now();
    tell();
  };
  for (const type of ["pointerdown", "keydown", "focus"]) addEventListener(type, note);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState == "visible") return note();
    usedAt = 0;
    tell();
  });
  setInterval(tell, 5000);
  // What a member shows ends with the membership, and a new one begins without.
  stream.watch(({ state }) => {
    if (state == "open") tell();
    else told = null;
  });
  // All tabs show one status, and the last one counts. A tab that is used has the last word: an idle one says it only once.
  presence(stream, room).watch(({ members }) => {
    if (members.get(user)?.status != "idle" || now() != "online") return;
    isDoubted = true;
    told = null;
    tell();
  });
}
