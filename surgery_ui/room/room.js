// Tells how wide the place of this component is, in whole steps, and again when that changes.
const SETTLE = 150;
const watched = new WeakMap();

export default function ({ parentElement, data, setStateValue }) {
  const known = watched.get(parentElement) ?? { sent: null };
  watched.set(parentElement, known);
  known.observer?.disconnect();
  const place = parentElement.querySelector(".room");
  let timer;
  const tell = () => {
    const width = Math.floor(place.getBoundingClientRect().width / data.step) * data.step;
    if (width <= 0 || width === known.sent) return;
    known.sent = width;
    setStateValue("width", width);
  };
  known.observer = new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(tell, SETTLE);
  });
  known.observer.observe(place);
  tell();
  return () => known.observer.disconnect();
}
