// Timeline: a line for each recording, or for each part of a long one, with its events as bars.

const MAX_LINE_S = 60; // longest part of a recording on a line, s
const NARROW_LINE_S = 30; // on a narrow window
const LINES_PER_PAGE = 100;
const LANE_HEIGHT = 20; // px

const foundBy = (event) => [...event[EVENT_STATUS]].filter((letter) => letter === "1").length;
const countedRuns = (event) => [...event[EVENT_STATUS]].filter((letter) => "01".includes(letter)).length;

// Which part of the classifiers finds an event: all, some, none; or null if no decision is about it.
function foundShare(event) {
  const [found, counted] = [foundBy(event), countedRuns(event)];
  return !counted ? null : !found ? "none" : found === counted ? "all" : "some";
}

const clockText = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// Cut recordings into lines of equal length: [recording, start, events].
function makeLines(clips, events) {
  const ends = core.recordings.map(() => 0);
  for (const clip of clips) ends[clip[SEGMENT_RECORDING]] = Math.max(ends[clip[SEGMENT_RECORDING]], clip[SEGMENT_END]);
  for (const event of events) ends[event[EVENT_RECORDING]] = Math.max(ends[event[EVENT_RECORDING]], event[EVENT_END]);
  const longest = Math.max(...ends);
  const limit = matchMedia("(max-width: 620px)").matches ? NARROW_LINE_S : MAX_LINE_S;
  const span = longest <= limit * 1.05 ? longest : limit;
  const byRecording = core.recordings.map(() => []);
  for (const event of events) byRecording[event[EVENT_RECORDING]].push(event);
  const lines = [];
  ends.forEach((end, recording) => {
    for (let start = 0; start < end - 0.01; start += span)
      lines.push({ recording, start, isPart: end > span * 1.05, events: byRecording[recording].filter((event) => event[EVENT_START] < start + span && (event[EVENT_END] > start || event[EVENT_START] >= start)) });
  });
  return { lines, span };
}

function eventBar(event, line, span, lane, select) {
  const name = core.classes[event[EVENT_CLASS]];
  const [start, end] = [Math.max(event[EVENT_START], line.start), Math.min(event[EVENT_END], line.start + span)];
  const share = foundShare(event);
  const result = share === null ? "no decision" : `found by ${foundBy(event)} of ${plural(countedRuns(event), "classifier")}`;
  const style = { left: `${(100 * (start - line.start) / span).toFixed(2)}%`, width: `${(100 * (end - start) / span).toFixed(2)}%`, top: `${lane * LANE_HEIGHT}px`, "--own": eventColour(event[EVENT_CLASS]) };
  const bar = make("button", { type: "button", class: `event-bar ${share ?? "none"}`, style, tabindex: -1, "aria-label": `${name}, ${eventTitle(event)}, ${recordingName(event[EVENT_RECORDING])}, ${result}`, title: `${name}, ${eventTitle(event)}: ${result}`, onclick: () => select(event) }, make("span", {}, name));
  bar.event = event;
  return bar;
}

function timelineLine(line, span, select) {
  const lanes = findLanes(line.events.map((event) => [event[EVENT_START], Math.max(event[EVENT_END], event[EVENT_START] + span / 200)]));
  const name = recordingName(line.recording);
  const track = make("div", { class: "line-track", style: { height: `${LANE_HEIGHT * Math.max(1, ...lanes.map((lane) => lane + 1))}px` } }, make("i", { class: "segment-mark", hidden: true }), line.events.map((event, i) => eventBar(event, line, span, lanes[i], select)));
  return Object.assign(make("div", { class: "line" }, make("span", { class: "line-name", title: core.recordings[line.recording] }, name, line.isPart ? make("small", {}, `from ${clockText(line.start)}`) : null), track), { line });
}

// Draw the timeline of the events; returns a function that marks the selected event and its segment.
function drawTimeline(container, clips, events, isFiltered, select) {
  const { lines, span } = makeLines(clips, events);
  const shown = isFiltered ? lines.filter((line) => line.events.length) : lines;
  const ticks = linearTicks(0, span, 7);
  const rows = make("div", { class: "lines" });
  const more = make("button", { type: "button", class: "more" });
  const addLines = () => {
    const next = shown.slice(rows.childElementCount, rows.childElementCount + LINES_PER_PAGE);
    rows.append(...next.map((line) => timelineLine(line, span, select)));
    more.hidden = rows.childElementCount >= shown.length;
    more.textContent = `Show ${Math.min(LINES_PER_PAGE, shown.length - rows.childElementCount)} more of ${plural(shown.length, "line")}`;
  };
  more.addEventListener("click", () => { addLines(); mark(); });
  addLines();
  const head = make("div", { class: "line line-head", "aria-hidden": true }, make("span", { class: "line-name" }, "recording"), make("div", { class: "line-track" }, ticks.map((t) => make("span", { style: { left: `${100 * t / span}%` } }, t === ticks.at(-1) ? `${t} s` : String(t)))));
  container.style.setProperty("--grid", `${100 * (ticks[1] - ticks[0]) / span}%`);
  container.replaceChildren(head, rows, more);
  let current = [null, null];
  function mark(event = current[0], segment = current[1]) {
    current = [event, segment];
    const bars = [...rows.querySelectorAll(".event-bar")];
    for (const bar of bars) { bar.toggleAttribute("aria-current", false); bar.tabIndex = -1; if (bar.event === event) bar.setAttribute("aria-current", "true"); }
    const first = bars.find((bar) => bar.event === event) || bars[0];
    if (first) first.tabIndex = 0;
    for (const row of rows.children) {
      const { recording, start } = row.line;
      const marker = row.querySelector(".segment-mark");
      marker.hidden = !segment || segment[SEGMENT_RECORDING] !== recording || segment[SEGMENT_START] >= start + span || segment[SEGMENT_END] <= start;
      if (marker.hidden) continue;
      const from = Math.max(segment[SEGMENT_START], start), to = Math.min(segment[SEGMENT_END], start + span);
      marker.style.left = `${100 * (from - start) / span}%`;
      marker.style.width = `${100 * (to - from) / span}%`;
    }
    return first;
  }
  return mark;
}

// Arrow keys: left and right to the neighbours in time, up and down to the nearest event of another line.
function moveInTimeline(container, key) {
  const bars = [...container.querySelectorAll(".event-bar")];
  const bar = document.activeElement;
  const index = bars.indexOf(bar);
  if (index < 0) return false;
  let next = { ArrowRight: bars[index + 1], ArrowLeft: bars[index - 1], Home: bars[0], End: bars.at(-1) }[key];
  if (["ArrowUp", "ArrowDown"].includes(key)) {
    let row = bar.closest(".line");
    do row = key === "ArrowDown" ? row.nextElementSibling : row.previousElementSibling; while (row && !row.querySelector(".event-bar"));
    const distance = (other) => Math.abs(parseFloat(other.style.left) - parseFloat(bar.style.left));
    next = row && [...row.querySelectorAll(".event-bar")].sort((a, b) => distance(a) - distance(b))[0];
  }
  if (!next) return true;
  bar.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  return true;
}
