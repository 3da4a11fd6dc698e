/**
 * A composable for Vue 3.3 and later.
 */

import { getCurrentInstance, onMounted, shallowRef, toValue, watch } from "vue";

import { connect } from "../client.js";

/**
 * A stream for as long as the component, or the effect scope, lives. In a component it opens when that is mounted, so on a
 * server none opens. When the options change, a new stream takes the place of the old one.
 *
 * @template {Record<string, any>} [E=Record<string, any>]
 * @param {import("vue").MaybeRefOrGetter<import("./stream.js").Options>} options
 * @returns {{
 *   stream: import("vue").ShallowRef<import("./stream.js").Stream<E> | undefined>,
 *   status: import("vue").ShallowRef<import("./stream.js").Status | undefined>,
 *   on: import("./stream.js").Stream<E>["on"],
 * }} `on` is for this stream and for those that take its place, as long as the component lives
 */
export function useStream(options) {
  /** @type {import("vue").ShallowRef<import("./stream.js").Stream<any> | undefined>} */
  const stream = shallowRef();
  /** @type {import("vue").ShallowRef<import("./stream.js").Status | undefined>} */
  const status = shallowRef();

  const open = () => {
    watch(
      () => toValue(options),
      (now, _, clean) => {
        const opened = (stream.value = connect(now));
        status.value = opened.status;
        const off = opened.watch((news) => (status.value = news));
        clean(() => {
          opened.close();
          off();
        });
      },
      { immediate: true, deep: true },
    );
  };
  if (getCurrentInstance()) onMounted(open);
  else open();

  return {
    stream,
    status,
    on: (type, listener, how) =>
      // At once, because the stream begins with the next microtask.
      watch(stream, (now, _, clean) => now && clean(now.on(type, listener, how)), { immediate: true, flush: "sync" }),
  };
}
