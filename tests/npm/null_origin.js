// Subscribes from a sandboxed frame in Firefox, whose origin is `null`, to each given URL, and prints the results.
import puppeteer from "puppeteer-core";

const [executablePath, ...urls] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const page = await browser.newPage();
  const found = await page.evaluate((urls) => new Promise((resolve) => {
    addEventListener("message", ({ data, origin }) => resolve({ origin, found: data }), { once: true });
    const listen = (url) => new Promise((resolve) => {
      const source = new EventSource(url);
      source.addEventListener("connected", () => { source.close(); resolve("connected"); });
      source.onerror = () => { if (source.readyState === EventSource.CLOSED) resolve("closed"); };
    });
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-scripts";
    const call = `Promise.all(${JSON.stringify(urls)}.map(${listen})).then((found) => parent.postMessage(found, "*"))`;
    frame.srcdoc = `<script>${call}<` + "/script>";
    document.body.append(frame);
  }), urls);
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
