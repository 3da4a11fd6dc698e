import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Notifications } from "./Notifications.jsx";
import "./style.css";

// Whose inbox it is. In your application the token or the session's cookie says that, and the page cannot choose.
const user = new URLSearchParams(location.search).get("user") ?? "ann";

createRoot(document.querySelector("#app")).render(
  <StrictMode>
    <Notifications user={user} />
  </StrictMode>,
);
