// Events: select an annotated event to see its segment, to hear it, and to read the decisions of the classifiers.

const resultChoices = {
  "": { title: "all events", test: () => true },
  none: { title: "missed by all classifiers", test: (event) => foundShare(event) === "none" },
  some: { title: "found by some, missed by others", test: (event) => foundShare(event) === "some" },
  all: { title: "found by all classifiers", test: (event) => foundShare(event) === "all" },
  ...Object.fromEntries(core.runs.flatMap((_, run) => [["missed", "0"], ["found", "1"]].map(([word, letter]) => [`${word}-${run}`, { title: `${word} by ${runTitle(run)}`, test: (event) => event[EVENT_STATUS][run] === letter }]))),
};

async function startEvents() {
  const container = $("events-timeline");
  if (!container) return;
  const [clips, events] = await Promise.all([load("clips"), load("events")]);
  const [view, result] = [$("event-view"), $("events-result")];
  const eventsOfClip = new Map();
  for (const event of events) for (const clip of event[EVENT_CLIPS]) eventsOfClip.set(clip, [...(eventsOfClip.get(clip) || []), event]);
  const overlap = (event, clip) => Math.min(event[EVENT_END], clips[clip][SEGMENT_END]) - Math.max(event[EVENT_START], clips[clip][SEGMENT_START]);
  const state = { label: null, event: null, clip: null, set: imageSets[0], shown: events };
  let mark = () => {};
  let call = 0;

  // The segment with the largest part of an event; segments with images come first.
  const segmentOf = (event) => [...event[EVENT_CLIPS]].sort((a, b) => Boolean(core.audio[b]) - Boolean(core.audio[a]) || overlap(event, b) - overlap(event, a))[0];

  function select(event, { clip = segmentOf(event), scrolls = true } = {}) {
    Object.assign(state, { event, clip });
    return show(scrolls);
  }

  // Another segment of the recording; it shows no selected event, except if the current one continues there.
  function showSegment(clip) {
    Object.assign(state, { clip, event: (eventsOfClip.get(clip) || []).includes(state.event) ? state.event : null });
    return show(false);
  }

  // The neighbours of a segment in its recording, by start.
  function neighbours(clip) {
    const ofRecording = clips.map((_, i) => i).filter((i) => clips[i][SEGMENT_RECORDING] === clips[clip][SEGMENT_RECORDING]).sort((a, b) => clips[a][SEGMENT_START] - clips[b][SEGMENT_START]);
    const place = ofRecording.indexOf(clip);
    return [ofRecording[place - 1], ofRecording[place + 1]];
  }

  function navigation() {
    const place = state.shown.indexOf(state.event);
    const [previous, next] = neighbours(state.clip);
    const button = (text, isDisabled, onclick) => make("button", { type: "button", class: "small", disabled: isDisabled, onclick }, text);
    const step = (by) => select(state.shown[place + by], { scrolls: false });
    return make("p", { class: "event-steps" },
      button("← previous event", place < 1, () => step(-1)), button("next event →", place < 0 || place + 1 >= state.shown.length, () => step(1)),
      button("← previous segment", previous === undefined, () => showSegment(previous)), button("next segment →", next === undefined, () => showSegment(next)));
  }

  function description(segment) {
    const { event } = state;
    const others = event ? event[EVENT_CLIPS].filter((clip) => clip !== state.clip) : [];
    const names = segment[SEGMENT_CLASSES].map((label) => core.classes[label]);
    const notes = [make("p", { class: "quiet" }, `Segment ${secondsText(segment[SEGMENT_START])} to ${secondsText(segment[SEGMENT_END])} s of ${core.recordings[segment[SEGMENT_RECORDING]]}, fold ${segment[SEGMENT_FOLD]}. `, names.length ? "Its classes: " : "It has no class.", make("b", {}, names.join(", ")))];
    if (others.length) notes.push(make("p", { class: "quiet" }, "The event is also in ", others.flatMap((clip, i) => [i ? ", " : "", make("button", { type: "button", class: "plain", onclick: () => showSegment(clip) }, `segment ${secondsText(clips[clip][SEGMENT_START])} to ${secondsText(clips[clip][SEGMENT_END])} s`)]), "."));
    if (event && !segment[SEGMENT_CLASSES].includes(event[EVENT_CLASS]))
      notes.push(make("p", { class: "note" }, `Only ${secondsText(overlap(event, state.clip))} s of the event are in this segment, too little for the segment to have the class ${core.classes[event[EVENT_CLASS]]}. Its absence is the correct decision here.`));
    return notes;
  }

  function imageChoice() {
    if (imageSets.length < 2) return null;
    const users = (set) => core.runs.map((_, run) => run).filter((run) => core.runs[run].image_set === set).map(runTitle).join(", ");
    const choice = make("select", {}, imageSets.map((set) => make("option", { value: set, selected: set === state.set }, set === core.page_images ? "of this page" : `${set}, which ${users(set)} received`)));
    choice.addEventListener("change", () => { state.set = choice.value; show(false); });
    return make("p", { class: "choose" }, make("label", {}, "spectrogram ", choice));
  }

  async function show(scrolls) {
    const current = ++call;
    const { event, clip } = state;
    const segment = clips[clip];
    const label = event ? event[EVENT_CLASS] : null;
    const table = await decisionTable(clip, segment, label);
    if (current !== call) return;
    mark(event, segment);
    const title = event ? [make("i", { class: "swatch", style: { "--own": eventColour(label) } }), `${core.classes[label]}, ${eventTitle(event)}`] : `Segment ${secondsText(segment[SEGMENT_START])} to ${secondsText(segment[SEGMENT_END])} s`;
    const focused = document.activeElement?.closest?.("#event-view") ? document.activeElement.textContent : null;
    $("event-title").replaceChildren(...[title].flat());
    view.replaceChildren(
      ...description(segment), navigation(),
      make("div", { class: "event-columns" },
        make("div", {}, imageChoice(), segmentFigure(clip, segment, state.set, eventsOfClip.get(clip) || [], event, (other) => select(other, { clip, scrolls: false }))),
        make("div", {}, ...table)));
    view.querySelectorAll(".scroll > .plain-table").forEach(stackWideTable);
    view.dataset.clip = clip;
    if (focused) [...view.querySelectorAll("button")].find((button) => button.textContent === focused && !button.disabled)?.focus({ preventScroll: true });
    if (scrolls && view.getBoundingClientRect().top > innerHeight - 320) view.scrollIntoView({ block: "nearest" });
  }

  function draw() {
    const choice = resultChoices[result.value];
    state.shown = events.filter((event) => (state.label === null || event[EVENT_CLASS] === state.label) && choice.test(event));
    const isFiltered = state.shown.length < events.length;
    mark = drawTimeline(container, clips, state.shown, isFiltered, select);
    const words = [state.label === null ? "" : ` of ${core.classes[state.label]}`, result.value ? `, ${choice.title}` : ""].join("");
    $("events-count").textContent = isFiltered ? `${count(state.shown.length)} of ${plural(events.length, "event")}${words}` : `${plural(events.length, "event")} in ${plural(core.recordings.length, "recording")}`;
    for (const key of $("events-legend").children) key.setAttribute("aria-pressed", String(key.dataset.label === String(state.label)));
    if (state.shown.length && !state.shown.includes(state.event)) return select(state.shown.find((event) => core.audio[segmentOf(event)]) ?? state.shown[0], { scrolls: false });
    mark(state.event, state.clip === null ? null : clips[state.clip]);
  }

  const counts = core.classes.map((_, label) => events.filter((event) => event[EVENT_CLASS] === label).length);
  const key = (label, text, n) => make("button", { type: "button", class: "key", "data-label": String(label), "aria-pressed": label === state.label, onclick: () => { state.label = label; draw(); } }, label === null ? null : make("i", { class: "swatch", style: { "--own": eventColour(label) } }), text, make("small", {}, count(n)));
  $("events-legend").replaceChildren(key(null, "all classes", events.length), ...core.classes.map((name, label) => (counts[label] ? key(label, name, counts[label]) : null)).filter(Boolean));
  result.replaceChildren(...Object.entries(resultChoices).map(([value, { title }]) => make("option", { value }, title)));
  result.addEventListener("change", draw);
  container.addEventListener("keydown", (event) => { if (/^(Arrow|Home|End)/.test(event.key) && moveInTimeline(container, event.key)) event.preventDefault(); });
  return draw();
}

// The images and players of the list of segments with most wrong decisions.
async function startSegments() {
  const places = [...document.querySelectorAll(".segment-media")];
  if (!places.length) return;
  const [clips, events] = await Promise.all([load("clips"), load("events")]);
  for (const place of places) {
    const clip = Number(place.dataset.clip);
    place.replaceChildren(segmentFigure(clip, clips[clip], imageSets[0], events.filter((event) => event[EVENT_CLIPS].includes(clip))));
  }
}
