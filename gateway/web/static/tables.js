// Queries, events, keys and workers.

import { fill, make, mark, parts, say } from "./elements.js";
import { SOON } from "./troubles.js";
import { bytes, clock, count, day, duration, listed, milliseconds, number, share } from "./words.js";

const SHORT = 12;
const EVENTS = 60;
const AT_ONCE = 4;
const COLUMNS = {
  name: { title: "query", value: (row) => row.name, shown: (row) => row.name },
  rate: { title: "calls/s", value: (row) => row.rate, shown: (row) => (row.rate === null ? "–" : number(row.rate)) },
  p50: { title: "p50", value: (row) => row.p50, shown: (row) => milliseconds(row.p50) },
  p99: { title: "p99", value: (row) => row.p99, shown: (row) => milliseconds(row.p99) },
  failed: { title: "failed", value: (row) => row.failed, shown: (row) => share(row.failed) },
  refused: { title: "refused", value: (row) => row.refused, shown: (row) => share(row.refused) },
  batch: { title: "joined", value: (row) => row.batch, shown: (row) => (row.batch === null ? "–" : `× ${row.batch.toFixed(1)}`) },
  hits: { title: "cached", value: (row) => row.hits, shown: (row) => (row.hits === null ? "–" : share(row.hits)) },
  calls: { title: "all calls", value: (row) => row.calls, shown: (row) => row.calls.toLocaleString("en") },
};
const MEANS = {
  name: "Named query",
  rate: "Calls a second",
  p50: "Half of the calls were answered within",
  p99: "99 of 100 calls were answered within",
  failed: "Answered with a status of 500 or more",
  refused: "Answered with a status of 400 to 499: what the caller sent is wrong",
  batch: "Calls answered by one statement, where calls are joined",
  hits: "Answered from what was kept, or together with a call that ran",
  calls: "Since the node began",
};

export class QueryTable {
  #head = document.getElementById("columns");
  #body = document.getElementById("queries");
  #more = document.getElementById("more");
  #sorted = { by: "rate", down: true };
  #isLong = false;
  #rates = null;

  constructor() {
    this.#more.addEventListener("click", () => {
      this.#isLong = !this.#isLong;
      this.show(this.#rates);
    });
  }

  show(rates) {
    this.#rates = rates;
    const rows = new Map(rates.names.map((name) => [name, { name, ...rates.of(name) }]));
    const all = [...rows.values()];
    const columns = Object.keys(COLUMNS).filter((key) => !["batch", "hits"].includes(key) || all.some((row) => row[key] !== null));
    fill(this.#head, columns, (key) => this.#header(key), (cell, key) => this.#showHeader(cell, key));
    const names = this.#ordered(all).map((row) => row.name);
    const shown = this.#isLong ? names : names.slice(0, SHORT);
    fill(this.#body, shown, () => make("tr", { role: "row" }), (line, name) => showRow(line, columns, rows.get(name)));
    document.getElementById("quiet").hidden = all.length > 0;
    this.#head.parentElement.parentElement.hidden = all.length === 0;
    this.#more.hidden = names.length <= SHORT;
    mark(this.#more, "aria-expanded", String(this.#isLong));
    say(this.#more, this.#isLong ? "Show fewer" : `Show all ${names.length}`);
    say(document.getElementById("span"), rates.seconds > 0 ? `in the last ${duration(rates.seconds)}` : "");
  }

  #ordered(rows) {
    const { value } = COLUMNS[this.#sorted.by];
    const sign = this.#sorted.down ? -1 : 1;
    return rows.sort((one, other) => {
      const [mine, theirs] = [value(one), value(other)].map((each) => each ?? -1);
      const order = typeof mine === "string" ? mine.localeCompare(theirs) : mine - theirs;
      return sign * order || other.calls - one.calls || one.name.localeCompare(other.name);
    });
  }

  #header(key) {
    const button = make("button", { type: "button", title: MEANS[key] }, COLUMNS[key].title);
    button.addEventListener("click", () => {
      this.#sorted = { by: key, down: this.#sorted.by === key ? !this.#sorted.down : key !== "name" };
      this.show(this.#rates);
    });
    return make("th", { scope: "col", role: "columnheader" }, button);
  }

  #showHeader(cell, key) {
    const sort = this.#sorted.by !== key ? "none" : this.#sorted.down ? "descending" : "ascending";
    mark(cell, "aria-sort", sort);
  }
}

function showRow(line, columns, row) {
  fill(
    line,
    columns,
    (key) => (key === "name" ? make("th", { scope: "row", role: "rowheader" }) : make("td", { role: "cell", "data-title": COLUMNS[key].title })),
    (cell, key) => {
      say(cell, COLUMNS[key].shown(row));
      const isBad = key === "failed" && row.failed > 0;
      mark(cell, "data-level", isBad ? "bad" : row.lately === 0 && key !== "name" && key !== "calls" ? "quiet" : "");
    },
  );
}

const LEVELS = { 20: "info", 30: "warning", 40: "error" };

// The newest first. Of many requests in a row that ended alike a few are shown, so that they do not hide the others.
export function showEvents(events, now) {
  const lines = new Map();
  let run = [];
  for (const event of events.slice().reverse()) {
    run = run[0]?.event === event.event && event.event.startsWith("request_") ? [...run, event] : [event];
    if (run.length > AT_ONCE) lines.set(`more than ${keyOf(run[0])}`, { more: run.length - AT_ONCE });
    else if (lines.size < EVENTS) lines.set(keyOf(event), { event });
  }
  fill(
    document.getElementById("events"),
    [...lines.keys()],
    (key) => (lines.get(key).event === undefined ? make("li", { class: "muted" }) : eventLine(lines.get(key).event)),
    (item, key) => {
      const { event, more } = lines.get(key);
      if (event === undefined) say(item, `and ${more} more of this kind`);
      else mark(item, "data-new", String(now - event.at < 10));
    },
  );
  document.getElementById("calm").hidden = lines.size > 0;
}

export function keyOf(event) {
  return `${event.at} ${event.event} ${event.text}`;
}

function eventLine(event) {
  const level = LEVELS[event.level] ?? "info";
  const time = make("time", { datetime: new Date(event.at * 1000).toISOString(), title: day(event.at) }, clock(event.at));
  return make("li", { "data-level": level }, time, make("span", { class: "unseen" }, `${level}: `), make("span", { class: "text" }, event.text));
}

export function showKeys(told) {
  document.getElementById("keys-section").hidden = told.health.authentication.keys === undefined;
  const soon = new Map(told.keys.filter((key) => key.expires - told.at < SOON).map((key) => [key.key, key]));
  fill(
    document.getElementById("keys"),
    [...soon.keys()],
    (name) => make("li", {}, make("span", { class: "name" }, name), make("span", { "data-part": "left" }), make("span", { class: "muted", "data-part": "used" })),
    (item, name) => {
      const { expires, used } = soon.get(name);
      const part = parts(item);
      const left = expires - told.at;
      mark(item, "data-level", left <= 0 ? "bad" : left < 3 * 86400 ? "warn" : "ok");
      say(part.left, left <= 0 ? `expired ${day(expires)}` : `expires in ${duration(left)}, ${day(expires)}`);
      say(part.used, used === null ? "not used since the node began" : `last used ${duration(told.at - used)} ago`);
    },
  );
  document.getElementById("lasting").hidden = soon.size > 0;
}

export function showWorkers(told) {
  const workers = new Map(told.health.workers.map((worker) => [String(worker.pid), worker]));
  fill(
    document.getElementById("workers"),
    [...workers.keys()],
    (pid) => make("li", {}, make("span", { class: "name" }, `process ${pid}`), make("span", { class: "muted", "data-part": "does" })),
    (item, pid) => {
      const worker = workers.get(pid);
      const isSilent = worker.checked_ms_ago > 3000;
      mark(item, "data-level", isSilent ? "bad" : worker.draining ? "warn" : "ok");
      const does = [count(worker.in_flight, "request"), `serves for ${duration(worker.age_s)}`];
      if (worker.draining) does.push("ends");
      if (isSilent) does.push(`silent for ${milliseconds(worker.checked_ms_ago)}`);
      say(parts(item).does, does.join(" · "));
    },
  );
  const processes = Object.values(told.processes);
  const memory = listed(processes.map((process) => bytes(process.memory)));
  const late = Math.max(0, ...processes.map((process) => process.loop_lag_ms));
  say(document.getElementById("processes"), `${memory} of memory. Late by at most ${milliseconds(late)} in the last 10 s.`);
}
