// Puts the words of the texts where the page keeps a place for them, as they come from the server by a way of their own.
// The page draws the same a moment later. A place says its side and its turn; what is of an older turn than the place
// is dropped, and what the page draws late is brought up to date before anybody sees it.
const NAME = "model-surgery-words";
const SCRIPT = 'script[type="module"][src*="/static/"]'; // of Streamlit's own page, relative to where it is served
const QUIET = 5000; // ms without a word after which the page is no longer watched
const LEFT = 1000; // ms after which a component that is gone is not on its way to another place of the page
const SOON = 1000; // ms until a lost connection is tried again; twice as long each time
const LATE = 60000;

export default function ({ data }) {
  const wire = (window[Symbol.for(NAME)] ??= makeWire());
  const user = {};
  wire.use(user, data);
  return () => wire.leave(user);
}

function makeWire() {
  let user, token, socket, again, delay, news, quiet;
  const observer = new MutationObserver(() => show(news));

  const close = () => {
    clearTimeout(again);
    const left = socket;
    socket = token = undefined;
    left?.close();
  };
  const open = (data) => {
    const script = document.querySelector(SCRIPT);
    if (!script) return;
    const address = script.src.replace(/\/static\/.*$/, `/${data.path}`).replace(/^http/, "ws");
    const opened = (socket = new WebSocket(address));
    opened.onopen = () => opened.send(data.token);
    opened.onmessage = (event) => {
      if (opened !== socket) return;
      delay = SOON;
      news = JSON.parse(event.data);
      show(news);
      watch();
    };
    opened.onclose = (event) => {
      if (opened !== socket || event.code === data.unknown) return;
      again = setTimeout(() => open(data), delay);
      delay = Math.min(2 * delay, LATE);
    };
  };
  const watch = () => {
    clearTimeout(quiet);
    quiet = setTimeout(() => observer.disconnect(), QUIET);
    observer.observe(document.body, { childList: true, subtree: true });
  };
  return {
    use(one, data) {
      user = one;
      if (data.token === token) return;
      close();
      token = data.token;
      delay = SOON;
      open(data);
    },
    leave(one) {
      setTimeout(() => one === user && close(), LEFT);
    },
  };
}

function show({ turn, sides }) {
  for (const [side, parts] of Object.entries(sides)) {
    const place = document.querySelector(`[data-words^="${side} "]`);
    if (!place) continue;
    const drawn = Number(place.dataset.words.slice(side.length + 1));
    const shorter = parts.join("").length < place.textContent.length;
    if (drawn > turn || (drawn === turn && shorter)) continue;
    if (drawn < turn) place.dataset.words = `${side} ${turn}`;
    parts.forEach((part, at) => {
      if (place.children[at].textContent !== part) place.children[at].textContent = part;
    });
  }
}
