import { defineConfig } from "vite";
import react from "@vitejs/plugin-react";

// What nginx does in production: the page and Tidegate have one origin.
const proxy = {
  "/api/v1/sse": {
    target: process.env.TIDEGATE_URL ?? "http://127.0.0.1:8080",
    // When Tidegate ends in the middle of a stream, the page's stream ends, too. Vite alone would leave it open and silent.
    configure: (proxy) => proxy.on("proxyRes", (answer, _, page) => answer.on("close", () => answer.complete || page.destroy())),
  },
};

export default defineConfig({
  plugins: [react()],
  server: { proxy },
  preview: { proxy },
});
