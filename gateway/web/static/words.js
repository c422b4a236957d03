// Figures, durations and reasons as people read them.

export function milliseconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value < 0.005) return "0 ms";
  if (value >= 10000) return duration(value / 1000);
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value >= 100 ? Math.round(value) : value >= 10 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

export function number(value) {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value >= 10 ? value.toFixed(0) : value > 0 ? value.toFixed(1) : "0";
}

export function share(value) {
  if (value === 0) return "0 %";
  return value < 0.001 ? "< 0.1 %" : `${(value * 100).toFixed(value < 0.1 ? 1 : 0)} %`;
}

export function duration(seconds) {
  const rest = Math.max(0, seconds);
  if (rest < 60) return `${Math.round(rest)} s`;
  if (rest < 3600) return `${Math.floor(rest / 60)} min`;
  if (rest < 86400) return `${Math.floor(rest / 3600)} h ${Math.floor((rest % 3600) / 60)} min`;
  return rest < 172800 ? "1 day" : `${Math.floor(rest / 86400)} days`;
}

export function bytes(value) {
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function day(seconds) {
  return new Date(seconds * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export function count(value, one, many = `${one}s`) {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

export function listed(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

// Why an endpoint is out: in a word, as a sentence about it, and what to look at.
const REASONS = {
  refused: ["refused", "refuses connections", "PostgreSQL is not running there, or has no connection left."],
  timeout: ["no answer", "does not answer in time", "The server stands still or is overloaded, or the network is."],
  lost: ["lost", "closed its connections", "It was stopped, or has crashed. It is tried again several times a second."],
  lagging: ["lagging", "is too far behind its primary", "It comes back by itself below half of max_lag."],
  not_streaming: ["not streaming", "receives nothing from its primary", "Look at its log, and at primary_conninfo."],
  wrong_role: ["wrong role", "has the wrong role for every group that names it", "Look at [groups] endpoints."],
  old_timeline: ["old timeline", "follows an old timeline", "Another server was promoted: rewind or rebuild this one."],
  auth: ["auth", "does not let the gateway in", "Look at user, password and pg_hba.conf."],
  tls: ["TLS", "cannot be spoken to over TLS", "Look at its certificate, sslmode and sslrootcert."],
  starting_up: ["starting up", "is starting up", "It comes in as soon as it accepts connections."],
  drained: ["drained", "was drained by an operator", "gateway resume gives it work again."],
  unknown: ["unknown", "cannot be used", "It came back too often lately, is of another cluster, or was not probed so far."],
};

export function reason(code) {
  const [word, sentence, hint] = REASONS[code] ?? [code ?? "out", "is out of the rotation", ""];
  return { word, sentence, hint };
}
