/**
 * Requests to the application, and the token for Tidegate.
 */

/**
 * Sends a request to the application. With a `body` it is a POST of that as JSON, with a `file` one of the file as it is.
 *
 * Rejects with an error that has a `code` if the application refuses.
 */
export async function api(path, { body, file, method = body || file ? "POST" : "GET" } = {}) {
  const headers = body ? { "content-type": "application/json" } : {};
  const answer = await fetch(`/app/${path}`, { method, headers, body: file ?? (body && JSON.stringify(body)) });
  if (answer.ok) return answer.status == 204 ? null : answer.json();
  const problem = await answer.json().catch(() => ({ code: "internal", title: answer.statusText }));
  throw Object.assign(Error(problem.title), { code: problem.code, status: answer.status });
}

/** Runs `run` until it succeeds or is refused: for what a page cannot do without, such as loading again after a gap. */
export async function untilDone(run) {
  for (let pauseMs = 500; ; pauseMs = Math.min(2 * pauseMs, 10_000)) {
    try {
      return await run();
    } catch (error) {
      // Without a status there was no answer.
      if (error.status < 500 && error.status != 429) throw error;
    }
    await new Promise((go) => setTimeout(go, pauseMs));
  }
}

/** A name for a message that nobody has used: a retry has the same, and is one message. */
export function newKey() {
  // `crypto.randomUUID` is missing on a page without https, such as on a phone that looks at this machine.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

let held = null;
let endsAt = 0;

/**
 * A token for Tidegate. `connect({ token })` calls this when it needs one, and says why: the one before was refused or ends
 * soon, or the stream connects anew. Only in the last case the one that is held will do.
 */
export async function token(why = "connect") {
  if (why != "connect" || Date.now() > endsAt) {
    const { token, expires_in_s } = await api("token", { method: "POST" });
    held = token;
    endsAt = Date.now() + (expires_in_s - 60) * 1000;
  }
  return held;
}
