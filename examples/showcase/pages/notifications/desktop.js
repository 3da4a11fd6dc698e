/**
 * The browser's own notifications, after the user has agreed to them.
 */
import { t } from "/i18n.js";

/** Lets `button` ask for consent. Returns a function that shows a notice while nobody looks at this page. */
export function prepareDesktop(button, state) {
  const isThere = "Notification" in window;
  const show = () => {
    const permission = isThere ? Notification.permission : "denied";
    // Browsers show their question only after a click, and only once.
    button.hidden = permission != "default";
    state.textContent = { granted: t("notifications.desktop.on"), denied: t("notifications.desktop.off"), default: "" }[permission];
  };
  button.onclick = async () => {
    await Notification.requestPermission();
    show();
  };
  show();
  return ({ id, from, text }) => {
    if (!isThere || Notification.permission != "granted" || document.visibilityState == "visible") return;
    try {
      // Of several tabs with the same tag, one is shown.
      new Notification(from, { body: text, tag: `notice-${id}`, icon: "/icon.svg" }).onclick = () => focus();
    } catch {
      // On Android only a service worker may show them.
    }
  };
}
