// Transcripts: the turns of a request as they were sent, with the reasoning and the response; and the prompts of each classifier.

const roleNames = { system: "system", user: "message to the model", assistant: "label of the example" };

function turn(role, title, ...parts) {
  return make("div", { class: "turn " + role }, make("span", { class: "role" }, title), ...parts);
}

function exampleFigure(clip, run, clips) {
  if (clip < 0) return make("p", { class: "quiet" }, "(a clip that is no longer part of the study)");
  const [name, fold, , seconds] = clips[clip];
  const label = core.classes[core.labels[clip]];
  const image = run !== null && core.runs[run].takes_audio ? null : imageOf(clip, run);
  return make("figure", { class: "example" },
    image ? withAxes(make("img", { src: image.url, alt: `spectrogram of ${name}`, loading: "lazy" }), image, seconds) : player(clip),
    make("figcaption", {}, `${name}, true class ${label}, fold ${fold}`));
}

// The turns of a request. `query` is the element that stands for the image or audio that is classified.
function requestTurns(turns, run, clips, query) {
  const lastUser = turns.length - 1;
  return turns.map(([role, parts], i) => turn(role, role === "user" && i === lastUser && turns.length > 1 ? "message to the model: the clip in question" : roleNames[role],
    parts.map((part) => part === null ? query.cloneNode(true) : typeof part === "number" ? exampleFigure(part, run, clips) : make("p", {}, part))));
}

function queryElement(run, clip, clips) {
  if (run !== null && core.runs[run].takes_audio) return make("p", { class: "query" }, "[the audio of the clip]");
  const image = clip === null ? null : imageOf(clip, run);
  return image ? withAxes(make("img", { class: "query", src: image.url, alt: "the image of the clip" }), image, clips[clip][3]) : make("p", { class: "query" }, "[the image of the clip]");
}

// Why there are fewer requests than responses.
function sharedRequests(entry) {
  return entry.sent && entry.sent < entry.responses
    ? `The responses come from ${plural(entry.sent, "request")}: one request serves several scorings of a clip, and all clips with the same image or audio, such as a blank image.` : "";
}

function checkNote(entry) {
  if (entry.reason) return entry.reason;
  const [n, all] = [entry.exact, entry.responses].map(count);
  return entry.exact === entry.responses
    ? "Checked: this is exactly what was sent, in every word and image."
    : `Checked for ${n} of ${all} responses: this is exactly what was sent, in every word and image. The other requests were sent by an earlier version of the study or the program, so their words may differ from those shown.`;
}

// A folded transcript of one response; its content is loaded when it is opened.
function transcript(run, clip, row, title = row[8] ? "Transcript: prompt, reasoning and response" : "Transcript: prompt and response") {
  const entry = core.prompts.find((prompt) => prompt.classifier === core.runs[run].classifier);
  if (!entry || row[9] === undefined) return null;
  const details = make("details", { class: "transcript" }, make("summary", {}, title));
  details.addEventListener("toggle", async () => {
    if (!details.open || details.dataset.ready) return;
    details.dataset.ready = "yes";
    const [requests, clips] = await Promise.all([load(entry.data), load("clips")]);
    const response = row[6] ?? `(no text: the label is chosen by ${core.runs[run].scoring})`;
    details.append(...requestTurns(requests[row[9]][1], run, clips, queryElement(run, clip, clips)),
      ...(row[8] ? [turn("reasoning", "reasoning", make("p", {}, row[8]))] : []),
      turn("response", "response", make("p", {}, row[7] ? `error: ${row[7]}` : response === "" ? "(empty)" : response)),
      make("p", { class: "quiet" }, checkNote(entry)));
  });
  return details;
}

// The section with the prompts: each distinct request of a classifier.
function startPrompts() {
  const container = $("prompts-turns");
  if (!container) return;
  const [classifierSelect, requestSelect] = [$("prompts-classifier"), $("prompts-request")];
  classifierSelect.replaceChildren(...core.prompts.map((entry, i) => make("option", { value: i }, entry.classifier)));
  classifierSelect.addEventListener("change", fillRequests);
  requestSelect.addEventListener("change", draw);

  async function fillRequests() {
    const entry = core.prompts[classifierSelect.value];
    const requests = await load(entry.data);
    requestSelect.replaceChildren(...requests.map(([title], i) => make("option", { value: i }, title)));
    $("prompts-note").textContent = [`${plural(entry.responses, "response")}${entry.requests === 1 ? ", all to the same prompt" : ` to ${count(entry.requests)} different prompts`}${entry.decoding ? `; generated text: ${entry.decoding}` : ""}.`, sharedRequests(entry), checkNote(entry)].filter(Boolean).join(" ");
    return draw();
  }

  async function draw() {
    const entry = core.prompts[classifierSelect.value];
    const [requests, clips] = await Promise.all([load(entry.data), load("clips")]);
    const run = core.runs.findIndex((r) => r.classifier === entry.classifier && r.control === "none");
    const turns = requests[requestSelect.value]?.[1] || [];
    container.replaceChildren(...requestTurns(turns, run < 0 ? null : run, clips, queryElement(run < 0 ? null : run, null, clips)));
  }
  return fillRequests();
}
