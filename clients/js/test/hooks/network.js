// Answers that a suite writes, for streams that a component opens.

import { Request, settled } from "../unit/world.js";

export function network() {
  const requests = [];
  return {
    requests,
    /** Requests that are open. */
    open: () => requests.filter((request) => !request.isAborted),
    fetch: (url, init) => {
      const request = new Request(url, init);
      requests.push(request);
      return request.answer;
    },
  };
}

export { settled };
