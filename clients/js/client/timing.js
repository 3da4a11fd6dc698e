/**
 * Times and counts of a stream that nobody sets.
 */

/** Timers of browsers end at once past this. */
export const TIMER_MAX_MS = 0x7fffffff;
/** How often an open stream is looked after. One that ends sooner did not hold. */
export const TICK_MS = 1000;
/** So many streams in a row that did not hold, and something on the way holds streams back. */
export const SHORTS = 3;
export const POLLS_FOR_MS = 300_000;
