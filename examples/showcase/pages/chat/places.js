/**
 * Places: a room such as `chat-lobby`, or `@` and a name for a private conversation.
 */
import { t } from "/i18n.js";

/** A place as people call it. */
export function nameOf(place) {
  return place.startsWith("@") ? place.slice(1) : t(`chat.room.${place.slice("chat-".length)}`);
}

/** The path of a place on the application's server. */
export const pathOf = (place) => `chat/${encodeURIComponent(place)}`;
