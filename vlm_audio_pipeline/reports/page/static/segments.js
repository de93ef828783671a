// A segment: its spectrogram with the annotated events as boxes, and its audio.

const [SEGMENT_ID, SEGMENT_RECORDING, SEGMENT_START, SEGMENT_END, SEGMENT_FOLD, SEGMENT_CLASSES] = [0, 1, 2, 3, 4, 5]; // columns of the data "clips"
const [EVENT_RECORDING, EVENT_CLASS, EVENT_START, EVENT_END, EVENT_CLIPS, EVENT_STATUS, EVENT_LOW, EVENT_HIGH, EVENT_PLACES] = [0, 1, 2, 3, 4, 5, 6, 7, 8]; // of "events"
const imageSets = Object.keys(core.images);

// Every class has its own colour: hues at equal distances, in turn light, medium and dark.
function eventColour(label) {
  const n = core.classes.length;
  return n <= 7 ? `var(--c${label})` : `oklch(var(--shade${label % 3}) 0.14 ${((360 * label) / n).toFixed(1)}deg)`;
}

const secondsText = (seconds) => roundedText(seconds, 2);
const recordingName = (number) => core.recordings[number].split("/").at(-1);

function eventTitle(event) {
  const { [EVENT_LOW]: low, [EVENT_HIGH]: high } = event;
  const kilohertz = (hz) => Number((hz / 1000).toPrecision(3));
  const band = low == null && high == null ? "" : high == null ? `, from ${kilohertz(low)} kHz` : low == null ? `, up to ${kilohertz(high)} kHz` : `, ${kilohertz(low)} to ${kilohertz(high)} kHz`;
  const [start, end] = [event[EVENT_START], event[EVENT_END]];
  return start === end ? `at ${secondsText(start)} s${band}` : `${secondsText(start)} to ${secondsText(end)} s${band}`;
}

// The first free lane of each interval [start, end], in the order given; intervals of a lane do not overlap.
function findLanes(intervals) {
  const ends = [];
  return intervals.map(([start, end]) => {
    const free = ends.findIndex((last) => last <= start);
    const lane = free < 0 ? ends.length : free;
    ends[lane] = end;
    return lane;
  });
}

// Why a segment has no image or no audio.
function missingReason(clip) {
  if (core.unreadable[clip]) return core.unreadable[clip];
  if (core.missing) return `There is no audio, because the recordings are missing: ${core.missing}.`;
  return `Images and audio of ${plural(core.max_clips, "segment")} are on this page, and this segment is not among them.` + (isSingleFile ? " The folder form of this report has more." : "");
}

// Whether the part of an event in a segment is too short to give the segment its class: the rule of the dataset, as in datasets/segments.py.
function isTooShort(event, segment) {
  const [start, end] = [event[EVENT_START], Math.min(event[EVENT_END], core.ends[event[EVENT_RECORDING]])];
  if (core.min_overlap_s === null || start === event[EVENT_END]) return false; // without a rule, or a point in time
  return Math.min(end, segment[SEGMENT_END]) - Math.max(start, segment[SEGMENT_START]) < Math.min(core.min_overlap_s, end - start) - 1e-5; // times are rounded
}

// Place the boxes of events over an image, as shares of its size. Each box has the label of its class above the others that overlap it.
function eventBoxes(segment, set, events, selected, select) {
  const axes = core.axes[set];
  if (!axes?.is_time) return [];
  const [left, top, right, bottom] = axes.box;
  const seconds = segment[SEGMENT_END] - segment[SEGMENT_START];
  const first = segment[SEGMENT_START] + axes.start_s, last = segment[SEGMENT_START] + (axes.end_s ?? seconds + axes.added_s);
  const x = (t) => left + (right - left) * Math.min(1, Math.max(0, (t - first) / (last - first)));
  const lanes = findLanes(events.map((event) => [event[EVENT_START], Math.max(event[EVENT_END], event[EVENT_START] + 0.25 * (last - first))])); // the label of a short event is wider than its box
  return events.map((event, i) => {
    const place = event[EVENT_PLACES]?.[imageSets.indexOf(set)];
    const [low, high] = place || [0, 1];
    const y = (share) => bottom - share * (bottom - top);
    const percentage = (share) => `${(100 * share).toFixed(2)}%`;
    const style = { left: percentage(x(event[EVENT_START])), width: percentage(x(event[EVENT_END]) - x(event[EVENT_START])), top: percentage(y(high)), height: percentage(y(low) - y(high)), "--own": eventColour(event[EVENT_CLASS]), "--lane": !place ? lanes[i] : high < 0.9 ? -1 : 0 }; // the label stands above a box that does not fill the height
    const name = core.classes[event[EVENT_CLASS]];
    const classes = ["event-box", x(event[EVENT_START]) > left + 0.75 * (right - left) ? "at-end" : "", isTooShort(event, segment) ? "too-short" : ""];
    return make("button", { type: "button", class: classes.join(" ").trim(), style, "aria-current": event === selected, "aria-label": `${name}, ${eventTitle(event)}`, title: `${name}, ${eventTitle(event)}`, onclick: () => select?.(event) }, make("span", {}, name));
  });
}

// Player of a segment: a line over the image follows it. `range` is what the second button plays, [start, end] in s within the segment.
function segmentPlayer(clip, line, position, range, preload) {
  if (!core.audio[clip]) return [];
  const audio = make("audio", { controls: true, preload, src: mediaUrl(core.audio[clip]), "aria-label": "audio of the segment" });
  let end = null;
  const follow = () => {
    if (end !== null && audio.currentTime >= end) { audio.pause(); end = null; }
    line.style.left = position(audio.currentTime);
    line.hidden = audio.currentTime === 0;
    if (!audio.paused && line.isConnected) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => { document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause()); follow(); });
  for (const name of ["timeupdate", "pause"]) audio.addEventListener(name, follow);
  const playEvent = () => { audio.currentTime = range[0]; end = range[1]; audio.play().catch(() => {}); };
  return [audio, range && make("button", { type: "button", class: "small play-event", onclick: playEvent }, "Play only the event")];
}

// The image with axes and boxes, and the player. `set` is the image set; `events` are those of the segment.
function segmentFigure(clip, segment, set, events, selected = null, select = null) {
  const file = core.images[set]?.[clip];
  const seconds = segment[SEGMENT_END] - segment[SEGMENT_START];
  const axes = core.axes[set];
  const line = make("i", { class: "playhead", hidden: true });
  const position = (t) => axes ? `${100 * (axes.box[0] + (axes.box[2] - axes.box[0]) * (t - axes.start_s) / ((axes.end_s ?? seconds + axes.added_s) - axes.start_s))}%` : "-9px";
  const range = selected && selected[EVENT_END] > selected[EVENT_START] ? [Math.max(0, selected[EVENT_START] - segment[SEGMENT_START]), Math.min(seconds, selected[EVENT_END] - segment[SEGMENT_START])] : null;
  const parts = [];
  if (file) {
    const canvas = make("div", { class: "segment-image" }, make("img", { src: mediaUrl(file), alt: `spectrogram of segment ${segment[SEGMENT_ID]}`, loading: "lazy" }), eventBoxes(segment, set, events, selected, select), line);
    parts.push(withAxes(canvas, { url: mediaUrl(file), set }, seconds, segment[SEGMENT_START]));
    if (set === core.page_images && select) parts.push(make("figcaption", {}, "rendered for this page, no model received it; black is a tone with the peak amplitude of the recording, white is 60 dB below it"));
    else if (select) parts.push(make("figcaption", {}, (isSingleFile ? `rendering ${set}: thumbnail of the image that models received` : `rendering ${set}: exactly as models received it`) + (axes?.is_time ? "" : "; it shows its axes itself, so no boxes are drawn over it")));
  }
  if (file && axes?.is_time && events.some((event) => isTooShort(event, segment))) parts.push(make("figcaption", {}, "dotted frame: the part of this event is too short to give the segment its class"));
  if (!file || !core.audio[clip]) parts.push(make("p", { class: "quiet" }, missingReason(clip)));
  return make("figure", { class: "segment-figure" }, ...parts, ...segmentPlayer(clip, line, position, range, select ? "metadata" : "none").filter(Boolean));
}
