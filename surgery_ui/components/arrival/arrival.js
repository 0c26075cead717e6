// Scrolls its place into view when its count has grown; what was there when the page was opened moves nothing.
// what stands below is drawn step by step, and until then the page may be too short to scroll that far
const TRIES = [0, 350, 900, 1800];

export default function ({ parentElement, data }) {
  const place = parentElement.querySelector(".arrival");
  // of the whole browser page: what begins may stand in a tab that was not open before
  const counts = (globalThis.surgeryArrivals ??= {});
  const before = counts[data.place];
  counts[data.place] = data.count;
  if (before === undefined || data.count <= before) return;
  const quiet = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const waiting = TRIES.map((delay) =>
    setTimeout(() => place.scrollIntoView({ behavior: quiet ? "auto" : "smooth", block: "start" }), delay),
  );
  // whoever scrolls meanwhile is not pulled back
  const leave = () => waiting.forEach(clearTimeout);
  for (const event of ["wheel", "touchmove", "keydown"]) addEventListener(event, leave, { once: true, passive: true });
}
