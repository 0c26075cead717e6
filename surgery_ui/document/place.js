// Brings the place into view that an address names behind its #. Streamlit writes the address anew before that place is
// drawn, and the name is lost. Whoever scrolls or clicks meanwhile is not pulled back.
const wanted = decodeURIComponent(location.hash.slice(1));
const PATIENCE = 20_000; // ms
const AGAIN = [0, 400, 1_200]; // ms; what stands above may still be growing
let left = false;
for (const event of ["wheel", "touchmove", "keydown", "pointerdown", "hashchange"]) {
  addEventListener(event, () => (left = true), { once: true, passive: true, capture: true });
}
const look = () => {
  const place = document.getElementById(wanted);
  const bring = () => left || document.getElementById(wanted)?.scrollIntoView();
  if (place) AGAIN.forEach((delay) => setTimeout(bring, delay));
  else if (!left && performance.now() < PATIENCE) setTimeout(look, 100);
};
if (wanted) look();
