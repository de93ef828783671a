// The few-shot examples of a classifier, prompt by prompt: images with the labels that the prompt contains.

function startExamples() {
  const container = $("examples-images");
  if (!container) return;
  const [classifierSelect, promptSelect] = [$("examples-classifier"), $("examples-prompt")];
  classifierSelect.replaceChildren(...core.examples.map((entry, i) => make("option", { value: i }, entry.classifier)));
  classifierSelect.addEventListener("change", fillPrompts);
  promptSelect.addEventListener("change", draw);

  async function fillPrompts() {
    const [rows, clips] = await Promise.all([load(core.examples[classifierSelect.value].data), load("clips")]);
    promptSelect.replaceChildren(...rows.map(([fold, trial, query], i) => make("option", { value: i }, `query: ${query === null ? `all clips of fold ${fold}` : clips[query][0]}, trial ${trial}`)));
    return draw();
  }

  async function draw() {
    const entry = core.examples[classifierSelect.value];
    const [rows, clips] = await Promise.all([load(entry.data), load("clips")]);
    const examples = rows[promptSelect.value]?.[3] || [];
    const run = core.runs.findIndex((r) => r.classifier === entry.classifier && r.control === "none");
    container.replaceChildren(...examples.map(([clip, label]) => {
      const image = imageOf(clip, run < 0 ? null : run);
      const trueLabel = core.classes[core.labels[clip]];
      return make("figure", {}, image && make("img", { src: image.url, alt: `spectrogram of ${clips[clip][0]}` }),
        make("figcaption", {}, make("b", {}, label), label === trueLabel ? "" : ` (true class: ${trueLabel})`, make("br"), `${clips[clip][0]}, fold ${clips[clip][1]}`));
    }));
  }
  return fillPrompts();
}
