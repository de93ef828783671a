// The examples a few-shot classifier was shown, prompt by prompt, as pictures with the labels shown beside them.

function lookAtExamples() {
  const place = $("examples-shown");
  if (!place) return;
  const [classifier, prompt] = [$("examples-classifier"), $("examples-prompt")];
  classifier.replaceChildren(...core.examples.map((one, i) => make("option", { value: i }, one.classifier)));
  classifier.addEventListener("change", fill);
  prompt.addEventListener("change", draw);

  async function fill() {
    const [rows, clips] = await Promise.all([load(core.examples[classifier.value].data), load("clips")]);
    prompt.replaceChildren(...rows.map(([fold, trial, query], i) => make("option", { value: i }, `asked about ${query === null ? `fold ${fold}` : clips[query][0]}, trial ${trial}`)));
    return draw();
  }

  async function draw() {
    const one = core.examples[classifier.value];
    const [rows, clips] = await Promise.all([load(one.data), load("clips")]);
    const shown = rows[prompt.value]?.[3] || [];
    const run = core.runs.findIndex((r) => r.classifier === one.classifier && r.control === "none");
    place.replaceChildren(...shown.map(([clip, label]) => {
      const picture = pictureOf(clip, run < 0 ? null : run);
      const own = core.classes[core.labels[clip]];
      return make("figure", {}, picture && make("img", { src: picture.url, alt: `spectrogram of ${clips[clip][0]}` }),
        make("figcaption", {}, make("b", {}, label), label === own ? "" : ` (in truth ${own})`, make("br"), `${clips[clip][0]}, fold ${clips[clip][1]}`));
    }));
  }
  return fill();
}
