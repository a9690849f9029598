"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Gives a figure the colours of the page: text, lines, background, and ink where Python wrote black. */
function dressed({ data, layout }) {
  const rule = colour("--rule");
  Object.assign(layout, {
    font: { family: colour("--sans"), size: 11, color: colour("--quiet") },
    paper_bgcolor: "rgba(0, 0, 0, 0)",
    plot_bgcolor: "rgba(0, 0, 0, 0)",
  });
  const axes = ["xaxis", "yaxis", ...Object.keys(layout).filter((key) => /^[xy]axis\d+$/.test(key))];
  for (const name of axes) {
    const { title, ...axis } = layout[name] || {};
    const lines = { gridcolor: colour("--grid"), linecolor: rule, zerolinecolor: rule, automargin: true };
    layout[name] = { ...axis, ...lines, title: { ...title, font: { size: 11 } } };
  }
  for (const shape of layout.shapes || []) shape.line.color = colour("--ink");
  for (const trace of data) {
    for (const part of [trace.line, trace.marker]) if (part && part.color === "#000000") part.color = colour("--ink");
    if (trace.error_x) trace.error_x.color = colour("--ink");
  }
  return [data, layout];
}

async function drawCharts() {
  for (const source of document.querySelectorAll("script[data-figure]")) {
    const figure = dressed(JSON.parse(source.textContent));
    await Plotly.react(source.dataset.figure, ...figure, { displayModeBar: false, responsive: true });
    // The page stays usable between two charts.
    await new Promise((resolve) => setTimeout(resolve));
  }
  // Their marks.
  document.querySelectorAll(".viewer input").forEach((slider) => slider.dispatchEvent(new Event("input")));
  document.documentElement.dataset.ready = "true";
}

/** One slider that moves pictures, its text, and the mark on a chart. */
function openViewer(figure) {
  const { positions, tracks, marks } = JSON.parse(figure.querySelector(":scope > script").textContent);
  const slider = figure.querySelector("input");
  const output = figure.querySelector("output");
  const images = [...figure.querySelectorAll(".track img")];
  const plot = figure.querySelector(".plot");
  const button = figure.querySelector("button");

  function show() {
    const position = Number(slider.value);
    images.forEach((image, index) => (image.src = tracks[index].pictures[tracks[index].shown[position]]));
    output.value = positions[position];
    slider.setAttribute("aria-valuetext", positions[position]);
    if (plot && plot.layout) {
      Plotly.relayout(plot, { "shapes[0].x0": marks[position], "shapes[0].x1": marks[position] });
    }
  }
  slider.addEventListener("input", show);

  if (!button) return;
  let timer = null;
  function stop() {
    clearInterval(timer);
    timer = null;
    button.textContent = "Play";
  }
  button.addEventListener("click", () => {
    if (timer !== null) return stop();
    button.textContent = "Pause";
    if (slider.value === slider.max) slider.value = 0;
    timer = setInterval(() => {
      slider.value = Number(slider.value) + 1;
      show();
      if (slider.value === slider.max) stop();
    }, 100);
  });
  slider.addEventListener("pointerdown", stop);
}

document.querySelectorAll(".viewer").forEach(openViewer);
dark.addEventListener("change", drawCharts);
drawCharts();
