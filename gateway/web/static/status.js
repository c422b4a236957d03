// The page of a node's state: asks for /status.json once a second while somebody looks, and shows what is told.
// A key that was given stays in this page's memory.

import { SECONDS } from "./charts.js";
import { fill, make, mark, parts, say } from "./elements.js";
import { Rates, total } from "./rates.js";
import { RotationView } from "./rotation.js";
import { QueryTable, keyOf, showEvents, showKeys, showWorkers } from "./tables.js";
import { troubles } from "./troubles.js";
import { clock, count, duration, listed, milliseconds, number, share } from "./words.js";

const EVERY = 1000;
const PATIENCE = 5000;
const OVERLAP = 5; // seconds of samples and events that are asked for again: workers write them a moment later
const MARKS = { ok: "✓", warn: "!", bad: "✕", wait: "…", lost: "?" };
const INKS = { ok: "%231a7f4b", warn: "%23b45309", bad: "%23c8322b", wait: "%23667085", lost: "%23c8322b" };

const at = (id) => document.getElementById(id);
const samples = new Map();
const events = new Map();
let rates = new Rates();
let rotation = null;
let table = null;
let authorization = null;
let last = null; // the last full answer
let arrived = 0; // when it came, by the clock of this machine, which need not be the gateway's
let timer = 0;
let failures = 0;
let isPaused = false;

async function ask() {
  clearTimeout(timer);
  try {
    const since = last === null ? "" : `?since=${(last.at - OVERLAP).toFixed(3)}`;
    const headers = authorization ? { Authorization: authorization } : {};
    const answer = await fetch(`/status.json${since}`, { headers, cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    const told = await answer.json();
    failures = 0;
    if (!answer.ok) refuse(answer.status, told);
    else if (told.health === undefined) showLittle(told);
    else show(told);
  } catch (error) {
    failures += 1;
    if (failures > 1 || last === null) lose(error);
  }
  if (!isPaused && !document.hidden) timer = setTimeout(ask, EVERY);
}

function refuse(status, problem) {
  at("key").hidden = false;
  say(at("told"), problem.detail ? `${problem.title}: ${problem.detail}` : problem.title);
  if (status === 401) authorization = null;
  live("lost", "refused");
}

// What strangers are told.
function showLittle(told) {
  const levels = { ok: ["ok", "The gateway serves"], degraded: ["warn", "The gateway is degraded"], down: ["bad", "The gateway is down"] };
  const [level, verdict] = levels[told.status];
  head(level, verdict, "More is shown to callers with the role monitor or admin.", [], verdict);
  at("key").hidden = false;
  at("rest").hidden = at("figures").hidden = true;
  say(at("told"), authorization ? "This key has neither the role monitor nor the role admin." : at("told").textContent);
  live("live", "live");
}

// Told are the queries whose counts have changed; the others are as they were.
function complete(told) {
  const before = last?.calls ?? {};
  const known = Object.keys(told.calls).map((name) => before[name] ?? { statuses: {} });
  if (total(told.calls) < total(known)) {
    last = null; // another node, or one that has been started anew: it has to tell everything
    return false;
  }
  told.calls = { ...before, ...told.calls };
  return true;
}

function show(told) {
  if (!complete(told)) return;
  last = told;
  arrived = Date.now();
  at("key").hidden = true;
  say(at("told"), "");
  at("rest").hidden = at("figures").hidden = false;
  remember(told);
  rates.note(told);
  const wrong = troubles(told, rates);
  headline(told, wrong);
  figures(told);
  rotation ??= new RotationView();
  table ??= new QueryTable();
  rotation.show(told, new Map([...samples].map(([name, seconds]) => [name, [...seconds.values()]])));
  table.show(rates);
  showEvents([...events.values()], told.at);
  showKeys(told);
  showWorkers(told);
  say(at("version"), told.health.version);
  live("live", "live");
}

function remember(told) {
  for (const [name, found] of Object.entries(told.samples)) {
    const kept = samples.get(name) ?? new Map();
    for (const sample of found) kept.set(sample[0], sample);
    for (const second of kept.keys()) if (second <= told.at - SECONDS) kept.delete(second);
    samples.set(name, new Map([...kept].sort(([one], [other]) => one - other)));
  }
  for (const event of told.events) events.set(keyOf(event), event);
  const ordered = [...events].sort(([, one], [, other]) => one.at - other.at);
  events.clear();
  for (const [key, event] of ordered.slice(-500)) events.set(key, event);
}

function headline(told, wrong) {
  const { endpoints, groups } = told.health;
  const out = Object.keys(endpoints).filter((name) => !endpoints[name].in_rotation);
  const down = Object.keys(groups).filter((name) => groups[name].status !== "ready");
  const all = Object.keys(endpoints).length;
  let verdict = "All is well";
  if (down.length > 0) verdict = `Down: no server for ${down.length > 1 ? "groups" : "group"} ${listed(down)}`;
  else if (out.length > 0) verdict = `Degraded: ${listed(out)} ${out.length > 1 ? "are" : "is"} out`;
  else if (wrong.length > 0) verdict = wrong.some((each) => each.level === "bad") ? "Serving, with trouble" : "Serving, with a warning";
  const level = wrong.some((each) => each.level === "bad") ? "bad" : wrong.length > 0 ? "warn" : "ok";
  const servers = `${all - out.length} of ${count(all, "server")} in the rotation`;
  const summary = `${servers}, ${count(told.health.workers.length, "worker")}, ${count(told.health.catalogue.queries, "query", "queries")}.`;
  head(level, verdict, summary, wrong, [verdict, ...wrong.map((each) => each.key)].join("; "));
}

function head(level, verdict, summary, wrong, announced) {
  mark(at("headline"), "data-level", level);
  say(at("mark"), MARKS[level]);
  say(at("verdict"), verdict);
  say(at("summary"), summary);
  const keyed = new Map(wrong.map((each) => [each.key, each]));
  fill(
    at("troubles"),
    [...keyed.keys()],
    () => make("li", {}, make("strong", { "data-part": "what" }), " ", make("span", { "data-part": "why" })),
    (item, key) => {
      const { level: how, what, why } = keyed.get(key);
      mark(item, "data-level", how);
      say(parts(item).what, what);
      say(parts(item).why, why ?? "");
    },
  );
  say(at("announcement"), announced);
  const title = `${MARKS[level]} ${verdict} · pg-query-gateway`;
  if (document.title !== title) document.title = title;
  const icon = `data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${INKS[level]}"/></svg>`;
  mark(at("icon"), "href", icon);
}

function figures(told) {
  const all = rates.of(...rates.names);
  const waiting = Object.values(told.health.groups).reduce((sum, group) => sum + group.waiting, 0);
  say(at("rate"), all.rate === null ? "–" : number(all.rate));
  say(at("p99"), milliseconds(all.p99));
  say(at("failed"), share(all.failed));
  say(at("waiting"), waiting.toLocaleString("en"));
  mark(at("failed"), "data-level", all.failed > 0 ? "bad" : "");
  mark(at("waiting"), "data-level", waiting > 0 ? "warn" : "");
}

// The gateway does not answer: what was shown stays, and is said to be old.
function lose(error) {
  live("lost", last === null ? "no answer" : `as of ${clock(arrived / 1000)}`);
  const why = error.name === "TimeoutError" ? "It accepts, and sends nothing." : "Nobody can be reached at its address.";
  const old = last === null ? "" : ` What is shown is ${duration((Date.now() - arrived) / 1000)} old.`;
  head("lost", "The gateway does not answer", `${why}${old} It is asked again every second.`, [], "The gateway does not answer");
}

function live(state, text) {
  if (isPaused && state === "live") return; // an answer that was asked for before
  mark(at("live"), "data-state", state);
  mark(document.body, "data-state", state);
  say(at("fresh"), text);
}

function resume() {
  if (!isPaused && !document.hidden) ask();
  else clearTimeout(timer);
}

at("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  mark(at("pause"), "aria-pressed", String(isPaused));
  if (isPaused) live("paused", `paused at ${clock(Date.now() / 1000)}`);
  resume();
});
at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  authorization = `Bearer ${at("given").value}`;
  last = null;
  rates = new Rates();
  ask();
});
document.addEventListener("visibilitychange", resume);
ask();
