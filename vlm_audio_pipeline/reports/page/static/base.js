"use strict";
// What every part of the page stands on: making elements, loading data, pictures and sounds, writing numbers.
// Text only ever enters the page as text: nothing here or elsewhere sets HTML.

const core = JSON.parse(document.getElementById("core").textContent);
const inOneFile = document.documentElement.dataset.kind === "single file";
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

// Data come in pieces: elements of the page in a single file, scripts beside it in a folder. Each is loaded once.
const pieces = {};
window.vlmAudio = { take: (key, value) => pieces[key].arrived(value) };

function load(key) {
  if (!pieces[key]) {
    pieces[key] = {};
    pieces[key].value = new Promise((arrived, failed) => {
      if (inOneFile) return arrived(JSON.parse($("data-" + key).textContent));
      pieces[key].arrived = arrived;
      document.head.append(make("script", { src: `data/${key}.js`, onerror: () => failed(new Error(`data/${key}.js is missing`)) }));
    });
  }
  return pieces[key].value;
}

function mediaUrl(name) {
  return inOneFile ? $("media-" + name).textContent : "media/" + name;
}

// Predictions of a run by clip, all trials of a clip together; columns as `runs.write_predictions` writes them.
const byRun = {};
function predictions(run) {
  byRun[run] ??= load(core.runs[run].data).then((rows) => {
    const clips = new Map();
    for (const row of rows) {
      if (row[0] !== run) continue;
      if (!clips.has(row[1])) clips.set(row[1], []);
      clips.get(row[1]).push(row);
    }
    return clips;
  });
  return byRun[run];
}

const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : (100 * share).toFixed(digits) + "\u00a0%");
const plural = (n, one, many = one + "s") => `${n} ${n === 1 ? one : many}`;
const unlabelled = { "-4": "no majority" };
core.outcomes.forEach((outcome, i) => (unlabelled[-1 - i] = `(${outcome})`));
const labelOf = (given) => (given >= 0 ? core.classes[given] : unlabelled[given]);
const realRuns = core.runs.map((run, i) => i).filter((i) => core.runs[i].control === "none");

function runName(i) {
  const run = core.runs[i];
  const twice = core.runs.some((other, j) => j !== i && other.name === run.name);
  return twice ? `${run.name} (${run.scoring})` : run.name;
}

function runOptions(select, runs, chosen) {
  select.replaceChildren(...runs.map((i) => make("option", { value: i, selected: i === chosen }, `${runName(i)} · ${percent(core.runs[i].accuracy)}`)));
}

function pictureOf(clip, run) {
  const own = run === null ? null : core.runs[run].pictures;
  const sets = Object.keys(core.pictures);
  const set = own || sets.find((name) => !name.includes("__")) || sets[0];
  const name = set && core.pictures[set][clip];
  return name ? { url: mediaUrl(name), set, sent: set === own } : null;
}
