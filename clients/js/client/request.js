/**
 * One request: where it goes, what it carries, and what a refusal says.
 */

/**
 * How to reach the server.
 *
 * @typedef {object} Reach
 * @property {string} [url] the server's base path or URL, `/api/v1/sse` unless given
 * @property {typeof fetch} [fetch]
 * @property {RequestCredentials} [credentials] `include` sends cookies to another origin
 * @property {Record<string, string>} [headers]
 */

/**
 * A refusal. `code` is the server's (docs/api.md, Errors), and does not change; the message is for people.
 *
 * @typedef {Error & { status: number, code: string, retryMs: number, detail?: string, field?: string, index?: number }} TidegateError
 */

/**
 * Sends a request and returns its answer if that is a success. With a `body` it is a POST of that as JSON.
 *
 * @param {Reach} reach
 * @param {string} path below the base path
 * @param {string | null | undefined} token
 * @param {{ signal?: AbortSignal, body?: object, method?: string, headers?: Record<string, string> | "" }} [more]
 * @returns {Promise<Response>} rejects with a {@link TidegateError} if the server refuses
 */
export async function send(reach, path, token, { signal, body, method = body && "POST", headers } = {}) {
  const { url = "/api/v1/sse", credentials } = reach;
  const answer = await (reach.fetch ?? fetch)(url + path, {
    method,
    body: JSON.stringify(body),
    // Two tabs that ask for the same may otherwise wait for each other at the browser's cache.
    cache: "no-store",
    credentials,
    signal,
    headers: {
      ...(body ? { "content-type": "application/json" } : { accept: "text/event-stream" }),
      ...(token && { authorization: "Bearer " + token }),
      ...reach.headers,
      ...headers,
    },
  });
  if (answer.ok) return answer;
  const { status } = answer;
  const problem = await answer.json().catch(() => {});
  const retryMs = /** @type {any} */ (answer.headers.get("retry-after")) * 1000 || 0;
  throw Object.assign(Error(problem?.title ?? status), { code: "" + status, ...problem, status, retryMs });
}
