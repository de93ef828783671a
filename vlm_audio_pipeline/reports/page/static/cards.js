// One clip as a card: its picture, its sound, what was said of it; and galleries of cards.

const PAGE = 12;

function zoom(picture, caption) {
  const dialog = $("zoom");
  dialog.querySelector("img").src = picture.url;
  dialog.querySelector("img").alt = caption;
  dialog.querySelector("p").textContent = caption;
  dialog.showModal();
}

function pictureFigure(clip, run, name) {
  const picture = pictureOf(clip, run);
  const label = core.classes[core.labels[clip]];
  if (!picture) return make("figure", { class: "picture none" }, make("figcaption", {}, "no picture here"));
  const heard = run !== null && core.runs[run].hears;
  const said =
    picture.set === core.drawn ? "drawn for this page: it was shown to no model"
    : picture.sent ? (inOneFile ? `as sent, made small (${picture.set})` : `exactly as sent (${picture.set})`)
    : heard ? `${picture.set}: not shown to this classifier, which hears the sound`
    : run === null ? picture.set
    : `${picture.set}: this run was sent no picture`;
  const caption = `Spectrogram of ${name}, ${label}: ${said}`;
  return make("figure", { class: "picture" },
    make("button", { type: "button", class: "zoom", "aria-label": "Enlarge: " + caption, onclick: () => zoom(picture, caption) },
      make("img", { src: picture.url, alt: caption })),
    make("figcaption", {}, said));
}

function player(clip, autoplay = false) {
  const name = core.sounds[clip];
  if (!name) return make("p", { class: "quiet" }, "no sound here");
  const audio = make("audio", { controls: true, preload: "metadata", src: mediaUrl(name), "aria-label": "sound of the clip" });
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach((other) => other !== audio && other.pause()));
  if (autoplay) audio.play().catch(() => {}); // browsers refuse sound before the first click
  return audio;
}

function verdict(given, clip) {
  const right = given === core.labels[clip];
  return make("span", { class: "badge " + (right ? "right" : "wrong") }, `${right ? "✓" : "✗"} ${labelOf(given)}`);
}

function scoreBars(scores, clip, given) {
  const lines = [];
  for (let i = 0; i < scores.length; i += 2) {
    const own = scores[i] === core.labels[clip];
    lines.push(make("li", { class: own ? "own" : scores[i] === given ? "given" : null },
      make("span", { class: "label", title: labelOf(scores[i]) }, own ? "✓ " : "", labelOf(scores[i]), own ? make("span", { class: "hidden" }, " (the true class)") : null),
      make("span", { class: "bar", style: { "--share": Math.max(0, Math.min(1, scores[i + 1])) } }),
      make("span", { class: "number" }, scores[i + 1].toFixed(3))));
  }
  return lines;
}

function said(run, rows, clip, predicted) {
  const head = make("p", { class: "who" }, make("b", {}, runName(run)), " said ");
  if (!rows) return make("div", { class: "said" }, make("p", { class: "quiet" }, make("b", {}, runName(run)), " was not asked about this clip"));
  const row = rows.find((r) => r[2] === predicted) || rows[0];
  head.append(verdict(row[2], clip));
  const block = make("div", { class: "said" }, head);
  if (rows.length > 1) {
    const things = core.runs[run].scoring === "judgement" ? "judgements" : "trials";
    const counts = new Map();
    for (const r of rows) counts.set(r[2], (counts.get(r[2]) || 0) + 1);
    const told = [...counts].sort((a, b) => b[1] - a[1]).map(([given, n]) => `${labelOf(given)} ${n}`).join(", ");
    block.append(make("p", { class: "quiet" }, `${rows.length} ${things}: ${told}`));
  }
  if (row[6] !== undefined && row[6] !== null) block.append(make("p", { class: "quiet" }, "its answer, word for word:"), make("blockquote", {}, row[6] === "" ? "(nothing)" : row[6]));
  if (row[7]) block.append(make("p", { class: "quiet" }, "error: " + row[7]));
  if (row[5]) {
    const bars = scoreBars(row[5], clip, row[2]);
    block.append(make("ul", { class: "scores", "aria-label": "scores of the classes" }, bars.slice(0, 3)));
    if (bars.length > 3) block.append(make("details", {}, make("summary", {}, `${bars.length - 3} more scores`), make("ul", { class: "scores" }, bars.slice(3))));
  }
  return block;
}

function others(clip, runs) {
  const rest = realRuns.filter((i) => !runs.includes(i) && core.runs[i].votes[clip] !== null);
  if (!rest.length) return null;
  return make("p", { class: "others" }, "Others: ", rest.map((i) => make("span", {}, runName(i) + " ", verdict(core.runs[i].votes[clip], clip))));
}

// A card of a clip with what some runs said of it; of many trials the one that gave `predicted`.
async function card(clip, runs, { predicted = null, autoplay = false } = {}) {
  const [clips, ...rows] = await Promise.all([load("clips"), ...runs.map(predictions)]);
  const [name, fold, source, seconds] = clips[clip];
  const control = runs.length && core.runs[runs[0]].control !== "none" ? " (the sound is the clip's own, the picture is the control's)" : "";
  return make("article", { class: "card", "data-clip": clip },
    pictureFigure(clip, runs.length ? runs[0] : null, name),
    make("div", { class: "about" },
      make("p", { class: "quiet" }, "true class"),
      make("h4", {}, core.classes[core.labels[clip]]),
      make("p", { class: "quiet" }, `clip ${name} · fold ${fold} · recording ${source} · ${seconds.toFixed(2)} s${control}`),
      player(clip, autoplay),
      runs.map((run, i) => said(run, rows[i].get(clip), clip, predicted)),
      others(clip, runs)));
}

// Show cards a page at a time; what is asked for later wins over what is still being loaded.
async function gallery(place, clips, runs, options) {
  const turn = (place.turn = (place.turn || 0) + 1);
  const first = await Promise.all(clips.slice(0, PAGE).map((clip) => card(clip, runs, options)));
  if (place.turn !== turn) return;
  place.replaceChildren(...first);
  let shown = first.length;
  const more = make("button", { type: "button", class: "more", onclick: async () => {
    const next = clips.slice(shown, shown + PAGE);
    shown += next.length;
    more.before(...(await Promise.all(next.map((clip) => card(clip, runs, options)))));
    if (shown >= clips.length) more.remove();
    else more.textContent = `Show ${Math.min(PAGE, clips.length - shown)} more of ${clips.length}`;
  } });
  if (shown < clips.length) {
    more.textContent = `Show ${Math.min(PAGE, clips.length - shown)} more of ${clips.length}`;
    place.append(more);
  }
}
