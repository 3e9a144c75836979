// Draw every figure of the page from the JSON element beside the script. No requests are made.
const page = JSON.parse(document.getElementById("figures-data").textContent);
for (const panel of page.panels) {
  const place = document.getElementById(panel.id);
  const datasets = Object.fromEntries(panel.datasets.map((name) => [name, page.datasets[name]]));
  vegaEmbed(place, { ...panel.spec, datasets, width: "container", autosize: { type: "fit-x", contains: "padding" } }, {
    config: page.config,
    renderer: "svg",
    ast: true, // expressions are interpreted, so that the page can forbid eval
    actions: { export: true, source: false, compiled: false, editor: false },
  }).catch((error) => {
    place.textContent = `This figure could not be drawn: ${error.message}`;
  });
}
