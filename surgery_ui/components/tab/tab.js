// What belongs to the browser's tab and not to one part of the page. It is set up once; the component is drawn again
// and again, and then only its way to Python is renewed.
const NAME = "model-surgery-tab";
const NARROW = 768; // px; where Streamlit's sidebar lies over the page
const LINKS = '[data-testid="stSidebarNavLink"], [data-testid="stPageLink-NavLink"]';

export default function ({ data, setStateValue }) {
  const tab = (window[Symbol.for(NAME)] ??= setUp());
  tab.send = setStateValue;
  if (!data.known) setStateValue("token", tab.token);
}

function setUp() {
  const tab = { token: claimToken(), page: randomHex(8), log: "", send: () => {} };
  // The token lies in the tab's storage only between two pages of it: a tab that is duplicated copies the storage,
  // and must not get the token of one that is in use.
  window.addEventListener("pagehide", () => store(tab.token));
  window.addEventListener("pageshow", (event) => event.persisted && store(null));
  document.addEventListener("keydown", (event) => onKey(event, tab), true);
  document.addEventListener("click", onClick, true);
  // Streamlit changes its own colours with the system's, and runs no script for it: charts and pictures would stay
  // as they are. It has told nobody yet when this is called.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", () => setTimeout(() => tab.send("scheme", dark.matches ? "dark" : "light"), 250));
  if (isElsewhere()) closeDrawer(); // a page was chosen before this code was there
  return tab;
}

function isElsewhere() {
  const [opened] = performance.getEntriesByType("navigation");
  return opened !== undefined && new URL(opened.name).pathname !== location.pathname;
}

function claimToken() {
  let found = null;
  try {
    found = sessionStorage.getItem(NAME);
  } catch {
    // A browser that keeps no storage has a new token each time.
  }
  store(null);
  return /^[0-9a-f]{32}$/.test(found ?? "") ? found : randomHex(16);
}

function store(token) {
  try {
    if (token === null) sessionStorage.removeItem(NAME);
    else sessionStorage.setItem(NAME, token);
  } catch {
    // as above
  }
}

function randomHex(bytes) {
  const found = crypto.getRandomValues(new Uint8Array(bytes));
  return [...found].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function onKey(event, tab) {
  if (event.key === "?") return showKeys(event);
  if (!(event.ctrlKey || event.metaKey) || event.altKey || isTextField(event.composedPath()[0])) return;
  const key = event.key.toLowerCase();
  if (key !== "z" && key !== "y") return;
  event.preventDefault();
  event.stopPropagation();
  tab.log += key === "y" || event.shiftKey ? "r" : "u";
  tab.send("steps", { page: tab.page, log: tab.log });
}

// The sheet of all keys is a popover of the sidebar; where that is closed there is none.
function showKeys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || isTextField(event.composedPath()[0])) return;
  const button = document.querySelector(".st-key-keys-help button");
  if (!button?.checkVisibility()) return;
  event.preventDefault();
  button.scrollIntoView({ block: "nearest" });
  button.click();
}

function isTextField(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target.tagName === "TEXTAREA") return true;
  const pressed = ["button", "checkbox", "color", "file", "image", "radio", "range", "reset", "submit"];
  return target.tagName === "INPUT" && !pressed.includes(target.type);
}

// On a narrow screen the sidebar lies over the page; after a page was chosen in it, it would hide that page.
function onClick(event) {
  if (event.target.closest?.(LINKS)) setTimeout(closeDrawer, 0);
}

function closeDrawer() {
  if (window.innerWidth > NARROW) return;
  const open = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]');
  if (open) open.querySelector('[data-testid="stSidebarCollapseButton"] button')?.click();
}
