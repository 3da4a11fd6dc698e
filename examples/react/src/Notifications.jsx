import { useState } from "react";
import { useEvent, useStatus, useStream } from "tidegate/react";

/** The inbox of `user`: the newest twenty, and what comes. */
export function Notifications({ user }) {
  const [notices, setNotices] = useState([]);
  const [isIncomplete, setIncomplete] = useState(false);
  const stream = useStream({
    user,
    history: 20,
    // Some are missing for good. Your application would load the inbox from its database here.
    onGap: () => setIncomplete(true),
  });
  const status = useStatus(stream);
  // The id is the event's place in the order: a good key.
  useEvent(stream, "notice", ({ id, data }) => setNotices((all) => [{ id, text: data.text, isRead: false }, ...all].slice(0, 100)));

  const unread = notices.filter(({ isRead }) => !isRead).length;
  const markRead = (ids) => setNotices((all) => all.map((one) => (ids.includes(one.id) ? { ...one, isRead: true } : one)));
  return (
    <>
      <header>
        <h1>Notifications</h1>
        <p role="status">{unread} unread</p>
        <button disabled={!unread} onClick={() => markRead(notices.map(({ id }) => id))}>
          Mark all as read
        </button>
        <p className="state">{status?.state ?? "idle"}</p>
      </header>
      {isIncomplete && <p className="hint">Some older notifications are missing.</p>}
      {!notices.length && <p className="hint">Nothing yet.</p>}
      <ul>
        {notices.map(({ id, text, isRead }) => (
          <li key={id} className={isRead ? "" : "unread"}>
            {text}
            {!isRead && <button onClick={() => markRead([id])}>Mark as read</button>}
          </li>
        ))}
      </ul>
    </>
  );
}
