// What is wrong, the worst first: what somebody who was woken has to know, and where to look.

import { bytes, count, day, duration, listed, milliseconds, reason, share } from "./words.js";

const SOON = 30 * 86400;
const URGENT = 3 * 86400;
const SILENT = 3000;
const LATE = 250;
const WAITS = 100;

export { SOON };

// Each with a `level` ("bad" or "warn"), a `key` that stays the same while it lasts, `what`, and perhaps `why`.
export function troubles(told, rates) {
  const found = [...groups(told), ...endpoints(told), ...calls(rates), ...node(told), ...workers(told), ...keys(told)];
  return [...found.filter((each) => each.level === "bad"), ...found.filter((each) => each.level === "warn")];
}

function* groups(told) {
  for (const [name, group] of Object.entries(told.health.groups)) {
    if (group.status !== "ready") {
      const out = Object.entries(told.objections[name])
        .filter(([, why]) => why !== null && why !== "wrong_role")
        .map(([endpoint, why]) => `${endpoint} ${reason(why).sentence}`);
      const why = out.length > 0 ? `${listed(out)}.` : `No server that it names is a ${group.access === "write" ? "primary" : "replica"}.`;
      yield { level: "bad", key: `group ${name}`, what: `Group ${name} has no server: its calls fail`, why };
    }
    if (group.waiting > 0 && group.max_wait_ms >= WAITS) {
      const full = group.leased >= group.size;
      const busy = `${group.leased} of ${group.size} connections are in use: look at how servers take new ones.`;
      yield {
        level: group.max_wait_ms >= 1000 ? "bad" : "warn",
        key: `queue ${name}`,
        what: `Group ${name}: ${count(group.waiting, "call waits", "calls wait")}, the first for ${milliseconds(group.max_wait_ms)}`,
        why:
          group.status !== "ready"
            ? "They wait for a server."
            : full
              ? `All ${group.size} connections are in use: slow queries, or too few connections.`
              : busy,
      };
    }
  }
}

function* endpoints(told) {
  for (const [name, endpoint] of Object.entries(told.health.endpoints)) {
    if (endpoint.in_rotation) continue;
    const { sentence, hint } = reason(endpoint.reason);
    const since = duration(told.at - Date.parse(endpoint.since) / 1000);
    const message = endpoint.message && endpoint.reason !== "drained" ? `“${endpoint.message}” ` : "";
    yield { level: "warn", key: `endpoint ${name}`, what: `${name} ${sentence}, for ${since}`, why: `${message}${hint}` };
  }
  const age = told.health.checked_ms_ago;
  if (age !== null && age > SILENT) {
    const why = "No worker probes them: what is shown may not be so any more.";
    yield { level: "bad", key: "probes", what: `The servers were not looked at for ${milliseconds(age)}`, why };
  }
}

function* calls(rates) {
  if (rates.seconds === 0) return;
  const all = rates.of(...rates.names);
  if (all.failed < 0.005) return;
  const codes = rates.problems.slice(0, 3).map(([code, value]) => `${code} ${value}`);
  yield {
    level: all.failed >= 0.05 ? "bad" : "warn",
    key: "failures",
    what: `${share(all.failed)} of the calls of the last ${duration(rates.seconds)} failed`,
    why: `Problems by code: ${codes.join(", ")}.`,
  };
}

function* node(told) {
  const { catalogue, authentication } = told.health;
  if (catalogue.fault !== null) {
    const why = "gateway check names every fault.";
    yield { level: "bad", key: "catalogue", what: `Catalogue: ${catalogue.fault}`, why };
  }
  const kinds = { keys: "The file of API keys", key_set: "The keys that tokens are verified by" };
  for (const [kind, what] of Object.entries(kinds)) {
    const fault = authentication[kind]?.fault;
    if (fault) yield { level: "warn", key: kind, what: `${what} cannot be taken over`, why: `${fault}. Those before stay in force.` };
  }
}

function* workers(told) {
  for (const worker of told.health.workers) {
    if (worker.checked_ms_ago > SILENT) {
      const what = `Worker ${worker.pid} has said nothing for ${milliseconds(worker.checked_ms_ago)}`;
      yield { level: "bad", key: `worker ${worker.pid}`, what, why: "It is stopped or stuck, with the requests that it has." };
    }
  }
  for (const [slot, process] of Object.entries(told.processes)) {
    if (process.loop_lag_ms >= LATE) {
      const what = `Worker number ${slot} was late by ${milliseconds(process.loop_lag_ms)}`;
      const why = `Its event loop was held, or the machine has no processor left. It uses ${bytes(process.memory)}.`;
      yield { level: "warn", key: `loop ${slot}`, what, why };
    }
  }
}

function* keys(told) {
  for (const { key, expires } of told.keys) {
    const left = expires - told.at;
    if (left < URGENT && left > -URGENT) {
      const name = key.split(":")[0];
      const what = left <= 0 ? `Key ${key} has expired` : `Key ${key} expires in ${duration(left)}`;
      yield { level: "warn", key: `key ${key}`, what, why: `${day(expires)}. gateway key rotate ${name} makes its successor.` };
    }
  }
}
