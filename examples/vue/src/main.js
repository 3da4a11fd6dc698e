import { createApp } from "vue";
import Notifications from "./Notifications.vue";
import "./style.css";

// Whose inbox it is. In your application the token or the session's cookie says that, and the page cannot choose.
const user = new URLSearchParams(location.search).get("user") ?? "ann";

createApp(Notifications, { user }).mount("#app");
