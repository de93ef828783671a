// Cards: one clip with its image, audio and predictions; and galleries of cards.

const CARDS_PER_PAGE = 12;

function zoom(image, caption, seconds) {
  const dialog = $("zoom");
  dialog.querySelector("div").replaceChildren(withAxes(make("img", { src: image.url, alt: caption }), image, seconds));
  dialog.querySelector("p").textContent = caption;
  dialog.showModal();
}

// A page that compares results has image sets "STUDY/RENDERING".
const renderingName = (set) => set.split("/").pop();

function imageFigure(clip, run, name, seconds, receiver = "") {
  const image = imageOf(clip, run);
  const label = core.classes[core.labels[clip]];
  if (!image) return make("figure", { class: "image none" }, make("figcaption", {}, "no image in this report"));
  const note =
    image.set === core.page_images ? "rendered for this page; no model received it"
    : image.isReceived ? `${receiver}rendering “${renderingName(image.set)}”: ${isSingleFile ? "a thumbnail of the image" : "the image"} that the model received${core.axes[image.set] ? "; the axes are added here" : ""}`
    : run === null ? `rendering “${renderingName(image.set)}”`
    : core.runs[run].takes_audio ? `rendering “${renderingName(image.set)}”: this classifier receives audio, not this image`
    : `rendering “${renderingName(image.set)}”: this classifier received no image`;
  const caption = `Spectrogram of ${name}, ${label}: ${note}`;
  return make("figure", { class: "image" },
    withAxes(make("button", { type: "button", class: "zoom", "aria-label": "Enlarge: " + caption, onclick: () => zoom(image, caption, seconds) },
      make("img", { src: image.url, alt: caption })), image, seconds),
    make("figcaption", {}, note));
}

// The images of the runs: one for all runs that received the same image, else one for each.
function images(clip, runs, name, seconds) {
  const receivers = new Map(); // address of an image -> runs that received it
  for (const run of runs) {
    const image = imageOf(clip, run);
    if (image?.isReceived) receivers.set(image.url, [...(receivers.get(image.url) || []), run]);
  }
  const names = (of) => [...new Set(of.map((run) => core.runs[run].place || runName(run)))].join(" and ");
  const isNamed = receivers.size > 1 || runs.some((run) => core.runs[run].place);
  const figures = [...receivers.values()].map((of) => imageFigure(clip, of[0], name, seconds, isNamed ? `${names(of)}: ` : ""));
  const withoutImage = runs.filter((run) => core.runs[run].is_earlier && !core.runs[run].takes_audio);
  return make("div", { class: "images" + (figures.length > 1 ? " pair" : "") },
    figures.length ? figures : imageFigure(clip, runs[0] ?? null, name, seconds),
    withoutImage.length ? make("p", { class: "quiet" }, `${names(withoutImage)}: images of earlier results are not stored`) : null);
}

function player(clip, autoplay = false) {
  const name = core.audio[clip];
  if (!name) return make("p", { class: "quiet" }, "no audio in this report");
  const audio = make("audio", { controls: true, preload: "metadata", src: mediaUrl(name), "aria-label": "audio of the clip" });
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause()));
  if (autoplay) audio.play().catch(() => {}); // browsers block audio before the first click
  return audio;
}

function predictionBadge(predicted, clip) {
  const isCorrect = predicted === core.labels[clip];
  return make("span", { class: "badge " + (isCorrect ? "correct" : "wrong") }, `${isCorrect ? "✓" : "✗"} ${labelOf(predicted)}`);
}

function scoreBars(scores, clip, predicted) {
  const lines = [];
  for (let i = 0; i < scores.length; i += 2) {
    const isTrue = scores[i] === core.labels[clip];
    lines.push(make("li", { class: isTrue ? "own" : scores[i] === predicted ? "predicted" : null },
      make("span", { class: "label", title: labelOf(scores[i]) }, isTrue ? "✓ " : "", labelOf(scores[i]), isTrue ? make("span", { class: "hidden" }, " (true class)") : null),
      make("span", { class: "bar", style: { "--share": Math.max(0, Math.min(1, scores[i + 1])) } }),
      make("span", { class: "number" }, roundedText(scores[i + 1], 3))));
  }
  return lines;
}

// The prediction of a run for a clip. Of several trials, it shows one that predicted the label `predicted`.
function predictionBlock(run, rows, clip, predicted) {
  const head = make("p", { class: "prediction-title" }, make("b", {}, runName(run)), " predicted ");
  if (!rows) return make("div", { class: "prediction" }, make("p", { class: "quiet" }, make("b", {}, runName(run)), " has no prediction for this clip"));
  const row = rows.find((r) => r[2] === predicted) || rows[0];
  head.append(predictionBadge(row[2], clip));
  const block = make("div", { class: "prediction" }, head);
  if (rows.length > 1) {
    const unit = core.runs[run].scoring === "annotation" ? "annotations" : "trials";
    const counts = new Map();
    for (const r of rows) counts.set(r[2], (counts.get(r[2]) || 0) + 1);
    const list = [...counts].sort((a, b) => b[1] - a[1]).map(([label, n]) => `${labelOf(label)} ${count(n)}`).join(", ");
    block.append(make("p", { class: "quiet" }, `${count(rows.length)} ${unit}: ${list}`));
  }
  if (row[6] !== undefined && row[6] !== null) block.append(make("p", { class: "quiet" }, "response:"), make("blockquote", {}, row[6] === "" ? "(empty)" : row[6]));
  if (row[7]) block.append(make("p", { class: "quiet" }, "error: " + row[7]));
  block.append(...[transcript(run, clip, row)].filter(Boolean));
  if (row[5]) {
    const bars = scoreBars(row[5], clip, row[2]);
    block.append(make("ul", { class: "scores", "aria-label": "scores of the classes" }, bars.slice(0, 3)));
    if (bars.length > 3) block.append(make("details", {}, make("summary", {}, `${bars.length - 3} more scores`), make("ul", { class: "scores" }, bars.slice(3))));
  }
  return block;
}

function otherPredictions(clip, runs) {
  const otherRuns = originalRuns.filter((i) => !runs.includes(i) && core.runs[i].votes[clip] !== null);
  if (!otherRuns.length) return null;
  const badges = otherRuns.map((i) => make("span", {}, runName(i) + " ", predictionBadge(core.runs[i].votes[clip], clip)));
  if (core.runs[0].place) return make("details", { class: "folded" }, make("summary", {}, plural(badges.length, "other prediction")), make("p", { class: "others" }, badges));
  return make("p", { class: "others" }, "Other classifiers: ", badges);
}

// A card of a clip with the predictions of the runs.
async function makeCard(clip, runs, { predicted = null, autoplay = false } = {}) {
  const [clips, ...rows] = await Promise.all([load("clips"), ...runs.map(predictions)]);
  const [name, fold, source, seconds] = clips[clip];
  const control = runs.length && core.runs[runs[0]].control !== "none" ? " (original audio, image of the control)" : "";
  return make("article", { class: "card", "data-clip": clip },
    images(clip, runs, name, seconds),
    make("div", { class: "about" },
      make("p", { class: "quiet" }, "true class"),
      make("h4", {}, core.classes[core.labels[clip]]),
      make("p", { class: "quiet" }, `clip ${name} · fold ${fold} · recording ${source} · ${roundedText(seconds, 2)} s${control}`),
      player(clip, autoplay),
      runs.map((run, i) => predictionBlock(run, rows[i].get(clip), clip, predicted))),
    otherPredictions(clip, runs));
}

// Show cards page by page. A later call replaces an earlier one that is still loading.
async function showGallery(container, clips, runs, options) {
  const call = (container.call = (container.call || 0) + 1);
  const first = await Promise.all(clips.slice(0, CARDS_PER_PAGE).map((clip) => makeCard(clip, runs, options)));
  if (container.call !== call) return;
  container.replaceChildren(...first);
  let visible = first.length;
  const more = make("button", { type: "button", class: "more", onclick: async () => {
    const next = clips.slice(visible, visible + CARDS_PER_PAGE);
    visible += next.length;
    more.before(...(await Promise.all(next.map((clip) => makeCard(clip, runs, options)))));
    if (visible >= clips.length) more.remove();
    else more.textContent = `Show ${Math.min(CARDS_PER_PAGE, clips.length - visible)} more of ${count(clips.length)}`;
  } });
  if (visible < clips.length) {
    more.textContent = `Show ${Math.min(CARDS_PER_PAGE, clips.length - visible)} more of ${count(clips.length)}`;
    container.append(more);
  }
}
