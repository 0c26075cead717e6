// Tells how wide the place of this component is, in whole steps, and again when that changes.
// It waits until no script runs: a run that is broken off while fields are being mounted can empty them.
const SETTLE = 200;
const watched = new WeakMap();

export default function ({ parentElement, data, setStateValue }) {
  const known = watched.get(parentElement) ?? { sent: null };
  watched.set(parentElement, known);
  known.stop?.();
  const place = parentElement.querySelector(".room");
  let timer;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(tell, SETTLE);
  };
  const tell = () => {
    const width = Math.floor(place.getBoundingClientRect().width / data.step) * data.step;
    if (width <= 0 || width === known.sent) return;
    if (isBusy()) return later();
    known.sent = width;
    setStateValue("width", width);
  };
  const observer = new ResizeObserver(later);
  observer.observe(place);
  known.stop = () => {
    clearTimeout(timer);
    observer.disconnect();
  };
  return known.stop;
}

function isBusy() {
  const app = document.querySelector('[data-testid="stApp"]');
  return app?.dataset.testScriptState === "running";
}
