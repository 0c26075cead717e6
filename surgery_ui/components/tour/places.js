// Where controls are, and where the card stands: near what it points at, on as few other controls as can be.
const EDGE = 12; // px
const COVERS = 160; // px
const LINK = 10; // controls; a way to another page is worth as much
const HIDES = 2_000; // px; what it points at is the last thing to lie under it
const CONTROLS =
  "button, a[href], input, textarea, select, summary, label, canvas, svg.marks, [role='tab'], [role='combobox'], [role='button']";

// The first control of a selector that can be seen; behind `>>>` stands what is within a component.
function find(selector) {
  const [outer, inner] = selector.split(" >>> ");
  const found = [...document.querySelectorAll(outer)];
  const within = (host) => [...host.shadowRoot.querySelectorAll(inner)];
  const all = inner === undefined ? found : found.flatMap(hostsIn).flatMap(within);
  return all.find(isSeen) ?? null;
}

function hostsIn(place) {
  return [...place.querySelectorAll("*")].filter((one) => one.shadowRoot);
}

function isSeen(element) {
  const { width, height, right, left } = element.getBoundingClientRect();
  const inView = width > 0 && height > 0 && right > 0 && left < innerWidth;
  return inView && element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
}

// The sidebar: whether it is open, whether it lies over the page, and what opens and closes it.
function sidebar() {
  const open = document.querySelector('[data-testid="stSidebar"][data-collapsed="false"]') !== null;
  return {
    open,
    over: open && innerWidth <= NARROW,
    opener: '[data-testid="stExpandSidebarButton"]',
    closer: '[data-testid="stSidebarCollapseButton"] button',
  };
}

// The place that costs least: each control under the card counts as much as COVERS pixels of way to what it points at,
// and a link to a page as much as LINK controls.
function placeFor(size, around, corner, last) {
  const most = [innerWidth - size.width - EDGE, innerHeight - size.height - EDGE];
  const places = (corner || !around ? corners(most) : near(size, around, most)).map((place) =>
    place.map((value, axis) => Math.round(Math.max(EDGE, Math.min(most[axis], value)))),
  );
  const taken = controls();
  const cost = ([left, top]) => {
    const box = { left, top, right: left + size.width, bottom: top + size.height };
    const covered = COVERS * taken.reduce((sum, one) => sum + (overlap(one.box, box) ? one.counts : 0), 0);
    return covered + (around && !corner ? distance(around, box) + (overlap(around, box) ? HIDES : 0) : 0);
  };
  const costs = places.map(cost);
  const least = Math.min(...costs);
  // it stays where it is as long as that is about as good
  const known = last && last.every((value, axis) => value >= EDGE && value <= most[axis]);
  return known && cost(last) <= least + COVERS / 2 ? last : places[costs.indexOf(least)];
}

function corners([right, bottom]) {
  return [[right, bottom], [EDGE, bottom], [right, 4 * EDGE], [right, bottom / 2]];
}

function near(size, around, [right, bottom]) {
  const left = [around.left, around.right + EDGE, around.left - size.width - EDGE, around.right - size.width, EDGE, right];
  const top = [around.bottom + EDGE, around.top, around.top - size.height - EDGE];
  for (let at = EDGE; at < bottom; at += 2 * EDGE) top.push(at);
  return left.flatMap((x) => [...top, bottom].map((y) => [x, y]));
}

function distance(one, other) {
  const across = Math.max(0, other.left - one.right, one.left - other.right);
  return Math.hypot(across, Math.max(0, other.top - one.bottom, one.top - other.bottom));
}

function controls() {
  const own = (host) => host.shadowRoot.querySelector(".card .words") !== null;
  const hosts = hostsIn(document.body).filter((host) => !own(host));
  const roots = [document, ...hosts.map((host) => host.shadowRoot)];
  const all = roots.flatMap((root) => [...root.querySelectorAll(CONTROLS)]);
  return all.filter(isSeen).map((one) => ({ box: one.getBoundingClientRect(), counts: one.matches("a[href]") ? LINK : 1 }));
}

function overlap(one, other) {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}
