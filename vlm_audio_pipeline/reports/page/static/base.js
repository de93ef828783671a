"use strict";
// Shared helpers: create elements, load data and media, format numbers.
// All text is inserted as text; no script sets HTML.

const core = JSON.parse(document.getElementById("core").textContent);
const isSingleFile = document.documentElement.dataset.kind === "single file";
const $ = (id) => document.getElementById(id);

function make(tag, attributes, ...children) {
  const svg = ["svg", "g", "path", "line", "circle", "rect", "text", "title"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) element.style.setProperty(key, v);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Data are elements of the page in a single file, and separate scripts in a folder. Each is loaded once.
const loads = {};
window.vlmAudio = { receive: (key, value) => loads[key].resolve(value) };

function load(key) {
  if (!loads[key]) {
    loads[key] = {};
    loads[key].promise = new Promise((resolve, reject) => {
      if (isSingleFile) return resolve(JSON.parse($("data-" + key).textContent));
      loads[key].resolve = resolve;
      document.head.append(make("script", { src: `data/${key}.js`, onerror: () => reject(new Error(`data/${key}.js is missing`)) }));
    });
  }
  return loads[key].promise;
}

function mediaUrl(name) {
  return isSingleFile ? $("media-" + name).textContent : "media/" + name;
}

// Predictions of a run: clip -> rows of all its trials; columns as `runs.write_predictions` writes them.
// A page that compares results has only the most frequent label of each clip.
const predictionsByRun = {};
function predictions(run) {
  const { data, votes } = core.runs[run];
  if (!data) return Promise.resolve(new Map(votes.map((vote, clip) => [clip, [[run, clip, vote, 0]]]).filter(([, [row]]) => row[2] !== null)));
  predictionsByRun[run] ??= load(data).then((rows) => {
    const clips = new Map();
    for (const row of rows) {
      if (row[0] !== run) continue;
      if (!clips.has(row[1])) clips.set(row[1], []);
      clips.get(row[1]).push(row);
    }
    return clips;
  });
  return predictionsByRun[run];
}

/** Round half away from zero, as `contracts/number_text.py` does; 12 significant digits remove the error of binary numbers. */
const roundedText = (value, digits) => {
  const scaled = Math.round(Number(Math.abs(value * 10 ** digits).toPrecision(12))) / 10 ** digits;
  return (value < 0 && scaled > 0 ? "-" : "") + scaled.toFixed(digits);
};
const percent = (share, digits = 1) => (share === null || share === undefined ? "not defined" : roundedText(100 * share, digits) + "\u00a0%");
const count = (n) => n.toLocaleString("en");
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;
const outcomeNames = {};
core.outcomes.forEach((outcome, i) => (outcomeNames[-1 - i] = `(${outcome})`));
const labelOf = (predicted) => (predicted >= 0 ? core.classes[predicted] : outcomeNames[predicted]);
const originalRuns = core.runs.map((run, i) => i).filter((i) => core.runs[i].control === "none");

function runName(i) {
  const run = core.runs[i];
  const isAmbiguous = core.runs.some((other, j) => j !== i && other.name === run.name);
  return isAmbiguous ? `${run.name} (${run.scoring})` : run.name;
}

function fillRunOptions(select, runs, selected) {
  select.replaceChildren(...runs.map((i) => make("option", { value: i, selected: i === selected }, `${runName(i)} · ${percent(core.runs[i].accuracy)}`)));
}

// The image that a run received, or else an original image of the clip; null without an image.
function imageOf(clip, run) {
  const runSet = run === null ? null : core.runs[run].image_set;
  const sets = Object.keys(core.images);
  const set = runSet || sets.find((name) => !name.includes("__")) || sets[0];
  const name = set && core.images[set][clip];
  return name ? { url: mediaUrl(name), set, isReceived: set === runSet } : null;
}
