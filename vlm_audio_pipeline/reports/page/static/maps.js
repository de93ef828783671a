// Embedding maps: a scatter plot for each projection. Pointing at a clip marks it in all maps; a click plays it.

const NAMED_COLOURS = 7; // --c0 to --c6 of the style, which colour-blind people can tell apart
const SHADES = 3; // --shade0 to --shade2 of the style: lightness of the colours of many classes
const SHAPES = [
  "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M0-5L4.6 3.4H-4.6Z", "M-3.6-3.6H3.6V3.6H-3.6Z", "M0-5.2L5.2 0L0 5.2L-5.2 0Z",
  "M-1.5-5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z",
];
const MAX_POINTS = 6000; // maximum number of points in a map
const MAX_DISTANCE = 14; // maximum distance between pointer and mark, in units of the plot
const TIP_MARGIN = 8; // distance between the tip and the border of the window, px

// Every class has its own colour: hues at equal distances, in turn light, medium and dark.
function classColour(label) {
  const n = core.classes.length;
  return n <= NAMED_COLOURS ? `var(--c${label})` : `oklch(var(--shade${label % SHADES}) 0.14 ${((360 * label) / n).toFixed(1)}deg)`;
}

// The keys of the legend: title, colour, shape, and which clips they stand for. Wrong clips are drawn over the others.
function classKeys() {
  return core.classes.map((label, i) => ({ title: label, colour: classColour(i), shape: i, isKeyOf: (clip) => core.labels[clip] === i }));
}
function resultKeys(votes) {
  const isPredicted = (clip) => votes[clip] !== null;
  return [
    { title: "correct", colour: "var(--correct)", shape: 0, isKeyOf: (clip) => votes[clip] === core.labels[clip] },
    { title: "wrong", colour: "var(--wrong)", shape: 1, isOnTop: true, isKeyOf: (clip) => isPredicted(clip) && votes[clip] !== core.labels[clip] },
    { title: "no prediction", colour: "var(--faint)", shape: 2, isKeyOf: (clip) => !isPredicted(clip) },
  ];
}

function placeTip(tip, x, y) {
  const maxLeft = window.innerWidth - tip.offsetWidth - TIP_MARGIN, maxTop = window.innerHeight - tip.offsetHeight - TIP_MARGIN;
  const above = y - tip.offsetHeight - 14;
  tip.style.left = Math.max(TIP_MARGIN, Math.min(x + 14, maxLeft)) + "px";
  tip.style.top = Math.max(TIP_MARGIN, y + 14 > maxTop && above >= TIP_MARGIN ? above : Math.min(y + 14, maxTop)) + "px";
}

function startMaps() {
  const container = $("maps-plots");
  if (!container) return;
  const points = new Map(); // clip -> its marks in all maps
  const state = { keys: classKeys(), highlighted: null, run: null, clip: null };

  const paint = () => {
    for (const [clip, marks] of points) {
      const key = state.keys.find((k) => k.isKeyOf(clip));
      for (const mark of marks) {
        mark.style.fill = key.colour;
        mark.setAttribute("d", SHAPES[key.shape % SHAPES.length]);
        mark.classList.toggle("dim", state.highlighted !== null && state.highlighted !== key);
        if (key.isOnTop) mark.parentNode.append(mark);
      }
    }
  };

  const drawLegend = () => {
    const clips = [...points.keys()];
    const counted = state.keys.map((key) => [key, clips.filter(key.isKeyOf).length]).filter(([, n]) => n);
    const buttons = counted.map(([key, n]) => make("button", { type: "button", class: "key", "aria-pressed": false, onclick: (event) => {
      state.highlighted = state.highlighted === key ? null : key;
      buttons.forEach((button) => button.setAttribute("aria-pressed", button === event.currentTarget && state.highlighted !== null));
      paint();
    } }, make("svg", { viewBox: "-6 -6 12 12", "aria-hidden": true }, make("path", { d: SHAPES[key.shape % SHAPES.length], style: { fill: key.colour } })), key.title, make("small", {}, count(n))));
    const isWhat = state.run === null ? "the true class of the clip" : `whether ${runName(state.run)} classifies the clip correctly`;
    $("maps-legend").replaceChildren(
      make("p", {}, make("b", {}, "Positions: "), "the embedding of the clip by the encoder that the map names, projected onto two dimensions."),
      make("p", {}, make("b", {}, "Colours and shapes: "), `${isWhat}. Select a key to highlight its clips.`),
      ...buttons);
  };

  const tip = $("tip");
  const showTip = async (clip, x, y) => {
    state.clip = clip;
    document.querySelectorAll(".map .marked").forEach((mark) => mark.classList.remove("marked"));
    points.get(clip).forEach((mark) => { mark.classList.add("marked"); mark.parentNode.append(mark); });
    const clips = await load("clips");
    const image = imageOf(clip, null);
    const picture = image && make("img", { src: image.url, alt: "" });
    await picture?.decode().catch(() => {}); // its height decides where the tip fits into the window
    if (state.clip !== clip) return;
    const vote = state.run === null ? null : core.runs[state.run].votes[clip];
    tip.replaceChildren(...[picture && withAxes(picture, image, clips[clip][3]), make("b", {}, core.classes[core.labels[clip]]), make("span", {}, clips[clip][0]), vote !== null && make("p", {}, `${runName(state.run)}: `, predictionBadge(vote, clip))].filter(Boolean));
    tip.hidden = false;
    placeTip(tip, x, y);
  };
  const hideTip = () => { state.clip = null; tip.hidden = true; };
  const play = async (clip) => $("maps-clip").replaceChildren(await makeCard(clip, state.run === null ? originalRuns.slice(0, 1) : [state.run], { autoplay: true }));

  async function map(projection) {
    const all = await load(projection.data);
    const stride = Math.ceil(all.length / MAX_POINTS);
    const rows = all.filter((_, i) => i % stride === 0);
    const [xs, ys] = [1, 2].map((axis) => rows.map((row) => row[axis]));
    const scale = (values, from, to) => {
      const low = Math.min(...values), high = Math.max(...values);
      return (value) => (high > low ? from + ((value - low) / (high - low)) * (to - from) : (from + to) / 2);
    };
    const x = scale(xs, 14, 406), y = scale(ys, 326, 14);
    const title = `${projection.encoder}, ${projection.method}`;
    const svg = make("svg", { viewBox: "0 0 420 340", class: "map", tabindex: 0, role: "application", "aria-label": `${title}: arrow keys go from clip to clip, Enter plays` });
    for (const [clip, px, py] of rows) {
      const mark = make("path", { transform: `translate(${x(px).toFixed(1)} ${y(py).toFixed(1)})`, "data-clip": clip });
      if (!points.has(clip)) points.set(clip, []);
      points.get(clip).push(mark);
      svg.append(mark);
    }
    // Select the mark nearest to the pointer: marks are smaller than a finger.
    const nearest = (event) => {
      const pointer = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = null, minDistance = MAX_DISTANCE ** 2;
      for (const [clip, px, py] of rows) {
        const distance = (x(px) - pointer.x) ** 2 + (y(py) - pointer.y) ** 2;
        if (distance < minDistance) [best, minDistance] = [clip, distance];
      }
      return best;
    };
    svg.addEventListener("pointermove", (event) => {
      const clip = nearest(event);
      if (clip === null) hideTip();
      else if (clip !== state.clip) showTip(clip, event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", hideTip);
    svg.addEventListener("click", (event) => { const clip = nearest(event); if (clip !== null) play(clip); });
    const order = rows.map((row, i) => i).sort((a, b) => xs[a] - xs[b]);
    let position = -1;
    svg.addEventListener("keydown", (event) => {
      if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        position = (position + (event.key === "ArrowRight" ? 1 : -1) + order.length) % order.length;
        const clip = rows[order[position]][0];
        const box = points.get(clip).find((mark) => svg.contains(mark)).getBoundingClientRect();
        showTip(clip, box.right, box.bottom);
      } else if (event.key === "Enter" && position >= 0) play(rows[order[position]][0]);
      else return;
      event.preventDefault();
    });
    svg.addEventListener("blur", hideTip);
    const share = projection.explained_x === null || projection.explained_x === undefined ? "" : ` · ${percent(projection.explained_x + projection.explained_y, 0)} of the variance`;
    const hasSilhouettes = typeof projection.silhouette_plane === "number" && typeof projection.silhouette_space === "number";
    const silhouettes = hasSilhouettes ? ` · silhouette ${roundedText(projection.silhouette_plane, 3)} in this map, ${roundedText(projection.silhouette_space, 3)} in the embeddings` : "";
    const shareNote = rows.length < core.labels.length ? ` · ${count(rows.length)} of ${count(core.labels.length)} clips` : "";
    return make("figure", {}, svg, make("figcaption", {}, "Positions: embeddings of ", make("b", {}, projection.encoder), `, projected by ${projection.method.toUpperCase()}${share}${silhouettes}${shareNote}`));
  }

  const select = $("maps-colour");
  select.append(...core.runs.map((_, i) => make("option", { value: i }, "correct or wrong: " + runName(i))));
  select.addEventListener("change", () => {
    state.run = select.value === "class" ? null : Number(select.value);
    state.keys = state.run === null ? classKeys() : resultKeys(core.runs[state.run].votes);
    state.highlighted = null;
    drawLegend();
    paint();
  });
  return Promise.all(core.projections.map(map)).then((plots) => { container.replaceChildren(...plots); drawLegend(); paint(); });
}
