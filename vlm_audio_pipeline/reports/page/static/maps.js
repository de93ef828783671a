// Embedding maps: a scatter plot for each projection. Pointing at a clip marks it in all maps; a click plays it.

const COLOURS = 7; // --c0 to --c6 of the style; with five shapes there are 35 different marks
const SHAPES = [
  "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M0-5L4.6 3.4H-4.6Z", "M-3.6-3.6H3.6V3.6H-3.6Z", "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
  "M-1.5-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
];
const MAX_POINTS = 6000; // of a map
const MAX_DISTANCE = 14; // between pointer and mark, in units of the plot

function startMaps() {
  const container = $("maps-plots");
  if (!container) return;
  const points = new Map(); // clip -> its marks in all maps
  const state = { highlighted: null, colour: "class", clip: null };

  const paint = () => {
    const run = state.colour === "class" ? null : core.runs[Number(state.colour)];
    for (const [clip, marks] of points) {
      const label = core.labels[clip];
      const vote = run && run.votes[clip];
      const colour = !run ? `var(--c${label % COLOURS})` : vote === null ? "var(--faint)" : vote === label ? "var(--correct)" : "var(--wrong)";
      for (const mark of marks) {
        mark.style.fill = colour;
        mark.classList.toggle("dim", state.highlighted !== null && state.highlighted !== label);
      }
    }
  };

  const tip = $("tip");
  const point = (clip, event) => {
    state.clip = clip;
    document.querySelectorAll(".map .at").forEach((mark) => mark.classList.remove("at"));
    points.get(clip).forEach((mark) => { mark.classList.add("at"); mark.parentNode.append(mark); });
    load("clips").then((clips) => {
      if (state.clip !== clip) return;
      const image = imageOf(clip, null);
      tip.replaceChildren(...[image && make("img", { src: image.url, alt: "" }), make("b", {}, core.classes[core.labels[clip]]), make("span", {}, clips[clip][0])].filter(Boolean));
      tip.hidden = false;
      const x = event.clientX ?? event.x, y = event.clientY ?? event.y;
      tip.style.left = Math.max(8, Math.min(x + 14, window.innerWidth - tip.offsetWidth - 8)) + "px";
      tip.style.top = Math.max(8, y + tip.offsetHeight + 24 > window.innerHeight ? y - tip.offsetHeight - 14 : y + 14) + "px";
    });
  };
  const leave = () => { state.clip = null; tip.hidden = true; };
  const play = async (clip) => $("maps-clip").replaceChildren(await makeCard(clip, state.colour === "class" ? originalRuns.slice(0, 1) : [Number(state.colour)], { autoplay: true }));

  async function map(projection) {
    const all = await load(projection.data);
    const every = Math.ceil(all.length / MAX_POINTS);
    const rows = all.filter((_, i) => i % every === 0);
    const [xs, ys] = [1, 2].map((axis) => rows.map((row) => row[axis]));
    const scale = (values, from, to) => {
      const low = Math.min(...values), high = Math.max(...values);
      return (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
    };
    const x = scale(xs, 14, 406), y = scale(ys, 326, 14);
    const title = `${projection.encoder}, ${projection.method}`;
    const svg = make("svg", { viewBox: "0 0 420 340", class: "map", tabindex: 0, role: "application", "aria-label": `${title}: arrow keys go from clip to clip, Enter plays` });
    for (const [clip, px, py] of rows) {
      const mark = make("path", { d: SHAPES[core.labels[clip] % SHAPES.length], transform: `translate(${x(px).toFixed(1)} ${y(py).toFixed(1)})`, "data-clip": clip });
      if (!points.has(clip)) points.set(clip, []);
      points.get(clip).push(mark);
      svg.append(mark);
    }
    // Select the mark nearest to the pointer: marks are smaller than a finger.
    const nearest = (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = null, minDistance = MAX_DISTANCE ** 2;
      for (const [clip, px, py] of rows) {
        const distance = (x(px) - at.x) ** 2 + (y(py) - at.y) ** 2;
        if (distance < minDistance) [best, minDistance] = [clip, distance];
      }
      return best;
    };
    let under = null;
    svg.addEventListener("pointermove", (event) => {
      const clip = nearest(event);
      if (clip === null) leave();
      else if (clip !== under || tip.hidden) point(clip, event);
      under = clip;
    });
    svg.addEventListener("pointerleave", leave);
    svg.addEventListener("click", (event) => { const clip = nearest(event); if (clip !== null) play(clip); });
    const order = rows.map((row, i) => i).sort((a, b) => xs[a] - xs[b]);
    let at = -1;
    svg.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        at = (at + (event.key === "ArrowRight" ? 1 : -1) + order.length) % order.length;
        const box = points.get(rows[order[at]][0]).find((mark) => svg.contains(mark)).getBoundingClientRect();
        point(rows[order[at]][0], { x: box.right, y: box.bottom });
      } else if (event.key === "Enter" && at >= 0) play(rows[order[at]][0]);
      else return;
      event.preventDefault();
    });
    svg.addEventListener("blur", leave);
    const share = projection.explained_x === null || projection.explained_x === undefined ? "" : ` · ${percent(projection.explained_x + projection.explained_y, 0)} of the variance`;
    const fewer = every > 1 ? ` · every ${every}th clip` : "";
    return make("figure", {}, svg, make("figcaption", {}, make("b", {}, projection.encoder), ` ${projection.method}${share}${fewer}`));
  }

  const legend = core.classes.map((label, i) => make("button", { type: "button", class: "key", "aria-pressed": false, onclick: (event) => {
    state.highlighted = state.highlighted === i ? null : i;
    legend.forEach((key, j) => key.setAttribute("aria-pressed", state.highlighted === j));
    paint();
  } }, make("svg", { viewBox: "-6 -6 12 12", "aria-hidden": true }, make("path", { d: SHAPES[i % SHAPES.length], style: { fill: `var(--c${i % COLOURS})` } })), label));
  $("maps-legend").replaceChildren(...legend);
  const select = $("maps-colour");
  select.append(...core.runs.map((_, i) => make("option", { value: i }, "correct or wrong: " + runName(i))));
  select.addEventListener("change", () => { state.colour = select.value; paint(); });
  return Promise.all(core.projections.map(map)).then((plots) => { container.replaceChildren(...plots); paint(); });
}
