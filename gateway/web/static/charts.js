// Five minutes of one figure of an endpoint, as a line; the time it was out of the rotation is shaded.

/* global uPlot */
import { clock } from "./words.js";

export const SECONDS = 300;
const GAP = 3;
const HEIGHT = 56;
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Chart {
  #plot;
  #samples = [];

  // `figure`: where it is drawn; `index`: the figure's place in a sample; `floor`: what the scale shows at least;
  // `read`: told of the sample under the pointer, or null.
  constructor(figure, { colour, index, floor, read }) {
    this.#index = index;
    this.#figure = figure;
    const ink = (name) => getComputedStyle(figure).getPropertyValue(name);
    this.#plot = new uPlot(
      {
        width: Math.max(1, figure.clientWidth),
        height: HEIGHT,
        padding: [4, 0, 1, 0],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
        axes: [{ show: false }, { show: false }],
        scales: {
          x: { time: false, range: () => [this.#now - SECONDS, this.#now] },
          y: { range: (_plot, _low, high) => [0, Math.max(floor, (high ?? 0) * 1.15)] },
        },
        series: [
          {},
          {
            stroke: () => ink(colour),
            fill: () => ink(`${colour}-soft`),
            width: 1.5,
            points: { show: false },
            spanGaps: false,
          },
        ],
        hooks: {
          drawClear: [(plot) => this.#shade(plot, ink("--away"))],
          setCursor: [(plot) => read(this.#at(plot.cursor.idx))],
        },
      },
      [[], []],
      figure,
    );
    new ResizeObserver(() => this.#plot.setSize({ width: Math.max(1, figure.clientWidth), height: HEIGHT })).observe(figure);
    dark.addEventListener("change", () => this.#plot.redraw(false));
  }

  #index;
  #figure;
  #now = Date.now() / 1000;

  show(samples, now, label) {
    this.#now = now;
    this.#samples = samples;
    const [times, values] = [[], []];
    for (const sample of samples) {
      if (times.length > 0 && sample[0] - times.at(-1) > GAP) {
        times.push(sample[0] - 1);
        values.push(null);
      }
      times.push(sample[0]);
      values.push(sample[this.#index]);
    }
    this.#plot.setData([times, values]);
    if (this.#figure.getAttribute("aria-label") !== label) this.#figure.setAttribute("aria-label", label);
  }

  #at(place) {
    const time = place === null || place === undefined ? undefined : this.#plot.data[0][place];
    const sample = this.#samples.find((each) => each[0] === time);
    return sample === undefined ? null : { value: sample[this.#index], serves: sample[3], at: clock(sample[0]) };
  }

  #shade(plot, colour) {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.fillStyle = colour;
    let from = null;
    this.#samples.forEach((sample, place) => {
      if (!sample[3] && from === null) from = sample[0];
      const ends = sample[3] || place === this.#samples.length - 1;
      if (from !== null && ends) {
        const [left, right] = [from, sample[0]].map((second) => plot.valToPos(second, "x", true));
        ctx.fillRect(left, bbox.top, Math.max(2, right - left), bbox.height);
        from = null;
      }
    });
    ctx.restore();
  }
}
