// The rotation: groups of connections, the servers, and lines between them where work goes.

import { Chart } from "./charts.js";
import { draw, fill, make, mark, parts, say } from "./elements.js";
import { count, duration, milliseconds, reason } from "./words.js";

const WIDE = matchMedia("(min-width: 46rem)");

export class RotationView {
  #place = document.getElementById("rotation");
  #groups = document.getElementById("groups");
  #endpoints = document.getElementById("endpoints");
  #wires = document.getElementById("wires");
  #charts = new Map();
  #links = [];

  constructor() {
    new ResizeObserver(() => this.#draw()).observe(this.#place);
  }

  show(told, samples) {
    const { groups, endpoints } = told.health;
    this.#links = Object.entries(groups).flatMap(([name, group]) => links(name, group, told));
    fill(this.#groups, Object.keys(groups), groupCard, (card, name) => this.#showGroup(card, name, groups[name]));
    fill(
      this.#endpoints,
      Object.keys(endpoints),
      (name) => this.#endpointCard(name),
      (card, name) => this.#showEndpoint(card, name, endpoints[name], samples.get(name) ?? [], told.at),
    );
    for (const name of this.#charts.keys()) if (!(name in endpoints)) this.#charts.delete(name);
    this.#draw();
  }

  #showGroup(card, name, group) {
    const part = parts(card);
    mark(card, "data-level", group.status !== "ready" ? "bad" : group.waiting > 0 && group.max_wait_ms >= 100 ? "warn" : "ok");
    say(part.name, name);
    say(part.access, group.access === "write" ? "writes" : "reads");
    for (const kind of ["leased", "idle", "empty"]) part[kind].style.flexGrow = group[kind];
    say(part.counts, `${group.leased} in use, ${group.idle} idle, ${group.size} at most`);
    const waits = group.waiting > 0;
    mark(part.queue, "data-waits", String(waits));
    say(
      part.queue,
      waits ? `${count(group.waiting, "call waits", "calls wait")}, the first for ${milliseconds(group.max_wait_ms)}` : "nobody waits",
    );
    const mine = this.#links.filter((link) => link.group === name);
    fill(
      part.servers,
      mine.map((link) => link.endpoint),
      () => make("li"),
      (item, endpoint) => {
        const link = mine.find((each) => each.endpoint === endpoint);
        mark(item, "data-state", link.state);
        say(item, link.state === "serves" ? endpoint : `${endpoint}: ${link.why}`);
      },
    );
  }

  #endpointCard(name) {
    const card = make("li", { class: "card endpoint" });
    const part = (tag, key, more = {}) => make(tag, { "data-part": key, ...more });
    card.append(
      make("h3", {}, part("span", "name"), part("span", "role", { class: "badge" })),
      part("p", "state", { class: "state" }),
      part("p", "message", { class: "message" }),
      make(
        "div",
        { class: "charts" },
        ...["ping", "lag"].map((key) =>
          make(
            "figure",
            { class: "chart", "data-part": `${key}Chart` },
            make("figcaption", {}, key, part("span", `${key}Value`, { class: "value" }), part("span", `${key}Range`, { class: "muted range" })),
            part("div", `${key}Plot`, { class: "plot", role: "img" }),
          ),
        ),
      ),
      part("p", "facts", { class: "muted facts" }),
    );
    return card;
  }

  #showEndpoint(card, name, endpoint, samples, now) {
    const part = parts(card);
    const { word, hint } = reason(endpoint.reason);
    mark(card, "data-level", endpoint.in_rotation ? "ok" : endpoint.reason === "drained" ? "warn" : "bad");
    say(part.name, name);
    say(part.role, endpoint.role ?? "role not known");
    const since = duration(now - Date.parse(endpoint.since) / 1000);
    say(part.state, endpoint.in_rotation ? `in the rotation, for ${since}` : `out of the rotation, for ${since}: ${word}`);
    const message = endpoint.in_rotation ? "" : endpoint.message && endpoint.reason !== "drained" ? endpoint.message : hint;
    part.message.hidden = !message;
    say(part.message, message);
    part.lagChart.hidden = endpoint.role !== "replica" && !samples.some((sample) => sample[2] !== null);
    const facts = [
      endpoint.server_version ? `PostgreSQL ${endpoint.server_version}` : null,
      endpoint.timeline ? `timeline ${endpoint.timeline}` : null,
      endpoint.wal === "unavailable" ? "tells no WAL position" : null,
      endpoint.closing > 0 ? `${count(endpoint.closing, "session")} given up, not ended` : null,
    ];
    say(part.facts, facts.filter(Boolean).join(" · "));
    const latest = { ping: endpoint.ping?.ok ? endpoint.ping.ms : null, lag: endpoint.ping?.ok ? endpoint.lag_ms : null };
    if (!this.#charts.has(name)) this.#charts.set(name, charts(part));
    const out = samples.filter((sample) => !sample[3]).length;
    for (const [key, index] of [["ping", 1], ["lag", 2]]) {
      const chart = this.#charts.get(name)[key];
      const known = samples.map((sample) => sample[index]).filter((value) => value !== null);
      const [least, most] = [Math.min(...known), Math.max(...known)].map(milliseconds);
      const range = known.length === 0 ? "no figures" : least === most ? `always ${least}` : `${least} to ${most}`;
      chart.latest = milliseconds(latest[key]);
      if (!chart.isRead) say(part[`${key}Value`], chart.latest);
      say(part[`${key}Range`], range);
      const away = out > 0 ? `; out of the rotation for ${out} of ${samples.length} seconds` : "";
      if (!part[`${key}Chart`].hidden) chart.plot.show(samples, now, `${key} of ${name} in the last five minutes: ${range}${away}`);
    }
  }

  // Lines from groups to servers, where there is room beside each other; else the groups name their servers alone.
  #draw() {
    if (!WIDE.matches) return;
    const place = this.#wires.getBoundingClientRect();
    mark(this.#wires, "viewBox", `0 0 ${Math.round(place.width)} ${Math.round(place.height)}`);
    const card = (list, name) => [...list.children].find((each) => each.dataset.key === name)?.getBoundingClientRect();
    const lines = this.#links.map((link) => ({ ...link, key: `${link.group} to ${link.endpoint}` }));
    const shown = new Map(lines.map((line) => [line.key, line]));
    fill(
      this.#wires,
      [...shown.keys()].sort((one, other) => shown.get(one).state.localeCompare(shown.get(other).state)), // what serves on top
      () => draw("path"),
      (path, key) => {
        const line = shown.get(key);
        const [from, to] = [card(this.#groups, line.group), card(this.#endpoints, line.endpoint)];
        if (from === undefined || to === undefined) return;
        const ends = (all, mine, rect) => rect.top - place.top + (rect.height * (all.indexOf(mine) + 1)) / (all.length + 1);
        const y1 = ends(lines.filter((each) => each.group === line.group).sort(by(this.#endpoints, "endpoint")), line, from);
        const y2 = ends(lines.filter((each) => each.endpoint === line.endpoint).sort(by(this.#groups, "group")), line, to);
        const [x1, x2] = [from.right - place.left, to.left - place.left];
        const bend = (x2 - x1) / 2;
        mark(path, "data-state", line.state);
        mark(path, "d", `M${x1} ${y1.toFixed(1)} C${x1 + bend} ${y1.toFixed(1)} ${x2 - bend} ${y2.toFixed(1)} ${x2} ${y2.toFixed(1)}`);
      },
    );
  }
}

function by(list, kind) {
  const order = [...list.children].map((each) => each.dataset.key);
  return (one, other) => order.indexOf(one[kind]) - order.indexOf(other[kind]);
}

// What a group has of each server that it names and whose role fits.
function links(name, group, told) {
  const { endpoints } = told.health;
  const fits = (endpoint) => group.access === "read" || endpoints[endpoint]?.role !== "replica";
  return Object.entries(told.objections[name])
    .filter(([endpoint, why]) => group.rotation.includes(endpoint) || (why !== "wrong_role" && fits(endpoint)))
    .map(([endpoint, why]) => {
      const spare = why === null && endpoints[endpoint]?.in_rotation;
      const state = group.rotation.includes(endpoint) ? "serves" : spare ? "reserve" : "out";
      return { group: name, endpoint, state, why: spare ? "in reserve" : reason(why ?? endpoints[endpoint]?.reason).word };
    });
}

function groupCard() {
  const part = (tag, key, more = {}) => make(tag, { "data-part": key, ...more });
  const bar = make("div", { class: "bar-of-slots", "aria-hidden": "true" });
  bar.append(...["leased", "idle", "empty"].map((kind) => part("span", kind, { class: kind })));
  return make(
    "li",
    { class: "card group" },
    make("h3", {}, part("span", "name"), part("span", "access", { class: "badge" })),
    bar,
    part("p", "counts", { class: "counts" }),
    part("p", "queue", { class: "queue" }),
    part("ul", "servers", { class: "pills", "aria-label": "Its servers" }),
  );
}

function charts(part) {
  const made = {};
  for (const [key, index, floor] of [["ping", 1, 1], ["lag", 2, 50]]) {
    const chart = { latest: "–", isRead: false };
    const read = (sample) => {
      chart.isRead = sample !== null;
      const value = sample === null ? chart.latest : `${milliseconds(sample.value)} at ${sample.at}${sample.serves ? "" : ", out"}`;
      say(part[`${key}Value`], value);
    };
    chart.plot = new Chart(part[`${key}Plot`], { colour: `--${key}`, index, floor, read });
    made[key] = chart;
  }
  return made;
}
