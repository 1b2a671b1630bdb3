// Chromium without a window, driven through the DevTools protocol over a pipe; needs no package. `BIPO_CHROMIUM` names another
// program than `chromium`.

import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

const FLAGS = `--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
  --disable-component-update --disable-sync --hide-scrollbars --remote-debugging-pipe`.split(/\s+/);
const KEYS = {
  Tab: 9,
  Enter: 13,
  Escape: 27,
  " ": 32,
  End: 35,
  Home: 36,
  ArrowLeft: 37,
  ArrowUp: 38,
  ArrowRight: 39,
  ArrowDown: 40,
};

/** Waits until `holds` tells true; fails after some seconds. */
export async function until(holds, what, seconds = 20) {
  const end = Date.now() + 1000 * seconds;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`not true after ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export class Browser {
  #next = 1;
  #waiting = new Map();
  #listeners = [];

  static async open() {
    const browser = new Browser();
    browser.profile = await mkdtemp(join(tmpdir(), "bipo-chromium-"));
    const program = process.env.BIPO_CHROMIUM ?? "chromium";
    const args = [...FLAGS, `--user-data-dir=${browser.profile}`, "about:blank"];
    browser.child = spawn(program, args, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.ended = new Promise((resolve, reject) => {
      browser.child.on("exit", resolve);
      browser.child.on("error", (error) => reject(new Error(`${program}: ${error.message}: install Chromium`)));
    });
    browser.#read(browser.child.stdio[4]);
    return browser;
  }

  #read(pipe) {
    let rest = "";
    pipe.setEncoding("utf8");
    pipe.on("data", (chunk) => {
      const messages = (rest + chunk).split("\0");
      rest = messages.pop();
      for (const message of messages.map((text) => JSON.parse(text))) {
        if (message.method) for (const listener of this.#listeners) listener(message);
        const waiting = this.#waiting.get(message.id);
        this.#waiting.delete(message.id);
        if (message.error) waiting?.reject(new Error(message.error.message));
        else waiting?.resolve(message.result);
      }
    });
  }

  send(method, params = {}, sessionId) {
    const id = this.#next++;
    this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  on(listener) {
    this.#listeners.push(listener);
  }

  /** Opens a page of its own, and collects what goes wrong in it. */
  async page() {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page(this, sessionId);
    for (const domain of ["Page", "Runtime", "Log", "Network", "DOM", "Accessibility"]) await page.send(`${domain}.enable`);
    return page;
  }

  async close() {
    await this.send("Browser.close").catch(() => {});
    await this.ended;
    await rm(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  /** Messages of the console, exceptions and violations of the content-security policy. */
  problems = [];
  /** Requests that the page made. */
  requests = [];

  constructor(browser, session) {
    this.browser = browser;
    this.session = session;
    browser.on(({ sessionId, method, params }) => {
      if (sessionId !== session) return;
      if (method === "Runtime.exceptionThrown")
        this.problems.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
      if (method === "Runtime.consoleAPICalled") this.problems.push(params.args.map(({ value }) => value).join(" "));
      if (method === "Log.entryAdded")
        this.problems.push(`${params.entry.source}: ${params.entry.text} ${params.entry.url ?? ""}`);
      if (method === "Network.requestWillBeSent") this.requests.push(params.request.url);
    });
  }

  send(method, params) {
    return this.browser.send(method, params, this.session);
  }

  /** Evaluates an expression in the page. */
  async value(expression) {
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", {
      expression,
      returnByValue: true,
      awaitPromise: true,
    });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  /** Waits until an expression is true; fails after some seconds. */
  until(expression, seconds) {
    return until(() => this.value(`!!(${expression})`), expression, seconds);
  }

  close() {
    return this.send("Page.close");
  }

  async open(url) {
    await this.send("Page.navigate", { url: "about:blank" });
    await this.until("location.href === 'about:blank'");
    await this.send("Page.navigate", { url });
    await this.until("document.documentElement?.dataset.ready");
  }

  size(width, height) {
    return this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
  }

  prefer(scheme) {
    return this.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
  }

  /** Presses a key: one of KEYS. */
  async key(key, modifiers = 0) {
    const event = { key, code: key === " " ? "Space" : key, windowsVirtualKeyCode: KEYS[key], modifiers };
    const text = { Enter: "\r", " ": " " }[key];
    await this.send("Input.dispatchKeyEvent", { type: text ? "keyDown" : "rawKeyDown", text, ...event });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...event });
  }

  type(text) {
    return this.send("Input.insertText", { text });
  }

  /** Moves the pointer to the middle of the first element of a selector. → where that is */
  async hover(selector) {
    const [x, y] = await this.value(`(() => {
      const element = document.querySelector(${JSON.stringify(selector)});
      element.scrollIntoView({ block: "center" });
      const { x, y, width, height } = element.getBoundingClientRect();
      return [x + width / 2, y + height / 2];
    })()`);
    await this.send("Input.dispatchMouseEvent", { type: "mouseMoved", x, y });
    return [x, y];
  }

  /** Clicks the middle of the first element of a selector, twice for a double click. */
  async click(selector, times = 1) {
    const [x, y] = await this.hover(selector);
    for (let clickCount = 1; clickCount <= times; clickCount++) {
      for (const type of ["mousePressed", "mouseReleased"])
        await this.send("Input.dispatchMouseEvent", { type, x, y, button: "left", clickCount });
    }
  }

  /** Writes a picture of the window. */
  async screenshot(path) {
    const { data } = await this.send("Page.captureScreenshot", { format: "png" });
    await writeFile(path, data, "base64");
  }
}
