// What was called lately: the difference between two answers of the gateway, whose counts only grow.

const WINDOW = 60;

export class Rates {
  #seen = [];

  note(told) {
    const now = { at: told.at, calls: told.calls, problems: told.problems };
    const last = this.#seen.at(-1);
    if (last !== undefined && (now.at <= last.at || total(now.calls) < total(last.calls))) this.#seen = []; // another node
    this.#seen.push(now);
    while (this.#seen.length > 2 && now.at - this.#seen[1].at >= WINDOW) this.#seen.shift();
    this.bounds = told.bounds;
  }

  // Seconds that are looked back on.
  get seconds() {
    return this.#seen.length < 2 ? 0 : this.#seen.at(-1).at - this.#seen[0].at;
  }

  get names() {
    return Object.keys(this.#seen.at(-1)?.calls ?? {});
  }

  // One query, or all of them together.
  of(...names) {
    const now = this.#seen.at(-1).calls;
    const before = this.#seen[0].calls;
    const sum = { calls: 0, lately: 0, failed: 0, refused: 0, buckets: [], statements: 0, joined: 0, hits: 0, lookups: 0 };
    for (const name of names) {
      const [new_, old] = [now[name], before[name] ?? {}];
      for (const [status, value] of Object.entries(new_.statuses)) {
        const lately = value - (old.statuses?.[status] ?? 0);
        sum.calls += value;
        sum.lately += lately;
        if (status >= "500") sum.failed += lately;
        else if (status >= "400") sum.refused += lately;
      }
      (new_.buckets ?? []).forEach((value, place) => {
        sum.buckets[place] = (sum.buckets[place] ?? 0) + value - (old.buckets?.[place] ?? 0);
      });
      sum.statements += (new_.statements ?? 0) - (old.statements ?? 0);
      sum.joined += (new_.joined ?? 0) - (old.joined ?? 0);
      for (const [result, value] of Object.entries(new_.cache ?? {})) {
        const lately = value - (old.cache?.[result] ?? 0);
        sum.lookups += lately;
        if (result !== "miss") sum.hits += lately;
      }
    }
    return {
      calls: sum.calls,
      lately: sum.lately,
      rate: this.seconds > 0 ? sum.lately / this.seconds : null,
      p50: this.#quantile(sum.buckets, 0.5),
      p99: this.#quantile(sum.buckets, 0.99),
      failed: sum.lately > 0 ? sum.failed / sum.lately : 0,
      refused: sum.lately > 0 ? sum.refused / sum.lately : 0,
      batch: sum.statements > 0 ? sum.joined / sum.statements : null,
      hits: sum.lookups > 0 ? sum.hits / sum.lookups : null,
    };
  }

  // Codes of problems of late, the most frequent first.
  get problems() {
    const [now, before] = [this.#seen.at(-1).problems, this.#seen[0].problems];
    return Object.entries(now)
      .map(([code, value]) => [code, value - (before[code] ?? 0)])
      .filter(([, value]) => value > 0)
      .sort((one, other) => other[1] - one[1]);
  }

  // In milliseconds, as far as buckets can tell: between their bounds in proportion. Null: there were no calls.
  #quantile(buckets, share) {
    const all = buckets.reduce((sum, value) => sum + value, 0);
    if (all <= 0) return null;
    let below = 0;
    for (const [place, value] of buckets.entries()) {
      if (value > 0 && below + value >= share * all) {
        const [from, to] = [this.bounds[place - 1] ?? 0, this.bounds[place] ?? this.bounds.at(-1)];
        return 1000 * (from + ((to - from) * (share * all - below)) / value);
      }
      below += value;
    }
    return 1000 * this.bounds.at(-1);
  }
}

export function total(calls) {
  return Object.values(calls).reduce(
    (sum, each) => sum + Object.values(each.statuses).reduce((one, other) => one + other, 0),
    0,
  );
}
