// Draws every chart of a page from the page's own data, as wide as its place, in the colours of the reader's theme.
(() => {
  const held = document.getElementById("charts");
  if (!held) return;
  const { datasets, charts } = JSON.parse(held.textContent);
  const options = { renderer: "svg", ast: true, actions: { export: true, source: false, compiled: false, editor: false } };

  const draw = async (name, mode) => {
    const place = document.querySelector(`[data-chart="${name}"] .${mode}`);
    const { spec, data, wide } = charts[name][mode];
    const full = { ...spec, datasets: Object.fromEntries(data.map((one) => [one, datasets[one]])) };
    if (wide) {
      full.width = Math.max(240, Math.floor(place.parentElement.clientWidth));
      full.autosize = { type: "fit-x", contains: "padding" };
    }
    await vegaEmbed(place, full, { ...options, tooltip: { theme: mode } });
  };

  const drawAll = async () => {
    for (const [name, modes] of Object.entries(charts)) {
      for (const mode of Object.keys(modes)) await draw(name, mode).catch(console.error);
    }
    document.documentElement.dataset.drawn = "yes";
  };

  let width = window.innerWidth;
  let later;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(later);
    later = setTimeout(drawAll, 200);
  });
  drawAll();
})();
