/**
 * One stream for all tabs. So far each tab has its own: to those who read it, this is `send`.
 */
export { send as default } from "./request.js";
