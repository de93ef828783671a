// Axes beside spectrograms that show none themselves. The image is exactly the one that the model received.

// Multiples of 1, 2 or 5 times a power of ten within the limits, at most `max`.
function linearTicks(low, high, max = 6) {
  const power = 10 ** Math.floor(Math.log10((high - low) / max));
  const step = [1, 2, 5, 10, 20].map((factor) => factor * power).find((s) => Math.floor(high / s) - Math.ceil(low / s) < max);
  const ticks = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) ticks.push(Number((n * step).toPrecision(10)));
  return ticks;
}

const timeNames = { "": "time (s)", blank: "time (s)", time_shuffled: "time, columns in random order", other_clip: "time of the other clip" };

// Put an element with an image into its axes. Without axes for its rendering, the element is returned as it is.
// With `offset`, the start of the clip in s, the axis of time is that of the recording.
function withAxes(element, image, seconds, offset = null) {
  const axes = core.axes[image.set];
  if (!axes) return element;
  const [left, top, right, bottom] = axes.box;
  const end = axes.end_s ?? seconds + axes.added_s;
  const times = axes.is_time ? linearTicks(axes.start_s + (offset ?? 0), end + (offset ?? 0)) : [];
  const control = image.set.split("__")[1] || "";
  const place = (side, from, to, share) => ({ [side]: `${(100 * (from + share * (to - from))).toFixed(2)}%` });
  return make("div", { class: "framed", style: { "--aspect": axes.aspect } },
    make("span", { class: "row-name" }, axes.label),
    make("div", { class: "row-ticks", "aria-hidden": true }, axes.ticks.map(([share, text]) => make("span", { style: place("bottom", 1 - bottom, 1 - top, share) }, text))),
    make("div", { class: "picture" }, element),
    make("div", { class: "time-ticks", "aria-hidden": true }, times.map((t) => make("span", { style: place("left", left, right, (t - (offset ?? 0) - axes.start_s) / (end - axes.start_s)) }, String(t)))),
    make("span", { class: "time-name" }, offset !== null && !control ? "time in the recording (s)" : timeNames[control] ?? "time"));
}
